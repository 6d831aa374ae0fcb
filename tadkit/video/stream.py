"""What a file says about its video stream: its packets, its first frames and how they are turned.

Demuxing an hour of video takes about a second; decoding it takes minutes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.format import Flags
from av.sidedata.sidedata import Type
from jaxtyping import Bool, Int64

from tadkit.errors import VideoError
from tadkit.video.container import format_names, one_line, opened
from tadkit.video.cut_short import bytes_cut_off, declared_s

NO_STAMP = np.iinfo(np.int64).min
"""Stands for a stamp that a packet lacks."""
FALLBACK_FPS = 25.0
"""Frame rate of files that do not say; that of FFmpeg, too."""
PROBED_FRAMES = 24
"""Frames decoded to see whether their stamps are those of the packets."""
_IDR, _SLICE = 5, 1
_INTRA_SLICES = (2, 4)
_OF_ONE_PICTURE = (6, 9, 12)
"""H.264 (ITU-T H.264, tables 7-1 and 7-6): types of NAL units, and of slices modulo 5; of units, also supplemental
information, delimiters and filler."""


class Orientation(NamedTuple):
    """How to make a decoded picture upright: rows and columns exchanged, then both axes reversed as said."""

    transposed: bool = False
    rows_reversed: bool = False
    columns_reversed: bool = False

    @property
    def mirrored(self) -> bool:
        """Whether this is no rotation."""
        return sum(self) % 2 == 1


class Packets(NamedTuple):
    """Packets that hold data, in the file's order.

    Attributes:
        pts: presentation stamp in ticks of the stream, or :data:`NO_STAMP`.
        dts: decoding stamp, or :data:`NO_STAMP`.
        durations: in ticks, 0 where unknown.
        entry: whether decoding can start here. A point from which an H.264 stream recovers within some frames
            (periodic intra refresh) is none, though containers mark it as a keyframe.
        shown: False for packets that an edit list cuts off.
        unreferenced: whether certainly no other packet needs this one to be decoded; only known of H.264.
        recovers: whether the stream has such points.
    """

    pts: Int64[np.ndarray, " packets"]
    dts: Int64[np.ndarray, " packets"]
    durations: Int64[np.ndarray, " packets"]
    entry: Bool[np.ndarray, " packets"]
    shown: Bool[np.ndarray, " packets"]
    unreferenced: Bool[np.ndarray, " packets"]
    recovers: bool


class Stream(NamedTuple):
    """What is known of a file before its frames are indexed.

    Attributes:
        packets: all of them.
        probed: presentation stamps of the first frames that can be decoded, in the decoder's order.
        delay: packets that the decoder takes in after the first one, before it returns the first frame.
        size_hw: upright size, that is, after rotation.
        orientation: makes decoded frames upright.
        tick_s: unit of stamps.
        start_s: start of the file's earliest stream; None if the file does not say.
        rate_hz: declared frame rate, or that of files that do not say.
        said_s: end of the stream according to the file's header; None if it does not say.
        formats: FFmpeg's names for the container.
        codec: FFmpeg's name for the codec.
        bare: whether the file stores no time stamps at all.
        reorders: whether frames may be shown in another order than they are stored in.
        palette: whether colours come from a palette, which FFmpeg passes on with the first packet only.
    """

    packets: Packets
    probed: list[int | None]
    delay: int
    size_hw: tuple[int, int]
    orientation: Orientation
    tick_s: float
    start_s: float | None
    rate_hz: float
    said_s: float | None
    formats: frozenset[str]
    codec: str
    bare: bool
    reorders: bool
    palette: bool


def read_stream(path: Path) -> Stream:
    """Open a file twice: to decode its first frames, and to demux its packets.

    Raises:
        VideoError: it is not a video, truncated (if the container states its size), or has no decodable frame.
    """
    with opened(path) as (container, stream):
        if lacks := bytes_cut_off(path, format_names(container)):
            raise VideoError(f"{path}: truncated, the last {lacks} bytes are missing; copy or download it again")
        # MP4 without B-frames: each packet is a frame with a stamp of its own, so one is enough.
        in_order = "mp4" in format_names(container) and not stream.codec_context.has_b_frames
        count = 1 if in_order else PROBED_FRAMES
        probed, delay, size_hw, orientation = _first_frames(path, container, stream, count)
        palette = stream.codec_context.pix_fmt == "pal8"
    with opened(path) as (container, stream):
        codec = stream.codec_context
        declared = codec.framerate if container.format.flags & Flags.no_timestamps.value else stream.average_rate
        start = container.start_time
        return Stream(
            packets=_read_packets(path, container, stream),
            probed=probed,
            delay=delay,
            size_hw=size_hw,
            orientation=orientation,
            tick_s=float(stream.time_base),
            start_s=None if start is None else start / av.time_base,
            rate_hz=float(declared or stream.guessed_rate or FALLBACK_FPS),
            said_s=declared_s(stream),
            formats=format_names(container),
            codec=codec.name,
            bare=bool(container.format.flags & Flags.no_timestamps.value),
            reorders=bool(codec.has_b_frames),
            palette=palette,
        )


def _first_frames(
    path: Path, container: Any, stream: Any, count: int
) -> tuple[list[int | None], int, tuple[int, int], Orientation]:
    """Stamps of the first frames that can be decoded, the decoder's delay, and the upright size and orientation."""
    reason = "there is none"
    stamps: list[int | None] = []
    delay, size_hw, orientation = -1, (0, 0), Orientation()
    try:
        for packet in container.demux(stream):
            delay += bool(packet.size) and not stamps
            for frame in packet.decode():
                if not stamps:
                    orientation = orientation_of(frame)
                    size_hw = (frame.width, frame.height) if orientation.transposed else (frame.height, frame.width)
                stamps.append(frame.pts)
            if len(stamps) >= count:
                break
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = one_line(error)
    if not stamps:
        raise VideoError(f"{path}: no frame can be decoded ({reason}); export or download the video again")
    return stamps, delay, size_hw, orientation


