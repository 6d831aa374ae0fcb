"""Frames through PyAV: FFmpeg's libraries, wheels for every platform; seeking is done here."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import Float64, Int64, UInt8

from tadkit.errors import VideoError
from tadkit.video.container import one_line, open_container, opened, use_threads
from tadkit.video.display_order import INTRA, numbered
from tadkit.video.index import FrameIndex
from tadkit.video.stream import Orientation

SKIP_FRAMES = 32
"""A keyframe closer than this is reached by decoding forward: a seek would flush the decoder's pipeline."""


class Pictures:
    """Decoded frames as upright RGB pictures of one size."""

    def __init__(self, size_hw: tuple[int, int], orientation: Orientation) -> None:
        self._size_hw, self._orientation = size_hw, orientation
        self._reformatter = VideoReformatter()

    def of(self, frame: Any) -> UInt8[np.ndarray, "height width 3"]:
        """The picture of PyAV's ``frame``."""
        turned = self._orientation
        height, width = self._size_hw[::-1] if turned.transposed else self._size_hw
        # Bilinear, as in decord's filter graph, so that both readers return the same picture.
        scaled = self._reformatter.reformat(frame, width=width, height=height, format="rgb24", interpolation="BILINEAR")
        picture = scaled.to_ndarray()
        picture = picture.swapaxes(0, 1) if turned.transposed else picture
        return np.asarray(picture[:: -1 if turned.rows_reversed else 1, :: -1 if turned.columns_reversed else 1])


class PyavReader:
    """A :class:`tadkit.video.VideoReader` on PyAV.

    Frames that are not ``wanted`` and that no other frame needs are not decoded, unless they are read after all.
    """

    def __init__(
        self,
        path: Path,
        index: FrameIndex,
        *,
        size_hw: tuple[int, int] | None = None,
        wanted: Int64[np.ndarray, " wanted"] | None = None,
    ) -> None:
        self.path = path
        self.size_hw = size_hw or index.size_hw
        self._index = index
        self._container: Any = None
        self._stream: Any = None
        self._frames: Iterator[tuple[int, Any]] = iter(())
        self._last: Any = None
        self._number = -1
        self._pictures = Pictures(self.size_hw, index.orientation)
        spared = index.unreferenced.copy()
        spared[slice(None) if wanted is None else wanted] = False
        self._spared = frozenset(index.marks[spared].tolist())
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
            pictures[slot] = self._pictures.of(self._frame(number))
        return pictures if np.array_equal(place, np.arange(len(wanted))) else pictures[place]

    def close(self) -> None:
        """Release the decoder; closing twice is allowed."""
        self._frames, self._last, self._number = iter(()), None, -1
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

    def _frame(self, number: int) -> Any:
        try:
            return self._found(number)
        except VideoError:
            if not self._spared:
                raise
        self._spared = frozenset()  # it was itself spared, or the decoder does need what was
        self._last, self._number = None, len(self._index)
        return self._found(number)

    def _found(self, number: int) -> Any:
        if self._number == number:
            return self._last
        if self._continues(number) and (frame := self._decode_to(number)) is not None:
            return frame
        for entry in self._entries_before(number):
            self._seek(entry, number)
            if (frame := self._decode_to(number)) is not None:
                return frame
        raise VideoError(self._broken(number, "frames are out of order or missing"))

    def _continues(self, number: int) -> bool:
        """Whether decoding forward from the last frame is the fastest way to frame ``number``."""
        if self._number > number:
            return False
        nearest = bisect_right(self._index.entries, number) - 1
        return nearest < 0 or bool(self._index.entries[nearest] - self._number <= SKIP_FRAMES)

    def _entries_before(self, number: int) -> Iterator[int | None]:
        """Where to start decoding, best first; a seek may land late, so an earlier entry and the start follow."""
        nearest = bisect_right(self._index.entries, number) - 1
        yield from (entry for entry in (nearest, nearest - 1) if entry > 0)
        yield None

    def _seek(self, entry: int | None, number: int) -> None:
        if entry is None:
            self._restart()
            return
        try:
            self._container.seek(int(self._index.entry_ticks[entry]), stream=self._stream, backward=True)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise VideoError(self._broken(number, one_line(error))) from error
        self._last, self._number = None, -1
        self._frames = self._from_entry()

    def _restart(self) -> None:
        self.close()
        self._container, self._stream = open_container(self.path)
        use_threads(self._stream)
        self._frames = self._from_start()

    def _from_start(self) -> Iterator[tuple[int, Any]]:
        """Frames with their numbers, from the first one; those that are not shown are left out."""
        packets = self._container.demux(self._stream)
        if self._index.known_by != "packet":
            frames = (frame for packet in packets if packet.pts not in self._spared for frame in packet.decode())
        else:
            frames = (frame for packet in numbered(packets) for frame in packet.decode())
        for place, frame in enumerate(frames):
            number = place if self._index.known_by == "place" else self._index.number_of(frame.pts)
            if number is not None:
                yield number, frame

    def _from_entry(self) -> Iterator[tuple[int, Any]]:
        """Frames with their numbers after a seek, from the first one that needs none before it."""
        ready = False
        for frame in self._after_seek():
            number = self._index.number_of(frame.pts)
            ready = ready or (number is not None and self._index.is_entry(number) and frame.pict_type in INTRA)
            if ready and number is not None:
                yield number, frame

    def _after_seek(self) -> Iterator[Any]:
        begun = False
        for packet in self._container.demux(self._stream):
            begun = begun or packet.is_keyframe
            if self._index.known_by == "packet" and packet.size:
                number = self._index.packet_at(packet.dts)
                if number is None:
                    return
                packet.pts = packet.dts = number
            if begun and packet.pts not in self._spared:
                yield from packet.decode()

    def _decode_to(self, number: int) -> Any:
        """Frame ``number``, or None if decoding passes it."""
        try:
            for at, frame in self._frames:
                self._number, self._last = at, frame
                if at >= number:
                    return frame if at == number else None
        except (av.FFmpegError, OSError, ValueError) as error:
            self._last, self._number = None, len(self._index)
            raise VideoError(self._broken(number, one_line(error))) from error
        self._last, self._number = None, len(self._index)
        return None

    def _broken(self, number: int, reason: str) -> str:
        return broken(self.path, self.stamps_s[[number]], reason)


def decode_frames(path: Path, count: int) -> int:
    """Decode the first frames of a video, all of them and nothing else, and return how many there were.

    Raises:
        VideoError: the file cannot be opened or decoded.
    """
    with opened(path) as (container, stream):
        use_threads(stream)
        try:
            return sum(1 for _ in islice(container.decode(stream), count))
        except (av.FFmpegError, OSError, ValueError) as error:
            raise VideoError(f"{path}: a frame cannot be decoded ({one_line(error)})") from error


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
