"""Settings of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator

from tadkit.config.base import Settings, added_later
from tadkit.config.video import View


class TrainSettings(Settings):
    """How one stage is trained."""

    epochs: int = Field(10, ge=1, le=100_000)
    """Passes over the training windows."""
    window_s: float = Field(25.6, ge=0.1, le=100_000)
    """Length of a training window in seconds."""
    batch_windows: int = Field(2, ge=1, le=4096)
    """Windows per training step."""
    lr: float = Field(5e-4, gt=0, le=10)
    """Peak learning rate of all layers except the backbone."""
    backbone_lr: float = Field(1e-4, gt=0, le=10)
    """Peak learning rate of the backbone."""
    weight_decay: float = Field(0.05, ge=0, le=10)
    """AdamW's weight decay, applied to weights of two or more dimensions."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Fraction of the steps used for linear warm-up of the learning rate."""
    schedule: Literal["cosine", "actionformer-cosine", "actionformer-multistep"] = "cosine"
    """Schedule after the warm-up: a cosine to zero, or ActionFormer's schedules, reproduced step by step."""
    milestones: tuple[Annotated[float, Field(ge=0, le=1)], ...] = (0.5, 0.8)
    """Fractions of the steps after the warm-up at which actionformer-multistep divides the learning rate by 10."""
    clip_norm: float = Field(1.0, gt=0, le=1_000_000)
    """Gradients are clipped to this norm."""
    ema: float = Field(0.99, ge=0, lt=1)
    """Decay of the exponential moving average of the weights; the model is saved with the averaged weights."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Number format of the forward pass; bf16 and fp16 are mixed precision (autocast). bf16 is slow on some CPUs."""
    views: tuple[View, ...] = Field(("original", "mirror"), min_length=1)
    """Views of the picture that training samples from; teacher outputs are cached for each."""
    colour_jitter: float = Field(0.3, ge=0, lt=1)
    """Largest change of brightness, contrast and saturation of a window's RGB frames; flow is not changed."""
    colour_variants: int = Field(0, ge=0, le=1000)
    """Draw a window's colours from this many fixed draws per video and view, to reuse activations; 0 has no limit."""
    seed: int = Field(0, ge=0, le=2_147_483_647)
    """Seed of weights, windows and views."""
    checkpoint_s: float = Field(20.0, ge=0, le=1_000_000)
    """Seconds between checkpoints from which a killed run resumes."""
    log_every: int = Field(10, ge=1, le=1_000_000)
    """Steps between copies of the losses from the device to the log, which has one line per step."""
    validate_every: int = Field(0, ge=0, le=100_000)
    """Epochs between validations on training videos set aside; 0 trains on all videos without validation."""
    validation_share: float = Field(0.1, gt=0, lt=1)
    """Fraction of the training videos set aside for validation, at least one; chosen by the seed."""
    backbone_windows: int = added_later(0, ge=0, le=8192)
    """Windows of a training step that pass through the backbone at once; 0: all. Fewer need less memory and the time of
    one more pass; the result is the same."""
    cache_mb: int = Field(1024, ge=0, le=10_000_000)
    """Memory for caching decoded training frames, activations of layers that are not trained, and stored features, in
    MiB."""

    @property
    def unused(self) -> Mapping[str, str]:
        """Settings of what is off, and of another schedule."""
        unused: dict[str, str] = {}
        if self.schedule != "actionformer-multistep":
            unused["milestones"] = "schedule = 'actionformer-multistep'"
        if self.validate_every == 0:
            unused["validation_share"] = "validate_every above 0"
        if self.colour_jitter == 0:
            unused["colour_variants"] = "colour_jitter above 0"
        return unused

    @property
    def _of_frames(self) -> Mapping[str, str]:
        """Settings of RGB frames that are on."""
        given = {"colour_jitter": self.colour_jitter, "colour_variants": self.colour_variants}
        return {name: "RGB frames, which train.student alone reads" for name, value in given.items() if value > 0}

    @property
    def without_effect(self) -> frozenset[str]:
        """Names of the settings that do not affect the trained weights, given the others."""
        names = {"checkpoint_s", "backbone_windows", "cache_mb", "log_every"}
        if self.schedule == "cosine":
            names |= {"schedule", "milestones"}
        if self.colour_jitter == 0 or self.colour_variants == 0:
            names |= {"colour_variants"}  # 0, the default, was the only way before
        if self.validate_every == 0:
            names |= {"validate_every", "validation_share"}
        return frozenset(names)


class TeacherTrainSettings(TrainSettings):
    """How the teacher is trained."""

    flow_jitter: float = Field(0.0, ge=0, lt=1)
    """Each training window's flow is multiplied by a random number between 1 - flow_jitter and 1 + flow_jitter."""

    @property
    def unused(self) -> Mapping[str, str]:
        """As for other stages, and those of RGB frames."""
        return {**super().unused, **self._of_frames}

    @property
    def without_effect(self) -> frozenset[str]:
        """As for other stages, and no jitter."""
        return super().without_effect | (frozenset() if self.flow_jitter else {"flow_jitter"})


class StudentTrainSettings(TrainSettings):
    """How the student is trained."""

    unlabelled_windows: int | None = added_later(None, ge=0, le=4096)
    """Windows of unlabelled videos per training step, beside batch_windows of labelled ones; by default as many. With
    0, which a variant may set, the student is trained on labelled videos alone."""


class HeadTrainSettings(TrainSettings):
    """How the joint head is trained."""

    groups: int = Field(0, ge=0, le=1000)
    """Choose operating points by detectors trained without one of this many groups of training videos; 0 is off."""
    cross_fit: bool = False
    """With groups: train the joint head on features of the students that did not see the videos."""

    @field_validator("groups")
    @classmethod
    def _two_groups_or_more(cls, value: int) -> int:
        if value == 1:
            raise ValueError("needs two groups or more; 0 chooses no operating points")
        return value

    @property
    def unused(self) -> Mapping[str, str]:
        """As for other stages, and those of RGB frames and of a backbone."""
        backbone = "a backbone, which this stage does not train"
        return {**super().unused, **self._of_frames, **dict.fromkeys(("backbone_lr", "backbone_windows"), backbone)}

    @property
    def without_effect(self) -> frozenset[str]:
        """As for other stages; cross-fitting shows in the keys of the features that the head is trained on."""
        return super().without_effect | {"groups", "cross_fit"}


class StageTraining(Settings):
    """Settings of the three training stages."""

    teacher: TeacherTrainSettings = TeacherTrainSettings()
    """``tadkit train-teacher``"""
    student: StudentTrainSettings = StudentTrainSettings()
    """``tadkit distill``"""
    head: HeadTrainSettings = HeadTrainSettings()
    """``tadkit train-head``"""
