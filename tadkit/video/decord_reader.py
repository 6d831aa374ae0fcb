"""Frames through decord 0.6: fast, scales in the decoder; no wheels for ARM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import decord
import numpy as np
from jaxtyping import Float64, UInt8

from tadkit.errors import VideoError
from tadkit.video.container import one_line
from tadkit.video.index import FrameIndex
from tadkit.video.pyav_reader import broken, checked

BATCH_FRAMES = 64
"""Most frames requested from decord at once: it holds two copies of each."""
BATCH_BYTES = 64 << 20
"""Most bytes of pictures requested from decord at once, but at least one frame."""
STAMP_TOLERANCE_S = 1e-3
"""Largest difference between decord's stamps (single precision) and the index, apart from rounding."""

decord.logging.set_level(decord.logging.QUIET)


class DecordReader:
    """A :class:`tadkit.video.VideoReader` on decord.

    Raises:
        VideoError: decord cannot open the file, is known to return wrong frames for such files, or its frame count or
            time stamps differ from the index.
    """

    def __init__(self, path: Path, index: FrameIndex, *, size_hw: tuple[int, int] | None = None) -> None:
        self.path = path
        self.size_hw = size_hw or index.size_hw
        self._index = index
        if index.not_for_decord:
            raise VideoError(
                f"{path}: decord returns wrong frames for this file ({index.not_for_decord}); "
                "set video.reader to auto or pyav"
            )
        # decord swaps width and height of rotated videos itself, so pass upright sizes.
        size = {} if size_hw is None else {"height": size_hw[0], "width": size_hw[1]}
        try:
            self._reader: Any = decord.VideoReader(str(path.resolve()), ctx=decord.cpu(0), **size)
            spans_s = self._reader.get_frame_timestamp(np.arange(len(self._reader)))
        except (decord.DECORDError, RuntimeError, OSError, ValueError, IndexError) as error:
            raise VideoError(f"{path}: decord cannot open it ({_reason(error)}); set video.reader to pyav") from error
        self._refuse_other_stamps(np.asarray(spans_s, dtype=np.float64).reshape(-1, 2)[:, 0])
        try:
            self.read([0])
        except VideoError as error:  # decord opens but cannot scale to some sizes (widths of 16, 24, 48 or 72 px)
            width_px = self.size_hw[1]
            raise VideoError(
                f"{path}: decord cannot decode its first frame, or not at a width of {width_px} px; "
                "set video.reader to auto or pyav"
            ) from error

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
        assert self._reader is not None, "the reader is closed"
        wanted, place = np.unique(checked(indices, len(self._index)), return_inverse=True)
        pictures = np.empty((len(wanted), *self.size_hw, 3), dtype=np.uint8)
        batch = max(1, min(BATCH_FRAMES, BATCH_BYTES // (self.size_hw[0] * self.size_hw[1] * 3)))
        for start in range(0, len(wanted), batch):
            numbers = wanted[start : start + batch]
            try:
                part = self._reader.get_batch(numbers.tolist()).asnumpy()
            except (decord.DECORDError, RuntimeError) as error:
                raise VideoError(broken(self.path, self.stamps_s[numbers[[0, -1]]], _reason(error))) from error
            if part.shape[1:3] != self.size_hw:
                got = "x".join(map(str, part.shape[1:3]))
                raise VideoError(
                    f"{self.path}: decord returned {got} px instead of {self.size_hw}; set video.reader to pyav"
                )
            pictures[start : start + batch] = part
        return pictures if np.array_equal(place, np.arange(len(wanted))) else pictures[place]

    def close(self) -> None:
        """Release the decoder; closing twice is allowed."""
        self._reader = None

    def __enter__(self) -> Self:
        """The reader itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close the reader."""
        self.close()

    def _refuse_other_stamps(self, starts_s: Float64[np.ndarray, " frames"]) -> None:
        same = len(starts_s) == len(self._index)
        if same:
            rounding_s = 2 * np.finfo(np.float32).eps * np.abs(starts_s).max()
            away_s = np.abs(starts_s - starts_s[0] - (self._index.stamps_s - self._index.stamps_s[0])).max()
            same = bool(away_s <= STAMP_TOLERANCE_S + rounding_s)
        if not same:
            raise VideoError(
                f"{self.path}: decord's {len(starts_s)} frames or their time stamps differ from the file's "
                f"{len(self._index)} frames; set video.reader to pyav"
            )


def _reason(error: BaseException) -> str:
    """Decord's message without source lines and stack trace."""
    line = one_line(error)
    return "its decoder failed" if "Check failed:" in line else line.rpartition(": ")[2] or line
