"""The protocol of video readers, and the one way to open a video."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from tadkit.errors import VideoError
from tadkit.video.index import FrameIndex, build_index
from tadkit.video.pyav_reader import PyavReader

_log = logging.getLogger(__name__)


class VideoReader(Protocol):
    """Random access to the frames of one video in constant memory; close it after use, or use ``with``."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def stamps_s(self) -> Float64[np.ndarray, " frames"]:
        """Second at which each frame appears, strictly increasing, from the start of the file's earliest stream.

        That is where players have their zero: 0.0 for the first frame, unless sound or another stream starts before.
        """

    @property
    def duration_s(self) -> float:
        """End of the last shown frame, in seconds."""

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
    path: Path,
    *,
    size_hw: tuple[int, int] | None = None,
    reader: Literal["auto", "decord", "pyav"] = "auto",
    fallback_fps: float | None = None,
    wanted: Int64[np.ndarray, " wanted"] | None = None,
) -> VideoReader:
    """Open a video for reading.

    A file without time stamps is reported once, with the frame rate that is assumed.

    Args:
        path: the file.
        size_hw: (height, width) in pixels that the decoder scales frames to, ignoring their aspect ratio; None keeps
            their own size.
        reader: ``auto`` and ``pyav`` read with PyAV; ``decord`` refuses files that it would read wrongly.
        fallback_fps: frame rate of a file that stores no time stamps; None takes the rate that it declares, or 25.
        wanted: frames that will be read, all by default: PyAV does not decode others that it can do without.

    Raises:
        VideoError: the file cannot be read as a video, or the chosen decoder is missing or cannot read it.
    """
    path = Path(path)
    index = build_index(path, fallback_fps=fallback_fps)
    if fallback_fps is None:
        warn_of_assumed_fps(path, index)
    if reader == "decord":
        return _open_decord(path, index, size_hw)
    return PyavReader(path, index, size_hw=size_hw, wanted=wanted)


def warn_of_assumed_fps(path: Path, index: FrameIndex) -> None:
    """Report, once a file, the frame rate that is assumed where it stores no time stamps."""
    if index.assumed_fps is not None:
        _warn_once(
            f"{path}: stores no time stamps; its frames are taken to be {index.assumed_fps:g} a second "
            "(if that is wrong, set video.fallback_fps)"
        )


@cache
def _warn_once(message: str) -> None:
    _log.warning("%s", message)


def _open_decord(path: Path, index: FrameIndex, size_hw: tuple[int, int] | None) -> VideoReader:
    try:
        from tadkit.video.decord_reader import DecordReader
    except (ImportError, OSError) as error:
        raise VideoError(
            f"{path}: decord is not installed; pip install decord, or set video.reader to auto or pyav"
        ) from error
    return DecordReader(path, index, size_hw=size_hw)