def orientation_of(frame: Any) -> Orientation:
    """The nearest of the eight turns and flips to a frame's display matrix, as FFmpeg applies it.

    The matrix maps column x and row y of the decoded picture to (a x + c y, b x + d y), where a, b, c, d are its first,
    second, fourth and fifth number (ISO/IEC 14496-12, section 6.2.2).
    """
    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return Orientation()
    a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].astype(np.float64)
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(True, bool(b < 0), bool(c < 0))
    return Orientation(False, bool(d < 0), bool(a < 0))


def _read_packets(path: Path, container: Any, stream: Any) -> Packets:
    """Demux a stream.

    Raises:
        VideoError: the file cannot be read to its end, or its decoding stamps decrease.
    """
    rows: list[tuple[int, int, int, bool, bool, bool]] = []
    last, recovers = NO_STAMP, False
    length_bytes = _length_bytes(stream)
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            pts, dts = (NO_STAMP if stamp is None else stamp for stamp in (packet.pts, packet.dts))
            if NO_STAMP not in (dts, last) and dts < last:
                raise VideoError(backward(path, sum(row[4] for row in rows)))
            last = last if dts == NO_STAMP else dts
            units = None if length_bytes is None else list(_units(bytes(packet), length_bytes))
            entry = packet.is_keyframe and (units is None or _all_intra(units))
            recovers = recovers or (packet.is_keyframe and not entry)
            unreferenced = units is not None and _unreferenced(units)
            rows.append((pts, dts, max(0, packet.duration or 0), entry, not packet.is_discard, unreferenced))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(
            f"{path}: cannot be read past frame {len(rows)} ({one_line(error)}); export or download it again"
        ) from error
    pts, dts, durations, *flags = np.array(rows, dtype=np.int64).reshape(-1, 6).T
    entries, shown, spare = (flag.astype(bool) for flag in flags)
    return Packets(pts, dts, durations, entries, shown, spare, recovers)


def backward(path: Path, frame: int) -> str:
    """Error message for stamps that decrease at a frame."""
    return (
        f"{path}: time stamps are missing or run backward at frame {frame}, so frame times are unknown; "
        f"re-encode it with: ffmpeg -fflags +genpts -i {path.name} fixed.mp4"
    )


def _length_bytes(stream: Any) -> int | None:
    """Bytes of the lengths of an H.264 stream's NAL units, 0 if start codes separate them; None for other codecs."""
    if stream.codec_context.name != "h264":
        return None
    head = stream.codec_context.extradata or b""
    return (head[4] & 3) + 1 if len(head) > 4 and head[0] == 1 else 0


def _unreferenced(units: Sequence[bytes]) -> bool:
    """Whether an H.264 picture is none that others refer to, and comes with no parameters that others need.

    Only slices that are no reference (``nal_ref_idc`` 0), and units that say nothing about other pictures.
    """
    slices = sum(unit[0] & 31 == _SLICE for unit in units)
    return slices > 0 and all(
        unit[0] & 31 in _OF_ONE_PICTURE or (unit[0] & 31 == _SLICE and unit[0] >> 5 & 3 == 0) for unit in units
    )


def _all_intra(units: Sequence[bytes]) -> bool:
    """Whether an H.264 picture refers to no other one: an IDR picture, or slices of type I or SI only."""
    for unit in units:
        kind = unit[0] & 31
        if kind == _IDR:
            return True
        if kind == _SLICE:
            bits = "".join(f"{byte:08b}" for byte in unit[1:17])
            _, at = _exp_golomb(bits, 0)
            if _exp_golomb(bits, at)[0] % 5 not in _INTRA_SLICES:
                return False
    return True


def _units(payload: bytes, length_bytes: int) -> Iterator[bytes]:
    """Heads of the NAL units of a packet, separated by their lengths (MP4, MKV) or by start codes (0)."""
    if length_bytes == 0:
        yield from (unit[:17] for unit in payload.split(b"\0\0\1")[1:] if unit)
        return
    at = 0
    while at + length_bytes < len(payload):
        length = int.from_bytes(payload[at : at + length_bytes])
        at += length_bytes
        yield payload[at : at + min(length, 17)] or b"\0"
        at += length


def _exp_golomb(bits: str, at: int) -> tuple[int, int]:
    """An unsigned Exp-Golomb number (H.264, section 9.1), and where the next one begins; 0 past the end."""
    zeros = bits.find("1", at) - at
    if zeros < 0:
        return 0, len(bits)
    return int(bits[at + zeros : at + 2 * zeros + 1], 2) - 1, at + 2 * zeros + 1
