"""When each frame of a video is shown: one index, built with PyAV, for all decoders.

Packets are demuxed, not decoded: an hour of video takes about a second. Both readers share the index, so stamps do not
depend on the decoder, and a decoder with another frame count or other stamps is detected when it is opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.stream import Disposition
from jaxtyping import Float64, Int64

from tadkit.errors import VideoError
from tadkit.video.cut_short import bytes_cut_off, declared_s

TEXT_FORMATS = frozenset({"tty", "bintext", "xbin", "idf", "concat", "ffmetadata"})
"""FFmpeg "formats" that render or follow text files; a text file is not a video."""
EXACT_FORMATS = frozenset({"mp4", "matroska"})
"""Containers (MP4 and MOV, MKV and WebM) that seek exactly to a keyframe."""
MOST_MISSING_S = 1.0
"""How much earlier than stated the frames may end: dropped frames at the end, slightly wrong counts."""
FALLBACK_STEP_S = 0.04
"""Duration of a single frame if the file does not say."""
_EXPECTED = "expected MP4, MOV, MKV, WebM, AVI or similar"


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """The frames of a video in display order.

    Attributes:
        pts: presentation stamp of each frame in ticks of the stream, strictly increasing.
        stamps_s: the same in seconds from the first shown frame.
        duration_s: end of the last shown frame.
        keyframe_pts: stamps of the frames at which decoding can start, increasing.
        size_hw: upright size, that is, after rotation.
        quarter_turns: counter-clockwise turns by 90 degrees that make decoded frames upright, 0 to 3.
        has_pts: whether packets have presentation stamps; if not, decoding stamps are used.
        plain: whether frames can be found by counting: closed groups of pictures, nothing cut off, a container that
            seeks exactly. decord 0.6 counts, and returns wrong frames where this is false.
    """

    pts: Int64[np.ndarray, " frames"]
    stamps_s: Float64[np.ndarray, " frames"]
    duration_s: float
    keyframe_pts: Int64[np.ndarray, " keyframes"]
    size_hw: tuple[int, int]
    quarter_turns: int
    has_pts: bool
    plain: bool

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.pts)


class _Packets(NamedTuple):
    """Displayed packets as demuxed, in decoding order."""

    pts: Int64[np.ndarray, " packets"]
    durations: Int64[np.ndarray, " packets"]
    keyframe_pts: Int64[np.ndarray, " keyframes"]
    has_pts: bool
    plain: bool


def build_index(path: Path) -> FrameIndex:
    """Index the frames of the video at ``path``.

    Packets with the same stamp count as one frame; frames before the first decodable one are skipped.

    Raises:
        VideoError: the file is missing, not a video, truncated (if the container states its size), has no decodable
            frame, or its stamps are missing or decrease.
    """
    refuse_no_file(path)
    with opened(path) as (container, stream):
        if lacks := bytes_cut_off(path, frozenset(container.format.name.split(","))):
            raise VideoError(f"{path}: truncated, the last {lacks} bytes are missing; copy or download it again")
        begin, size_hw, turns = _first_frame(path, container, stream)
    with opened(path) as (container, stream):
        packets = _packets(path, container, stream)
        tick_s = float(stream.time_base)
        rate_hz = stream.average_rate or stream.guessed_rate
        said_s = declared_s(stream)
        exact = bool(EXACT_FORMATS.intersection(container.format.name.split(",")))
    if not packets.has_pts:
        decoded = _decoded_stamps(path)
        packets = packets._replace(pts=decoded, durations=np.zeros_like(decoded))
    shown, at = np.unique(packets.pts, return_index=True)
    keep = shown >= begin
    plain = packets.plain and packets.has_pts and exact and bool(keep.all()) and len(at) == len(packets.pts)
    shown, at = shown[keep], at[keep]
    if len(shown) == 0:
        raise VideoError(_backward(path, 0))
    stamps_s = (shown - shown[0]) * tick_s
    last_s = float(packets.durations[at[-1]]) * tick_s or _usual_step_s(stamps_s, rate_hz)
    _refuse_early_end(path, float(shown[-1]) * tick_s + last_s, said_s)
    return FrameIndex(
        pts=shown,
        stamps_s=stamps_s,
        duration_s=float(stamps_s[-1]) + last_s,
        keyframe_pts=np.unique(packets.keyframe_pts),
        size_hw=size_hw,
        quarter_turns=turns,
        has_pts=packets.has_pts,
        plain=plain,
    )


def _refuse_early_end(path: Path, end_s: float, said_s: float | None) -> None:
    if said_s is not None and end_s < said_s - MOST_MISSING_S:
        raise VideoError(
            f"{path}: frames end at {end_s:.1f} s, but the header says {said_s:.1f} s: the rest is damaged or missing; "
            f"copy or download it again, or keep what is left: ffmpeg -i {path.name} -c copy rest{path.suffix}"
        )


def _usual_step_s(stamps_s: Float64[np.ndarray, " frames"], rate_hz: Any) -> float:
    if len(stamps_s) > 1:
        return float(np.median(np.diff(stamps_s)))
    return float(1 / rate_hz) if rate_hz else FALLBACK_STEP_S


def stamp_of(frame: Any) -> int | None:
    """Presentation stamp of a packet or frame in ticks; its decoding stamp if the file has none (old AVI)."""
    stamp: int | None = frame.dts if frame.pts is None else frame.pts
    return stamp


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


def _first_frame(path: Path, container: Any, stream: Any) -> tuple[int, tuple[int, int], int]:
    """Stamp, upright size and quarter turns of the first frame that can be decoded."""
    reason = "there is none"
    try:
        for frame in container.decode(stream):
            begin = stamp_of(frame)
            if begin is None:
                raise VideoError(_backward(path, 0))
            turns = round(frame.rotation / 90) % 4
            size_hw = (frame.width, frame.height) if turns % 2 else (frame.height, frame.width)
            return begin, size_hw, turns
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = one_line(error)
    raise VideoError(f"{path}: no frame can be decoded ({reason}); export or download the video again")


def _packets(path: Path, container: Any, stream: Any) -> _Packets:
    pts: list[int] = []
    durations: list[int] = []
    keyframes: list[int] = []
    has_pts = plain = True
    last_dts: int | None = None
    try:
        for packet in container.demux(stream):
            stamp = stamp_of(packet)
            if packet.size == 0 or stamp is None:
                has_pts = has_pts and packet.size == 0
                continue
            if packet.dts is not None and last_dts is not None and packet.dts < last_dts:
                raise VideoError(_backward(path, len(pts)))
            last_dts = packet.dts if packet.dts is not None else last_dts
            has_pts = has_pts and packet.pts is not None
            if packet.is_keyframe:
                keyframes.append(stamp)
            # Stored after a keyframe but shown before it: the group of pictures is open.
            plain = plain and not packet.is_discard and bool(keyframes) and stamp >= keyframes[-1]
            if not packet.is_discard:
                pts.append(stamp)
                durations.append(max(0, packet.duration or 0))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(
            f"{path}: cannot be read past frame {len(pts)} ({one_line(error)}); export or download it again"
        ) from error
    return _Packets(
        np.array(pts, np.int64), np.array(durations, np.int64), np.array(keyframes, np.int64), has_pts, plain
    )


def _decoded_stamps(path: Path) -> Int64[np.ndarray, " frames"]:
    """Stamps of all frames, by decoding them: for old files whose packets lack presentation stamps."""
    with opened(path) as (container, stream):
        stamps: list[int] = []
        try:
            for frame in container.decode(stream):
                stamp = stamp_of(frame)
                if stamp is None or (stamps and stamp < stamps[-1]):
                    raise VideoError(_backward(path, len(stamps)))
                stamps.append(stamp)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise VideoError(
                f"{path}: frame {len(stamps)} cannot be decoded ({one_line(error)}); export or download it again"
            ) from error
    return np.array(stamps, dtype=np.int64)


def _backward(path: Path, frame: int) -> str:
    return (
        f"{path}: time stamps are missing or run backward at frame {frame}, so frame times are unknown; "
        f"re-encode it with: ffmpeg -fflags +genpts -i {path.name} fixed.mp4"
    )
