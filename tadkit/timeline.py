"""The only place that converts positions on a track to seconds and back, using the decoder's time stamps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64


@dataclass(frozen=True, eq=False)
class Timeline:
    """When each step of a track happens.

    A *position* is a fractional index: 0.0 is the centre of step 0 and 1.5 lies half-way between the centres of steps 1
    and 2. ``index / fps`` is never used: frame rates vary, and only the decoder's time stamps are right.

    Attributes:
        centres_s: seconds from the start of the video to the centre of each step, strictly increasing.
    """

    centres_s: Float64[np.ndarray, " steps"]

    def __post_init__(self) -> None:
        """Check the stamps; wrong ones are a bug in tadkit, hence ``assert``."""
        assert self.centres_s.ndim == 1, self.centres_s.shape
        assert np.isfinite(self.centres_s).all(), "stamps are not finite"
        assert (np.diff(self.centres_s) > 0).all(), "stamps do not increase"

    def __len__(self) -> int:
        """Number of steps."""
        return len(self.centres_s)

    @property
    def step_s(self) -> float:
        """Median distance of neighbouring steps in seconds; 1.0 where there are fewer than two."""
        return float(np.median(np.diff(self.centres_s))) if len(self) > 1 else 1.0

    def seconds(self, position: Float64[np.ndarray, "*n"]) -> Float64[np.ndarray, "*n"]:
        """Seconds of fractional positions, extrapolated beyond either end at the median step."""
        return _interpolate(position, np.arange(len(self), dtype=np.float64), self.centres_s, self.step_s)

    def positions(self, seconds: Float64[np.ndarray, "*n"]) -> Float64[np.ndarray, "*n"]:
        """Fractional positions of seconds; the inverse of :meth:`seconds`."""
        return _interpolate(seconds, self.centres_s, np.arange(len(self), dtype=np.float64), 1.0 / self.step_s)

    def strided(self, stride: int) -> Timeline:
        """The timeline of a track that averages groups of ``stride`` steps; the last group may be short."""
        starts = np.arange(0, len(self), stride)
        counts = np.diff(np.append(starts, len(self)))
        return Timeline(np.add.reduceat(self.centres_s, starts) / counts) if len(self) else self

    def part(self, start: int, stop: int) -> Timeline:
        """Steps ``start`` to ``stop`` (half open); seconds still count from the start of the video."""
        return Timeline(self.centres_s[start:stop])


def _interpolate(
    x: Float64[np.ndarray, "*n"],
    from_x: Float64[np.ndarray, " m"],
    to_y: Float64[np.ndarray, " m"],
    slope: float,
) -> Float64[np.ndarray, "*n"]:
    """Piecewise-linear map, extrapolated with ``slope`` outside the known range."""
    if len(from_x) == 0:
        return np.asarray(x, dtype=np.float64) * slope
    inside = np.interp(x, from_x, to_y)
    before = np.minimum(np.asarray(x) - from_x[0], 0.0) * slope
    after = np.maximum(np.asarray(x) - from_x[-1], 0.0) * slope
    return np.asarray(inside + before + after, dtype=np.float64)
