"""Flow of many videos, in this process or in worker processes; a worker that dies costs only its own video.

Each worker talks over a pipe of its own: a queue shared by all stays locked when one of them is killed while it writes.
A worker ends when its parent does, however that ends.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import NamedTuple

import torch

from tadkit.config import FlowSettings
from tadkit.errors import TadkitError
from tadkit.extraction.flow_video import Advanced, Event, Failed, FlowJob, flow_events
from tadkit.flow import build_flow
from tadkit.flow.opencv import same_threads

_log = logging.getLogger(__name__)
_END_S = 5.0
_STARTS = 3
"""How many workers in a row may die before their first video."""


class _Ready(NamedTuple):
    """The worker has loaded the flow method and waits for a video."""


class _Logged(NamedTuple):
    """A warning from a worker; the same one from several workers is logged once."""

    message: str


class _Refused(NamedTuple):
    """The worker cannot continue, and neither can the others: the store or the weights are at fault."""

    error: TadkitError


class _Crashed(NamedTuple):
    """A bug in the worker."""

    trace: str


def flow_of_jobs(
    jobs: Sequence[FlowJob], *, devices: Sequence[torch.device], workers: int
) -> Generator[tuple[FlowJob, Event], None, None]:
    """Compute the flow of ``jobs``, all of one method; each job's last event is ``Done`` or ``Failed``.

    Args:
        jobs: what to compute; several workers start with the longest.
        devices: assigned to the workers in turn.
        workers: number of processes; with 1 the work is done in this process. The result does not depend on it.

    Raises:
        TadkitError: the method cannot be built, or the store cannot be written.
    """
    if min(workers, len(jobs)) > 1:
        yield from _Pool(jobs, devices=devices, workers=min(workers, len(jobs))).events()
    elif jobs:
        method = build_flow(jobs[0].flow, device=devices[0])
        for job in jobs:
            yield from ((job, event) for event in flow_events(job, method))


class _Worker:
    """A process, our end of its pipe, and its current job."""

    def __init__(self, flow: FlowSettings, device: torch.device, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.device = device
        self.job: FlowJob | None = None
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, flow, str(device), threads), daemon=True)
        with _no_interrupt():
            self.process.start()
        theirs.close()

    def end(self) -> None:
        """Wait briefly for it to end, then kill it."""
        self.process.join(_END_S)
        self.process.kill()
        self.connection.close()

    def death(self) -> str:
        """How the process ended."""
        self.process.join(_END_S)
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"


class _Pool:
    """The running workers."""

    def __init__(self, jobs: Sequence[FlowJob], *, devices: Sequence[torch.device], workers: int) -> None:
        self._left = deque(sorted(jobs, key=lambda job: -job.pairs))
        self._flow = jobs[0].flow
        self._threads = max(1, torch.get_num_threads() // workers)
        self._unready = 0
        self._logged: set[str] = set()
        self._devices = [devices[number % len(devices)] for number in range(workers)]
        self._workers: list[_Worker] = []

    def events(self) -> Iterator[tuple[FlowJob, Event]]:
        """Events of all jobs, until all are done."""
        try:
            self._workers = [self._start(device) for device in self._devices]
            while self._workers:
                for connection in wait([worker.connection for worker in self._workers]):
                    worker = next(worker for worker in self._workers if worker.connection is connection)
                    yield from self._received(worker)
        finally:
            for worker in self._workers:
                worker.process.terminate()
            for worker in self._workers:
                worker.end()

    def _start(self, device: torch.device) -> _Worker:
        return _Worker(self._flow, device, self._threads)

    def _received(self, worker: _Worker) -> Iterator[tuple[FlowJob, Event]]:
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            yield from self._lost(worker)
            return
        match message:
            case _Ready():
                self._unready = 0
            case _Logged(text):
                if text not in self._logged:
                    self._logged.add(text)
                    _log.warning("%s", text)
                return
            case _Refused(error):
                raise error
            case _Crashed(trace):
                raise RuntimeError(f"a flow worker failed:\n{trace}")
            case _:
                assert worker.job is not None, message
                yield worker.job, message
                if isinstance(message, Advanced):
                    return
        self._give_next(worker)

    def _give_next(self, worker: _Worker) -> None:
        worker.job = self._left.popleft() if self._left else None
        try:
            worker.connection.send(worker.job)
        except OSError:  # it has just died: its pipe will say so
            return
        if worker.job is None:
            self._workers.remove(worker)
            worker.end()

    def _lost(self, worker: _Worker) -> Iterator[tuple[FlowJob, Event]]:
        """A worker has died: its video has failed, and a new worker replaces it if videos are left."""
        self._workers.remove(worker)
        worker.connection.close()
        death = worker.death()
        if worker.job is not None:
            reason = (
                f"{worker.job.path}: the worker process died on it ({death}); check for low memory or a damaged video"
            )
            yield worker.job, Failed(TadkitError(reason))
        else:
            self._unready += 1
            if self._unready >= _STARTS * len(self._devices):
                raise TadkitError(f"worker processes do not start ({death}); try --workers 1")
        if self._left:
            self._workers.append(self._start(worker.device))


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Start processes that ignore Ctrl-C: the parent ends them in order."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _ToParent(logging.Handler):
    """Forwards warnings to the parent."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(logging.WARNING)
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        """Send the record's text."""
        self._connection.send(_Logged(record.getMessage()))


def _work(connection: Connection, flow: FlowSettings, device: str, threads: int) -> None:
    """A worker: takes jobs until there are none, and reports on them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    logging.getLogger("tadkit").addHandler(_ToParent(connection))
    try:
        with same_threads(threads):
            method = build_flow(flow, device=torch.device(device))
            connection.send(_Ready())
            while (job := connection.recv()) is not None:
                for event in flow_events(job, method):
                    connection.send(event)
    except TadkitError as error:
        connection.send(_Refused(error))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(1)
    except Exception:
        connection.send(_Crashed(traceback.format_exc()))


def _end_with_parent() -> None:
    """Exit at once, whatever is being computed; a normal exit would wait for it.

    torch.compile's tqdm has a named semaphore, which multiprocessing's tracker then removes and reports as leaked.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
