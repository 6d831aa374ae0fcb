"""Frames to seconds and back for tools that count frames, without losing the exact seconds.

Whole frames are up to half a frame off. So tadkit writes the exact seconds beside the frames and, when reading, uses
them only while they still agree with the frame: once a person has moved an end, the frame counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from tadkit.timeline import Timeline

RATE_DECIMALS = 6
"""Of a rate that is computed from time stamps: 30, not 30.000000000000004."""


@dataclass(frozen=True)
class FrameTimes:
    """When frames are shown: from the time stamps of a decoded video, else at a constant rate.

    Attributes:
        stamps_s: time stamps of the frames; None without a video.
        fps: constant rate; None if unknown.
        file: file name of the video; None without one.
        duration_s: length of the video; None without one.
    """

    stamps_s: Float64[np.ndarray, " frames"] | None = None
    fps: float | None = None
    file: str | None = None
    duration_s: float | None = None

    @property
    def known(self) -> bool:
        """Whether frames can be converted to seconds."""
        return self.stamps_s is not None or self.fps is not None

    @property
    def rate_hz(self) -> float:
        """Average frames per second."""
        if self.stamps_s is None or len(self.stamps_s) < 2:
            assert self.fps is not None
            return self.fps
        return round((len(self.stamps_s) - 1) / float(self.stamps_s[-1] - self.stamps_s[0]), RATE_DECIMALS)

    def seconds(self, frame: float) -> float:
        """Time at which ``frame``, counted from 0, is first shown; for the frame after the last one, the duration."""
        if self.stamps_s is not None:
            if frame == len(self.stamps_s) and self.duration_s is not None:
                return self.duration_s
            return float(Timeline(self.stamps_s).seconds(np.array([float(frame)]))[0])
        assert self.fps is not None
        return frame / self.fps

    def frame(self, seconds: float) -> int:
        """The frame whose first showing is nearest to ``seconds``."""
        if self.stamps_s is not None:
            return max(0, round(float(Timeline(self.stamps_s).positions(np.array([seconds]))[0])))
        assert self.fps is not None
        return max(0, round(seconds * self.fps))

    def size(self, duration_s: float | None) -> int | None:
        """Number of frames of a video, at least one; None if its length is unknown."""
        if self.stamps_s is not None:
            return max(1, len(self.stamps_s))
        return None if duration_s is None else max(1, self.frame(duration_s))

    def span(self, start_s: float, end_s: float, *, size: float | None) -> tuple[float, float]:
        """Frames from ``start_s`` to ``end_s`` (half open): at least one, and none past a video of ``size`` frames."""
        start: float = self.frame(start_s)
        start = start if size is None else min(start, size - 1)
        end = max(start + 1, self.frame(end_s))
        return start, end if size is None else min(end, size)

    def exact(
        self, span: tuple[float, float], start_s: float | None, end_s: float | None, *, size: float | None
    ) -> tuple[float, float]:
        """Seconds of the frames ``span``; for each end, the exact seconds written beside it if they still agree."""
        start, end = span
        if start_s is None or end_s is None:
            return self.seconds(start), self.seconds(end)
        first, last = self.span(start_s, end_s, size=size)
        return start_s if first == start else self.seconds(start), end_s if last == end else self.seconds(end)
