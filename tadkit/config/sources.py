"""Sources of videos and annotations, and the split into training and held-out videos."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tadkit.config.base import Settings


class FilesSource(Settings):
    """Existing videos and annotations."""

    kind: Literal["files"] = "files"
    annotations: str
    """ActivityNet-style JSON; ``${NAME}`` is read from the environment."""
    videos: str
    """Folder of the videos; file names are their keys in the annotations."""


class FeaturesSource(Settings):
    """Existing features (``tadkit import features``): a head is trained on them; no video is read."""

    kind: Literal["features"] = "features"
    annotations: str
    """ActivityNet-style JSON; ``${NAME}`` is read from the environment."""
    features: str
    """Feature store with one track per video."""


class SynthSource(Settings):
    """Made-up people whose actions are known exactly (``tadkit data synth``)."""

    kind: Literal["synth"] = "synth"
    count: int = Field(20, ge=1, le=100_000)
    """Number of videos."""
    duration_s: float = Field(45.0, ge=5, le=86_400)
    """Length of each video, in seconds."""
    camera: Literal["side", "above", "both"] = "both"
    """Camera position."""
    seed: int = Field(0, ge=0, le=2_147_483_647)
    """Seed of the first video; video n has seed + n."""


class ComposeSource(Settings):
    """Streams composed of trimmed clips (``tadkit data compose``)."""

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


Source = Annotated[FilesSource | FeaturesSource | SynthSource | ComposeSource, Field(discriminator="kind")]


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
