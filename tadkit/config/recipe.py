"""Settings of a model, and of a whole run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from tadkit.config.backbones import BackboneSettings, TemporalEncoderSettings, TemporalShiftSettings
from tadkit.config.base import Settings, added_later, merged
from tadkit.config.decode import DecodeSettings
from tadkit.config.distill import ADDED_TERMS, TWO_BRANCHES, DistillSettings, FusionSettings, Method
from tadkit.config.flow import FlowSettings, TemporalGradientSettings, Tvl1Settings
from tadkit.config.heads import ActionFormerSettings, HeadSettings, TadtrSettings
from tadkit.config.places import TAGS, setting_name
from tadkit.config.sources import (
    FeaturesSource,
    FeatureStreams,
    FrozenSettings,
    MadeUpFeaturesSource,
    Source,
    SplitSettings,
    check_unlabelled,
)
from tadkit.config.training import StageTraining, TeacherTrainSettings
from tadkit.config.video import SQUARE_VIEWS, VideoSettings

Protocol = Literal["activitynet", "thumos14"]
"""Whose rules of evaluation apply."""
Streams = Literal["rgb", "two-stream", "two-stream-late"]
"""What a detector reads: RGB alone, or RGB and flow."""
TEACHER = "teacher"
"""Name of the recipe's own teacher, beside those of ``teachers``."""
_READ_FLOW = tuple(name for name in get_args(Streams) if name != "rgb")
ROWS: tuple[str, ...] = (TEACHER, *get_args(Method), *_READ_FLOW)
"""Rows that a recipe may compare without defining them."""
_OF_A_ROW = ("backbone", "joint_head", "distill", "fusion", "decode", "streams", "train")
"""Sections that differ between rows; all rows share the videos, the head and the teacher."""
_FEATURES = (FeaturesSource, MadeUpFeaturesSource)
A_ROW = "row"
"""Context in which the settings of one row are checked: rows share settings, some of which change other rows."""
_NAME = r"[A-Za-z0-9._-]+"


class EvaluationSettings(Settings):
    """How detections are evaluated."""

    protocol: Protocol = "activitynet"
    """Rules of evaluation: activitynet follows the official ActivityNet evaluator, thumos14 the THUMOS14 kit."""
    tiou: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field((0.1, 0.2, 0.3, 0.4, 0.5), min_length=1)
    """Thresholds of temporal intersection over union."""


class TeacherSettings(Settings):
    """A further teacher, which differs from the recipe's own in what it reads or in how it is trained.

    A recipe fills in what is left out of ``flow``, ``backbone`` and ``train`` (:meth:`Recipe.with_defaults`).
    """

    name: str = Field(pattern=f"^{_NAME}$")
    """Name of its files and of its row."""
    flow: FlowSettings = Tvl1Settings()
    """Its input, by default as in [flow]; of another method, that method's defaults."""
    backbone: BackboneSettings = TemporalShiftSettings()
    """Its backbone, by default as in [teacher_backbone]; of another name, that backbone's defaults."""
    stream: str | None = added_later(None)
    """With a source of features: the track or range of channels that it reads, by default sources.flow."""
    train: TeacherTrainSettings = TeacherTrainSettings()
    """How it is trained; what is left out is as in [train.teacher]."""
    features: FeatureStreams | None = added_later(None)
    """With stream, what it reads; a run fills this section in."""

    @model_validator(mode="after")
    def _has_found_its_stream(self) -> TeacherSettings:
        if self.features is not None and self.stream is None:
            raise ValueError("features: a run fills this section in; leave it out")
        return self


