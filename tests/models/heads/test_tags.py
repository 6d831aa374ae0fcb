import math

import numpy as np
import pytest
import torch

from tadkit.config import TagsSettings
from tadkit.errors import WeightsError
from tadkit.models.heads.tags import MaskPredictions, TagsHead, mask_candidates

SMALL = TagsSettings(dim=16, layers=1, attention_heads=2, dropout=0.0, reach_steps=5, thresholds=(0.5,))


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def predictions(covered: list[float], *, step: int, probability: float) -> MaskPredictions:
    """One step predicts the given mask and class 1 of 2; the others predict background."""
    time = len(covered)
    logits, masks = torch.full((1, time, 2), -20.0), torch.full((1, time, time), -20.0)
    logits[0, step, 1] = logit(probability)
    masks[0, step] = torch.tensor([logit(min(max(share, 1e-6), 1 - 1e-6)) for share in covered])
    return MaskPredictions(logits, masks, torch.ones(1, time, dtype=torch.bool))


def test_a_stretch_is_cut_where_the_mask_crosses_the_threshold() -> None:
    given = predictions([0.0, 0.25, 0.75, 1.0, 0.9, 0.1, 0.9, 0.0], step=3, probability=0.8)
    best = mask_candidates(given, settings=SMALL, min_score=0.1, limit=10)
    np.testing.assert_allclose(best.positions, [[1.5, 4.5]], atol=1e-4)  # not the stretch beyond the gap
    np.testing.assert_allclose(best.scores, [0.8 * (0.75 + 1 + 0.9) / 3], rtol=1e-4)
    assert best.labels.tolist() == [1]


def test_a_mask_over_everything_ends_with_the_track() -> None:
    best = mask_candidates(predictions([1.0] * 6, step=2, probability=0.8), settings=SMALL, min_score=0.1, limit=10)
    np.testing.assert_allclose(best.positions, [[-0.5, 5.5]], atol=1e-3)


def test_a_step_outside_its_own_mask_proposes_nothing() -> None:
    given = predictions([0.0, 1.0, 1.0, 0.0, 0.0], step=4, probability=0.9)
    assert len(mask_candidates(given, settings=SMALL, min_score=0.01, limit=10).scores) == 0


def test_padding_changes_nothing_whatever_stands_there() -> None:
    torch.manual_seed(0)
    head = TagsHead(SMALL, in_channels=5, num_classes=3).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    features = torch.randn(1, 5, 20)
    junk = torch.cat((features, torch.full((1, 5, 13), torch.nan)), dim=2)
    alone = head(features, torch.ones(1, 20, dtype=torch.bool))
    beside = head(junk, torch.arange(33)[None] < 20)
    torch.testing.assert_close(beside.logits[:, :20], alone.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(beside.masks[:, :20, :20], alone.masks, rtol=1e-4, atol=1e-4)
    ours, expected = (mask_candidates(p, settings=SMALL, min_score=0.0, limit=50) for p in (beside, alone))
    np.testing.assert_allclose(ours.positions, expected.positions, rtol=1e-3, atol=1e-3)


def test_a_window_without_a_real_step_gives_no_candidates() -> None:
    head = TagsHead(SMALL, in_channels=5, num_classes=3).eval()
    given = head(torch.randn(1, 5, 4), torch.zeros(1, 4, dtype=torch.bool))
    assert given.logits.isfinite().all()
    assert len(mask_candidates(given, settings=SMALL, min_score=0.0, limit=10).scores) == 0


def test_candidates_that_are_no_numbers_are_refused() -> None:
    given = predictions([1.0] * 4, step=1, probability=0.8)
    with pytest.raises(WeightsError, match="not finite"):
        mask_candidates(given._replace(logits=given.logits * torch.nan), settings=SMALL, min_score=0.0, limit=9)


@pytest.mark.parametrize("levels", [(), (0.0, 0.5), (1.0,)])
def test_thresholds_lie_between_nothing_and_everything(levels: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="thresholds"):
        TagsSettings(thresholds=levels)
