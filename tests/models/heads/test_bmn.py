import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tadkit.config import BmnSettings, DecodeSettings
from tadkit.interop.heads.opentad import name_from_opentad, state_from_opentad
from tadkit.models.decode.decode import decode
from tadkit.models.heads.bmn import (
    BmnHead,
    BoundaryMatching,
    BoundaryPredictions,
    boundary_candidates,
    boundary_loss,
    means_inside,
    valid_proposals,
)
from tadkit.timeline import Timeline

GOLDEN = dict(np.load(Path(__file__).parent / "golden" / "opentad_bmn.npz"))
TIME = 32
OPENTAD = BmnSettings(
    dim=32, map_dim=16, roi_dim=32, durations=32, samples=8, edge_steps=2.0, classifier=False, score="iou"
)
SMALL = BmnSettings(dim=8, map_dim=4, roi_dim=6, durations=6, samples=3)


@pytest.fixture(scope="module")
def opentad() -> BmnHead:
    """OpenTAD's weights in our head."""
    head = BmnHead(OPENTAD, in_channels=48, num_classes=1).eval()
    prefix = "weight/"
    state = {name[len(prefix) :]: torch.from_numpy(x) for name, x in GOLDEN.items() if name.startswith(prefix)}
    head.load_state_dict(state_from_opentad(state, "bmn"))
    return head


def predicted(head: BmnHead, *, videos: int = 1) -> BoundaryPredictions:
    features = torch.from_numpy(GOLDEN["feats_T32"]).expand(videos, -1, -1)
    predictions: BoundaryPredictions = head(features, torch.ones(videos, TIME, dtype=torch.bool))
    return predictions


def test_predictions_are_those_of_opentad(opentad: BmnHead) -> None:
    with torch.no_grad():
        predictions = predicted(opentad)
    torch.testing.assert_close(torch.cat((predictions.start, predictions.end)), torch.from_numpy(GOLDEN["T32/tem"]))
    torch.testing.assert_close(predictions.confidence[0], torch.from_numpy(GOLDEN["T32/iou_map"]))
    assert predictions.classes is None


@pytest.mark.parametrize(("score", "name"), [("iou", "iou"), ("iou*s*e", "iou_s_e")])
def test_proposals_are_those_of_opentad(opentad: BmnHead, score: str, name: str) -> None:
    fps, stride, offset, duration_s = GOLDEN["T32/meta"]
    timeline = Timeline((np.arange(TIME) * stride + offset) / fps)
    settings = DecodeSettings(min_score=0.001, sigma=0.75, keep=100, class_agnostic=True, clip_first=False)
    with torch.no_grad():
        predictions = predicted(opentad)
    wanted = OPENTAD.model_copy(update={"score": score})
    best = boundary_candidates(predictions, settings=wanted, min_score=0.0, limit=5000)
    found = decode(best, timeline, duration_s, settings)
    segments_s, scores = GOLDEN[f"T32/det_{name}_segments"], GOLDEN[f"T32/det_{name}_scores"]
    lasting = segments_s[:, 1] > segments_s[:, 0]  # OpenTAD keeps what clipping leaves without length
    np.testing.assert_allclose(found.scores, scores[lasting], atol=0.5e-4 + 1e-6)  # it rounds to 4 decimals, and
    np.testing.assert_allclose(found.segments_s, segments_s[lasting], atol=0.5e-2 + 1e-4)  # seconds to 2


def test_losses_and_gradients_are_those_of_opentad(opentad: BmnHead) -> None:
    segments = [torch.from_numpy(GOLDEN[f"gt_segments_{video}"]) for video in range(2)]
    labels = [torch.zeros(len(of_video), dtype=torch.int64) for of_video in segments]
    opentad.zero_grad()
    loss = boundary_loss(predicted(opentad, videos=2), segments, labels, settings=OPENTAD)
    loss.classification.backward()  # OpenTAD draws proposals for its regression loss at random, so it is left out
    assert loss.classification.item() == pytest.approx(GOLDEN["loss/cost"], rel=1e-4)
    ours = dict(opentad.named_parameters())
    checked = {name: expected for name, expected in GOLDEN.items() if name.startswith("grad/")}
    assert len(checked) == len(ours)
    for name, (norm, total, largest) in checked.items():
        gradient = ours[name_from_opentad(name[len("grad/") :], "bmn")].grad
        found = [gradient.norm().item(), gradient.sum().item(), gradient.abs().max().item()]
        np.testing.assert_allclose(found, [norm, total, largest], rtol=1e-4, atol=1e-4 * norm, err_msg=name)