class ModelSettings(Settings):
    """The sections of a recipe that define a model; they are stored in the header of its checkpoint."""

    video: VideoSettings = VideoSettings()
    """How frames are read."""
    flow: FlowSettings = Tvl1Settings()
    """The teacher's input."""
    teacher_backbone: BackboneSettings = TemporalShiftSettings()
    """The teacher's backbone."""
    backbone: BackboneSettings = TemporalShiftSettings()
    """The student's backbone; its stride must be the teacher's."""
    head: HeadSettings = ActionFormerSettings()
    """Head of teacher, branches and detector."""
    joint_head: HeadSettings | None = None
    """Head of the detector, if it differs from head."""
    streams: Streams = added_later("rgb")
    """What the detector reads; two-stream fuses the features of the teacher and of an RGB student, and two-stream-late
    averages their scores. Both compute flow in use."""
    distill: DistillSettings = DistillSettings()
    """How the student is trained."""
    fusion: FusionSettings = FusionSettings()
    """How the branches are joined."""
    decode: DecodeSettings = DecodeSettings()
    """From predictions to detections."""
    features: FeatureStreams | None = added_later(None)
    """Streams of stored features that teacher and student read instead of videos; a run fills it in from sources."""
    frozen: FrozenSettings | None = added_later(None)
    """With this section, even an empty one, teacher and student read features of the videos, which the run computes."""
    teachers: tuple[TeacherSettings, ...] = added_later(())
    """Further teachers, each written as [[teachers]]; the student is trained on all of them (distill.teachers)."""

    @model_validator(mode="after")
    def _attention_fits(self) -> ModelSettings:
        heads, dim = self.fusion.attention_heads, self.distill.dim
        if self.fusion.kind == "cross-attention" and dim % heads:
            raise ValueError(f"distill.dim {dim} must be a multiple of fusion.attention_heads {heads}")
        return self

    @model_validator(mode="after")
    def _teacher_reads_motion(self) -> ModelSettings:
        net = self.teacher_backbone
        if isinstance(net, TemporalShiftSettings) and (net.changes_frames or not net.colours):
            raise ValueError("teacher_backbone reads flow; changes_frames and colours are settings of backbone")
        return self

    @property
    def unused(self) -> Mapping[str, str]:
        """The fusion, if there is nothing to fuse or the scores are averaged; and what needs a teacher, without one."""
        unused: dict[str, str] = {}
        if not self.two_tracks or self.streams == "two-stream-late":
            unused["fusion"] = f"{TWO_BRANCHES}, or streams = 'two-stream'"
        if self.distill.joint and not (self.distill.taught or self.teacher_beside_student):
            unused["distill.joint_prediction_weight"] = "a method with a teacher, or streams = 'two-stream'"
        return unused

    @property
    def reads_flow(self) -> bool:
        """Whether the detector computes flow in use."""
        return self.streams != "rgb"

    @property
    def two_tracks(self) -> bool:
        """Whether the joint head reads motion beside appearance: a branch of the student, or the teacher's feature."""
        return self.reads_flow or self.distill.two_branches

    @property
    def teacher_beside_student(self) -> bool:
        """Whether the student is trained together with a joint head that reads the teacher's feature as motion."""
        return self.distill.joint and self.streams == "two-stream"

    @property
    def is_taught(self) -> bool:
        """Whether a term compares the student, or the joint head trained with it, with the teacher's outputs."""
        return self.distill.taught or (self.teacher_beside_student and self.distill.joint_prediction_weight > 0)

    @property
    def detector_head(self) -> HeadSettings:
        """Head of the detector: ``joint_head``, or ``head`` if that is None."""
        return self.head if self.joint_head is None else self.joint_head


