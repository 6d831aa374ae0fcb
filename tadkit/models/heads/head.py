"""What all detection heads share: methods, result types, losses of class scores and the ranking of candidates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import reduce
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
import torch
import torch.nn.functional as nnf
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor, nn

from tadkit.config import HeadSettings
from tadkit.errors import WeightsError

AGNOSTIC_LABEL = "action"
"""Label of the detections of a class-agnostic head, unless the recipe gives it one."""


SAME_LENGTH_STEPS = 1e-3
"""Where actions overlap, those within this length of the shortest all count as targets."""


_TRAINED_WINDOWS = 4


Predictions = tuple[Any, ...]
"""What a head predicts for a batch: each head has its own NamedTuple of tensors or tuples of tensors."""


P = TypeVar("P", bound=Predictions)


def windows_of(predictions: P, start: int, stop: int) -> P:
    """Predictions of the windows ``start`` to ``stop`` (half open) of a batch, of a head with ``windows_apart``."""
    return type(predictions)(*(_rows(field, start, stop) for field in predictions))


def _rows(field: Any, start: int, stop: int) -> Any:
    """Rows of a field of predictions: a tensor, tuples of tensors, or None."""
    if isinstance(field, tuple):
        return tuple(_rows(part, start, stop) for part in field)
    return field if field is None else field[start:stop]


class HeadOf(nn.Module, ABC, Generic[P]):
    """A detection head: ``head(features, mask)`` predicts; its methods turn predictions into losses and candidates.

    Attributes:
        settings: the head section of the recipe.
        in_channels: channels of the feature track.
        num_classes: number of classes.
        trained_steps: feature steps of the windows that it was trained on; None if its file does not state them.
        windows_apart: what it predicts for a window depends on that window alone, and every tensor of its predictions
            has the windows first, so that two batches may be predicted as one. Not so with statistics of the batch.
    """

    settings: HeadSettings
    in_channels: int
    num_classes: int
    trained_steps: int | None = None
    windows_apart: bool = False

    @property
    def halo_steps(self) -> int | None:
        """Steps on either side that a prediction depends on; None if it depends on the whole window."""
        return None

    @property
    def window_steps(self) -> int | None:
        """Steps of the windows that a head without a halo runs in; None: the whole track.

        Those of a head that takes any length are four training windows: two that it predicts, and one on either side,
        so that every prediction has at least as much around it as in training.
        """
        if self.settings.fixed_window_steps is not None or self.halo_steps is not None or self.trained_steps is None:
            return self.settings.fixed_window_steps
        return _TRAINED_WINDOWS * self.trained_steps

    @property
    def context_steps(self) -> int | None:
        """Steps on either side that what it finds at a step depends on, on a track of any length; None if on all."""
        return self.window_steps if self.halo_steps is None else self.halo_steps

    @abstractmethod
    def loss(
        self,
        predictions: P,
        segments: Sequence[Float[Tensor, "actions 2"]],
        labels: Sequence[Int[Tensor, " actions"]],
        *,
        normaliser: Tensor | None = None,
    ) -> HeadLoss:
        """Loss of a batch against its ground truth.

        Args:
            predictions: predictions for the batch.
            segments: starts and ends of each track's actions, as fractional feature positions.
            labels: class of each segment, track by track.
            normaliser: divisor of the sums; by default the head's running mean, or the batch's positives, at least 1.
        """

    @abstractmethod
    def candidates(self, predictions: P, *, min_score: float, limit: int | None = None) -> Candidates:
        """The best candidates of one track or window, on the CPU.

        Args:
            predictions: predictions for one track (batch 1).
            min_score: lower-scoring candidates are dropped.
            limit: maximum number of candidates; None: all.

        Raises:
            WeightsError: a prediction is not finite.
        """

    @abstractmethod
    def distil(self, student: P, teacher: P) -> PredictionDistillation:
        """Distance from a student's predictions to a teacher's (D_pred in docs/method.md); no gradient to the teacher.

        Args:
            student: predictions of this head.
            teacher: predictions of a head of the same kind, for the same windows.
        """

    @abstractmethod
    def average(self, *predictions: P) -> P:
        """The average of predictions for the same windows, to take candidates of: late fusion of two streams.

        Probabilities and distances that belong together are averaged one by one. Predictions of which none belong
        together, such as those of learned queries, are kept side by side.
        """

    def average_teachers(self, *teachers: P) -> P:
        """The predictions of several teachers for the same windows, averaged to those of one, for :meth:`distil`.

        What is meaningful only where a teacher sees an action is weighted by its score there.
        """
        return self.average(*teachers)


Head: TypeAlias = HeadOf[Any]
"""Any detection head."""


class HeadLoss(NamedTuple):
    """Losses of one batch.

    Attributes:
        classification: loss of the classes, divided by the normaliser.
        regression: loss of the segments, divided by the normaliser.
        total: their sum, weighted by the head's settings.
        positives: number of positives, for callers that keep a running normaliser.
    """

    classification: Float[Tensor, ""]
    regression: Float[Tensor, ""]
    total: Float[Tensor, ""]
    positives: Int[Tensor, ""]


class Candidates(NamedTuple):
    """Candidate detections of one video before suppression, by descending score.

    Attributes:
        positions: (n, 2), start and end as fractional positions on the feature track; start <= end.
        scores: (n,), in (0, 1).
        labels: (n,), class indices.
    """

    positions: Float64[np.ndarray, "n 2"]
    scores: Float64[np.ndarray, " n"]
    labels: Int64[np.ndarray, " n"]


class PredictionDistillation(NamedTuple):
    """Distance from a student's predictions to a teacher's; both terms are zero if the two agree."""

    classification: Float[Tensor, ""]
    regression: Float[Tensor, ""]


def sigmoid_focal_loss(
    logits: Float[Tensor, "*shape"], targets: Float[Tensor, "*shape"], *, alpha: float = 0.25, gamma: float = 2.0
) -> Float[Tensor, "*shape"]:
    """Focal loss of each element (Lin et al., ICCV 2017); targets lie in [0, 1]."""
    probability = logits.sigmoid()
    cross_entropy = nnf.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    miss = probability * (1 - targets) + (1 - probability) * targets
    return (alpha * targets + (1 - alpha) * (1 - targets)) * cross_entropy * miss**gamma


def mean_logit(
    *logits: Float[Tensor, "*shape"], log_weights: Sequence[Float[Tensor, "*#shape"]] = ()
) -> Float[Tensor, "*shape"]:
    """Logit of the average of sigmoids, exact where all are close to 0 or 1; weighted, if weights are given."""

    def total(sign: int) -> Tensor:
        logs = [nnf.logsigmoid(sign * each) for each in logits]
        weighted = [log + weight for log, weight in zip(logs, log_weights, strict=True)] if log_weights else logs
        return reduce(torch.logaddexp, weighted)

    return total(1) - total(-1)


def sigmoid_divergence(target: Float[Tensor, "*shape"], logits: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """KL divergence of each sigmoid of ``logits`` from that of ``target``, which may be minus infinity."""
    probability = target.sigmoid()
    present = torch.where(probability > 0, probability * (nnf.logsigmoid(target) - nnf.logsigmoid(logits)), 0.0)
    return present + (1 - probability) * (nnf.logsigmoid(-target) - nnf.logsigmoid(-logits))


def ranked(
    positions: Float[Tensor, "n 2"], scores: Float[Tensor, "n classes"], *, min_score: float, limit: int | None
) -> Candidates:
    """One candidate per segment and class, by descending score; ties go to the earlier segment, then the lower class.

    Args:
        positions: starts and ends as fractional feature positions.
        scores: score of each segment for each class, in [0, 1].
        min_score: lower-scoring candidates are dropped.
        limit: maximum number of candidates; None: all.

    Raises:
        WeightsError: a position or score is not finite.
    """
    segments, score = positions.detach().cpu().double().numpy(), scores.detach().cpu().double().numpy()
    check_finite(segments, score)
    segment, label = best_of(score, min_score=min_score, limit=limit)
    return Candidates(segments[segment], score[segment, label], label)


def best_of(
    scores: Float64[np.ndarray, "n classes"], *, min_score: float, limit: int | None
) -> tuple[Int64[np.ndarray, " best"], Int64[np.ndarray, " best"]]:
    """Rows and classes of the best scores, best first; ties go to the earlier row, then the lower class."""
    flat = scores.ravel()
    best = np.argsort(-flat, kind="stable")[:limit]
    row, label = np.divmod(best[flat[best] >= min_score], max(scores.shape[1], 1))
    return row.astype(np.int64), label.astype(np.int64)


def check_finite(*predicted: Float64[np.ndarray, "*shape"]) -> None:
    """Reject predictions that are NaN or infinite.

    Raises:
        WeightsError: a value is not finite.
    """
    if not all(np.isfinite(values).all() for values in predicted):
        raise WeightsError(
            "the head predicts values that are not finite: its weights or the features contain NaN or infinity; "
            "use an earlier checkpoint, or train again with a lower learning rate or without mixed precision"
        )


def head_labels(head: HeadSettings, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Labels of a head's classes; a class-agnostic head has the single label given, or :data:`AGNOSTIC_LABEL`."""
    return labels if len(labels) == 1 or not head.class_agnostic else (AGNOSTIC_LABEL,)
