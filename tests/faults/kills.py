"""Kill commands at random moments: what is there is whole, and a second run completes it."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from safetensors import safe_open

from faults.commands import COMMANDS, Command
from faults.warm import ColdCommand, Ended, Warm, WarmCommand

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CODES = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}
"""What a command that was killed exits with."""
COLD_SHARE = 0.1
"""Of the kills, those of a fresh interpreter, which may hit while modules are imported."""
FIRST_S = 0.1
"""Python itself takes about so long to start, before any line of tadkit runs."""
_TIMES = ("elapsed_s", "took_s", "seconds", "when", "created", "date")
_LOGS = ("metrics.jsonl",)

Content = dict[str, str]
"""Digests of what is in files, by path and, inside a file, by name."""


@dataclass(frozen=True)
class Kill:
    """A kill, and what it cost.

    Attributes:
        stage: of the command.
        signal: its name.
        seed: repeats it: moment, signal and kind of start are drawn from it.
        cold: whether the interpreter was a fresh one.
        after_s: when, from the start of the command.
        hit: whether the command was still running.
        lost: what is wrong; empty where nothing is.
    """

    stage: str
    signal: str
    seed: int
    cold: bool
    after_s: float
    hit: bool
    lost: str


class Killer:
    """Kills one command again and again.

    Args:
        command: which.
        everything: the folder of :func:`faults.commands.make_everything`.
        scratch: an existing folder, where files may be made.
        warm: server of warm processes; None starts all commands in a fresh interpreter.
    """

    def __init__(self, command: Command, everything: Path, scratch: Path, warm: Warm | None) -> None:
        self.command, self._everything, self._scratch, self._warm = command, everything, scratch, warm
        self._runs = 0
        self._took_s: dict[bool, float] = {}
        first, second = (self.undisturbed(cold=warm is None) for _ in range(2))
        self._whole = {name: digest for name, digest in first.items() if second.get(name) == digest}
        self.differing = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
        """What differs between two runs that nobody kills, such as times; it is not compared."""

    @property
    def took_s(self) -> float:
        """How long an undisturbed run took."""
        return next(iter(self._took_s.values()))

    def kill(self, seed: int) -> Kill:
        """Kill the command once, run it again, and compare."""
        chance = random.Random(f"{self.command.stage} {seed}")
        number, cold = chance.choice(SIGNALS), self._warm is None or chance.random() < COLD_SHARE
        if cold not in self._took_s:
            self.undisturbed(cold=cold)
        after_s = chance.uniform(FIRST_S if cold else 0.0, self._took_s[cold])
        folder = self.folder()
        process = self.start(folder, cold=cold)
        time.sleep(after_s)
        process.send(number)
        ended = process.wait()
        hit = ended.code != 0
        problems = list(self._problems(folder, ended, number)) if hit else []
        problems += self.after_rerun(folder)
        self.remove(folder)
        lost = "; ".join(problems)
        return Kill(self.command.stage, number.name, seed, cold, round(after_s, 3), hit, lost)

    def undisturbed(self, *, cold: bool) -> Content:
        folder = self.folder()
        began = time.monotonic()
        ended = self.start(folder, cold=cold).wait()
        self._took_s[cold] = time.monotonic() - began
        assert (ended.code, ended.orphans) == (0, ()), (self.command.stage, ended)
        found = content_of(folder)
        self.remove(folder)
        return found

    def folder(self) -> Path:
        self._runs += 1
        folder = self._scratch / f"{self.command.stage.replace(' ', '-')}-{self._runs}"
        self.command.prepare(self._everything, folder)
        return folder

    def remove(self, folder: Path) -> None:
        shutil.rmtree(folder)
        for name in ("out", "err"):
            folder.with_name(f"{folder.name}.{name}").unlink()

    def start(self, folder: Path, *, cold: bool) -> WarmCommand | ColdCommand:
        if cold or self._warm is None:
            return ColdCommand(self.command.words, folder)
        return self._warm.start(self.command.words, folder)

    def _problems(self, folder: Path, ended: Ended, number: signal.Signals) -> Iterator[str]:
        """What is wrong after a kill."""
        if ended.code != CODES[number]:
            yield f"exit code {ended.code} after {number.name}: {ended.said}"
        if "Traceback" in ended.said:
            yield f"a traceback: {ended.said}"
        if ended.orphans:
            yield f"{len(ended.orphans)} processes left running"
        for path in files_of(folder):
            with suppress(FileNotFoundError):
                if reason := damage(path):
                    yield f"{path.relative_to(folder)}: {reason}"
        if number != signal.SIGKILL:
            yield from (f"{path.relative_to(folder)}: left over" for path in leftovers(folder))

    def after_rerun(self, folder: Path) -> Iterator[str]:
        """What is wrong once the same command has run again."""
        ended = self.start(folder, cold=self._warm is None).wait()
        if ended.code != 0 or ended.orphans:
            yield f"the second run: exit code {ended.code}: {ended.said}"
        found = content_of(folder)
        wrong = sorted(name for name, digest in self._whole.items() if found.get(name) != digest)
        wrong += sorted(found.keys() - self._whole.keys() - set(self.differing))
        if wrong:
            yield f"the second run: {len(wrong)} results differ, such as {wrong[0]}"


def files_of(folder: Path) -> list[Path]:
    """All files that are not hidden."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def leftovers(folder: Path) -> list[Path]:
    """Unfinished files; locks, and pieces of flow that the next run uses, are none."""
    hidden = (path for path in folder.rglob(".*") if path.name != ".lock" and not path.name.startswith(".pieces-"))
    return sorted(hidden)


