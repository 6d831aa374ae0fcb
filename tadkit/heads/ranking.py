"""The best of a head's segments as candidates: one sort, one check, for the families whose segments are explicit."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from tadkit.errors import WeightsError
from tadkit.heads.head import Candidates


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
    if not (np.isfinite(segments).all() and np.isfinite(score).all()):
        raise WeightsError(
            "the head predicts values that are not finite numbers: its weights or the features hold NaN or infinity; "
            "use an earlier checkpoint, or train again with a lower learning rate or without mixed precision"
        )
    flat = score.ravel()
    best = np.argsort(-flat, kind="stable")[:limit]
    best = best[flat[best] >= min_score]
    segment, label = np.divmod(best, max(score.shape[1], 1))
    return Candidates(segments[segment], flat[best], label.astype(np.int64))
