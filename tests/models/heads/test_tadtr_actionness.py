import math

import pytest
import torch

from tadkit.models.heads.tadtr import Actionness, segment_features

RAMP = torch.arange(40.0)[None, :, None]
WHOLE = torch.full((1, 1, 1), 40.0)


def features(start: float, end: float, *, bins: int, track: torch.Tensor = RAMP) -> torch.Tensor:
    return segment_features(track, torch.tensor([[[start, end]]]), WHOLE, bins=bins)[0, 0, 0]


@pytest.mark.parametrize(("start", "end"), [(3.0, 9.0), (0.25, 38.5), (7.5, 8.6)])
@pytest.mark.parametrize("bins", [1, 4, 16])
def test_parts_of_a_ramp_have_the_values_of_their_middles(start: float, end: float, bins: int) -> None:
    middles = start + (torch.arange(bins) + 0.5) * (end - start) / bins
    torch.testing.assert_close(features(start, end, bins=bins), middles)


def test_a_long_part_is_the_mean_of_all_its_steps() -> None:
    spike = torch.zeros(1, 40, 1)
    spike[0, 13] = 1.0
    torch.testing.assert_close(features(4.5, 28.5, bins=2, track=spike), torch.tensor([1 / 12, 0.0]))


def test_less_than_a_step_is_read_as_one_step() -> None:
    torch.testing.assert_close(features(5.0, 5.0, bins=2), torch.tensor([5.25, 5.75]))


def by_the_book(track: torch.Tensor, start: float, end: float, bins: int) -> list[torch.Tensor]:
    """RoIAlign in one dimension as in the authors' kernel, one point at a time."""
    part = max(end - start, 1.0) / bins
    count, means = math.ceil(part), []
    for nth in range(bins):
        total = torch.zeros(track.shape[1])
        for sample in range(count):
            place = start + nth * part + (sample + 0.5) * part / count
            if place <= len(track):
                before = min(int(place), len(track) - 1)
                share = place - before if before + 1 < len(track) else 0.0
                total += (1 - share) * track[before] + share * track[min(before + 1, len(track) - 1)]
        means.append(total / count)
    return means


def test_segments_are_read_as_in_the_authors_kernel() -> None:
    torch.manual_seed(0)
    memory = torch.randn(2, 50, 3)
    spans = (torch.rand(2, 20, 2) * 50).sort(dim=2).values
    spans[0, :3] = torch.tensor([[0.0, 50.0], [49.75, 50.0], [0.0, 0.0]])
    read = segment_features(memory, spans, torch.full((2, 1, 1), 50.0), bins=7)
    for video, of_video in enumerate(spans.tolist()):
        for query, (start, end) in enumerate(of_video):
            expected = torch.stack(by_the_book(memory[video], start, end, 7), dim=1)
            torch.testing.assert_close(read[video, query], expected, rtol=1e-4, atol=1e-4)


def test_steps_past_the_length_are_never_read() -> None:
    track = torch.cat((RAMP, torch.full((1, 24, 1), 1e6)), dim=1)
    spans = torch.tensor([[[30.0, 40.0], [39.9, 40.0]]])
    alone, beside = (segment_features(x, spans, WHOLE, bins=4) for x in (RAMP, track))
    torch.testing.assert_close(beside, alone)


def test_surroundings_count_as_far_as_the_track_goes() -> None:
    judge = Actionness(1, bins=2, context=0.5)
    inner, outer = (Actionness(1, bins=2, context=context) for context in (0.0, 0.25))
    for other in (inner, outer):
        other.load_state_dict(judge.state_dict())
    overlap = judge(RAMP, torch.tensor([[[10.0, 20.0]]]), WHOLE)
    torch.testing.assert_close(overlap, inner(RAMP, torch.tensor([[[5.0, 25.0]]]), WHOLE))
    at_the_edge = judge(RAMP, torch.tensor([[[-5.0, 15.0]]]), WHOLE)
    torch.testing.assert_close(at_the_edge, inner(RAMP, torch.tensor([[[0.0, 25.0]]]), WHOLE))


def test_memory_and_judge_learn_but_segments_are_left_alone() -> None:
    torch.manual_seed(0)
    judge = Actionness(4, bins=3, context=0.25)
    memory, segments = torch.randn(2, 40, 4, requires_grad=True), torch.tensor([[[3.0, 9.0]]] * 2, requires_grad=True)
    judge(memory, segments, WHOLE).sum().backward()
    assert segments.grad is None
    assert (memory.grad[:, 2:11].abs().sum(dim=2) > 0).all()
    assert (memory.grad[:, 12:] == 0).all()
    assert all(parameter.grad.abs().sum() > 0 for parameter in judge.parameters())
