"""What all detection heads have in common: the module's surface, and what is made of its predictions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor, nn

from tadkit.config import HeadSettings


class Head(nn.Module):
    """A detection head: ``head(features, mask)`` gives its predictions (:mod:`tadkit.models.heads.families`).

    Attributes:
        settings: the head section of the recipe.
        in_channels: channels of the feature track.
        num_classes: classes.
    """

    settings: HeadSettings
    in_channels: int
    num_classes: int

    @property
    def halo_steps(self) -> int | None:
        """Steps on one side that a prediction depends on; None where it depends on the whole window."""
        return None


class HeadLoss(NamedTuple):
    """Losses of one batch.

    Attributes:
        classification: of the classes, over the normaliser.
        regression: of the segments, over the normaliser.
        total: their sum, weighted as the head's settings say.
        positives: number of positives, for callers that keep a running normaliser.
    """

    classification: Float[Tensor, ""]
    regression: Float[Tensor, ""]
    total: Float[Tensor, ""]
    positives: Int[Tensor, ""]


class PredictionDistillation(NamedTuple):
    """Distance of a student's predictions to a teacher's; both terms are zero where the two agree."""

    classification: Float[Tensor, ""]
    regression: Float[Tensor, ""]


class Candidates(NamedTuple):
    """What a head proposes for one video, before suppression, by falling score.

    Attributes:
        positions: (n, 2), start and end as fractional positions on the feature track, start not after end.
        scores: (n,), in (0, 1).
        labels: (n,), class indices.
    """

    positions: Float64[np.ndarray, "n 2"]
    scores: Float64[np.ndarray, " n"]
    labels: Int64[np.ndarray, " n"]
