"""Jobs in worker processes; a worker that dies or hangs costs only its own job.

Each worker talks over a pipe of its own: a queue shared by all stays locked when one of them is killed while it writes.
A worker ends when its parent does, however that ends.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import Any, Generic, NamedTuple, TypeVar

from tadkit.errors import TadkitError

_log = logging.getLogger(__name__)
_END_S = 5.0
_LOOK_EVERY_S = 10.0
_STARTS = 3
"""How many workers in a row may die before their first job."""

Job = TypeVar("Job")
Event = TypeVar("Event")
Work = Callable[[Job, Callable[[Event], None]], None]
"""Does a job, and calls its second argument with each event."""
Setup = Callable[[], AbstractContextManager[Work[Job, Event]]]
"""What a worker calls once when it starts: a block within which it has the function that does a job."""


class Died(NamedTuple):
    """The worker has died on its job.

    Attributes:
        how: ``killed by SIGKILL``, its exit code, or that it was silent for too long.
    """

    how: str


class _Ready(NamedTuple):
    """The worker is set up, or has done its job, and waits for the next one."""


class _Said(NamedTuple):
    """An event of the job that the worker does."""

    event: Any


class _Logged(NamedTuple):
    """A warning from a worker; the same one from several workers is logged once."""

    message: str


class _Refused(NamedTuple):
    """The worker cannot continue, and neither can the others."""

    error: TadkitError


class _Crashed(NamedTuple):
    """A bug in the worker."""

    trace: str


def in_workers(
    jobs: Sequence[Job], setups: Sequence[Setup[Job, Event]], *, patience_s: float = math.inf
) -> Generator[tuple[Job, Event | Died], None, None]:
    """Events of all jobs as they happen, each with its job, until all jobs are done; close it to end the workers.

    Args:
        jobs: what to do, in the order in which they are begun; they and their events can be pickled.
        setups: one for each worker; importable functions, or partial ones.
        patience_s: a worker that says nothing of its job for so long is killed, and has died on it.

    Raises:
        TadkitError: a worker raised it, or workers do not start.
    """
    yield from _Pool(jobs, setups, patience_s).events()


class _Worker(Generic[Job, Event]):
    """A process, our end of its pipe, and its current job."""

    def __init__(self, setup: Setup[Job, Event]) -> None:
        context = multiprocessing.get_context("spawn")
        self.setup = setup
        self.job: Job | None = None
        self.silent_s = 0.0
        self.hangs = False
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, setup), daemon=True)
        with _no_interrupt():
            self.process.start()
        theirs.close()

    def end(self) -> None:
        """Wait briefly for it to end, then kill it."""
        self.process.join(_END_S)
        self.process.kill()
        self.process.join()
        self.connection.close()

    def death(self) -> str:
        """How the process ended."""
        self.process.join(_END_S)
        if self.hangs:
            return f"silent for {self.silent_s:.0f} s"
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"


class _Pool(Generic[Job, Event]):
    """The running workers."""

    def __init__(self, jobs: Sequence[Job], setups: Sequence[Setup[Job, Event]], patience_s: float) -> None:
        self._patience_s = patience_s
        self._left = deque(jobs)
        self._setups = setups
        self._unready = 0
        self._logged: set[str] = set()
        self._workers: list[_Worker[Job, Event]] = []

    def events(self) -> Iterator[tuple[Job, Event | Died]]:
        """Events of all jobs, until all are done."""
        try:
            self._workers = [_Worker(setup) for setup in self._setups]
            while self._workers:
                look_s, began_s = min(_LOOK_EVERY_S, self._patience_s), time.monotonic()
                heard = wait([worker.connection for worker in self._workers], look_s)
                self._end_hanging(min(look_s, time.monotonic() - began_s))
                for connection in heard:
                    worker = next(worker for worker in self._workers if worker.connection is connection)
                    yield from self._received(worker)
        finally:
            for worker in self._workers:
                worker.process.terminate()
            for worker in self._workers:
                worker.end()

    def _end_hanging(self, waited_s: float) -> None:
        """Kill workers that have been silent for too long; their pipes will say so.

        Only time spent waiting counts: while all processes are stopped (Ctrl-Z), none passes.
        """
        for worker in self._workers:
            worker.silent_s += waited_s if worker.job is not None else 0.0
            if worker.silent_s >= self._patience_s and not worker.hangs:
                worker.hangs = True
                worker.process.kill()

    def _received(self, worker: _Worker[Job, Event]) -> Iterator[tuple[Job, Event | Died]]:
        if not worker.hangs:
            worker.silent_s = 0.0
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            yield from self._lost(worker)
            return
        match message:
            case _Ready():
                self._unready = 0
                self._give_next(worker)
            case _Logged(text):
                if text not in self._logged:
                    self._logged.add(text)
                    _log.warning("%s", text)
            case _Refused(error):
                raise error
            case _Crashed(trace):
                raise RuntimeError(f"a worker failed:\n{trace}")
            case _Said(event):
                assert worker.job is not None, event
                yield worker.job, event

    def _give_next(self, worker: _Worker[Job, Event]) -> None:
        worker.job = self._left.popleft() if self._left else None
        try:
            worker.connection.send(worker.job)
        except OSError:  # it has just died: its pipe will say so
            return
        if worker.job is None:
            self._workers.remove(worker)
            worker.end()

    def _lost(self, worker: _Worker[Job, Event]) -> Iterator[tuple[Job, Died]]:
        """A worker has died: its job has failed, and a new worker replaces it if jobs are left."""
        self._workers.remove(worker)
        worker.connection.close()
        death = worker.death()
        if worker.job is not None:
            yield worker.job, Died(death)
        else:
            self._unready += 1
            if self._unready >= _STARTS * len(self._setups):
                raise TadkitError(f"worker processes do not start ({death}); try --workers 1")
        if self._left:
            self._workers.append(_Worker(worker.setup))


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


def _work(connection: Connection, setup: Setup[Any, Any]) -> None:
    """A worker: takes jobs until there are none, and reports on them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    logging.getLogger("tadkit").addHandler(_ToParent(connection))
    try:
        with setup() as work:
            connection.send(_Ready())
            while (job := connection.recv()) is not None:
                work(job, lambda event: connection.send(_Said(event)))
                connection.send(_Ready())
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
