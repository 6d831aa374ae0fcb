"""The best of a head's segments as candidates: one check and one sort for all families."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from tadkit.errors import WeightsError
from tadkit.models.heads.head import Candidates


def ranked(
    positions: Float[Tensor, "n 2"], scores: Float[Tensor, "n classes"], *, min_score: float, limit: int
) -> Candidates:
    """Each segment once for each class, by falling score; ties go to the earlier segment, then to the lower class.

    Args:
        positions: starts and ends as fractional feature positions.
        scores: of each segment for each class, in [0, 1].
        min_score: candidates below it are left out.
        limit: most candidates.

    Raises:
        WeightsError: a position or score is not a finite number.
    """
    segments, score = positions.detach().cpu().double().numpy(), scores.detach().cpu().double().numpy()
    check_finite(segments, score)
    segment, label = best_of(score, min_score=min_score, limit=limit)
    return Candidates(segments[segment], score[segment, label], label)


def best_of(
    scores: Float64[np.ndarray, "n classes"], *, min_score: float, limit: int
) -> tuple[Int64[np.ndarray, " best"], Int64[np.ndarray, " best"]]:
    """Rows and classes of the best scores, best first; ties go to the earlier row, then to the lower class."""
    flat = scores.ravel()
    best = np.argsort(-flat, kind="stable")[:limit]
    row, label = np.divmod(best[flat[best] >= min_score], max(scores.shape[1], 1))
    return row.astype(np.int64), label.astype(np.int64)


def check_finite(*predicted: Float64[np.ndarray, "*shape"]) -> None:
    """Refuse predictions that are no numbers.

    Raises:
        WeightsError: one is not a finite number.
    """
    if not all(np.isfinite(values).all() for values in predicted):
        raise WeightsError(
            "the head predicts values that are not finite numbers: its weights or the features hold NaN or infinity; "
            "use an earlier checkpoint, or train again with a lower learning rate or without mixed precision"
        )
