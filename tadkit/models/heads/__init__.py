"""Detection heads: from a feature track to detections."""

from tadkit.models.heads.actionformer import ActionFormerHead
from tadkit.models.heads.anchor_free import AnchorFreeHead, HeadPredictions, anchor_free_candidates
from tadkit.models.heads.families import (
    Predictions,
    build_head,
    candidates,
    head_loss,
    prediction_distillation,
    pyramid_levels,
    whole_window_steps,
)
from tadkit.models.heads.head import Candidates, Head, HeadLoss, PredictionDistillation
from tadkit.models.heads.losses import anchor_free_distillation, anchor_free_loss, diou_loss_1d, sigmoid_focal_loss
from tadkit.models.heads.naming import AGNOSTIC_LABEL, head_labels, is_class_agnostic
from tadkit.models.heads.targets import Targets, assign_targets, regression_ranges
from tadkit.models.heads.temporal_maxer import TemporalMaxerHead
from tadkit.models.heads.tridet import TriDetHead

__all__ = [
    "AGNOSTIC_LABEL",
    "ActionFormerHead",
    "AnchorFreeHead",
    "Candidates",
    "Head",
    "HeadLoss",
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
    "build_head",
    "candidates",
    "diou_loss_1d",
    "head_labels",
    "head_loss",
    "is_class_agnostic",
    "prediction_distillation",
    "pyramid_levels",
    "regression_ranges",
    "sigmoid_focal_loss",
    "whole_window_steps",
]