class Recipe(ModelSettings):
    """All settings of ``tadkit run``."""

    name: str = Field(min_length=1, pattern=f"^{_NAME}$")
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
    compare: tuple[str, ...] = Field(("teacher", "decomposed"), min_length=1)
    """Rows of the final table: teacher, methods (distill.method), two-stream, two-stream-late, or names of variants.
    Every model in it is trained. A recipe of features without rgb and flow has one row, its head."""
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Further rows by name, each a table of the settings in which it differs, as in ``[variants.no-fusion]`` with
    ``fusion.kind = "concat"``."""

    @field_validator("sources")
    @classmethod
    def _unlabelled_sources_fit(cls, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        check_unlabelled(sources)
        return sources

    @model_validator(mode="before")
    @classmethod
    def _video_scores_has_moved(cls, values: Any) -> Any:
        decode = values.get("decode") if isinstance(values, Mapping) else None
        if isinstance(decode, Mapping) and "video_scores" in decode:
            raise ValueError("decode.video_scores is now called video_scores; put it before the first [section]")
        return values

    @model_validator(mode="before")
    @classmethod
    def _has_defaults_of_its_source(cls, values: Any) -> Any:
        return cls.with_defaults(values) if isinstance(values, Mapping) else values

    @classmethod
    def with_defaults(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Plain values with the defaults that depend on the source, or of further teachers on the recipe's own.

        Streams of features are read by temporal encoders, and have one view and no colours.
        """
        filled = dict(values)
        if values.get("frozen") is not None or _has_streams(values.get("sources")):
            filled["train"] = _defaults_of_stages(values.get("train", {}))
            for part in ("backbone", "teacher_backbone"):
                section = values.get(part, {})
                filled[part] = {"name": "temporal-encoder", **section} if isinstance(section, Mapping) else section
        if isinstance(teachers := values.get("teachers"), list | tuple):
            filled["teachers"] = [_filled_in(teacher, filled) for teacher in teachers]
        return filled

    @model_validator(mode="after")
    def _reads_what_there_is(self) -> Recipe:
        if self.frozen is not None:
            self._refuse_frozen()
        streams = self.stream_source is not None
        for part in ("backbone", "teacher_backbone"):
            backbone = getattr(self, part)
            if isinstance(backbone, TemporalEncoderSettings) != streams:
                what = f"videos, but {self._features_given}; leave it out"
                what = what if streams else "features; it needs [frozen], or a source of features with rgb and flow"
                raise ValueError(f"{part}.name '{backbone.name}' reads {what}")
        if streams:
            self._refuse_settings_of_videos()
        return self

    def _refuse_settings_of_videos(self) -> None:
        """Refuse settings that change frames or flow, which features do not have."""
        stages = {name: getattr(self.train, name) for name in StageTraining.model_fields}
        given = {f"train.{name}.views": stage.views != ("original",) for name, stage in stages.items()}
        given |= {f"train.{name}.colour_jitter": stage.colour_jitter > 0 for name, stage in stages.items()}
        given |= {f"train.{name}.colour_variants": stage.colour_variants > 0 for name, stage in stages.items()}
        given |= {"train.teacher.flow_jitter": self.train.teacher.flow_jitter > 0}
        if self.frozen is None:
            standard = Tvl1Settings()
            given |= {"flow.method": self.flow.method != standard.method}  # first: other methods have other defaults
            given |= {f"flow.{key}": value != getattr(standard, key, None) for key, value in self.flow}
            given |= {f"video.{key}": value != getattr(VideoSettings(), key) for key, value in self.video}
        if wrong := [setting for setting, is_given in given.items() if is_given]:
            raise ValueError(f"{wrong[0]} needs videos, but {self._features_given}; leave it out")

    def _refuse_frozen(self) -> None:
        """Refuse frozen features of what has no frames or no flow."""
        if any(isinstance(source, _FEATURES) for source in self.sources):
            raise ValueError("frozen needs videos, but the source has features; leave out one of them")
        if isinstance(self.flow, TemporalGradientSettings):
            raise ValueError(f"frozen needs flow, but flow.method '{self.flow.method}' is none; choose another method")
        if self.teachers:
            raise ValueError("frozen has one motion feature, which all teachers would read; leave out teachers")

    @property
    def _features_given(self) -> str:
        return "the source has features" if self.frozen is None else "[frozen] has features"

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels are not distinct: {', '.join(self.labels)}")
        labelled = [source for source in self.sources if source.labelled]
        if len(labelled) > 1 and any(isinstance(source, _FEATURES) for source in labelled):
            raise ValueError("a source of features must be the only source; import all features into one store")
        if self.train.student.unlabelled_windows is not None and len(labelled) == len(self.sources):
            raise ValueError("train.student.unlabelled_windows needs a source with labelled = false")
        if self.backbone.stride != self.teacher_backbone.stride:
            raise ValueError(
                f"backbone.stride {self.backbone.stride} differs from teacher_backbone.stride "
                f"{self.teacher_backbone.stride}: the student must see the teacher's features at the same steps"
            )
        for part, backbone in (("teacher_backbone", self.teacher_backbone), ("backbone", self.backbone)):
            steps, clip_steps = self.head.fixed_window_steps, backbone.align_frames // backbone.stride
            if steps is not None and steps % clip_steps:
                raise ValueError(
                    f"head.window_steps {steps} must be a multiple of {clip_steps}, the steps of a clip of {part}.name "
                    f"'{backbone.name}', so that training cuts no clip short"
                )
        if self.distill.joint and self.joint_head is not None:
            raise ValueError("joint_head needs distill.joint = false: with distill.joint = true the joint head is head")
        if self.train.head.cross_fit and not self.train.head.groups:
            raise ValueError("train.head.cross_fit needs train.head.groups, such as 3")
        if self.train.head.cross_fit and self.distill.joint:
            raise ValueError("train.head.cross_fit needs distill.joint = false: the joint head is trained on features")
        if self.train.head.groups and self.head_alone:
            raise ValueError("train.head.groups needs videos, or features with rgb and flow; leave it at 0")
        if self.split.kind == "folds" and self.split.fold >= self.split.folds:
            raise ValueError(f"split.fold {self.split.fold} must be below split.folds {self.split.folds}")
        square = self.video.height_px == self.video.width_px
        for stage in (self.train.teacher, self.train.student, self.train.head):
            if not square and SQUARE_VIEWS.intersection(stage.views):
                raise ValueError("views that turn the picture by 90 degrees need video.height_px = video.width_px")
        if self.streams != "rgb" and (self.distill.method != "rgb" or self.distill.taught):
            raise ValueError(
                f"streams = '{self.streams}' needs distill.method = 'rgb' without added terms: its RGB stream has no "
                "teacher"
            )
        taught = self.teacher_beside_student and self.distill.joint_prediction_weight > 0
        if taught and isinstance(self.head, TadtrSettings):
            raise ValueError(
                "distill.joint_prediction_weight with streams = 'two-stream' averages the predictions of two nets, but "
                "queries of tadtr have no partners in another net; set it to 0, or choose another head"
            )
        if self.streams == "two-stream-late" and self.joint_head is not None:
            raise ValueError("streams = 'two-stream-late' averages the scores of two equal heads; leave out joint_head")
        return self

    @model_validator(mode="after")
    def _teachers_fit(self) -> Recipe:
        names = self.teacher_names
        if unknown := [name for name in self.distill.teachers if name not in names]:
            raise ValueError(f"distill.teachers: no teacher is named '{unknown[0]}'; choose from {', '.join(names)}")
        if not self.teachers:
            return self
        if self.head_alone:
            raise ValueError("teachers needs videos, or features with rgb and flow; leave it out")
        folded = [name.casefold() for name in names]
        for name in names[1:]:
            if folded.count(name.casefold()) > 1:
                what = f"'{TEACHER}' is the recipe's own" if name.casefold() == TEACHER else f"'{name}' is there twice"
                raise ValueError(f"teachers: {what}; choose another name")
        parts = {name: self._teacher_part(name) for name in names}
        for number, name in enumerate(names):
            if alike := [other for other in names[:number] if parts[other] == parts[name]]:
                raise ValueError(
                    f"teachers: '{name}' is trained exactly like '{alike[0]}'; change its flow, backbone or train"
                )
        if reading := [row for row in (self.streams, *self.compare) if row in _READ_FLOW]:
            raise ValueError(
                f"teachers: '{reading[0]}' joins appearance with the feature of one teacher, which is as wide, but the "
                f"recipe has {len(names)} teachers; leave out '{reading[0]}', or teachers"
            )
        self._refuse_queries()
        return self

    def _teacher_part(self, name: str) -> tuple[Any, ...]:
        """What the training of a teacher depends on within a recipe."""
        try:
            own = self.of_teacher(name)
        except ValidationError as error:
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ValueError(f"teachers: '{name}': {message}") from None
        train = own.train.teacher
        stream = None if own.stream_source is None else own.stream_source.flow
        return own.flow, own.teacher_backbone, stream, train.model_dump(exclude=set(train.without_effect))

    def _refuse_queries(self) -> None:
        """Refuse to average predictions that have no partners; variants are rows of their own."""
        methods = [row for row in (self.distill.method, *self.compare) if row in get_args(Method)]
        for row in methods:
            distill = self.distill.model_copy(update={"method": row})
            several = distill.taught and len(distill.teachers or self.teacher_names) > 1
            averages = distill.terms.prediction_weight > 0 or distill.joint_prediction_weight > 0
            if several and averages and isinstance(self.head, TadtrSettings):
                raise ValueError(
                    f"teachers: '{row}' is trained on their average predictions, but queries of tadtr have no partners "
                    "in another teacher; set distill.prediction_weight = 0 and distill.joint_prediction_weight = 0, "
                    "name one teacher in distill.teachers, or choose another head"
                )

    def _refuse_other_width(self, name: str) -> None:
        """A variant that reads the teacher's feature, or is compared with it, has a feature as wide."""
        row, width = self.of_row(name), self.distill.dim
        compared = row.is_taught and (
            row.distill.terms.feature_weight > 0 or any(getattr(row.distill, term) > 0 for term in ADDED_TERMS)
        )
        if row.distill.dim != width and (compared or row.reads_flow):
            raise ValueError(
                f"variants.{name}.distill.dim must be {width}, as wide as the teacher's feature, which distill.dim "
                "sets for all rows"
            )

    @model_validator(mode="after")
    def _rows_exist(self) -> Recipe:
        for name, changes in self.variants.items():
            if name in ROWS or not re.fullmatch(_NAME, name):
                what = "is the name of a built-in row" if name in ROWS else "must have letters, digits and . _ - only"
                raise ValueError(f"variants: '{name}' {what}; choose another name")
            _check_variant(name, changes)
            self._refuse_other_width(name)
        folded = [name.casefold() for name in (*ROWS, *self.variants)]
        for name in self.variants:
            if folded.count(name.casefold()) > 1:
                raise ValueError(f"variants: '{name}' is the name of two rows but for its case; choose another name")
        for row in self.compare:
            if self.compare.count(row) > 1:
                raise ValueError(f"compare: '{row}' is there twice; name each row once")
            if row not in ROWS and row not in self.variants:
                known = ", ".join((*ROWS, *self.variants))
                raise ValueError(f"compare: no row is named '{row}'; define it under variants, or choose from {known}")
        return self

    @model_validator(mode="after")
    def _has_an_effect(self, info: ValidationInfo) -> Recipe:
        """Refuse settings that were given but change no row, and those of a variant that do not change that variant.

        Rows share settings, so a setting may be without effect on some of them.
        """
        if info.context is A_ROW:
            return self
        names = dict.fromkeys(row for row in (self.own_row, *self.compare, *self.variants) if row != "teacher")
        rows = {row: self.of_row(row) for row in names}
        unused = {row: _all_unused(recipe) for row, recipe in rows.items()}
        for name in _stated(self):
            needs = [_need(name, of_row) for of_row in unused.values()]
            if all(needs):
                where = " on any row of the recipe" if len(needs) > 1 and not self.head_alone else ""
                raise ValueError(f"{name} has no effect{where}: it needs {needs[0]}; leave it out")
        for row, changes in self.variants.items():
            own = unused[row] | ({"train.head": "distill.joint = false"} if rows[row].distill.joint else {})
            if rows[row].train.head.groups != self.train.head.groups:
                raise ValueError(f"variants.{row}.train.head.groups: all rows have the same; set train.head.groups")
            for name in _dotted(changes) & _stated(rows[row]).keys():
                if need := _need(name, own):
                    raise ValueError(f"variants.{row}.{name} has no effect: it needs {need}; leave it out")
        return self

    @property
    def unused(self) -> Mapping[str, str]:
        """As for a model; and where one head reads features as they are, all that is not the head's."""
        if not self.head_alone:
            untaught = {"train.student.unlabelled_windows": "a method with a teacher"}
            return {**super().unused, **({} if self.is_taught else untaught)}
        frames = ("video", "flow") if self.train.head.views == ("original",) else ("video", "flow", "train.head.views")
        nets = ("backbone", "teacher_backbone", "distill", "fusion", "streams", "train.teacher", "train.student")
        unused = dict.fromkeys(frames, "videos, but the source has features")
        rest = (*nets, "half_precision", "compare", "variants")
        return unused | dict.fromkeys(rest, "videos, or features with rgb and flow")

    @property
    def model_settings(self) -> ModelSettings:
        """The sections that define a model, with the values of the method's terms stated.

        Of teachers, those that the student is trained on; the recipe's own alone goes without saying.
        """
        sections = {name: getattr(self, name) for name in ModelSettings.model_fields}
        names = () if self.taught_by == (TEACHER,) else self.taught_by
        stated = self.distill.stated.model_copy(update={"teachers": names})
        teachers = tuple(teacher for teacher in self.teachers if teacher.name in names)
        return ModelSettings.model_validate(sections | {"distill": stated, "teachers": teachers})

    @property
    def teacher_names(self) -> tuple[str, ...]:
        """Names of all teachers, the recipe's own first."""
        return (TEACHER, *(teacher.name for teacher in self.teachers))

    @property
    def taught_by(self) -> tuple[str, ...]:
        """Names of the teachers whose outputs the student is trained on, or beside, in order."""
        taught = self.distill.taught or self.teacher_beside_student
        return (self.distill.teachers or self.teacher_names) if taught else ()

    def flow_of(self, teacher: str) -> FlowSettings:
        """The input of a teacher."""
        return next((own.flow for own in self.teachers if own.name == teacher), self.flow)

    def of_teacher(self, name: str) -> Recipe:
        """The recipe as if one of its teachers were the only one; it has no rows but that.

        Raises:
            ValidationError: that teacher does not fit the rest of the recipe.
        """
        if not self.teachers:
            return self
        alone = {"teachers": (), "variants": {}, "compare": (TEACHER,)}
        changes: dict[str, Any] = {**alone, "distill": self.distill.model_copy(update={"teachers": ()})}
        for teacher in self.teachers:
            if teacher.name == name:
                changes |= {"flow": teacher.flow, "teacher_backbone": teacher.backbone}
                changes["train"] = self.train.model_copy(update={"teacher": teacher.train})
                changes |= self._of_stream(teacher)
        same = {field: getattr(self, field) for field in self.model_fields_set - set(changes)}
        return Recipe.model_validate(same | changes, context=A_ROW)

    def _of_stream(self, teacher: TeacherSettings) -> dict[str, Any]:
        """Source and features as a teacher reads them."""
        if teacher.stream is None:
            return {}
        source = self.stream_source
        if not isinstance(source, FeaturesSource):
            raise ValueError(
                f"teachers: '{teacher.name}': stream needs a source of kind features with rgb and flow; leave it out"
            )
        own = {**source.model_dump(), "flow": teacher.stream}
        sources = tuple(own if other is source else other for other in self.sources)
        return {"sources": sources, "features": teacher.features}

    @property
    def stream_source(self) -> FeaturesSource | MadeUpFeaturesSource | FrozenSettings | None:
        """The source, if it has features of RGB and flow, each of which a model is trained on; or the frozen nets."""
        if self.frozen is not None:
            return self.frozen
        first = self._first_labelled
        return first if isinstance(first, _FEATURES) and first.has_streams else None

    @property
    def head_alone(self) -> bool:
        """Whether the source has features that one head reads as they are, so that nothing else is trained."""
        return isinstance(self._first_labelled, _FEATURES) and self.stream_source is None

    @property
    def _first_labelled(self) -> Source:
        return next(source for source in self.sources if source.labelled)

    @property
    def own_row(self) -> str:
        """Name of the row whose settings are the recipe's own."""
        return self.distill.method if self.streams == "rgb" else self.streams

    def of_row(self, row: str) -> Recipe:
        """The recipe with the settings of a row: of a variant, or of a method with all else as in the recipe.

        Raises:
            RowError: the settings of the row are wrong.
        """
        if row in ("teacher", self.own_row) and row not in self.variants:
            return self
        if row in _READ_FLOW:
            changes: Mapping[str, Any] = {"streams": row, "distill": {"method": "rgb", **dict.fromkeys(ADDED_TERMS, 0)}}
        else:
            changes = self.variants.get(row, {"streams": "rgb", "distill": {"method": row}})
        same = {name: getattr(self, name) for name in self.model_fields_set - {"variants", "compare", *changes}}
        values = same | {name: merged(_given(getattr(self, name)), value) for name, value in changes.items()}
        try:
            return Recipe.model_validate(
                values | {"compare": (TEACHER,)}, context=A_ROW
            )  # a row has no rows of its own
        except ValidationError as error:
            raise RowError(f"variants.{row}" if row in self.variants else f"compare: {row}", error) from None


