"""Opening a video file with PyAV, and refusing what is none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from tadkit.errors import VideoError

TEXT_FORMATS = frozenset({"tty", "bintext", "xbin", "idf", "concat", "ffmetadata"})
"""FFmpeg "formats" that render or follow text files; a text file is not a video."""
_URL = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
"""The start of a URL, whose double slash a path does not keep."""
_decoder_threads = 0
"""Threads of a decoder; 0 is FFmpeg's choice."""
_EXPECTED = "expected MP4, MOV, MKV, WebM, AVI or similar"


def format_names(container: Any) -> frozenset[str]:
    """FFmpeg's names for a container's format, such as ``mov`` and ``mp4``."""
    return frozenset(container.format.name.split(","))


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Yield PyAV's container of ``path`` and its video stream; both are closed on exit.

    Raises:
        VideoError: FFmpeg cannot open the file, or it has no video stream.
    """
    container, stream = open_container(path)
    try:
        yield container, stream
    finally:
        container.close()


def codec_name(path: Path) -> str:
    """FFmpeg's name for the codec of a video's pictures, such as ``h264``.

    Raises:
        VideoError: FFmpeg cannot open the file, or it has no video stream.
    """
    with opened(path) as (_, stream):
        return str(stream.codec_context.name)


@contextmanager
def decoder_threads(count: int) -> Iterator[None]:
    """Limit decoders to ``count`` threads each inside the block; otherwise FFmpeg takes as many as there are cores."""
    global _decoder_threads
    before, _decoder_threads = _decoder_threads, count
    try:
        yield
    finally:
        _decoder_threads = before


def use_threads(stream: Any) -> None:
    """Decode a stream in several threads; call it before the first packet is decoded."""
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = _decoder_threads


def open_container(path: Path) -> tuple[Any, Any]:
    """PyAV's container of ``path`` and its video stream; close the container after use.

    Raises:
        VideoError: FFmpeg cannot open the file, or it has no video stream.
    """
    container: Any
    try:
        container = av.open(str(path.resolve()), metadata_errors="ignore")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"{path}: not a video that FFmpeg can read ({one_line(error)}); {_EXPECTED}") from error
    stream = container.streams.best("video")
    if container.format.name in TEXT_FORMATS:
        container.close()
        raise VideoError(f"{path}: is a text file, not a video; {_EXPECTED}")
    if stream is None or stream.disposition & Disposition.attached_pic:
        container.close()
        raise VideoError(f"{path}: has no video stream, only sound or data; name the file with the pictures")
    return container, stream


def refuse_no_file(path: Path) -> None:
    """Refuse a path that is not a regular, non-empty file.

    Raises:
        VideoError: it is missing, a folder, a device or an empty file.
    """
    if path.is_dir():
        raise VideoError(f"{path}: is a folder, not a video; name a file in it")
    if _URL.match(str(path)):
        raise VideoError(f"{path}: is a URL; tadkit reads files, and more than once, so download it first")
    if not path.exists():
        raise VideoError(f"{path}: no such file; check the path of the video")
    if not path.is_file():
        raise VideoError(f"{path}: is a device or a pipe; a video is read more than once, so copy it to a file first")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: is empty (0 bytes), not a video; copy or download it again")


def one_line(error: BaseException) -> str:
    """A decoder library's error message without path, stack trace and line breaks."""
    if isinstance(error, av.FFmpegError) and error.strerror:
        return str(error.strerror)
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
