"""The command line as a process: signals, a library that hangs, and what the operating system refuses."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tadkit.cli import app, main
from tadkit.cli.console import show_error
from tadkit.errors import TadkitError

READS_STDIN = "import sys; import tadkit.cli as cli; sys.argv[1:] = ['run', '-']"
HANGS = """
import ctypes, sys, tadkit.cli as cli, tadkit.cli.process as process
process.PATIENCE_S = 0.2
libc = ctypes.CDLL(None)
library = ctypes.create_string_buffer(256)  # a mutex that is taken twice is never free; signals do not wake its taker

@cli.app.command("hang")
def hang():
    libc.pthread_mutex_lock(library)
    libc.pthread_mutex_lock(library)

sys.argv[1:] = ["hang"]
"""


@contextmanager
def started(code: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs ``code`` and then the command line; it has said that it is ready."""
    code += "\nprint('ready', file=sys.stderr, flush=True)\ncli.run_process()"
    command, pipes = [sys.executable, "-c", code], {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    # A shell's background jobs ignore SIGINT, and so would what they start.
    usual = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), "text": True}
    with subprocess.Popen(command, **usual, **pipes) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "ready\n"
        time.sleep(0.5)  # inside main
        yield process


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_ends_a_command_without_traceback(number: signal.Signals, code: int, said: str) -> None:
    with started(READS_STDIN) as process:
        process.send_signal(number)
        assert process.wait(timeout=60) == code
        assert process.stderr is not None
        assert process.stderr.read().strip() == f"tadkit: {said}"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="takes a mutex of Linux's C library twice")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_whose_library_hangs_ends_all_the_same(number: signal.Signals, code: int) -> None:
    with started(HANGS) as process:
        process.send_signal(number)
        assert process.wait(timeout=60) == code


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), "/a/b: cannot be read or written (Permission"),
        (OSError(errno.EROFS, "Read-only file system", "x.json"), "x.json: cannot be read or written (Read-only"),
        (OSError(errno.EIO, "Input/output error", "v.mp4"), "v.mp4: cannot be read or written (Input/output"),
        (MemoryError(), "out of memory; "),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out of memory; "),
    ],
)
def test_what_the_system_refuses_is_one_line(error: Exception, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    @app.command("refused")
    def refused() -> None:
        raise error

    try:
        assert main(["refused"]) == 1
    finally:
        del app.commands["refused"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"tadkit: error: {said}")


def test_a_mistake_in_tadkit_is_not_taken_for_the_system() -> None:
    @app.command("wrong")
    def wrong() -> None:
        raise RuntimeError("no such thing")

    try:
        with pytest.raises(RuntimeError, match="no such thing"):
            main(["wrong"])
    finally:
        del app.commands["wrong"]


def test_a_message_with_the_content_of_a_file_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(TadkitError("a" * 100_000))
    assert 1000 < len(capsys.readouterr().err) < 2000
