"""A worker that stops at certain jobs, importable by its process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stops() -> Iterator[Callable[[str, Callable[[str], None]], None]]:
    """What a worker calls once: its jobs are names, and at ``hangs`` it stops for good."""

    def work(job: str, say: Callable[[str], None]) -> None:
        if job == "hangs":
            os.kill(os.getpid(), signal.SIGSTOP)
        say(f"{job} done")

    yield work
