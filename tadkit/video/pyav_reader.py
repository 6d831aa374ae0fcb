"""Frames through PyAV: FFmpeg's libraries, wheels for every platform; seeking is done here."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from jaxtyping import Float64, UInt8

from tadkit.errors import VideoError
from tadkit.video.index import FrameIndex, one_line, open_container, stamp_of

SKIP_FRAMES = 32
"""A keyframe closer than this is reached by decoding forward: a seek would flush the decoder's pipeline."""


class PyavReader:
    """A :class:`tadkit.video.VideoReader` on PyAV."""

    def __init__(self, path: Path, index: FrameIndex, *, size_hw: tuple[int, int] | None = None) -> None:
        self.path = path
        self.size_hw = size_hw or index.size_hw
        self._index = index
        self._container: Any = None
        self._stream: Any = None
        self._frames: Iterator[Any] = iter(())
        self._last: Any = None
        self._restart()

    @property
    def stamps_s(self) -> Float64[np.ndarray, " frames"]:
        """Second at which each frame appears."""
        return self._index.stamps_s

    @property
    def duration_s(self) -> float:
        """End of the last shown frame, in seconds."""
        return self._index.duration_s

    def read(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n height width 3"]:
        """Frames ``indices`` as RGB, upright, in the given order.

        Raises:
            VideoError: a frame cannot be decoded; the message names its time.
            IndexError: an index is outside ``[0, frames)``.
        """
        wanted, place = np.unique(checked(indices, len(self._index)), return_inverse=True)
        pictures = np.empty((len(wanted), *self.size_hw, 3), dtype=np.uint8)
        for slot, number in enumerate(wanted.tolist()):
            pictures[slot] = self._upright(self._frame(number))
        return pictures if np.array_equal(place, np.arange(len(wanted))) else pictures[place]

    def close(self) -> None:
        """Release the decoder; closing twice is allowed."""
        self._frames, self._last = iter(()), None
        if self._container is not None:
            self._container.close()

    def __enter__(self) -> Self:
        """The reader itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close the reader."""
        self.close()

    def _upright(self, frame: Any) -> UInt8[np.ndarray, "height width 3"]:
        height, width = self.size_hw[::-1] if self._index.quarter_turns % 2 else self.size_hw
        # Bilinear, as in decord's filter graph, so that both readers return the same picture.
        picture = frame.reformat(width=width, height=height, format="rgb24", interpolation="BILINEAR").to_ndarray()
        return np.rot90(picture, self._index.quarter_turns)

    def _frame(self, number: int) -> Any:
        pts = int(self._index.pts[number])
        last = None if self._last is None else stamp_of(self._last)
        if last == pts:
            return self._last
        if self._continues(last, number) and (frame := self._decode_to(pts, number)) is not None:
            return frame
        for begin in self._seek_points(pts):
            self._seek(begin, number)
            if (frame := self._decode_to(pts, number)) is not None:
                return frame
        raise VideoError(self._broken(number, "frames are out of order or missing"))

    def _continues(self, last: int | None, number: int) -> bool:
        """Whether decoding forward from the frame ``last`` is the fastest way to frame ``number``."""
        pts = int(self._index.pts[number])
        if last is None or last > pts:
            return False
        keyframes = self._index.keyframe_pts
        nearest = bisect_right(keyframes, pts) - 1
        if nearest < 0:
            return True
        here, ahead = np.searchsorted(self._index.pts, (last, keyframes[nearest]))
        return bool(ahead - here <= SKIP_FRAMES)

    def _seek_points(self, pts: int) -> Iterator[int | None]:
        """Where to start decoding, best first; a seek may land late, so an earlier keyframe and the start follow."""
        nearest = bisect_right(self._index.keyframe_pts, pts) - 1
        for keyframe in (nearest, nearest - 1):
            if keyframe > 0:
                yield int(self._index.keyframe_pts[keyframe])
        yield None

    def _seek(self, begin: int | None, number: int) -> None:
        if begin is None:
            self._restart()
            return
        try:
            self._container.seek(begin, stream=self._stream, backward=True)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise VideoError(self._broken(number, one_line(error))) from error
        self._last = None
        self._frames = self._decoded(from_start=False)

    def _restart(self) -> None:
        self.close()
        self._container, self._stream = open_container(self.path)
        if self._index.has_pts:  # otherwise stamps would depend on the number of threads
            self._stream.thread_type = "AUTO"
        self._frames = self._decoded(from_start=True)

    def _decoded(self, *, from_start: bool) -> Iterator[Any]:
        """Frames from here on; after a seek, those before the first keyframe are skipped: they lack their reference."""
        ready = from_start
        for packet in self._container.demux(self._stream):
            ready = ready or packet.is_keyframe
            if ready:
                yield from packet.decode()

    def _decode_to(self, pts: int, number: int) -> Any:
        """The frame with stamp ``pts``, or None if decoding passes it."""
        try:
            for frame in self._frames:
                stamp = stamp_of(frame)
                self._last = frame
                if stamp == pts:
                    return frame
                if stamp is not None and stamp > pts:
                    return None
        except (av.FFmpegError, OSError, ValueError) as error:
            self._last = None
            raise VideoError(self._broken(number, one_line(error))) from error
        self._last = None
        return None

    def _broken(self, number: int, reason: str) -> str:
        return broken(self.path, self.stamps_s[[number]], reason)


def broken(path: Path, stamps_s: Float64[np.ndarray, " frames"], reason: str) -> str:
    """Error message for a frame at one of ``stamps_s`` that cannot be decoded."""
    first_s, last_s = stamps_s[0], stamps_s[-1]
    where = f"near {first_s:.2f} s" if first_s == last_s else f"between {first_s:.2f} s and {last_s:.2f} s"
    return (
        f"{path}: damaged {where}, a frame cannot be decoded ({reason}); "
        f"repair it with: ffmpeg -err_detect ignore_err -i {path.name} repaired.mp4"
    )


def checked(indices: Sequence[int], frames: int) -> np.ndarray:
    """Frame numbers as an array.

    Raises:
        IndexError: an index is outside ``[0, frames)``.
    """
    numbers = np.asarray(indices, dtype=np.int64).reshape(-1)
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < frames):
        raise IndexError(f"frames {numbers.min()} to {numbers.max()} requested from a video with {frames}")
    return numbers
