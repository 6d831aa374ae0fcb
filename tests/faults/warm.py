"""Starts tadkit commands in processes that have imported everything already, by forking: 2 s less for each.

A command has a session of its own, so that what it leaves running can be found.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
    "OMP_NUM_THREADS": "1",
    "OPENCV_LOG_LEVEL": "SILENT",
}
LIMIT_S = 300.0
_POLL_S = 0.002


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: exit code, or minus the signal that ended it; None for one that had to be killed at the limit.
        said: its last lines of stderr.
        orphans: processes of its session that outlived it.
    """

    code: int | None
    said: str
    orphans: tuple[int, ...]


class Warm:
    """The server of warm processes; use it in a ``with`` block."""

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "faults.warm"], env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._answer() == "ready"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()

    def start(self, words: tuple[str, ...], folder: Path) -> WarmCommand:
        """Start ``tadkit WORDS...`` in ``folder``; its output goes to files beside the folder."""
        return WarmCommand(self, int(self.ask({"start": words, "folder": str(folder)})), folder)

    def ask(self, request: dict[str, object]) -> object:
        """Send a request and wait for the answer."""
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(request).encode() + b"\n")
        self._server.stdin.flush()
        return self._answer()

    def _answer(self) -> object:
        assert self._server.stdout is not None
        return json.loads(self._server.stdout.readline())


@dataclass(frozen=True)
class WarmCommand:
    """A command that has been started."""

    server: Warm
    pid: int
    folder: Path

    def send(self, number: signal.Signals) -> None:
        """Send a signal to its first process, as ``kill`` does; one that has ended by itself takes none."""
        os.kill(self.pid, number)  # a zombie until the server has waited for it, so the number is still its own

    def wait(self, limit_s: float = LIMIT_S) -> Ended:
        """Wait for its end."""
        code = self.server.ask({"wait": self.pid, "limit_s": limit_s})
        return Ended(code if isinstance(code, int) else None, said(self.folder), orphans(self.pid))


class ColdCommand:
    """A command in a fresh interpreter; it has what :class:`WarmCommand` has."""

    def __init__(self, words: tuple[str, ...], folder: Path) -> None:
        self.folder = folder
        with streams(folder) as (out, err):
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tadkit.cli", *words],
                cwd=folder,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=_usual_interrupt,
            )

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, limit_s: float = LIMIT_S) -> Ended:
        try:
            code: int | None = self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            code = None
        return Ended(code, said(self.folder), orphans(self._process.pid))


class streams:  # noqa: N801 - used like a function
    """Files for the output of a command, beside its folder."""

    def __init__(self, folder: Path) -> None:
        self._paths = [folder.with_name(f"{folder.name}.{name}") for name in ("out", "err")]

    def __enter__(self) -> list[int]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        self._numbers = [os.open(path, flags, 0o666) for path in self._paths]
        return self._numbers

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number in self._numbers:
            os.close(number)


def said(folder: Path) -> str:
    """The last lines that a command wrote to stderr."""
    text = folder.with_name(f"{folder.name}.err").read_text(errors="replace")
    return "\n".join(text.splitlines()[-12:])


def orphans(session: int, patience_s: float = 6.0) -> tuple[int, ...]:
    """Processes of a session that do not end by themselves soon; they are killed then."""
    until = time.monotonic() + patience_s
    while (left := _alive(session)) and time.monotonic() < until:
        time.sleep(0.02)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return left


def _alive(session: int) -> tuple[int, ...]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(folder.name))
    return tuple(found)


def _usual_interrupt() -> None:
    """A shell's background jobs ignore SIGINT, and so would what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def serve() -> None:
    """Answer requests until stdin ends; a forked child leaves this loop and becomes the command."""
    import tadkit.ablation.ablate
    import tadkit.detection.detect
    import tadkit.detection.outputs.clips
    import tadkit.interop.import_features
    import tadkit.interop.import_head
    import tadkit.recipe.adapt
    import tadkit.recipe.run  # noqa: F401 - imported so that the children need not

    print(json.dumps("ready"), flush=True)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if "wait" in request:
            answer = _waited(request["wait"], request["limit_s"])
        elif (answer := os.fork()) == 0:
            _become(request["start"], Path(request["folder"]))
        print(json.dumps(answer), flush=True)


def _waited(pid: int, limit_s: float) -> int | None:
    until = time.monotonic() + limit_s
    while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if time.monotonic() > until:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(_POLL_S)
    return os.waitstatus_to_exitcode(ended[1])


def _become(words: list[str], folder: Path) -> None:
    from tadkit.cli import run_process

    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with streams(folder) as (out, err):
        null = os.open(os.devnull, os.O_RDONLY)
        for number, file in enumerate((null, out, err)):
            os.dup2(file, number)
    os.chdir(folder)
    sys.argv = ["tadkit", *words]
    run_process()


if __name__ == "__main__":
    serve()
