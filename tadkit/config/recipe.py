"""A model's settings, and a whole run's."""

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

ComparedRow = Literal["teacher", "decomposed", "direct", "rgb", "rgb-matched"]


class EvaluationSettings(Settings):
    """How detections are judged."""

    protocol: Literal["activitynet", "thumos14"] = "activitynet"
    """activitynet is the official evaluator; thumos14 the kit of that challenge."""
    tiou: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field((0.1, 0.2, 0.3, 0.4, 0.5), min_length=1)
    """Thresholds of temporal intersection over union."""


class ModelSettings(Settings):
    """The sections of a recipe that shape a model; they travel in the header of its checkpoint."""

    video: VideoSettings = VideoSettings()
    """How frames are read."""
    flow: FlowSettings = Tvl1Settings()
    """The teacher's modality."""
    teacher_backbone: BackboneSettings = BackboneSettings()
    """The teacher's net."""
    backbone: BackboneSettings = BackboneSettings()
    """The student's net; its stride must be the teacher's."""
    head: HeadSettings = ActionFormerSettings()
    """Head of teacher, branches and detector."""
    joint_head: HeadSettings | None = None
    """Head of the detector, where it is to be another."""
    distill: DistillSettings = DistillSettings()
    """What the student learns from."""
    fusion: FusionSettings = FusionSettings()
    """How the branches are joined."""
    decode: DecodeSettings = DecodeSettings()
    """From predictions to detections."""

    @property
    def detector_head(self) -> HeadSettings:
        """Head of the detector: ``joint_head``, or ``head`` where none is given."""
        return self.head if self.joint_head is None else self.joint_head


class Recipe(ModelSettings):
    """Everything that ``tadkit run`` needs to know."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    """Name of the run folder."""
    labels: tuple[str, ...] = Field(min_length=1)
    """Classes, in the order of the model's outputs; other labels in the annotations are background."""
    sources: tuple[Source, ...] = Field(min_length=1)
    """Where videos and annotations come from."""
    out: str = "runs"
    """Folder that the run folder is made in."""
    split: SplitSettings = SplitSettings()
    """Which videos are held out."""
    train: StageTraining = StageTraining()
    """The three training stages."""
    half_precision: bool = False
    """Store the detector's matrices and filters as float16: half the file; it runs in float32 all the same."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """How detections are judged."""
    video_scores: str | None = None
    """JSON file of scores of whole videos, {video: {label: score}}, that weight the detections of the final table."""
    compare: tuple[ComparedRow, ...] = ("teacher", "decomposed")
    """Rows of the final table; each student among them is trained. With features, their head is the only row."""

    @model_validator(mode="before")
    @classmethod
    def _video_scores_has_moved(cls, values: Any) -> Any:
        decode = values.get("decode") if isinstance(values, Mapping) else None
        if isinstance(decode, Mapping) and "video_scores" in decode:
            raise ValueError("decode.video_scores is called video_scores now; put it before the first [section]")
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels are not distinct: {', '.join(self.labels)}")
        if len(self.sources) > 1 and any(isinstance(source, FeaturesSource) for source in self.sources):
            raise ValueError("a source of features stands alone; import all features into one store")
        if self.backbone.stride != self.teacher_backbone.stride:
            raise ValueError(
                f"backbone.stride {self.backbone.stride} differs from teacher_backbone.stride "
                f"{self.teacher_backbone.stride}: the student must see the teacher's features at the same steps"
            )
        if self.distill.joint and self.joint_head is not None:
            raise ValueError("joint_head goes with distill.joint = false: trained along with the student it is head")
        if self.split.kind == "folds" and self.split.fold >= self.split.folds:
            raise ValueError(f"split.fold {self.split.fold} must be below split.folds {self.split.folds}")
        square = self.video.height_px == self.video.width_px
        for stage in (self.train.teacher, self.train.student, self.train.head):
            if not square and SQUARE_VIEWS.intersection(stage.views):
                raise ValueError("views that turn the picture by 90 degrees need video.height_px = video.width_px")
        return self