class RowError(ValueError):
    """The settings of a row are wrong.

    Attributes:
        where: the row's place in the recipe, such as ``variants.wide``.
        cause: all mistakes in them.
    """

    def __init__(self, where: str, cause: ValidationError) -> None:
        first = cause.errors()[0]
        self.where, self.cause = where, cause
        where = ".".join((where, setting_name(Recipe, first["loc"]))).removesuffix(".")
        message = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        super().__init__(f"{where}: {message}")


def _has_streams(sources: Any) -> bool:
    """Whether the source has features with a stream for teacher and student each; it may be wrong otherwise."""
    given = list(sources) if isinstance(sources, Sequence) else []
    first = next((source for source in given if _is_labelled(source)), next(iter(given), None))
    if isinstance(first, Mapping):
        streams = "rgb" in first or not _is_labelled(first)  # unlabelled features need streams
        return first.get("kind") == "made-up-features" or (first.get("kind") == "features" and streams)
    return isinstance(first, _FEATURES) and first.has_streams


def _is_labelled(source: Any) -> bool:
    """Whether a source, plain or checked, has annotations."""
    given = source.get("labelled") if isinstance(source, Mapping) else getattr(source, "labelled", True)
    return given is not False


def _defaults_of_stages(train: Any) -> Any:
    """Settings of training with the views and colours of features."""
    if not isinstance(train, Mapping):
        return train
    stages = {stage: train.get(stage, {}) for stage in StageTraining.model_fields}
    unchanged = {"views": ("original",), "colour_jitter": 0.0}
    return {**train, **{name: unchanged | dict(stage) for name, stage in stages.items() if isinstance(stage, Mapping)}}


