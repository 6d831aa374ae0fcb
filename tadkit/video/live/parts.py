"""Live video as parts without a cut: samples by the rule of files, what was lost between parts, and the end."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from statistics import median
from threading import Event
from typing import Any, NamedTuple

import av
import numpy as np
from av.format import Flags
from jaxtyping import UInt8

from tadkit.config import VideoSettings
from tadkit.errors import VideoError
from tadkit.video.container import one_line
from tadkit.video.index import zero_of
from tadkit.video.live.sources import LiveSource, Url
from tadkit.video.pyav_reader import Pictures
from tadkit.video.sampling import SampleClock
from tadkit.video.stream import FALLBACK_FPS, orientation_of

RETRY_S = 1.0
"""Time between attempts to open a source that was lost."""
_STEPS = 501
"""Times between the last frames, whose median is the usual one."""
_WARN_EVERY_S = 60.0

_log = logging.getLogger(__name__)


class Begin(NamedTuple):
    """A part begins.

    Attributes:
        at_s: second of the source that is 0 in the part.
        rate_hz: frames a second that the source declares; None if it does not.
    """

    at_s: float
    rate_hz: float | None


class Sample(NamedTuple):
    """A sampled frame of a part.

    Attributes:
        picture: RGB, upright.
        stamp_s: when it appears, in seconds of the part.
    """

    picture: UInt8[np.ndarray, "height width 3"]
    stamp_s: float

    @property
    def frames(self) -> UInt8[np.ndarray, "1 height width 3"]:
        """The picture as a stretch of one frame."""
        return np.ascontiguousarray(self.picture)[None]


class End(NamedTuple):
    """A part has ended.

    Attributes:
        duration_s: end of its last frame, in seconds of the part.
        reason: why it has ended.
    """

    duration_s: float
    reason: str


class Over(NamedTuple):
    """No part follows.

    Attributes:
        reason: why not.
        failed: whether the source was lost and did not return.
    """

    reason: str
    failed: bool


Item = Begin | Sample | End | Over


def live_items(source: LiveSource, settings: VideoSettings, *, patience_s: float) -> Iterator[Item]:
    """The parts of a live source, each a beginning, samples and an end; then that it is over.

    A source that is lost is opened again, for up to ``patience_s``. The time between two parts is that of the clock.

    Raises:
        VideoError: the source cannot be opened in the first place, or has no frame.
    """
    parts = _Parts(settings)
    connection = _Connection(source, settings, low_delay=True)
    yield from parts.of(connection)
    if parts.frames == 0:
        raise VideoError(f"{source.name}: no frame can be decoded ({connection.reason}); {source.advice}")
    reason, lost_s = connection.reason, time.monotonic()
    warned = False
    while connection.may_return and not source.stopped.is_set() and time.monotonic() < lost_s + patience_s:
        if not warned:
            _log.warning("%s: lost (%s); opened again each second for %g s", source.name, reason, patience_s)
            warned = True
        source.stopped.wait(RETRY_S)
        try:
            connection = _Connection(source, settings, low_delay=True)
        except VideoError:
            continue
        before = parts.frames
        yield from parts.of(connection)
        reason = connection.reason
        if parts.frames > before:
            lost_s, warned = time.monotonic(), False
    yield Over(reason, failed=connection.broken or connection.may_return)


def url_items(url: str, settings: VideoSettings) -> Iterator[Sample | End]:
    """The samples of a video at a URL, which is read once, and its end.

    Raises:
        VideoError: it cannot be opened, has no frame, breaks off, or has time stamps that run backward.
    """
    source = Url(url, stopped=Event())
    connection = _Connection(source, settings, low_delay=False)
    end = None
    for item in _Parts(settings).of(connection):
        if isinstance(item, Begin) and end is not None:
            raise VideoError(f"{source.name}: {end.reason} at {end.duration_s:.1f} s, so frame times are unknown")
        if isinstance(item, End):
            end = item
        if isinstance(item, Sample | End):
            yield item
    if connection.damaged:
        raise VideoError(f"{source.name}: {connection.damaged} packets are damaged; try again, or download it first")
    if end is None or connection.broken:
        where = "has no frame" if end is None else f"breaks off at {end.duration_s:.1f} s"
        raise VideoError(f"{source.name}: {where} ({connection.reason}); try again, or download it first")


class _Connection:
    """A source that is open once, and the frames that it gives, in the order in which they are shown.

    Attributes:
        opened_s: time of the clock at which it was opened.
        start_s: stamp at which its earliest stream starts; None if it is not known.
        rate_hz: frames a second that it declares; None if it does not.
        reason: why it has ended.
        broken: whether an error has ended it.
        damaged: packets that could not be decoded.
        may_return: whether it may be opened again for more.
    """

    def __init__(self, source: LiveSource, settings: VideoSettings, *, low_delay: bool) -> None:
        """Open ``source``; with ``low_delay`` the decoder keeps no frames back to decode them in parallel."""
        self.opened_s = time.monotonic()
        self._source, self._settings = source, settings
        self._container, self._stream = source.open()
        self._stream.thread_type = "SLICE" if low_delay else "AUTO"
        codec, start = self._stream.codec_context, self._container.start_time
        bare = bool(self._container.format.flags & Flags.no_timestamps.value)
        declared = codec.framerate if bare else self._stream.average_rate
        self.rate_hz = float(declared) if declared else None
        self._assumed_fps = settings.fallback_fps or self.rate_hz or FALLBACK_FPS if bare else None
        if self._assumed_fps and settings.fallback_fps is None:
            assumed = f"its frames are taken to be {self._assumed_fps:g} a second"
            _log.warning("%s: stores no time stamps; %s (set video.fallback_fps)", source.name, assumed)
        self.start_s = None if bare or start is None else start / av.time_base
        self.reason, self.broken, self.may_return = "", False, False
        self.damaged, self._warned_s = 0, -_WARN_EVERY_S

    def frames(self) -> Iterator[tuple[float, Any]]:
        """Decoded frames with their own stamps in seconds; the connection is closed after the last."""
        tick_s, number = float(self._stream.time_base), 0
        ticks = round((self.start_s or 0.0) / tick_s)
        try:
            for frame in self._decoded():
                # A frame without a stamp follows the one before.
                ticks = frame.pts if frame.pts is not None else ticks
                yield (number / self._assumed_fps if self._assumed_fps else ticks * tick_s), frame
                ticks, number = ticks + (frame.duration or 0), number + 1
        finally:
            self._container.close()

    def _decoded(self) -> Iterator[Any]:
        try:
            for packet in self._container.demux(self._stream):
                if self._source.stopped.is_set():
                    self.reason = "stopped"
                    return
                yield from self._frames_of(packet)
            self.reason = self._source.cut(self._container)
            self.may_return = bool(self.reason)
        except (av.FFmpegError, OSError, ValueError) as error:
            self.reason, self.broken = one_line(error), True
            self.may_return = self._source.may_return(self._container)
            yield from self._frames_of(None)
        self.reason = self.reason or "the source has ended"

    def _frames_of(self, packet: Any) -> list[Any]:
        """Frames that a packet completes; with None, those that the decoder still has. Damaged ones are reported."""
        try:
            return list(self._stream.codec_context.decode(packet))
        except (av.FFmpegError, ValueError) as error:
            self.damaged += 1
            if time.monotonic() - self._warned_s >= _WARN_EVERY_S:
                self._warned_s = time.monotonic()
                _log.warning(
                    "%s: damaged data was skipped (%s), %d packets so far",
                    self._source.name,
                    one_line(error),
                    self.damaged,
                )
            return []


class _Parts:
    """The parts in the frames of one connection after the other.

    Attributes:
        frames: number of frames so far.
    """

    def __init__(self, settings: VideoSettings) -> None:
        self._settings = settings
        self.frames = 0
        self._end_s = 0.0  # of the last part, in seconds of the source
        self._frame_s = 0.0  # time of the clock at which the last frame came

    def of(self, connection: _Connection) -> Iterator[Begin | Sample | End]:
        """The parts of a connection; a new one begins where stamps run backward."""
        part: _Part | None = None
        for stamp_s, frame in connection.frames():
            opened_s = connection.opened_s
            if part is not None and part.goes_back(stamp_s):
                yield from self._ended(part, "time stamps run backward")
                part, opened_s = None, time.monotonic()
            if part is None:
                at_s = self._end_s + (max(0.0, opened_s - self._frame_s) if self.frames else 0.0)
                start_s = connection.start_s if opened_s == connection.opened_s else None
                part = _Part(
                    self._settings, frame, at_s, zero_s=zero_of(stamp_s, start_s), tick_s=float(frame.time_base)
                )
                yield Begin(at_s, connection.rate_hz)
            self.frames, self._frame_s = self.frames + 1, time.monotonic()
            yield from part.more(stamp_s, frame)
        if part is not None:
            yield from self._ended(part, connection.reason)

    def _ended(self, part: _Part, reason: str) -> Iterator[Sample | End]:
        yield from part.end(reason)
        self._end_s = part.at_s + part.duration_s


class _Part:
    """Frames without a cut, sampled by their stamps."""

    def __init__(self, settings: VideoSettings, frame: Any, at_s: float, *, zero_s: float, tick_s: float) -> None:
        self.at_s = at_s
        self._rate_hz, self._zero_s, self._tick_s = settings.rate_hz, zero_s, tick_s
        self._pictures = Pictures(settings.size_hw, orientation_of(frame))
        self._clock = SampleClock(settings.rate_hz)
        self._last: Any = None
        self._last_s = -1.0
        self._steps_s: deque[float] = deque(maxlen=_STEPS)

    def goes_back(self, stamp_s: float) -> bool:
        """Whether a frame of this stamp would come before the last one."""
        return stamp_s - self._zero_s < self._last_s

    def more(self, stamp_s: float, frame: Any) -> Iterator[Sample]:
        """The frame before, if it is a sample; frames with the stamp of the one before are left out, as in files."""
        appears_s = stamp_s - self._zero_s
        if self._last is not None and appears_s == self._last_s:
            return
        if self._clock.next(appears_s):
            yield self._sample()
        if self._last is not None:
            self._steps_s.append(appears_s - self._last_s)
        self._last, self._last_s = frame, appears_s

    @property
    def duration_s(self) -> float:
        """End of the last frame."""
        usual_s = median(self._steps_s) if self._steps_s else 1 / self._rate_hz
        return self._last_s + ((self._last.duration or 0) * self._tick_s or usual_s)

    def end(self, reason: str) -> Iterator[Sample | End]:
        """The last frame, if it is a sample, and the end."""
        if self._clock.end(self.duration_s):
            yield self._sample()
        yield End(self.duration_s, reason)

    def _sample(self) -> Sample:
        return Sample(self._pictures.of(self._last), self._last_s)
