"""Detect truncated video files: FFmpeg silently stops early on them.

Some containers state their own size: MP4 and MOV (ISO/IEC 14496-12, section 4.2), Matroska and WebM (RFC 8794, section
6; RFC 9559, section 5.1), AVI (Microsoft's RIFF, with the further RIFFs of OpenDML). If the size was never filled in,
as in a live recording or after the writer was killed, nothing is checked.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
_LIVE_RIFF = (0, 0xFFFFFFFF)
"""Sizes of a RIFF list that its writer never filled in."""


def bytes_cut_off(path: Path, formats: frozenset[str]) -> int:
    """How many bytes are missing at the end of a file according to its header; 0 if it does not say.

    Args:
        path: the file.
        formats: FFmpeg's names for its container.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if "mp4" in formats:
            end = _end_of_mp4(file, size)
        elif "matroska" in formats:
            end = _end_of_matroska(file, size)
        else:
            end = _end_of_avi(file, size) if "avi" in formats else 0
    return max(0, end - size)


def declared_s(stream: Any) -> float | None:
    """End of a video stream in seconds according to the file's header; None if it does not say.

    Matroska may have it in a tag, AVI has a frame count. MP4 needs no such check: its frame table refers to bytes.
    """
    formats = stream.container.format.name.split(",")
    if "matroska" in formats:
        hours, _, rest = stream.metadata.get("DURATION", "").partition(":")
        minutes, _, seconds = rest.partition(":")
        try:
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        except ValueError:
            return None
    if "avi" in formats and stream.frames and stream.average_rate:
        return float(stream.frames / stream.average_rate)
    return None


def _end_of_mp4(file: BinaryIO, size: int) -> int:
    """Where the frames' bytes end; boxes after them may be missing."""
    at = end = 0
    while at + 8 <= size:
        length, kind, longer = struct.unpack(">I4sQ", _bytes_at(file, at, 16))
        length = longer if length == 1 else length or size - at
        end = max(end, at + length) if kind == b"mdat" else end
        at += max(length, 8)
    return end


def _end_of_matroska(file: BinaryIO, size: int) -> int:
    """Where the last segment of known size ends."""
    at = 0
    while at < size:
        head = _bytes_at(file, at, 12)
        width = 9 - head[4].bit_length()  # bytes of the size that follows the 4 bytes of these elements' names
        if int.from_bytes(head[:4]) not in (_EBML, _SEGMENT) or width > 8:
            break
        value, unknown = int.from_bytes(head[4 : 4 + width]), (1 << 7 * width) - 1
        if value & unknown == unknown:
            return 0
        at += 4 + width + (value & unknown)
    return at


def _end_of_avi(file: BinaryIO, size: int) -> int:
    """Where the last list of frames ends; the index after it may be missing."""
    at = end = 0
    while at + 12 <= size:
        kind, length, form = struct.unpack("<4sI4s", _bytes_at(file, at, 12))
        if kind == b"RIFF":
            at += 12
            continue
        if kind == b"\0\0\0\0" or (form == b"movi" and length in _LIVE_RIFF):
            break
        end = at + 8 + length if (kind, form) == (b"LIST", b"movi") else end
        at += 8 + length + length % 2
    return end


def _bytes_at(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count).ljust(count, b"\0")
