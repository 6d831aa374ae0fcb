"""Settings of a model, and of a whole run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tadkit.config.backbones import BackboneSettings
from tadkit.config.base import Settings
from tadkit.config.decode import DecodeSettings
from tadkit.config.distill import DistillSettings, FusionSettings
from tadkit.config.flow import FlowSettings, Tvl1Settings
from tadkit.config.heads import ActionFormerSettings, HeadSettings
from tadkit.config.sources import FeaturesSource, Source, SplitSettings
from tadkit.config.training import StageTraining
from tadkit.config.video import SQUARE_VIEWS, VideoSettings

Protocol = Literal["activitynet", "thumos14"]
"""Whose rules of evaluation apply."""
ComparedRow = Literal["teacher", "decomposed", "direct", "rgb", "rgb-matched"]


class EvaluationSettings(Settings):
    """How detections are evaluated."""

    protocol: Protocol = "activitynet"
    """Rules of evaluation: activitynet follows the official ActivityNet evaluator, thumos14 the THUMOS14 kit."""
    tiou: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field((0.1, 0.2, 0.3, 0.4, 0.5), min_length=1)
    """Thresholds of temporal intersection over union."""


class ModelSettings(Settings):
    """The sections of a recipe that define a model; they are stored in the header of its checkpoint."""

    video: VideoSettings = VideoSettings()
    """How frames are read."""
    flow: FlowSettings = Tvl1Settings()
    """The teacher's input."""
    teacher_backbone: BackboneSettings = BackboneSettings()
    """The teacher's backbone."""
    backbone: BackboneSettings = BackboneSettings()
    """The student's backbone; its stride must be the teacher's."""
    head: HeadSettings = ActionFormerSettings()
    """Head of teacher, branches and detector."""
    joint_head: HeadSettings | None = None
    """Head of the detector, if it differs from head."""
    distill: DistillSettings = DistillSettings()
    """How the student is trained."""
    fusion: FusionSettings = FusionSettings()
    """How the branches are joined."""
    decode: DecodeSettings = DecodeSettings()
    """From predictions to detections."""

    @model_validator(mode="after")
    def _attention_fits(self) -> ModelSettings:
        heads, dim = self.fusion.attention_heads, self.distill.dim
        if self.fusion.kind == "cross-attention" and dim % heads:
            raise ValueError(f"distill.dim {dim} must be a multiple of fusion.attention_heads {heads}")
        return self

    @property
    def detector_head(self) -> HeadSettings:
        """Head of the detector: ``joint_head``, or ``head`` if that is None."""
        return self.head if self.joint_head is None else self.joint_head


class Recipe(ModelSettings):
    """All settings of ``tadkit run``."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    """Name of the run folder."""
    labels: tuple[str, ...] = Field(min_length=1)
    """Classes, in the order of the model's outputs; other labels in the annotations count as background."""
    sources: tuple[Source, ...] = Field(min_length=1)
    """Where videos and annotations come from."""
    out: str = "runs"
    """Folder in which the run folder is created."""
    split: SplitSettings = SplitSettings()
    """Which videos are held out for evaluation."""
    train: StageTraining = StageTraining()
    """The three training stages."""
    half_precision: bool = False
    """Store the detector's matrices and filters as float16: half the file size; it still runs in float32."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """How detections are evaluated."""
    video_scores: str | None = None
    """JSON file of video-level scores, {video: {label: score}}, that weight the detections of the final table."""
    compare: tuple[ComparedRow, ...] = ("teacher", "decomposed")
    """Rows of the final table; every student in it is trained. A recipe of features has one row, its head."""

    @model_validator(mode="before")
    @classmethod
    def _video_scores_has_moved(cls, values: Any) -> Any:
        decode = values.get("decode") if isinstance(values, Mapping) else None
        if isinstance(decode, Mapping) and "video_scores" in decode:
            raise ValueError("decode.video_scores is now called video_scores; put it before the first [section]")
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels are not distinct: {', '.join(self.labels)}")
        if len(self.sources) > 1 and any(isinstance(source, FeaturesSource) for source in self.sources):
            raise ValueError("a source of features must be the only source; import all features into one store")
        if self.backbone.stride != self.teacher_backbone.stride:
            raise ValueError(
                f"backbone.stride {self.backbone.stride} differs from teacher_backbone.stride "
                f"{self.teacher_backbone.stride}: the student must see the teacher's features at the same steps"
            )
        if self.distill.joint and self.joint_head is not None:
            raise ValueError("joint_head needs distill.joint = false: with distill.joint = true the joint head is head")
        if self.train.head.cross_fit and not self.train.head.groups:
            raise ValueError("train.head.cross_fit needs train.head.groups, such as 3")
        if self.train.head.cross_fit and self.distill.joint:
            raise ValueError("train.head.cross_fit needs distill.joint = false: the joint head is trained on features")
        if self.train.head.groups and any(isinstance(source, FeaturesSource) for source in self.sources):
            raise ValueError("train.head.groups needs videos, but the source is a store of features; leave it at 0")
        if self.split.kind == "folds" and self.split.fold >= self.split.folds:
            raise ValueError(f"split.fold {self.split.fold} must be below split.folds {self.split.folds}")
        square = self.video.height_px == self.video.width_px
        for stage in (self.train.teacher, self.train.student, self.train.head):
            if not square and SQUARE_VIEWS.intersection(stage.views):
                raise ValueError("views that turn the picture by 90 degrees need video.height_px = video.width_px")
        return self
