import numpy as np
import pytest
import torch

from tadkit.config import DecodeSettings
from tadkit.errors import WeightsError
from tadkit.heads import Decoded, HeadPredictions, anchor_free_candidates, decode
from tadkit.timeline import Timeline

STRIDES = (1, 2)
UNEVEN = Timeline(np.array([0.1, 0.3, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5]))


def predictions(*points: tuple[int, int, int, float, tuple[float, float]], classes: int = 2) -> HeadPredictions:
    """Background but for points given as (level, step, class, logit, offsets)."""
    lengths = (8, 4)
    logits = tuple(torch.full((1, n, classes), -30.0) for n in lengths)
    offsets = tuple(torch.ones(1, n, 2) for n in lengths)
    for level, step, label, logit, reach in points:
        logits[level][0, step, label] = logit
        offsets[level][0, step] = torch.tensor(reach)
    return HeadPredictions(logits, offsets, tuple(torch.ones(1, n, dtype=torch.bool) for n in lengths))


def decoded(given: HeadPredictions, duration_s: float, settings: DecodeSettings) -> Decoded:
    least, limit = settings.min_score, settings.top_candidates
    best = anchor_free_candidates(given, strides=STRIDES, min_score=least, limit=limit)
    return decode(best, UNEVEN, duration_s, settings)


def test_positions_become_seconds_by_the_timeline_alone() -> None:
    found = decoded(predictions((1, 2, 1, 0.0, (1.25, 0.5))), 6.0, DecodeSettings())
    # Step 2 of level 1 is at position 4: from 4 - 2.5 to 4 + 1; position 1.5 is 0.4 s and position 5 is 3.5 s.
    np.testing.assert_allclose(found.segments_s, [[0.4, 3.5]])
    assert found.scores.tolist() == [0.5]
    assert found.labels.tolist() == [1]


def test_segments_are_clipped_and_those_without_length_dropped() -> None:
    given = predictions((0, 1, 0, 1.0, (5.0, 5.0)), (0, 6, 0, 2.0, (0.0, 0.0)), (0, 7, 0, 2.0, (0.5, 3.0)))
    found = decoded(given, 4.0, DecodeSettings())
    np.testing.assert_allclose(found.segments_s, [[0.0, 4.0]])


def test_detections_come_by_falling_score_and_one_class_does_not_suppress_another() -> None:
    given = predictions((0, 4, 0, 1.0, (1.0, 1.0)), (0, 4, 1, 2.0, (1.0, 1.0)))
    found = decoded(given, 6.0, DecodeSettings())
    assert found.labels.tolist() == [1, 0]
    np.testing.assert_allclose(found.scores, torch.tensor([2.0, 1.0]).sigmoid(), rtol=1e-6)


def test_thresholds_and_counts_hold() -> None:
    given = predictions(*((0, step, 0, step - 4.0, (0.2, 0.2)) for step in range(8)))
    score = float(torch.tensor(-1.0).sigmoid())
    assert len(decoded(given, 6.0, DecodeSettings(min_score=score - 1e-6)).scores) == 5
    assert len(decoded(given, 6.0, DecodeSettings(top_candidates=3)).scores) == 3
    assert len(decoded(given, 6.0, DecodeSettings(keep=2)).scores) == 2


def test_masked_steps_say_nothing() -> None:
    given = predictions((0, 7, 0, 3.0, (1.0, 1.0)), (1, 3, 0, float("nan"), (1.0, 1.0)))
    masks = (torch.arange(8)[None] < 6, torch.arange(4)[None] < 3)
    found = decoded(given._replace(masks=masks), 6.0, DecodeSettings())
    assert found.segments_s.shape == (0, 2)
    assert found.scores.shape == found.labels.shape == (0,)


def test_predictions_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(WeightsError, match="not finite"):
        decoded(predictions((0, 2, 0, float("nan"), (1.0, 1.0))), 6.0, DecodeSettings())
