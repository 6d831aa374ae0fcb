"""Detections of many videos, in this process or in worker processes; a worker that dies costs only its own video."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tadkit.detection.detections import Detections
from tadkit.detection.finished import FinishedVideos
from tadkit.errors import TadkitError
from tadkit.flow.opencv import same_threads
from tadkit.progress import Quiet, VideoProgress
from tadkit.runtime.processes import Died, Work, in_workers
from tadkit.video import decoder_threads

Detect = Callable[[str, Path, VideoProgress], Detections]
"""Detects actions in a video of a name, and reports its progress."""


class DetectJob(NamedTuple):
    """A video to detect actions in, with what keeps its detections and what these depend on, or None."""

    name: str
    path: Path
    finished: FinishedVideos | None
    origin: Mapping[str, Any]


class _Found(NamedTuple):
    """The detections of a video, and the key to keep them by; it is empty if there is nothing to keep."""

    detections: Detections
    key: str


class _Failed(NamedTuple):
    """The video cannot be read, or its worker has died."""

    error: TadkitError


class _Began(NamedTuple):
    """The video is open."""

    frames: int


class _Advanced(NamedTuple):
    """So many more frames are done."""

    frames: int


Event = _Found | _Failed | _Began | _Advanced


def detections_of_jobs(
    jobs: Sequence[DetectJob], *, detect: Detect, load: Callable[[], Detect], workers: int, progress: VideoProgress
) -> Generator[tuple[str, Detections | TadkitError], None, None]:
    """Names of the videos of ``jobs`` with their detections, or the error of those that failed, as they are done.

    Only this process writes the detections that are kept, so that no worker can be ended while it writes.

    Args:
        jobs: in the order in which they are done; several workers start with the largest files.
        detect: used in this process.
        load: makes ``detect`` in a worker; can be pickled.
        workers: number of processes, each with its share of the threads; with 1 the work is done in this process.
        progress: gets the frames of every video.

    Raises:
        TadkitError: workers do not start, or cannot load the detector.
    """
    with closing(_outcomes(jobs, detect, load, workers, progress)) as outcomes:
        for job, outcome in outcomes:
            try:
                yield job.name, _settled(job, outcome)
            except TadkitError as error:
                yield job.name, error


def _settled(job: DetectJob, outcome: _Found | _Failed) -> Detections:
    """The detections of a job, which are kept now if they are to be.

    Raises:
        TadkitError: the job has failed, or its detections cannot be kept.
    """
    if isinstance(outcome, _Failed):
        raise outcome.error
    if job.finished is not None:
        if outcome.key:
            job.finished.keep(outcome.key, outcome.detections)
        else:
            job.finished.reused += 1
    return outcome.detections


def _outcomes(
    jobs: Sequence[DetectJob], detect: Detect, load: Callable[[], Detect], workers: int, progress: VideoProgress
) -> Generator[tuple[DetectJob, _Found | _Failed], None, None]:
    """What has become of each job."""
    count = min(workers, len(jobs))
    if count < 2:
        yield from ((job, _done(detect, job, progress)) for job in jobs)
        return
    setups = [partial(_worker, load, max(1, torch.get_num_threads() // count))] * count
    with closing(in_workers(sorted(jobs, key=_bytes, reverse=True), setups)) as events:
        for job, event in events:
            match event:
                case _Found() | _Failed():
                    yield job, event
                case Died(how):
                    died = f"{job.path}: the worker process died on it ({how})"
                    yield job, _Failed(TadkitError(f"{died}; check for low memory or a damaged video"))
                case _Began(frames):
                    progress.begin(job.name, frames=frames)
                case _Advanced(frames):
                    progress.advance(frames, job.name)


def _bytes(job: DetectJob) -> int:
    """Size of a video's file, 0 if there is none."""
    return job.path.stat().st_size if job.path.is_file() else 0


def _done(detect: Detect, job: DetectJob, progress: VideoProgress) -> _Found | _Failed:
    """Detect in one video, unless its detections were kept."""
    try:
        if job.finished is None:
            return _Found(detect(job.name, job.path, progress), "")
        key, kept = job.finished.kept(job.name, job.path, job.origin)
        return _Found(detect(job.name, job.path, progress), key) if kept is None else _Found(kept, "")
    except TadkitError as error:
        return _Failed(error)


@contextmanager
def _worker(load: Callable[[], Detect], threads: int) -> Iterator[Work[DetectJob, Event]]:
    """What a worker does a job with: the detector, loaded once."""
    with same_threads(threads), decoder_threads(threads):
        detect = load()
        yield lambda job, say: say(_done(detect, job, VideoProgress(_Forwarded(say), "detect", videos=1)))


class _Forwarded(Quiet):
    """Progress of a single video as events."""

    def __init__(self, say: Callable[[Event], None]) -> None:
        super().__init__()
        self._say = say

    def start(self, task: str, *, total: float, unit: str) -> None:  # noqa: ARG002 - the signature is Progress's
        """The video is open."""
        self._say(_Began(int(total)))

    def advance(self, amount: float = 1.0, *, note: str = "") -> None:  # noqa: ARG002 - the signature is Progress's
        """Report frames."""
        self._say(_Advanced(int(amount)))
