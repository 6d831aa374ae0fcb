"""Detection heads: from a feature track to detections."""

from tadkit.heads.anchor_free import AnchorFreeHead, HeadPredictions
from tadkit.heads.chunks import predict_in_chunks
from tadkit.heads.decode import Decoded, decode
from tadkit.heads.losses import (
    HeadLoss,
    PredictionDistillation,
    diou_loss_1d,
    head_loss,
    prediction_distillation,
    sigmoid_focal_loss,
)
from tadkit.heads.suppression import hard_nms, soft_nms
from tadkit.heads.targets import Targets, assign_targets, regression_ranges

__all__ = [
    "AnchorFreeHead",
    "Decoded",
    "HeadLoss",
    "HeadPredictions",
    "PredictionDistillation",
    "Targets",
    "assign_targets",
    "decode",
    "diou_loss_1d",
    "hard_nms",
    "head_loss",
    "predict_in_chunks",
    "prediction_distillation",
    "regression_ranges",
    "sigmoid_focal_loss",
    "soft_nms",
]
