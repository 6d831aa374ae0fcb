"""Runs commands on hostile files in a process that can be killed: limits of time and memory, and a watch on files.

The process answers one request a line. A case is repeated by its file alone, which is kept where something is lost.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import select
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from faults.warm import ENVIRONMENT, ROOT

CPU_LIMIT_S = 30.0
"""Of one case: processor time, since the machine may be busy with other things."""
WALL_LIMIT_S = 900.0
MEMORY_BYTES = 3 << 30
"""More than the process has once everything is imported."""
_POLL_S = 1.0


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Attributes:
        kind: ``refused`` in one line or several, each a whole message, with an exit code that is not 0; ``read``, with
            exit code 0; or lost: ``traceback``, ``hang``, ``crash``, ``memory`` or ``outside`` (of the folder).
        detail: the message, or what is wrong.
    """

    kind: str
    detail: str

    @property
    def lost(self) -> bool:
        return self.kind not in ("refused", "read")


class Worker:
    """A process that runs cases; a new one is started after one that hangs or dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()

    def run(self, words: tuple[str, ...], folder: Path) -> Outcome:
        """Run ``tadkit WORDS...`` in ``folder``, which it may not leave."""
        if self._process is None:
            self._start()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.write(json.dumps({"words": words, "folder": str(folder)}).encode() + b"\n")
        process.stdin.flush()
        used_s, until = _cpu_s(process.pid), time.monotonic() + WALL_LIMIT_S
        while not select.select([process.stdout], [], [], _POLL_S)[0]:
            if _cpu_s(process.pid) - used_s > CPU_LIMIT_S or time.monotonic() > until:
                self._end()
                return Outcome("hang", f"no end within {CPU_LIMIT_S:g} s of processor time")
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            code = process.wait()
            self._process = None
            return Outcome("crash", f"the process died: {code}")
        return Outcome(**json.loads(line))

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faults.worker"], env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Watch:
    """Files that Python code opens for writing, or reads of what is private, while a case runs.

    Libraries in C do not report what they open; what HDF5 and FFmpeg could follow has tests of its own.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.seen: list[str] = []
        sys.addaudithook(self._event)

    def _event(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event == "open" and isinstance(arguments[0], str | bytes):
            path, flags = Path(os.path.abspath(os.fsdecode(arguments[0]))), arguments[2] or 0  # noqa: PTH100
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not path.is_relative_to(self.folder) and (writes or path.is_relative_to("/etc")):
                self._note(event, path)
        elif event in ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "shutil.rmtree"):
            path = Path(os.path.abspath(os.fsdecode(arguments[0])))  # noqa: PTH100
            if not path.is_relative_to(self.folder):
                self._note(event, path)
        elif event in ("subprocess.Popen", "os.system", "socket.connect", "pickle.find_class"):
            self._note(event, arguments)

    def _note(self, event: str, what: object) -> None:
        if not str(what).startswith(("/dev/null", "/proc/self")):
            self.seen.append(f"{event} {what}")


def serve() -> None:
    """Answer requests until stdin ends."""
    import tadkit.annotations.convert
    import tadkit.detection.detect
    import tadkit.detection.detect_features
    import tadkit.interop.import_features
    import tadkit.interop.import_head
    import tadkit.report.inspect
    import tadkit.report.report  # noqa: F401 - imported so that no case is charged for it

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)  # FFmpeg and HDF5 would write there
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    watch = Watch()
    print("ready", file=answers, flush=True)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        outcome = _outcome(tuple(request["words"]), Path(request["folder"]), watch)
        print(json.dumps(outcome.__dict__), file=answers, flush=True)


def _outcome(words: tuple[str, ...], folder: Path, watch: Watch) -> Outcome:
    from tadkit.cli import main

    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    os.chdir(folder)
    watch.folder, watch.seen = folder, []
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(list(words))
    except MemoryError:
        return Outcome("memory", _where())
    except Exception:
        return Outcome("traceback", _where())
    finally:
        watch.folder = None
        os.chdir(ROOT)
    if watch.seen:
        return Outcome("outside", "; ".join(watch.seen))
    if code == 0:
        return Outcome("read", "")
    return _refused(code, err.getvalue())


def _refused(code: int, said: str) -> Outcome:
    """Errors are one line each, short enough to read, without what a terminal would obey."""
    lines = [line for line in said.splitlines() if line.startswith(("tadkit: error: ", "tadkit: warning: "))]
    if not lines:
        return Outcome("traceback", f"exit code {code} without an error message: {said[-500:]!r}")
    if long := [line for line in lines if len(line) > 2000]:
        return Outcome("traceback", f"a message of {len(long[0])} characters: {long[0][:500]}")
    return Outcome("refused", lines[0])


def _where() -> str:
    """The last lines of a traceback."""
    return "\n".join(traceback.format_exc().splitlines()[-16:])


def in_turn(items: dict[str, list[Any]]) -> Iterator[tuple[str, Any]]:
    """Pairs of name and item, one of each list in turn, so that an early end leaves some of all."""
    longest = max(map(len, items.values()), default=0)
    for number in range(longest):
        yield from ((name, found[number]) for name, found in items.items() if number < len(found))


if __name__ == "__main__":
    serve()
