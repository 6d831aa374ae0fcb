"""Detection heads: from a feature track to detections."""

from tadkit.heads.actionformer import ActionFormerHead
from tadkit.heads.anchor_free import AnchorFreeHead, HeadPredictions, anchor_free_candidates
from tadkit.heads.chunks import predict_in_chunks
from tadkit.heads.decode import Decoded, decode, named_detections
from tadkit.heads.families import (
    Predictions,
    build_head,
    candidates,
    head_loss,
    prediction_distillation,
    pyramid_levels,
    whole_window_steps,
)
from tadkit.heads.head import Candidates, Head, HeadLoss, PredictionDistillation
from tadkit.heads.losses import anchor_free_distillation, anchor_free_loss, diou_loss_1d, sigmoid_focal_loss
from tadkit.heads.naming import UNNAMED, head_labels, is_nameless
from tadkit.heads.suppression import suppress, voted
from tadkit.heads.targets import Targets, assign_targets, regression_ranges
from tadkit.heads.temporal_maxer import TemporalMaxerHead
from tadkit.heads.tridet import TriDetHead
from tadkit.heads.video_scores import VideoScores, read_video_scores, video_scores_of
from tadkit.heads.windows import candidates_in_windows, track_candidates

__all__ = [
    "UNNAMED",
    "ActionFormerHead",
    "AnchorFreeHead",
    "Candidates",
    "Decoded",
    "Head",
    "HeadLoss",
    "HeadPredictions",
    "PredictionDistillation",
    "Predictions",
    "Targets",
    "TemporalMaxerHead",
    "TriDetHead",
    "VideoScores",
    "anchor_free_candidates",
    "anchor_free_distillation",
    "anchor_free_loss",
    "assign_targets",
    "build_head",
    "candidates",
    "candidates_in_windows",
    "decode",
    "diou_loss_1d",
    "head_labels",
    "head_loss",
    "is_nameless",
    "named_detections",
    "predict_in_chunks",
    "prediction_distillation",
    "pyramid_levels",
    "read_video_scores",
    "regression_ranges",
    "sigmoid_focal_loss",
    "suppress",
    "track_candidates",
    "video_scores_of",
    "voted",
    "whole_window_steps",
]
