"""Whether a video file is all there: FFmpeg ends one that is cut short early, without a word.

Containers that begin with their own size are taken at their word: MP4 and MOV (ISO/IEC 14496-12, section 4.2), Matroska
and WebM (RFC 8794, section 6; RFC 9559, section 5.1), AVI (Microsoft's RIFF, with the further RIFFs of OpenDML). A size
that was never filled in, as of a live recording or of a writer that was killed, says nothing, and nothing is guessed.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
_LIVE_RIFF = (0, 0xFFFFFFFF)
"""Sizes of a RIFF list that its writer did not come back to fill in."""


def bytes_cut_off(path: Path, formats: frozenset[str]) -> int:
    """How many bytes are missing at the end of a file by what it says itself; 0 where it says nothing.

    Args:
        path: the file.
        formats: FFmpeg's names of its container.
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
    """Seconds at which the frames of a stream end by what the file says of it alone; None where it says nothing.

    Matroska may say so in a tag, AVI in its count of frames. MP4's table of frames needs no such check: it names bytes.
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
    """Where the frames' bytes end; boxes after them may be missing without harm."""
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
    """Where the last list of frames ends; the index after it may be missing without harm."""
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