def _all_unused(settings: Settings, prefix: str = "") -> dict[str, str]:
    """What the settings and their sections have no use for, by dotted names, each with what it needs."""
    found = {f"{prefix}{name}": need for name, need in settings.unused.items()}
    for name, value in settings:
        if isinstance(value, Settings):
            found |= _all_unused(value, f"{prefix}{name}.")
    return found


def _need(name: str, unused: Mapping[str, str]) -> str | None:
    """What a setting needs to have an effect; None if it has one."""
    return next((need for place, need in unused.items() if f"{name}.".startswith(f"{place}.")), None)


def _stated(settings: Settings, usual: Settings | None = None, prefix: str = "") -> dict[str, Any]:
    """Values that were given and are not the default, by dotted names; that which chooses a class comes first."""
    found: dict[str, Any] = {}
    fields, other_class = type(settings).model_fields, usual is not None and type(settings) is not type(usual)
    for name in sorted(fields, key=lambda name: name not in TAGS):
        value, default = getattr(settings, name), fields[name].get_default(call_default_factory=True)
        if not (other_class and name in TAGS) and (name not in settings.model_fields_set or value == default):
            continue
        if isinstance(value, Settings):
            found |= _stated(value, default, f"{prefix}{name}.")
        else:
            found |= {f"{prefix}{name}": value}
    return found


