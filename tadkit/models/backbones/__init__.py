"""Nets that turn frames into features."""

from tadkit.models.backbones.backbone import Backbone, PrefixedBackbone, StreamedBackbone, average_steps, step_mask
from tadkit.models.backbones.build import align_frames_of, build_backbone
from tadkit.models.backbones.temporal_shift import TemporalShiftBackbone

__all__ = [
    "Backbone",
    "PrefixedBackbone",
    "StreamedBackbone",
    "TemporalShiftBackbone",
    "align_frames_of",
    "average_steps",
    "build_backbone",
    "step_mask",
]
