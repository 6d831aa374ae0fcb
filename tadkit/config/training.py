"""Training runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tadkit.config.base import Settings
from tadkit.config.video import View


class TrainSettings(Settings):
    """One training run."""

    epochs: int = Field(10, ge=1, le=100_000)
    """Passes over the training windows."""
    window_s: float = Field(25.6, ge=0.1, le=100_000)
    """Length of a training window in seconds."""
    batch_windows: int = Field(2, ge=1, le=4096)
    """Windows per step."""
    lr: float = Field(5e-4, gt=0, le=10)
    """Peak learning rate of new layers."""
    backbone_lr: float = Field(1e-4, gt=0, le=10)
    """Peak learning rate of the backbone."""
    weight_decay: float = Field(0.05, ge=0, le=10)
    """Weight decay of AdamW, applied to weights of two or more dimensions."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    schedule: Literal["cosine", "actionformer-cosine", "actionformer-multistep"] = "cosine"
    """Learning rate after the warm-up: a cosine to zero, or one of ActionFormer's schedules, equal at every step."""
    milestones: tuple[Annotated[float, Field(ge=0, le=1)], ...] = (0.5, 0.8)
    """Shares of the steps after the warm-up at which actionformer-multistep divides the rate by 10."""
    clip_norm: float = Field(1.0, gt=0, le=1_000_000)
    """Largest gradient norm."""
    ema: float = Field(0.99, ge=0, lt=1)
    """Decay of the averaged weights, which are the ones saved in the model."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Number format of the forward pass; bf16 and fp16 are mixed precision (autocast)."""
    views: tuple[View, ...] = Field(("original", "mirror"), min_length=1)
    """Views of the picture that training draws from; teacher outputs are cached for every view."""
    colour_jitter: float = Field(0.3, ge=0, lt=1)
    """Largest change of brightness, contrast and saturation of a window's RGB frames; flow is not changed."""
    seed: int = Field(0, ge=0, le=2_147_483_647)
    """Seed of weights, windows and views."""
    checkpoint_s: float = Field(20.0, ge=0, le=1_000_000)
    """Seconds between checkpoints that a killed run resumes from."""
    log_every: int = Field(10, ge=1, le=1_000_000)
    """Steps between copies of the losses from the device to the log, which has a line for each step."""
    validate_every: int = Field(0, ge=0, le=100_000)
    """Epochs between validations on training videos that are set aside; 0 trains on all videos without validation."""
    validation_share: float = Field(0.1, gt=0, lt=1)
    """Share of the training videos that are set aside for validation, at least one; drawn by the seed."""
    cache_mb: int = Field(1024, ge=0, le=10_000_000)
    """Memory in MiB for decoded training frames; videos that do not fit are decoded again in every epoch."""

    @property
    def without_effect(self) -> frozenset[str]:
        """Names of the settings that the trained weights do not depend on, given the others."""
        names = {"checkpoint_s", "cache_mb", "log_every"}
        if self.schedule == "cosine":
            names |= {"schedule", "milestones"}
        if self.validate_every == 0:
            names |= {"validate_every", "validation_share"}
        return frozenset(names)


class StageTraining(Settings):
    """Settings of the three training stages."""

    teacher: TrainSettings = TrainSettings()
    """``tadkit train-teacher``"""
    student: TrainSettings = TrainSettings()
    """``tadkit distill``"""
    head: TrainSettings = TrainSettings()
    """``tadkit train-head``"""