def damage(path: Path) -> str:
    """What is wrong with a file that a killed command left; empty where it is whole."""
    try:
        _content(path)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        return f"not whole ({type(error).__name__}: {error})"
    return ""


def content_of(folder: Path) -> Content:
    """What is in the files of a folder."""
    return {
        f"{path.relative_to(folder).as_posix()}{inner}": digest
        for path in files_of(folder)
        for inner, digest in _content(path).items()
    }


def _content(path: Path) -> Content:
    """What is in a file, without times.

    Raises:
        OSError, ValueError, KeyError, RuntimeError: it is not whole.
    """
    match path.suffix:
        case ".h5":
            with h5py.File(path, "r", locking=False) as file:
                return dict(_of_store(file))
        case ".safetensors":
            with safe_open(path, "np") as file:
                values = {name: _digest(file.get_tensor(name).tobytes()) for name in file.keys()}  # noqa: SIM118
                return values | {f"@{name}": _digest(text.encode()) for name, text in (file.metadata() or {}).items()}
        case ".json":
            return dict(_of_json("", json.loads(path.read_text())))
        case ".jsonl" if path.name in _LOGS:
            return dict(_of_log(path.read_text().splitlines(keepends=True)))
        case ".mp4":
            whole = path.read_bytes()
            if b"moov" not in whole:
                raise ValueError("no table of frames")
            return {"": _digest(whole)}
        case _:
            whole = path.read_bytes()
            if not whole:
                raise ValueError("empty")
            return {"": _digest(whole)}


def _of_store(file: h5py.File) -> Iterator[tuple[str, str]]:
    """Datasets, attributes and links; a video's part states that it is complete."""
    found: list[tuple[str, h5py.HLObject]] = [("", file)]

    def visit(name: str, item: h5py.HLObject) -> None:
        found.append((name, item))

    file.visititems(visit)
    for name, item in found:
        yield from ((f"/{name}@{key}", _digest(str(value).encode())) for key, value in item.attrs.items())
        if isinstance(item, h5py.Dataset):
            yield f"/{name}", _digest(np.ascontiguousarray(item[()]).tobytes())
    for video in file.get("videos", {}):
        if isinstance(link := file["videos"].get(video, getlink=True), h5py.ExternalLink):
            yield f"/videos/{video}", f"{link.filename}:{link.path}"
        elif not file["videos"][video].attrs["complete"]:
            raise ValueError(f"'{video}' is not complete")


def _of_json(name: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in _TIMES:
                yield from _of_json(f"{name}/{key}", inner)
    else:
        yield name, _digest(json.dumps(value, sort_keys=True).encode())


def _of_log(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Steps of a log, which is appended to: a kill may cut its last line short, and the next run drops that."""
    for number, line in enumerate(lines):
        try:
            row = json.loads(line)
        except ValueError:
            if number + 1 < len(lines) or line.endswith("\n"):
                raise
            continue
        yield from _of_json(f"/{row['step']}", row)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def killed(
    stages: Sequence[str], everything: Path, scratch: Path, *, count: int, seed: int, warm: Warm | None
) -> Iterator[Kill]:
    """Kill each of the stages ``count`` times, in turn."""
    killers: dict[str, Killer] = {}
    for number in range(count):
        for stage in stages:
            if stage not in killers:
                killers[stage] = Killer(COMMANDS[stage], everything, scratch, warm)
            yield killers[stage].kill(seed + number)
