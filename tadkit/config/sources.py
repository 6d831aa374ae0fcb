"""Where videos and annotations come from, and which of them are held out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tadkit.config.base import Settings


class FilesSource(Settings):
    """Videos and annotations that exist."""

    kind: Literal["files"] = "files"
    annotations: str
    """ActivityNet-style JSON; ``${NAME}`` is read from the environment."""
    videos: str
    """Folder of the videos, named by their keys in the annotations."""


class FeaturesSource(Settings):
    """Features that exist (``tadkit import features``): a head is trained on them, and no video is read."""

    kind: Literal["features"] = "features"
    annotations: str
    """ActivityNet-style JSON; ``${NAME}`` is read from the environment."""
    features: str
    """Feature store with a track of each video."""


class SynthSource(Settings):
    """Made-up people whose actions are known exactly (``tadkit data synth``)."""

    kind: Literal["synth"] = "synth"
    count: int = Field(20, ge=1, le=100_000)
    """Videos."""
    duration_s: float = Field(45.0, ge=5, le=86_400)
    """Length of each."""
    camera: Literal["side", "above", "both"] = "both"
    """Where they are seen from."""
    seed: int = Field(0, ge=0, le=2_147_483_647)
    """Seed of the first; the n-th has seed + n."""


class ComposeSource(Settings):
    """Streams composed of trimmed clips (``tadkit data compose``)."""

    kind: Literal["compose"] = "compose"
    clips: str
    """``.npz`` of uint8 clips keyed ``<subject>_<action>_<take>``; ``${NAME}`` is read from the environment."""
    streams: int = Field(8, ge=1, le=100_000)
    """Streams a subject."""
    actions: int = Field(6, ge=1, le=10_000)
    """Actions a stream."""
    fps: float = Field(25.0, ge=1, le=240)
    """Frames per second that the clips are played at."""
    seed: int = Field(0, ge=0, le=2_147_483_647)
    """Seed of order and gaps."""


Source = Annotated[FilesSource | FeaturesSource | SynthSource | ComposeSource, Field(discriminator="kind")]


class SplitSettings(Settings):
    """Which videos train and which are held out."""

    kind: Literal["folds", "subset", "group", "all"] = "folds"
    """folds deals the videos; subset goes by the annotations, group by the name before ``_``; all holds out none."""
    folds: int = Field(3, ge=2, le=10_000)
    """Parts that videos are dealt into, when folds."""
    fold: int = Field(0, ge=0, le=9999)
    """The part held out, when folds."""
    held_out: tuple[str, ...] = ("validation", "testing")
    """Subsets, when subset, or groups, when group, that are held out."""
    training: tuple[str, ...] = ()
    """Subsets that train, when subset; videos of others are not read. None named: all that are not held out."""
    seed: int = Field(0, ge=0, le=2_147_483_647)
    """Seed of the deal."""
