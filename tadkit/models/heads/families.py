"""The families of heads, and the three functions that each offers: loss, candidates, prediction distillation.

A family is known by the type of its predictions.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor

from tadkit.config import (
    ActionFormerSettings,
    BmnSettings,
    HeadSettings,
    TadtrSettings,
    TagsSettings,
    TemporalMaxerSettings,
    TriDetSettings,
)
from tadkit.models.heads.actionformer import ActionFormerHead
from tadkit.models.heads.anchor_free import AnchorFreeHead, HeadPredictions, anchor_free_candidates
from tadkit.models.heads.bmn import BmnHead, BoundaryPredictions, boundary_candidates
from tadkit.models.heads.bmn_losses import boundary_distillation, boundary_loss
from tadkit.models.heads.head import Candidates, Head, HeadLoss, PredictionDistillation
from tadkit.models.heads.losses import anchor_free_distillation, anchor_free_loss
from tadkit.models.heads.tadtr import QueryPredictions, TadtrHead, query_candidates
from tadkit.models.heads.tadtr_losses import query_distillation, query_loss
from tadkit.models.heads.tags import MaskPredictions, TagsHead, mask_candidates
from tadkit.models.heads.tags_losses import mask_distillation, mask_loss
from tadkit.models.heads.temporal_maxer import TemporalMaxerHead
from tadkit.models.heads.tridet import TriDetHead

Predictions = HeadPredictions | QueryPredictions | BoundaryPredictions | MaskPredictions
"""What heads predict, one type a family."""


def build_head(settings: HeadSettings, *, in_channels: int, num_classes: int) -> Head:
    """The head that ``settings`` ask for, with fresh weights."""
    match settings:
        case ActionFormerSettings():
            return ActionFormerHead(settings, in_channels=in_channels, num_classes=num_classes)
        case TriDetSettings():
            return TriDetHead(settings, in_channels=in_channels, num_classes=num_classes)
        case TemporalMaxerSettings():
            return TemporalMaxerHead(settings, in_channels=in_channels, num_classes=num_classes)
        case TadtrSettings():
            return TadtrHead(settings, in_channels=in_channels, num_classes=num_classes)
        case BmnSettings():
            return BmnHead(settings, in_channels=in_channels, num_classes=num_classes)
        case TagsSettings():
            return TagsHead(settings, in_channels=in_channels, num_classes=num_classes)


def pyramid_levels(settings: HeadSettings) -> int:
    """Levels of a head's predictions, which can be cut and stored; 0 where they are of a window as a whole."""
    match settings:
        case ActionFormerSettings() | TriDetSettings() | TemporalMaxerSettings():
            return settings.levels
        case TadtrSettings() | BmnSettings() | TagsSettings():
            return 0


def whole_window_steps(settings: HeadSettings) -> int | None:
    """Steps of the windows that a head sees as a whole, in training and in use; None for heads of any length."""
    match settings:
        case ActionFormerSettings() | TriDetSettings() | TemporalMaxerSettings():
            return None
        case TadtrSettings() | BmnSettings() | TagsSettings():
            return settings.window_steps


def head_loss(
    head: Head,
    predictions: Predictions,
    segments: Sequence[Float[Tensor, "actions 2"]],
    labels: Sequence[Int[Tensor, " actions"]],
    *,
    normaliser: Tensor | None = None,
) -> HeadLoss:
    """Loss of a batch against its ground truth.

    Args:
        head: that predicted.
        predictions: of the batch.
        segments: for each track, starts and ends as fractional feature positions.
        labels: for each track, the class of each segment.
        normaliser: what sums are divided by; without it the head's running mean, or the batch's positives, at least 1.
    """
    match predictions:
        case HeadPredictions():
            assert isinstance(head, AnchorFreeHead)
            over = head.running if normaliser is None else normaliser
            return anchor_free_loss(
                predictions, segments, labels, settings=head.anchor_free, strides=head.strides, normaliser=over
            )
        case QueryPredictions():
            assert isinstance(head, TadtrHead)
            return query_loss(predictions, segments, labels, settings=head.settings, normaliser=normaliser)
        case BoundaryPredictions():
            assert isinstance(head, BmnHead)
            return boundary_loss(predictions, segments, labels, settings=head.settings, normaliser=normaliser)
        case MaskPredictions():
            assert isinstance(head, TagsHead)
            return mask_loss(predictions, segments, labels, settings=head.settings, normaliser=normaliser)


def candidates(head: Head, predictions: Predictions, *, min_score: float, limit: int) -> Candidates:
    """The best candidates of one video, on the CPU.

    Args:
        head: that predicted.
        predictions: of one video (batch 1).
        min_score: candidates below it are left out.
        limit: most candidates.

    Raises:
        WeightsError: a prediction is not a finite number.
    """
    match predictions:
        case HeadPredictions():
            assert isinstance(head, AnchorFreeHead)
            return anchor_free_candidates(predictions, strides=head.strides, min_score=min_score, limit=limit)
        case QueryPredictions():
            return query_candidates(predictions, min_score=min_score, limit=limit)
        case BoundaryPredictions():
            assert isinstance(head, BmnHead)
            return boundary_candidates(predictions, settings=head.settings, min_score=min_score, limit=limit)
        case MaskPredictions():
            assert isinstance(head, TagsHead)
            return mask_candidates(predictions, settings=head.settings, min_score=min_score, limit=limit)


def prediction_distillation(head: Head, student: Predictions, teacher: Predictions) -> PredictionDistillation:
    """Distance of a student's predictions to a teacher's (D_pred in docs/method.md); no gradient to the teacher.

    Args:
        head: that predicted for the student.
        student: predictions of the student.
        teacher: predictions of a head of the same family for the same windows.
    """
    match student:
        case HeadPredictions():
            assert isinstance(head, AnchorFreeHead)
            assert isinstance(teacher, HeadPredictions)
            return anchor_free_distillation(student, teacher)
        case QueryPredictions():
            assert isinstance(head, TadtrHead)
            assert isinstance(teacher, QueryPredictions)
            return query_distillation(student, teacher, settings=head.settings)
        case BoundaryPredictions():
            assert isinstance(teacher, BoundaryPredictions)
            return boundary_distillation(student, teacher)
        case MaskPredictions():
            assert isinstance(teacher, MaskPredictions)
            return mask_distillation(student, teacher)
