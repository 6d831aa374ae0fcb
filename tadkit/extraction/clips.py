"""What a backbone reads of one video: its frames, or the steps of its stored features; the same for both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float32, Shaped

from tadkit.config import VideoSettings
from tadkit.extraction.results import description
from tadkit.store.streams import FeatureStream
from tadkit.timeline import Timeline
from tadkit.video import open_sampled
from tadkit.video.digests import source_key


class Clip(Protocol):
    """An open video, or its features: frames or steps in order, and when each of them happens."""

    @property
    def timeline(self) -> Timeline:
        """Seconds of the frames or steps."""

    def __len__(self) -> int:
        """Number of frames or steps."""

    def frames(self, start: int, stop: int) -> Shaped[np.ndarray, "n ..."]:
        """Frames or steps ``start`` to ``stop`` (half open): uint8 (n, height, width, 3), or float32 (n, channels)."""


class Source(Protocol):
    """Where a clip comes from."""

    @property
    def key(self) -> str:
        """Digest of what is read, and of how."""

    def open(self) -> AbstractContextManager[tuple[Clip, dict[str, Any]]]:
        """The clip, in a ``with`` block, and the attributes that a store keeps for it."""


@dataclass(frozen=True)
class VideoFile:
    """A video file whose frames are sampled by the settings."""

    path: Path
    settings: VideoSettings

    @property
    def key(self) -> str:
        """Digest of the file's content and of how it is read.

        Raises:
            VideoError: the file cannot be read.
        """
        return source_key(self.path)

    @contextmanager
    def open(self) -> Iterator[tuple[Clip, dict[str, Any]]]:
        """The sampled frames.

        Raises:
            VideoError: the file cannot be read as a video.
        """
        with open_sampled(self.path, self.settings) as sampled:
            yield sampled, dict(description(sampled))


@dataclass(frozen=True)
class StoredFeatures:
    """A video of a feature store, of which one stream is read."""

    stream: FeatureStream
    video: str

    @property
    def key(self) -> str:
        """Digest of everything that the stored features depend on."""
        return self.stream.store.key(self.video)

    @contextmanager
    def open(self) -> Iterator[tuple[Clip, dict[str, Any]]]:
        """The stored steps."""
        yield _StoredClip(self.stream, self.video), self.stream.store.attributes(self.video)


class _StoredClip:
    """The steps of one video's stream."""

    def __init__(self, stream: FeatureStream, video: str) -> None:
        self._stream, self._video = stream, video
        self.timeline = Timeline(stream.store.stamps_s(video))

    def __len__(self) -> int:
        """Number of steps."""
        return len(self.timeline)

    def frames(self, start: int, stop: int) -> Float32[np.ndarray, "n channels"]:
        """Steps ``start`` to ``stop`` (half open)."""
        return self._stream.read(self._video, start, stop)
