import itertools

import numpy as np
import pytest
import torch

from tadkit.config import ActionFormerSettings, BmnSettings, HeadSettings, TadtrSettings, TagsSettings
from tadkit.models.decode.tracks import candidates_in_windows, merged, track_candidates, window_cores, window_starts
from tadkit.models.heads import Candidates, build_head


@pytest.mark.parametrize("steps", [1, 9, 10, 11, 17, 18, 25, 100])
def test_windows_cover_every_step_and_end_with_the_track(steps: int) -> None:
    starts = window_starts(steps, window=10, overlap=3)
    covered = {step for start in starts for step in range(start, min(start + 10, steps))}
    assert covered == set(range(steps))
    assert starts[-1] == max(steps - 10, 0)
    assert all(right - left <= 7 for left, right in itertools.pairwise(starts))


def test_candidates_of_windows_are_moved_and_ranked_together() -> None:
    one = Candidates(np.array([[0.0, 2.0]]), np.array([0.5]), np.array([1]))
    two = Candidates(np.array([[1.0, 2.0], [3.0, 4.5]]), np.array([0.9, 0.1]), np.array([0, 0]))
    both = merged([(0, one), (7, two)])
    np.testing.assert_array_equal(both.positions, [[8.0, 9.0], [0.0, 2.0], [10.0, 11.5]])
    assert both.scores.tolist() == [0.9, 0.5, 0.1]
    assert both.labels.tolist() == [0, 1, 0]


def test_one_window_is_the_whole_track() -> None:
    torch.manual_seed(0)
    head = build_head(ActionFormerSettings(dim=16, levels=2), in_channels=8, num_classes=3).eval()
    features, mask = torch.randn(1, 8, 30), torch.ones(1, 30, dtype=torch.bool)
    windows = candidates_in_windows(head, features, mask, window=30, overlap=8, min_score=0.0, limit=50)
    with torch.no_grad():
        whole = head.candidates(head(features, mask), min_score=0.0, limit=50)
    for ours, expected in zip(windows, whole, strict=True):
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("steps", [9, 10, 11, 17, 30])
def test_every_position_is_in_the_core_of_one_window_that_holds_it(steps: int) -> None:
    starts = window_starts(steps, window=10, overlap=5)
    cores = window_cores(starts, window=10)
    assert cores[0][0] == -np.inf
    assert cores[-1][1] == np.inf
    assert all(left[1] == right[0] for left, right in itertools.pairwise(cores))
    for start, (first, last) in zip(starts, cores, strict=True):
        assert max(first, 0) >= start
        assert min(last, steps) <= start + 10


def test_an_action_in_an_overlap_is_found_once() -> None:
    torch.manual_seed(0)
    head = build_head(ActionFormerSettings(dim=16, levels=1), in_channels=8, num_classes=1).eval()
    features, mask = torch.randn(1, 8, 24), torch.ones(1, 24, dtype=torch.bool)
    found = candidates_in_windows(head, features, mask, window=16, overlap=8, min_score=0.0, limit=500)
    whole = head.candidates(head(features, mask), min_score=0.0, limit=500)
    assert len(found.scores) == pytest.approx(len(whole.scores), abs=4)  # one of each step, whose middle may move
    first, last = window_cores([0, 8], window=16)[1]
    middles = np.sort(found.positions.mean(axis=1))
    assert first == 12.0
    assert last == np.inf
    assert (middles < 12).sum() >= 8


@pytest.mark.parametrize(
    "settings",
    [
        TadtrSettings(dim=16, queries=5, mlp_dim=16, window_steps=16),
        BmnSettings(dim=8, map_dim=4, roi_dim=4, durations=6, samples=2, window_steps=16),
        TagsSettings(dim=16, layers=1, reach_steps=4, window_steps=16),
    ],
)
def test_heads_of_whole_windows_take_tracks_of_any_length_window_by_window(settings: HeadSettings) -> None:
    torch.manual_seed(0)
    head = build_head(settings, in_channels=8, num_classes=3).eval()
    features, mask = torch.randn(1, 8, 50), torch.ones(1, 50, dtype=torch.bool)
    found = track_candidates(head, features, mask, core_steps=8, min_score=0.0, limit=4000)
    expected = candidates_in_windows(head, features, mask, window=16, overlap=8, min_score=0.0, limit=4000)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    short = track_candidates(head, features[..., :9], mask[:, :9], core_steps=8, min_score=0.0, limit=4000)
    whole = head.candidates(head(features[..., :9], mask[:, :9]), min_score=0.0, limit=4000)
    np.testing.assert_allclose(short.positions, whole.positions, rtol=1e-5)
