"""Frames at a constant rate, chosen by time stamp, and windows that tile them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from tadkit.config import VideoSettings
from tadkit.timeline import Timeline
from tadkit.video.index import build_index
from tadkit.video.reader import VideoReader, open_video

STAMP_TOLERANCE_S = 1e-6
"""Stamps and sample times closer than this are the same instant."""
MOST_KEPT_BYTES = 64 << 20
"""Most bytes of pictures kept for a following range that overlaps."""


def sample_indices(
    stamps_s: Float64[np.ndarray, " frames"], duration_s: float, rate_hz: float
) -> Int64[np.ndarray, " samples"]:
    """Frames on screen every ``1 / rate_hz`` seconds from the first frame on, each at most once.

    A frame that lasts longer than ``1 / rate_hz`` (a slow video, or a variable rate) is on screen at several sample
    times but is taken once, so that the stamps of samples strictly increase; samples are then further apart than
    ``1 / rate_hz``. A frame shown for less than that may be skipped.

    Args:
        stamps_s: second at which each frame appears, strictly increasing from 0.0 or later.
        duration_s: end of the last shown frame.
        rate_hz: sample times a second.

    Returns:
        Strictly increasing frame indices; at least one if there are frames.
    """
    if len(stamps_s) == 0:
        return np.zeros(0, dtype=np.int64)
    first_s = float(stamps_s[0])
    count = _sample_count(first_s, duration_s, rate_hz)
    # The first sample time of each frame, and those around it because of rounding: a damaged file may state centuries.
    about = np.floor((stamps_s - first_s) * rate_hz)
    numbers = np.unique(np.clip(about[:, None] + np.arange(-2, 3), 0, count - 1))
    times_s = first_s + numbers / rate_hz
    on_screen = np.searchsorted(stamps_s, times_s + STAMP_TOLERANCE_S, side="right") - 1
    return np.unique(np.maximum(on_screen, 0)).astype(np.int64)


class SampleClock:
    """The choice of :func:`sample_indices` while frames come: a frame is known to be a sample when the next appears."""

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._first_s: float | None = None
        self._next = 0  # number of the first sample time at which no frame before the last one is on screen

    def next(self, stamp_s: float) -> bool:
        """Whether the frame before the one that appears at ``stamp_s``, later than that, is a sample."""
        if self._first_s is None:
            self._first_s = stamp_s
            return False
        before = self._next
        self._next = max(before, int((stamp_s - self._first_s - STAMP_TOLERANCE_S) * self._rate_hz) - 1)
        while self._first_s + self._next / self._rate_hz + STAMP_TOLERANCE_S < stamp_s:
            self._next += 1
        return self._next > before

    def end(self, duration_s: float) -> bool:
        """Whether the last frame, which is shown until ``duration_s``, is a sample."""
        return self._first_s is not None and self._next < _sample_count(self._first_s, duration_s, self._rate_hz)


def _sample_count(first_s: float, duration_s: float, rate_hz: float) -> int:
    return max(1, int(np.ceil((duration_s - first_s - STAMP_TOLERANCE_S) * rate_hz)))


class _Kept(NamedTuple):
    """The last samples that were read, from ``start`` on."""

    start: int
    frames: UInt8[np.ndarray, "n height width 3"]


@dataclass(eq=False)
class SampledVideo:
    """A video seen at a constant rate; close it after use, or use ``with``.

    Overlapping ranges in order, such as :func:`windows`, are decoded once, without seeking.

    Attributes:
        reader: source of the frames.
        indices: the reader's frame of each sample, strictly increasing.
    """

    reader: VideoReader
    indices: Int64[np.ndarray, " samples"]
    _kept: _Kept | None = field(default=None, init=False, repr=False)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.indices)

    @property
    def path(self) -> Path:
        """The file."""
        return self.reader.path

    @property
    def duration_s(self) -> float:
        """End of the last shown frame, in seconds."""
        return self.reader.duration_s

    @property
    def stamps_s(self) -> Float64[np.ndarray, " samples"]:
        """The decoder's stamp of each sampled frame: when it appears, not the sample time."""
        return np.asarray(self.reader.stamps_s[self.indices])

    @property
    def timeline(self) -> Timeline:
        """Seconds of the samples."""
        return Timeline(self.stamps_s)

    def frames(self, start: int, stop: int) -> UInt8[np.ndarray, "n height width 3"]:
        """Samples ``start`` to ``stop`` (half open) as RGB frames.

        Raises:
            VideoError: a frame cannot be decoded; the message names its time.
        """
        assert 0 <= start <= stop <= len(self), (start, stop, len(self))
        kept = self._kept
        if kept is not None and kept.start <= start < kept.start + len(kept.frames) < stop:
            old = kept.frames[start - kept.start :]
            new = self.reader.read(self.indices[start + len(old) : stop].tolist())
            frames = np.concatenate([old, new])
        else:
            frames = self.reader.read(self.indices[start:stop].tolist())
        height, width = self.reader.size_hw
        least = max(start, stop - MOST_KEPT_BYTES // (height * width * 3))
        self._kept = _Kept(least, frames[least - start :].copy())
        return frames

    def close(self) -> None:
        """Close the reader."""
        self._kept = None
        self.reader.close()

    def __enter__(self) -> Self:
        """The video itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close the reader."""
        self.close()


def open_sampled(path: Path, settings: VideoSettings) -> SampledVideo:
    """Open a video and sample it according to ``settings``.

    Raises:
        VideoError: the file cannot be read as a video, or the chosen decoder is missing.
    """
    index = build_index(path, fallback_fps=settings.fallback_fps)
    samples = sample_indices(index.stamps_s, index.duration_s, settings.rate_hz)
    reader = open_video(
        path, size_hw=settings.size_hw, reader=settings.reader, fallback_fps=settings.fallback_fps, wanted=samples
    )
    return SampledVideo(reader, samples)


class Window(NamedTuple):
    """A range of samples to compute on, and the core whose results are kept; both half open."""

    start: int
    stop: int
    core_start: int
    core_stop: int

    def core_steps(self, stride: int) -> slice:
        """Feature steps of ``stride`` samples in the core, counted from the window's first; the core starts on one."""
        first = (self.core_start - self.start) // stride
        return slice(first, first + -(-(self.core_stop - self.core_start) // stride))


def windows(length: int, *, core: int, halo: int) -> Iterator[Window]:
    """Cut ``[0, length)`` into windows whose cores tile it without gap or overlap; the last core may be short.

    Args:
        length: number of samples.
        core: samples kept of each window, at least 1.
        halo: samples of context on both sides of a core, clipped to ``[0, length)``.
    """
    assert core >= 1, core
    assert halo >= 0, halo
    for start in range(0, length, core):
        stop = min(start + core, length)
        yield Window(max(0, start - halo), min(length, stop + halo), start, stop)