@given(time=st.integers(1, 9), durations=st.integers(1, 9), samples=st.integers(1, 4), seed=st.integers(0, 9))
def test_boundary_matching_is_the_mean_of_interpolated_places(
    time: int, durations: int, samples: int, seed: int
) -> None:
    torch.manual_seed(seed)
    bins, context = 2, 0.5
    layer = BoundaryMatching(2, 3, durations=durations, samples=samples, samples_per_bin=bins, context=context)
    torch.nn.init.normal_(layer.bias)
    x, mask = torch.randn(1, 2, time), torch.ones(1, time, dtype=torch.bool)
    found = layer(x, valid_proposals(mask, durations))[0]
    for duration in range(durations):
        for start in range(time):
            read = torch.zeros(2, samples)
            if start + duration < time:
                around = context * (duration + 1)
                places = np.linspace(start - around, start + duration + around, samples * bins)
                for index, place in enumerate(places):
                    read[:, index // bins] += interpolated(x[0], place) / bins
            expected = torch.einsum("ocn,cn->o", layer.weight, read) + layer.bias
            torch.testing.assert_close(found[:, duration, start], expected, rtol=1e-4, atol=1e-5)


def interpolated(x: torch.Tensor, place: float) -> torch.Tensor:
    """``x`` (channels, time) at a place; zero outside, but for what lies less than a step before the first."""
    last, share = x.shape[1] - 1, abs(place - math.trunc(place))
    if place <= -1 or place >= last + 1:
        return torch.zeros(len(x))
    if place <= 0:
        return x[:, 0]
    below = x[:, math.trunc(place)] * (1 - share)
    return below + (x[:, math.ceil(place)] * share if math.ceil(place) <= last else 0)


def test_gradient_goes_through_the_sparse_matrix() -> None:
    torch.manual_seed(0)
    layer = BoundaryMatching(2, 3, durations=4, samples=2, samples_per_bin=2, context=0.5)
    x, valid = torch.randn(2, 2, 5, requires_grad=True), valid_proposals(torch.ones(2, 5, dtype=torch.bool), 4)
    change, aim = torch.randn(2, 2, 5), torch.randn(2, 3, 4, 5)
    (layer(x, valid) * aim).sum().backward()
    with torch.no_grad():
        moved = ((layer(x + change, valid) - layer(x, valid)) * aim).sum()  # the layer is affine
    torch.testing.assert_close((x.grad * change).sum(), moved)


def test_a_head_can_learn_after_it_was_used() -> None:
    head = BmnHead(SMALL, in_channels=5, num_classes=3)
    features, mask = torch.randn(1, 5, 11), torch.ones(1, 11, dtype=torch.bool)
    with torch.inference_mode():
        head(features, mask)
    head(features, mask).confidence.sum().backward()  # what is kept from use must not be an inference tensor


def test_padding_changes_nothing_whatever_its_values() -> None:
    torch.manual_seed(0)
    head = BmnHead(SMALL, in_channels=5, num_classes=3).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    features = torch.randn(1, 5, 10)
    junk = torch.cat((features, torch.full((1, 5, 4), torch.nan)), dim=2)
    alone = head(features, torch.ones(1, 10, dtype=torch.bool))
    beside = head(junk, torch.arange(14)[None] < 10)
    for ours, expected in zip(beside[:4], alone[:4], strict=True):
        torch.testing.assert_close(ours[..., :10], expected)
    ours, expected = (boundary_candidates(p, settings=SMALL, min_score=0.0, limit=500) for p in (beside, alone))
    np.testing.assert_allclose(ours.positions, expected.positions)


def test_a_window_without_a_real_step_gives_no_candidates() -> None:
    head = BmnHead(SMALL, in_channels=5, num_classes=3).eval()
    given = head(torch.randn(1, 5, 4), torch.zeros(1, 4, dtype=torch.bool))
    assert len(boundary_candidates(given, settings=SMALL, min_score=0.0, limit=10).scores) == 0


def test_candidates_go_from_likely_starts_to_likely_ends() -> None:
    start, end = torch.full((1, 8), -4.0), torch.full((1, 8), -4.0)
    start[0, 2], end[0, 5] = 4.0, 4.0
    confidence = torch.full((1, 2, 6, 8), -2.0)
    confidence[0, :, 3, 2] = 6.0  # from 2, four steps
    classes = torch.full((1, 2, 6, 8), -6.0)
    classes[0, 1, 3, 2] = 6.0
    given = BoundaryPredictions(start, end, confidence, classes, torch.ones(1, 8, dtype=torch.bool))
    best = boundary_candidates(given, settings=SMALL, min_score=0.1, limit=100)
    assert best.positions.tolist() == [[2.0, 6.0]]
    assert best.labels.tolist() == [1]
    four, six = (1 / (1 + math.exp(-x)) for x in (4, 6))
    np.testing.assert_allclose(best.scores, four**2 * six**3, rtol=1e-5)


@given(time=st.integers(1, 9), durations=st.integers(1, 11), seed=st.integers(0, 99))
def test_means_inside_are_those_of_the_steps_of_each_proposal(time: int, durations: int, seed: int) -> None:
    x = torch.randn(2, 3, time, generator=torch.Generator().manual_seed(seed))
    found = means_inside(x, durations)
    assert found.shape == (2, 3, durations, time)
    for first in range(time):
        for steps in range(1, min(durations, time - first) + 1):
            torch.testing.assert_close(found[:, :, steps - 1, first], x[..., first : first + steps].mean(dim=-1))
