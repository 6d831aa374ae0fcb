"""Write frames as H.264 video, identical byte for byte each time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from jaxtyping import UInt8

from tadkit.errors import VideoError
from tadkit.files import whole_file
from tadkit.video.container import one_line

TICKS_HZ = 1_000_000
"""Resolution of explicit stamps: a microsecond."""
KEYFRAME_FRAMES = 60
"""Most frames between keyframes, so that random access is fast."""


def write_video(
    path: Path,
    frames: Iterable[UInt8[np.ndarray, "height width 3"]],
    *,
    fps: float,
    crf: int = 20,
    stamps_s: Sequence[float] | None = None,
) -> None:
    """Write RGB ``frames`` as H.264 (libx264, yuv420p); on failure ``path`` is unchanged.

    Args:
        path: file to write; its suffix selects the container (.mp4, .mov, .mkv ...).
        frames: pictures of one size, both sides even; consumed one at a time.
        fps: frames a second; with ``stamps_s``, only sets the duration of the last frame.
        crf: quality, 0 (lossless) to 51.
        stamps_s: second at which each frame appears, strictly increasing, for a variable frame rate.

    Raises:
        VideoError: no frames, odd or changing sides, stamps that do not fit, or an unknown container.
        UsageError: the folder cannot be written to.
    """
    ticks = None if stamps_s is None else _ticks(path, stamps_s, fps)
    try:
        with whole_file(path) as temporary, av.open(str(temporary), "w", options={"fflags": "+bitexact"}) as container:
            _encode(path, container, frames, fps, crf, ticks)
    except (av.FFmpegError, ValueError) as error:
        raise VideoError(
            f"{path}: cannot be written as H.264 video ({one_line(error)}); try a name ending in .mp4"
        ) from error


def _encode(
    path: Path, container: Any, frames: Iterable[np.ndarray], fps: float, crf: int, ticks: list[int] | None
) -> None:
    rate = Fraction(fps).limit_denominator(100_000)
    stream: Any = None
    count = 0
    for count, picture in enumerate(frames, start=1):
        if stream is None:
            stream = _add_stream(path, container, picture, rate, crf, variable=ticks is not None)
        if picture.shape[:2] != (stream.height, stream.width):
            raise VideoError(
                f"{path}: frame {count - 1} is {_size(picture)}, the first is {stream.height}x{stream.width}"
            )
        if ticks is not None and count >= len(ticks):
            raise VideoError(f"{path}: more frames than the {len(ticks) - 1} stamps; give one stamp a frame")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.time_base = stream.codec_context.time_base
        frame.pts = count - 1 if ticks is None else ticks[count - 1]
        frame.duration = 1 if ticks is None else ticks[count] - ticks[count - 1]
        container.mux(stream.encode(frame))
    if stream is None:
        raise VideoError(f"{path}: no frames to write; a video needs at least one")
    if ticks is not None and count != len(ticks) - 1:
        raise VideoError(f"{path}: {count} frames but {len(ticks) - 1} stamps; give one stamp a frame")
    container.mux(stream.encode(None))


def _add_stream(path: Path, container: Any, picture: np.ndarray, rate: Fraction, crf: int, *, variable: bool) -> Any:
    assert picture.dtype == np.uint8, picture.dtype
    assert picture.ndim == 3, picture.shape
    assert picture.shape[2] == 3, picture.shape
    height, width = picture.shape[:2]
    if height % 2 or width % 2 or not height or not width:
        raise VideoError(
            f"{path}: frames are {_size(picture)}, but H.264 in yuv420p needs even sides; crop or pad by 1 px"
        )
    stream = container.add_stream("libx264", rate=rate)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.time_base = Fraction(1, TICKS_HZ) if variable else 1 / rate
    stream.codec_context.gop_size = KEYFRAME_FRAMES
    # One thread, and no library versions in the file: the bytes do not depend on the machine.
    stream.codec_context.thread_count = 1
    stream.codec_context.flags |= av.codec.context.Flags.bitexact
    # MP4 stores durations in decoding order: without B-frames, the last one is that of the last frame shown.
    stream.options = {"crf": str(crf), "preset": "veryfast"} | ({"bf": "0"} if variable else {})
    return stream


def _ticks(path: Path, stamps_s: Sequence[float], fps: float) -> list[int]:
    """Stamps in ticks, and the end of the last frame."""
    ticks = [round(stamp * TICKS_HZ) for stamp in stamps_s]
    if any(stop <= start for start, stop in pairwise(ticks)) or (ticks and ticks[0] < 0):
        raise VideoError(f"{path}: stamps must increase by at least a microsecond each, from 0 or later")
    return [*ticks, ticks[-1] + round(TICKS_HZ / fps)] if ticks else [0]


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[0]}x{picture.shape[1]}"
