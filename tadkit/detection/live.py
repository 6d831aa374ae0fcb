"""``tadkit detect --live``: detections of video that comes once and may have no end, each as soon as it is final.

Features of the last minutes are kept, the head reads each stretch of them once, and suppression and limits run over the
candidates of the last minutes. Together, what has been reported and not withdrawn is what :class:`Detector` finds in a
file of the same frames, because what it finds at a moment depends on a bounded stretch around it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from tadkit.detection.detect import Detector
from tadkit.detection.tail import Track, detections_of
from tadkit.errors import UsageError
from tadkit.extraction.branch_features import BranchFeatures, BranchStream, branch_stream, joined
from tadkit.models.decode.growing import NONE, GrowingTrack
from tadkit.models.decode.tracks import merged
from tadkit.models.heads import Candidates
from tadkit.records import HIGH_CONFIDENCE, Detection, shown_of
from tadkit.timeline import Timeline
from tadkit.video.live import Begin, End, Item, LiveSource, Over, Sample, live_items

_EVERY_S = 5.0
"""Video after which the head runs again."""
_PIECE_S = 1.6
"""Video that the backbone reads at a time."""
_WINDOWS = 1.5
"""Training windows by which suppression reaches further than a detection: a chain of actions that overlap."""
_READ_AHEAD = 64
"""Samples that are decoded before they are needed."""
_LOOK_EVERY_S = 0.2
_SAME_S, _SAME_SCORE = 3, 4
"""Decimals of seconds and scores by which detections are the same."""


class Delays(NamedTuple):
    """Seconds of video after the end of a detection until it is reported.

    Attributes:
        least_s: until the candidates are known; a better one may still come.
        usual_s: until none comes that overlaps it; only the limits of decoding may still change it.
        full_s: until nothing can change it.
    """

    least_s: float
    usual_s: float
    full_s: float


class Opened(NamedTuple):
    """The source was opened, for the first time or again.

    Attributes:
        delay_s: seconds after the end of a detection at which it is reported, at the latest.
        full_s: seconds after which nothing can change it.
    """

    delay_s: float
    full_s: float


class Found(NamedTuple):
    """A detection, in seconds of the source, when the source was read to ``at_s``."""

    detection: Detection
    at_s: float


class Withdrawn(NamedTuple):
    """A detection that was reported, and that later video has changed."""

    detection: Detection
    at_s: float


class Lost(NamedTuple):
    """The source was cut: what it showed between two moments was not seen."""

    from_s: float
    to_s: float
    reason: str


class Ended(NamedTuple):
    """Nothing follows.

    Attributes:
        at_s: end of what was seen.
        reason: why.
        failed: whether the source was lost and did not return.
    """

    at_s: float
    reason: str
    failed: bool


Report = Opened | Found | Withdrawn | Lost | Ended


def delays_of(detector: Detector, source_hz: float | None = None) -> Delays:
    """How late a detector's detections are on live video.

    Args:
        detector: the detector.
        source_hz: frames a second of the source; None: at least as many as the detector samples.

    Raises:
        UsageError: it reads optical flow, or needs the whole video.
    """
    net, stride = detector.net, detector.net.student.backbone.stride
    if net.teacher is not None:
        raise UsageError("--live: this model reads optical flow; only models that read RGB alone run on live video")
    if detector.reach_s is None:
        raise UsageError(
            "--live: what this model finds depends on the whole video, because of its head or of decode.stretch_s = 0; "
            "use another model or stretch_s"
        )
    steps = _fusion_steps(detector) + _new_track(detector).lag_steps + 1
    frames = _new_stream(detector).lag_frames + 2  # a sample is known when the next frame appears, and one is held back
    window = _WINDOWS * (net.joint.trained_steps or 0)  # no action that the head was trained on is longer than one
    rate_hz = min(detector.video.rate_hz, source_hz or math.inf)
    least_s = (frames + steps * stride) / rate_hz
    usual_s = least_s + window * stride / rate_hz
    return Delays(least_s, usual_s, usual_s + 2 * detector.decoding.stretch_s)


def _fusion_steps(detector: Detector) -> int:
    fusion = detector.net.joint.fusion
    return 0 if fusion is None else fusion.context_steps or 0


def _new_stream(detector: Detector) -> BranchStream:
    piece = max(1, round(_PIECE_S * detector.video.rate_hz))
    return branch_stream(detector.net.student, detector.engine, piece_frames=piece)


def _new_track(detector: Detector) -> GrowingTrack:
    decoding, steps_hz = detector.decoding, detector.video.rate_hz / detector.net.student.backbone.stride
    core = max(1, round(_EVERY_S * steps_hz))
    least, limit = decoding.min_score, decoding.top_candidates
    return GrowingTrack(detector.net.joint.head, core_steps=core, min_score=least, limit=limit)


def live_detections(
    detector: Detector,
    source: LiveSource,
    *,
    patience_s: float,
    delay_s: float | None = None,
    least: float | None = None,
) -> Iterator[Report]:
    """What is found in a live source, as it becomes known; the last report is :class:`Ended`.

    Args:
        detector: the detector.
        source: set its ``stopped`` to end early; what was seen until then is reported.
        patience_s: for how long a source that is lost is opened again.
        delay_s: report detections so long after their end; None is long enough that later video rarely changes them.
        least: score from which detections are reported; None takes the operating points.

    Raises:
        UsageError: the detector cannot run on live video, or not within ``delay_s``.
        VideoError: the source cannot be opened, or has no frame.
    """
    least_s = delays_of(detector).least_s
    if delay_s is not None and delay_s < least_s:
        raise UsageError(
            f"--delay {delay_s:g}: this model needs {math.ceil(least_s)} s of video after a moment to score it"
        )
    part: _Part | None = None
    cut: End | None = None
    from_s = 0.0
    for item in _in_background(live_items(source, detector.video, patience_s=patience_s), source.stopped):
        match item:
            case Begin(at_s, rate_hz):
                delays = delays_of(detector, rate_hz)
                own_s = max(delays.least_s, delay_s or _delay_for(detector, delays, least))
                yield Opened(own_s, delays.full_s)
                if cut is not None:
                    yield Lost(from_s, at_s, cut.reason)
                part = _Part(detector, delays, at_s, delay_s=own_s, least=least)
            case Sample():
                assert part is not None
                yield from part.more(item)
            case End():
                assert part is not None
                yield from part.end(item.duration_s)
                cut, from_s, part = item, part.begin_s + item.duration_s, None
            case Over(reason, failed):
                yield Ended(from_s, reason, failed)
                return
    if part is not None:
        from_s = part.begin_s + part.seen_s
        yield from part.end(part.seen_s)
    yield Ended(from_s, "interrupted", failed=False)


def _delay_for(detector: Detector, delays: Delays, least: float | None) -> float:
    """The usual delay, or the full one if low-scoring detections are reported, which the limits of decoding cut."""
    shown_from = min([HIGH_CONFIDENCE, *detector.operating_points.values()])
    return delays.usual_s if least is None or least >= shown_from else delays.full_s


def _in_background(items: Iterator[Item], stopped: Event) -> Iterator[Item]:
    """Fetch items in a thread of their own, until ``stopped`` is set.

    The thread may be blocked in FFmpeg then, which nothing can interrupt: it ends with the process.
    """
    made: Queue[Item | BaseException | None] = Queue(_READ_AHEAD)
    closed = Event()

    def put(item: Item | BaseException | None) -> bool:
        while not stopped.is_set() and not closed.is_set():
            try:
                made.put(item, timeout=_LOOK_EVERY_S)
                return True
            except Full:
                continue
        return False

    def make() -> None:
        try:
            if all(map(put, items)):
                put(None)
        except BaseException as error:
            put(error)

    Thread(target=make, name="live", daemon=True).start()
    try:
        while not stopped.is_set():
            try:
                item = made.get(timeout=_LOOK_EVERY_S)
            except Empty:
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        closed.set()


class _Part:
    """Detections of a part without a cut.

    Attributes:
        begin_s: second of the source at which it begins; all other seconds here count from there.
    """

    def __init__(self, detector: Detector, delays: Delays, at_s: float, *, delay_s: float, least: float | None) -> None:
        """Report detections that score ``least`` or more, ``delay_s`` after their end."""
        self.begin_s, self._least = at_s, least
        self._detector, self._stream, self._track = detector, _new_stream(detector), _new_track(detector)
        self._fusion, self._stride = _fusion_steps(detector), detector.net.student.backbone.stride
        self._device = next(detector.net.parameters()).device
        self._wait_s = delay_s - delays.least_s
        self._checked_s = max(0.0, delays.full_s - delay_s)
        self._memory_s = 2 * detector.decoding.stretch_s + 2 * (delays.usual_s - delays.least_s)
        self._held: Sample | None = None
        self._stamps: list[float] = []  # of samples whose step is not complete
        self._centres: Float64[np.ndarray, " steps"] = np.zeros(0)
        self._first = 0  # the step at which the centres begin
        self._features: BranchFeatures | None = None
        self._features_first = 0
        self._candidates = NONE
        self._reported: dict[_Key, Detection] = {}
        self._settled_s = -math.inf  # detections that end before cannot change

    @property
    def seen_s(self) -> float:
        """End of the last sample."""
        return 0.0 if self._held is None else self._held.stamp_s + 1 / self._detector.video.rate_hz

    def more(self, sample: Sample) -> Iterator[Found | Withdrawn]:
        """What has become known with a sample."""
        held, self._held = self._held, sample
        if held is not None and self._read(held, last=False):
            yield from self._step(last=False)

    def end(self, duration_s: float) -> Iterator[Found | Withdrawn]:
        """All that is left, now that the part has ended."""
        if self._held is not None:
            self._read(self._held, last=True)
            yield from self._step(last=True, duration_s=duration_s)

    def _read(self, sample: Sample, *, last: bool) -> bool:
        """Read a sample; whether features have become known."""
        self._stamps.append(sample.stamp_s)
        parts = self._stream.more(torch.from_numpy(sample.frames), last=last)
        if parts:
            before = [] if self._features is None else [self._features]
            self._features = joined([*before, *parts])
        return bool(parts)

    def _step(self, *, last: bool, duration_s: float = math.inf) -> Iterator[Found | Withdrawn]:
        """Run the head if it can read more, and then decode."""
        assert self._features is not None
        whole = len(self._stamps) if last else len(self._stamps) // self._stride * self._stride
        new = Timeline(np.array(self._stamps[:whole])).strided(self._stride).centres_s
        self._centres, self._stamps = np.concatenate([self._centres, new]), self._stamps[whole:]
        known, before = self._features_first + len(self._features.appearance), self._track.done
        steps = known if last else max(0, known - self._fusion)
        found = self._track.more(self._fused, steps, last=last)
        if last or self._track.done > before:
            self._candidates = merged([(0, self._candidates), (0, found)])
            yield from self._changes(last=last, duration_s=duration_s)
            if not last:
                self._forget()

    @torch.inference_mode()
    def _fused(self, first: int, last: int) -> Float[Tensor, "1 channels time"]:
        """What the head reads of some steps."""
        assert self._features is not None
        start = max(first - self._fusion, self._features_first)
        span = slice(start - self._features_first, last + self._fusion - self._features_first)
        motion, appearance = (
            None if x is None else torch.from_numpy(x[span]).T.to(self._device) for x in self._features
        )
        assert appearance is not None
        return self._detector.net.fused(motion, appearance)[..., first - start : last - start]

    def _changes(self, *, last: bool, duration_s: float) -> Iterator[Found | Withdrawn]:
        """What is to be reported or withdrawn: all that is shown, ends early enough and may still change."""
        detector, timeline = self._detector, Timeline(self._centres)
        positions, scores, labels = self._candidates
        relative = Candidates(positions - self._first, scores, labels)
        track = Track("live", timeline, duration_s)
        found = detections_of(relative, track, labels=detector.labels, decoding=detector.decoding)
        shown = shown_of(found, detector.operating_points, least=self._least)
        at = np.array(float(self._track.done - self._first))
        known_s = math.inf if last else float(timeline.seconds(at)) - self._wait_s
        current = _keyed([d for d in shown if self._settled_s <= d.end_s < known_s])
        at_s = self.begin_s + (duration_s if last else self._held.stamp_s if self._held is not None else 0.0)
        for key, d in self._reported.items():
            if key not in current:
                yield Withdrawn(self._of_source(d), at_s)
        for key, d in sorted(current.items(), key=lambda item: (item[1].end_s, item[1].start_s)):
            if key not in self._reported:
                yield Found(self._of_source(d), at_s)
        self._settled_s = max(self._settled_s, known_s - self._checked_s)
        self._reported = {key: d for key, d in current.items() if d.end_s >= self._settled_s}

    def _of_source(self, d: Detection) -> Detection:
        return replace(d, start_s=d.start_s + self.begin_s, end_s=d.end_s + self.begin_s)

    def _forget(self) -> None:
        """Drop what no later detection depends on."""
        assert self._features is not None
        drop = max(0, self._track.first_needed - self._fusion - self._features_first)
        motion, appearance = self._features
        self._features = BranchFeatures(None if motion is None else motion[drop:].copy(), appearance[drop:].copy())
        self._features_first += drop
        timeline, from_s = Timeline(self._centres), self._settled_s - self._memory_s
        if from_s < self._centres[0]:
            return
        positions = self._candidates.positions - self._first
        kept = timeline.seconds(positions[:, 1]) >= from_s
        self._candidates = Candidates(*(field[kept] for field in self._candidates))
        oldest = float(timeline.positions(np.array(from_s)))
        first = max(0, math.floor(positions[kept, 0].min(initial=oldest)) - 1)
        self._centres, self._first = self._centres[first:], self._first + first


_Key = tuple[str, float, float, float, int]
"""Label, start, end and score of a detection, rounded, and its number among those that are alike."""


def _keyed(detections: list[Detection]) -> dict[_Key, Detection]:
    found: dict[_Key, Detection] = {}
    for d in detections:
        rounded = (d.label, round(d.start_s, _SAME_S), round(d.end_s, _SAME_S), round(d.score, _SAME_SCORE))
        number = 0
        while (*rounded, number) in found:
            number += 1
        found[(*rounded, number)] = d
    return found
