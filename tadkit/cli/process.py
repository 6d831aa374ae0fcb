"""The command line as a process: what it does when it receives a signal, and its exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

from tadkit.cli.app import INTERRUPTED, TERMINATED, Terminated, main

PATIENCE_S = 20.0
"""How long an interrupted command may take to end by itself."""


def run_process() -> NoReturn:
    """Run the command line with the words of this process, and end the process.

    SIGTERM, which schedulers send, is handled like Ctrl-C: unfinished files are removed, and worker processes end. A
    command that does not end within :data:`PATIENCE_S`, because a decoder or a device hangs, is ended without that.
    """
    try:
        signal.signal(signal.SIGTERM, _terminate)
        _end_what_hangs()
        code = main()
        for number in (signal.SIGINT, signal.SIGTERM):  # too late: Python takes a while to unload torch
            signal.signal(number, signal.SIG_IGN)
    except KeyboardInterrupt as error:  # just before or after the command
        code = TERMINATED if isinstance(error, Terminated) else INTERRUPTED
    sys.exit(code)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - the signature is signal's
    raise Terminated


def _end_what_hangs() -> None:
    """End the process some time after a signal, though the main thread never runs its handler.

    Python runs handlers between two instructions of the main thread, and not while that waits for a library.
    """
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)

    def watch() -> None:
        (number,) = os.read(readable, 1)
        threading.Event().wait(PATIENCE_S)
        os._exit(128 + number)

    threading.Thread(target=watch, name="end-what-hangs", daemon=True).start()