def _dotted(table: Mapping[str, Any], prefix: str = "") -> set[str]:
    """Names of the settings in a table of tables."""
    parts = ((f"{prefix}{name}", value) for name, value in table.items())
    found = (_dotted(value, f"{name}.") if isinstance(value, Mapping) else {name} for name, value in parts)
    return set().union(*found)


def _filled_in(teacher: Any, recipe: Mapping[str, Any]) -> Any:
    """A further teacher with what it leaves out as in the recipe's own; another method or backbone has its defaults."""
    if not isinstance(teacher, Mapping):
        return teacher
    train = _given(recipe.get("train", {}))
    own = {
        "flow": {"method": Tvl1Settings().method} | _table(recipe.get("flow")),
        "backbone": {"name": TemporalShiftSettings().name} | _table(recipe.get("teacher_backbone")),
        "train": _table(train.get("teacher") if isinstance(train, Mapping) else None),
    }
    filled = {part: merged(own[part], _given(teacher.get(part, {}))) for part in own}
    for part, tag in (("flow", "method"), ("backbone", "name")):
        section = filled[part]
        if isinstance(section, Mapping) and section[tag] != own[part][tag]:
            filled[part] = teacher[part]
    return {**teacher, **filled}


def _table(section: Any) -> dict[str, Any]:
    """What was given of a section; anything but a table is refused elsewhere."""
    given = _given(section)
    return dict(given) if isinstance(given, Mapping) else {}


def _given(section: Any) -> Any:
    """What was given of a section, without the defaults, some of which depend on other settings."""
    if not isinstance(section, Settings):
        return section
    tags = {tag: getattr(section, tag) for tag in ("kind", "name") if tag in type(section).model_fields}
    return tags | section.model_dump(exclude_unset=True)


def _check_variant(name: str, changes: Mapping[str, Any]) -> None:
    wrong = [section for section in changes if section not in _OF_A_ROW]
    train = changes.get("train", {})
    wrong += [f"train.{stage}" for stage in train if stage == "teacher"] if isinstance(train, Mapping) else []
    if wrong:
        raise ValueError(
            f"variants.{name}: all rows of a recipe share {wrong[0]}; a variant may change {', '.join(_OF_A_ROW)}"
        )
