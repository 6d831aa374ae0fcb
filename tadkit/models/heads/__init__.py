"""Detection heads: from a feature track to candidate detections."""

from tadkit.models.heads.actionformer import ActionFormerHead
from tadkit.models.heads.anchor_free import (
    AnchorFreeHead,
    HeadPredictions,
    Targets,
    anchor_free_candidates,
    anchor_free_distillation,
    anchor_free_loss,
    assign_targets,
    average_of_teachers,
    diou_loss_1d,
    regression_ranges,
)
from tadkit.models.heads.build import build_head
from tadkit.models.heads.head import (
    AGNOSTIC_LABEL,
    Candidates,
    Head,
    HeadLoss,
    HeadOf,
    PredictionDistillation,
    Predictions,
    head_labels,
    sigmoid_focal_loss,
    windows_of,
)
from tadkit.models.heads.temporal_maxer import TemporalMaxerHead
from tadkit.models.heads.tridet import TriDetHead

__all__ = [
    "AGNOSTIC_LABEL",
    "ActionFormerHead",
    "AnchorFreeHead",
    "Candidates",
    "Head",
    "HeadLoss",
    "HeadOf",
    "HeadPredictions",
    "PredictionDistillation",
    "Predictions",
    "Targets",
    "TemporalMaxerHead",
    "TriDetHead",
    "anchor_free_candidates",
    "anchor_free_distillation",
    "anchor_free_loss",
    "assign_targets",
    "average_of_teachers",
    "build_head",
    "diou_loss_1d",
    "head_labels",
    "regression_ranges",
    "sigmoid_focal_loss",
    "windows_of",
]
