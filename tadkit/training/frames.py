"""Decoded training frames, kept in memory up to a limit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from tadkit.config import VideoSettings
from tadkit.video import open_sampled

_CHUNK = 256


class FrameCache:
    """Sampled frames of videos; what does not fit is decoded again each time."""

    def __init__(self, settings: VideoSettings, *, limit_bytes: int) -> None:
        """Keep at most ``limit_bytes`` of frames."""
        self.settings = settings
        self.free_bytes = limit_bytes
        self.videos: dict[Path, UInt8[np.ndarray, "frames height width 3"]] = {}

    def read(self, path: Path, start: int, stop: int) -> UInt8[np.ndarray, "frames height width 3"]:
        """Sampled frames ``start`` to ``stop`` (half open).

        Raises:
            VideoError: the video cannot be read.
        """
        if path not in self.videos:
            with open_sampled(path, self.settings) as video:
                height, width = self.settings.size_hw
                if len(video) * height * width * 3 > self.free_bytes:
                    return video.frames(start, stop)
                chunks = [video.frames(at, min(at + _CHUNK, len(video))) for at in range(0, len(video), _CHUNK)]
            self.videos[path] = np.concatenate(chunks)
            self.free_bytes -= self.videos[path].nbytes
        return self.videos[path][start:stop]
