"""Opening a video file with PyAV, and refusing what is none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from tadkit.errors import VideoError

TEXT_FORMATS = frozenset({"tty", "bintext", "xbin", "idf", "ffmetadata"})
"""FFmpeg "formats" that render text files; a text file is not a video."""
_URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(?=.)", re.IGNORECASE)
"""The start of a URL, whose double slash a path does not keep."""
_PASSWORD = re.compile(r"(?<=://)[^/@]*@")
_decoder_threads = 0
"""Threads of a decoder; 0 is FFmpeg's choice."""
_EXPECTED = "expected MP4, MOV, MKV, WebM, AVI or similar"
_OF_OTHERS = frozenset(
    {"concat", "dash", "hls", "imf", "lavfi", "rtp", "rtsp", "sap", "sdp", "vobsub", "webm_dash_manifest"}
)
"""FFmpeg "formats" whose files name other files, or addresses that are listened to."""


def format_names(container: Any) -> frozenset[str]:
    """FFmpeg's names for a container's format, such as ``mov`` and ``mp4``."""
    return frozenset(container.format.name.split(","))


@cache
def _readable_formats() -> str:
    """FFmpeg's names for all formats whose files hold the pictures themselves."""
    return ",".join(sorted(av.formats_available - _OF_OTHERS))


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
    return open_input(str(path.resolve()), name=str(path), advice=_EXPECTED)


def open_input(source: Any, *, name: str, advice: str, may_refer: bool = False, **how: Any) -> tuple[Any, Any]:
    """PyAV's container of a file, URL, device or file-like object, and its video stream.

    Args:
        source: what PyAV opens.
        name: for error messages.
        advice: what to do if it cannot be opened.
        may_refer: whether it may be of a format that names other sources, as playlists do; files may not.
        how: further arguments of PyAV.

    Raises:
        VideoError: FFmpeg cannot open it, or it has no video stream.
    """
    container: Any
    try:
        options = {} if may_refer else {"format_whitelist": _readable_formats()}
        container = av.open(source, metadata_errors="ignore", container_options=options, **how)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"{name}: not a video that FFmpeg can read ({one_line(error)}); {advice}") from error
    stream = container.streams.best("video")
    if container.format.name in TEXT_FORMATS:
        container.close()
        raise VideoError(f"{name}: is a text file, not a video; {_EXPECTED}")
    if stream is None or stream.disposition & Disposition.attached_pic:
        container.close()
        raise VideoError(f"{name}: has no video stream, only sound or data; name the file with the pictures")
    if stream.codec_context is None:
        container.close()
        raise VideoError(f"{name}: its pictures have a code that FFmpeg does not know; export the video as H.264")
    return container, stream


def url_of(source: str | Path) -> str | None:
    """The URL that ``source`` is, or None; a path keeps a URL but for its double slash, which is restored.

    A slash that follows another one later in the URL is lost in a path; write ``%2F`` there.
    """
    text = source if isinstance(source, str) else source.as_posix()
    match = _URL.match(text)
    return None if match is None else f"{match[1]}://{text[match.end() :]}"


def public(url: str) -> str:
    """A URL for messages, without user name and password."""
    return _PASSWORD.sub("", url)


def refuse_no_file(path: Path) -> None:
    """Refuse a path that is not a regular, non-empty file.

    Raises:
        VideoError: it is missing, a folder, a device or an empty file.
    """
    if path.is_dir():
        raise VideoError(f"{path}: is a folder, not a video; name a file in it")
    if (url := url_of(path)) is not None:
        raise VideoError(f"{public(url)}: is a URL; this reads files, and more than once, so download it first")
    if not path.exists():
        raise VideoError(f"{path}: no such file; check the path of the video")
    if not path.is_file():
        raise VideoError(f"{path}: is a device or a pipe; a video is read more than once, so copy it to a file first")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: is empty (0 bytes), not a video; copy or download it again")


def one_line(error: BaseException) -> str:
    """A decoder library's error message without path, stack trace and line breaks."""
    if isinstance(error, av.error.ExitError):
        return "no data"  # which PyAV waits for only so long
    if isinstance(error, av.FFmpegError) and error.strerror:
        return str(error.strerror)
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
