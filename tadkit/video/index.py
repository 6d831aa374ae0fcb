"""When each frame of a video is shown: one index, built with PyAV, for all decoders.

Both readers share the index, so stamps do not depend on the decoder, and a decoder with another frame count or other
stamps is detected when it is opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from tadkit.errors import VideoError
from tadkit.video.container import refuse_no_file
from tadkit.video.display_order import Frames, by_decoding, by_stamps, increase
from tadkit.video.stream import NO_STAMP, Orientation, Stream, backward, read_stream

EXACT_FORMATS = frozenset({"mp4", "matroska"})
"""Containers (MP4 and MOV, MKV and WebM) that seek exactly to a keyframe."""
MOST_MISSING_S = 1.0
"""How much earlier than stated the frames may end: dropped frames at the end, slightly wrong counts."""
SAME_INSTANT_S = 1e-6
"""FFmpeg rounds the start of a file to microseconds."""
_KEPT_INDICES = 8


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """The frames of a video in display order.

    Attributes:
        stamps_s: seconds at which frames appear, strictly increasing, from the start of the file's earliest stream.
        duration_s: end of the last shown frame.
        zero_s: the file's own stamp, in seconds, of what is 0 here.
        size_hw: upright size, that is, after rotation.
        orientation: makes decoded frames upright.
        known_by: how a decoded frame is recognised: by its presentation ``stamp``, by the number of its ``packet`` in
            the file, or by its ``place`` among the decoded frames.
        marks: for each frame, the stamp in ticks, the number of the packet, or the place.
        entries: frames at which decoding can start, increasing; empty where it must start at the beginning.
        entry_ticks: where to seek for each of them.
        packet_ticks: decoding stamp of each packet, to recognise packets after a seek; only for ``packet``.
        unreferenced: whether no other frame needs this one to be decoded.
        assumed_fps: frame rate, where the file stores no time stamps.
        not_for_decord: why decord 0.6 would return wrong frames; empty where it does not.
        read_otherwise: whether version 0.1 of tadkit read other frames or stamps from this file, or none.
    """

    stamps_s: Float64[np.ndarray, " frames"]
    duration_s: float
    zero_s: float
    size_hw: tuple[int, int]
    orientation: Orientation
    known_by: Literal["stamp", "packet", "place"]
    marks: Int64[np.ndarray, " frames"]
    entries: Int64[np.ndarray, " entries"]
    entry_ticks: Int64[np.ndarray, " entries"]
    packet_ticks: Int64[np.ndarray, " packets"]
    unreferenced: Bool[np.ndarray, " frames"]
    assumed_fps: float | None
    not_for_decord: str
    read_otherwise: bool

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.marks)

    @cached_property
    def _numbers(self) -> dict[int, int]:
        return {mark: number for number, mark in enumerate(self.marks.tolist())}

    @cached_property
    def _packets(self) -> dict[int, int]:
        return {tick: number for number, tick in enumerate(self.packet_ticks.tolist())}

    def number_of(self, mark: int | None) -> int | None:
        """The frame with a mark; None if it is not shown."""
        return None if mark is None else self._numbers.get(mark)

    def packet_at(self, tick: int | None) -> int | None:
        """The number of the packet with a decoding stamp; None if there is none."""
        return None if tick is None else self._packets.get(tick)

    def is_entry(self, number: int) -> bool:
        """Whether decoding can start at a frame."""
        at = int(np.searchsorted(self.entries, number))
        return at < len(self.entries) and int(self.entries[at]) == number


def build_index(path: Path, *, fallback_fps: float | None = None) -> FrameIndex:
    """Index the frames of the video at ``path``.

    Packets with the same stamp count as one frame; frames before the first decodable one are skipped.

    Args:
        path: the file.
        fallback_fps: frame rate of a file that stores no time stamps; None takes the rate that it declares, or 25.

    Raises:
        VideoError: the file is missing, not a video, truncated (if the container states its size), has no decodable
            frame, or its stamps decrease.
    """
    refuse_no_file(path)
    status = path.stat()
    return _index(path, (str(Path.cwd()), status.st_size, status.st_mtime_ns, status.st_ino), fallback_fps)


def forget_indices() -> None:
    """Forget the indices of files that were opened before, for timings that are to include theirs."""
    _index.cache_clear()


@lru_cache(maxsize=_KEPT_INDICES)
def _index(path: Path, version: tuple[str, int, int, int], fallback_fps: float | None) -> FrameIndex:
    del version  # a changed file is another one
    file = read_stream(path)
    frames = by_stamps(file)
    matching = frames is not None
    # Stamps that FFmpeg makes up may be wrong, and a packet of VP8 may give no frame, far behind the frames tried.
    if frames is None or file.bare or file.codec == "vp8" or ("avi" in file.formats and file.reorders):
        frames = by_decoding(path, file, fallback_fps)
    if len(frames.marks) == 0:
        raise VideoError(backward(path, 0))
    first_s = float(frames.ticks[0]) * file.tick_s
    zero_s = zero_of(first_s, None if frames.assumed_fps else file.start_s)
    stamps_s = frames.ticks * file.tick_s - zero_s
    last_s = frames.last_ticks * file.tick_s or _usual_step_s(stamps_s, file.rate_hz)
    duration_s = float(stamps_s[-1]) + last_s
    _refuse_early_end(path, zero_s + duration_s, file.said_s)
    stateless = not (file.bare or file.palette)
    seekable = stateless and (frames.known_by == "stamp" or increase(file.packets.dts))
    none = np.zeros(0, dtype=np.int64)
    return FrameIndex(
        stamps_s=stamps_s,
        duration_s=duration_s,
        zero_s=zero_s,
        size_hw=file.size_hw,
        orientation=file.orientation,
        known_by=frames.known_by,
        marks=frames.marks,
        entries=frames.entries if seekable else none,
        entry_ticks=frames.entry_ticks if seekable else none,
        packet_ticks=file.packets.dts if frames.known_by == "packet" else none,
        unreferenced=_unreferenced(file, frames),
        assumed_fps=frames.assumed_fps,
        not_for_decord=_not_for_decord(file, frames),
        read_otherwise=_read_otherwise(file, late=stamps_s[0] > 0, matching=matching),
    )


def zero_of(first_s: float, start_s: float | None) -> float:
    """The stamp of what is 0: where the earliest stream starts, or the first frame if it is as early.

    Args:
        first_s: stamp of the first frame, in seconds.
        start_s: start of the earliest stream; None if it is not known.
    """
    return first_s if start_s is None or first_s - start_s <= SAME_INSTANT_S else start_s


def _unreferenced(file: Stream, frames: Frames) -> Bool[np.ndarray, " frames"]:
    """Frames that no other needs; none where packets and frames do not correspond one to one by their stamps."""
    if frames.known_by != "stamp" or len(file.packets.pts) != len(frames.marks):
        return np.zeros(len(frames.marks), dtype=bool)
    return file.packets.unreferenced[np.argsort(file.packets.pts)]


def _not_for_decord(file: Stream, frames: Frames) -> str:
    """Why decord, which counts frames, would be wrong."""
    packets = file.packets
    keyframes = np.maximum.accumulate(np.where(packets.entry, packets.pts, NO_STAMP))
    reasons = {
        "no time stamps": frames.known_by != "stamp",
        "a container other than MP4, MOV, MKV and WebM": not EXACT_FORMATS & file.formats,
        "VP9": file.codec == "vp9",
        "periodic intra refresh": packets.recovers,
        "a mirrored picture": file.orientation.mirrored,
        "a palette": file.palette,
        "open groups of pictures": bool((packets.pts < keyframes).any()) or not packets.entry[:1].all(),
        "a cut start": len(packets.pts) != len(frames.marks),
    }
    return ", ".join(reason for reason, holds in reasons.items() if holds)


def _read_otherwise(file: Stream, *, late: bool, matching: bool) -> bool:
    """Whether version 0.1 read this file otherwise, or not at all."""
    made_up = file.bare or ("avi" in file.formats and file.codec in ("h264", "hevc"))
    return made_up or not matching or late or file.palette or file.packets.recovers or file.orientation.mirrored


def _refuse_early_end(path: Path, end_s: float, said_s: float | None) -> None:
    if said_s is not None and end_s < said_s - MOST_MISSING_S:
        raise VideoError(
            f"{path}: frames end at {end_s:.1f} s, but the header says {said_s:.1f} s: the rest is damaged or missing; "
            f"copy or download it again, or keep what is left: ffmpeg -i {path.name} -c copy rest{path.suffix}"
        )


def _usual_step_s(stamps_s: Float64[np.ndarray, " frames"], rate_hz: float) -> float:
    return float(np.median(np.diff(stamps_s))) if len(stamps_s) > 1 else 1 / rate_hz
