"""Nets that turn frames into features."""

from tadkit.models.backbones.temporal_shift import TemporalShiftBackbone, step_mask

__all__ = ["TemporalShiftBackbone", "step_mask"]
