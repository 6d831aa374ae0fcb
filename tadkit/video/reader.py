"""The protocol of video readers, and the one way to open a video."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

import numpy as np
from jaxtyping import Float64, UInt8

from tadkit.errors import VideoError
from tadkit.video.index import FrameIndex, build_index
from tadkit.video.pyav_reader import PyavReader

DECORD_MOST_PX = 640 * 480
"""Largest picture that ``auto`` reads with decord. decord decodes ahead without limit, at full size: 60 minutes of
1080p took 1.5 times the memory of 5. PyAV holds a few pictures and is as fast at these sizes."""


class VideoReader(Protocol):
    """Random access to the frames of one video in constant memory; close it after use, or use ``with``."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def stamps_s(self) -> Float64[np.ndarray, " frames"]:
        """Second at which each frame appears, strictly increasing, 0.0 for the first frame."""

    @property
    def duration_s(self) -> float:
        """End of the last shown frame, in seconds from the first one."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width) in pixels of the frames that :meth:`read` returns, upright."""

    def read(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n height width 3"]:
        """Frames ``indices`` as RGB, upright, in the given order; reading forward is fastest.

        Raises:
            VideoError: a frame cannot be decoded; the message names its time.
            IndexError: an index is outside ``[0, frames)``.
        """

    def close(self) -> None:
        """Release the decoder; closing twice is allowed."""

    def __enter__(self) -> Self:
        """The reader itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close the reader."""


def open_video(
    path: Path, *, size_hw: tuple[int, int] | None = None, reader: Literal["auto", "decord", "pyav"] = "auto"
) -> VideoReader:
    """Open a video for reading.

    Args:
        path: the file.
        size_hw: (height, width) in pixels that the decoder scales frames to, ignoring their aspect ratio; None keeps
            their own size.
        reader: ``decord`` (faster on small pictures), ``pyav`` (reads more kinds of file), or ``auto``: decord if it is
            installed, agrees with the index of the file, and pictures have at most 640x480 pixels; else PyAV.

    Raises:
        VideoError: the file cannot be read as a video, or the chosen decoder is missing or cannot read it.
    """
    path = Path(path)
    index = build_index(path)
    large = index.size_hw[0] * index.size_hw[1] > DECORD_MOST_PX
    if reader == "pyav" or (reader == "auto" and large):
        return PyavReader(path, index, size_hw=size_hw)
    try:
        return _open_decord(path, index, size_hw)
    except VideoError:
        if reader == "decord":
            raise
        return PyavReader(path, index, size_hw=size_hw)


def _open_decord(path: Path, index: FrameIndex, size_hw: tuple[int, int] | None) -> VideoReader:
    try:
        from tadkit.video.decord_reader import DecordReader
    except (ImportError, OSError) as error:
        raise VideoError(
            f"{path}: decord is not installed; pip install decord, or set video.reader to auto or pyav"
        ) from error
    return DecordReader(path, index, size_hw=size_hw)
