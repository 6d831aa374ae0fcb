import itertools

import numpy as np
import pytest
import torch

from tadkit.config import ActionFormerSettings
from tadkit.heads import Candidates, build_head, candidates
from tadkit.heads.windows import candidates_in_windows, merged, window_starts


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
    both = merged([(0, one), (7, two)], limit=2)
    np.testing.assert_array_equal(both.positions, [[8.0, 9.0], [0.0, 2.0]])
    assert both.scores.tolist() == [0.9, 0.5]
    assert both.labels.tolist() == [0, 1]


def test_one_window_is_the_whole_track() -> None:
    torch.manual_seed(0)
    head = build_head(ActionFormerSettings(dim=16, levels=2), in_channels=8, num_classes=3).eval()
    features, mask = torch.randn(1, 8, 30), torch.ones(1, 30, dtype=torch.bool)
    windows = candidates_in_windows(head, features, mask, window=30, overlap=8, min_score=0.0, limit=50)
    with torch.no_grad():
        whole = candidates(head, head(features, mask), min_score=0.0, limit=50)
    for ours, expected in zip(windows, whole, strict=True):
        np.testing.assert_array_equal(ours, expected)
