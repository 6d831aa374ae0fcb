"""The order and the times in which the frames of a stream are shown.

Where packets carry presentation stamps, those are the frames' stamps. AVI and bare streams carry none (FFmpeg makes
some up, which are wrong for H.264 with B-frames): there the frames are decoded once, and shown in the order in which
the decoder returns them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import av
import numpy as np
from av.video.frame import PictureType
from jaxtyping import Float64, Int64

from tadkit.errors import VideoError
from tadkit.video.container import one_line, opened, use_threads
from tadkit.video.stream import NO_STAMP, Stream

INTRA = frozenset({PictureType.I, PictureType.NONE})
"""Types of pictures that need no other; NONE where the decoder does not say."""


class Frames(NamedTuple):
    """Frames in display order.

    Attributes:
        ticks: when they appear, in ticks of the stream.
        last_ticks: how long the last one is shown; 0 where unknown.
        known_by, marks, entries, entry_ticks, assumed_fps: see :class:`tadkit.video.index.FrameIndex`.
    """

    ticks: Float64[np.ndarray, " frames"]
    last_ticks: float
    known_by: Literal["stamp", "packet", "place"]
    marks: Int64[np.ndarray, " frames"]
    entries: Int64[np.ndarray, " entries"]
    entry_ticks: Int64[np.ndarray, " entries"]
    assumed_fps: float | None = None


def by_stamps(source: Stream) -> Frames | None:
    """Frames by the presentation stamps of their packets; None where some lack one or the decoder returns others.

    Packets with the same stamp count as one frame.
    """
    packets, probed = source.packets, source.probed
    if not (packets.pts[packets.shown] != NO_STAMP).all():
        return None
    kept = np.flatnonzero(packets.shown & (packets.pts >= min(-1 if stamp is None else stamp for stamp in probed)))
    shown, at = np.unique(packets.pts[kept], return_index=True)
    if list(dict.fromkeys(probed)) != shown[: len(set(probed))].tolist():
        return None
    entry_ticks = np.intersect1d(packets.pts[packets.entry], shown)
    entries = np.searchsorted(shown, entry_ticks)
    # AVI has decoding stamps only; presentation stamps are FFmpeg's, a frame late with some codecs.
    ticks = (packets.dts if "avi" in source.formats and increase(packets.dts) else packets.pts)[kept[at]]
    last = float(packets.durations[kept[at[-1]]])
    return Frames(ticks.astype(np.float64), last, "stamp", shown, entries, entry_ticks)


def by_decoding(path: Path, source: Stream, fallback_fps: float | None) -> Frames:
    """Frames in the order in which the decoder returns them.

    Raises:
        VideoError: a frame cannot be decoded.
    """
    marks, entries = _decoded(path)
    packets, step = source.packets, 1 / ((fallback_fps or source.rate_hz) * source.tick_s)
    # A packet may give no frame, but rarely two.
    unique = len(np.unique(marks)) == len(marks) and not len(np.setdiff1d(marks, np.arange(len(packets.pts))))
    pts = packets.pts[marks] if unique else np.full(len(marks), NO_STAMP)
    dts = np.sort(packets.dts[marks]) if unique else packets.dts[: len(marks)]
    assumed = False
    if not source.bare and "avi" not in source.formats and increase(pts):
        ticks = pts.astype(np.float64)
    elif not source.bare and len(dts) == len(marks) and increase(dts):
        ticks = _at_the_output(dts, source.delay)
    else:
        ticks, assumed = _at_the_rate(np.full(len(marks), NO_STAMP) if source.bare else pts, step)
    return Frames(
        ticks,
        step if assumed else 0.0,
        "packet" if unique else "place",
        marks if unique else np.arange(len(marks)),
        entries if unique else entries[:0],
        packets.dts[marks[entries]] if unique else entries[:0],
        1 / (step * source.tick_s) if assumed else None,
    )


def _decoded(path: Path) -> tuple[Int64[np.ndarray, " frames"], Int64[np.ndarray, " entries"]]:
    """The number of each frame's packet, in the order of decoding, and the frames at which decoding can start."""
    marks: list[int] = []
    entries: list[int] = []
    with opened(path) as (container, stream):
        use_threads(stream)
        try:
            for packet in numbered(container.demux(stream)):
                for frame in packet.decode():
                    if frame.key_frame and frame.pict_type in INTRA:
                        entries.append(len(marks))
                    marks.append(-1 if frame.pts is None else frame.pts)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise VideoError(
                f"{path}: frame {len(marks)} cannot be decoded ({one_line(error)}); export or download it again"
            ) from error
    return np.array(marks, dtype=np.int64), np.array(entries, dtype=np.int64)


def _at_the_output(dts: Int64[np.ndarray, " frames"], delay: int) -> Float64[np.ndarray, " frames"]:
    """Ticks at which a decoder that lags by ``delay`` packets returns the frames, counted from the first packet's."""
    step = np.median(np.diff(dts)) if len(dts) > 1 else 1.0
    outputs = np.concatenate([dts[delay:], dts[-1] + step * (1 + np.arange(delay))])[: len(dts)]
    return np.asarray(outputs - outputs[0] + dts[0])


def _at_the_rate(pts: Int64[np.ndarray, " frames"], step: float) -> tuple[Float64[np.ndarray, " frames"], bool]:
    """Ticks of frames ``step`` apart, through the stamps that there are; and whether these are fewer than two."""
    known = np.flatnonzero(pts != NO_STAMP)
    places = np.arange(len(pts), dtype=np.float64)
    if len(known) == 0 or not increase(pts[known]):
        return places * step, True
    outside = np.minimum(places - known[0], 0) + np.maximum(places - known[-1], 0)
    return np.interp(places, known, pts[known]) + outside * step, len(known) == 1


def numbered(packets: Iterable[Any]) -> Iterator[Any]:
    """Packets with their number in the file as their stamps, which decoders pass on to the frames."""
    number = 0
    for packet in packets:
        if packet.size:
            packet.pts = packet.dts = number
            number += 1
        yield packet


def increase(ticks: Int64[np.ndarray, " n"]) -> bool:
    """Whether all stamps are there and strictly increase."""
    return bool((ticks != NO_STAMP).all() and (np.diff(ticks) > 0).all())
