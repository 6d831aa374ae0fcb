"""Commands whose disk is full or read-only, whose folder vanishes, and that run twice at once."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from faults.commands import COMMANDS, Command
from faults.kills import Killer, damage, files_of
from faults.warm import Ended, Warm

DISK_BYTES = 256 << 20
TAKEN = 4
"""Exit code of a command whose store another one is writing."""


@dataclass(frozen=True)
class Fault:
    """A fault of a place, and what it cost.

    Attributes:
        stage: of the command.
        kind: ``full disk``, ``read-only disk``, ``vanished folder`` or ``two writers``.
        seed: repeats it.
        hit: whether the command met it: one that needs little room may be done before.
        lost: what is wrong; empty where nothing is.
    """

    stage: str
    kind: str
    seed: int
    hit: bool
    lost: str


class Places(Killer):
    """Runs one command in bad places.

    Args:
        command: which.
        everything: the folder of :func:`faults.commands.make_everything`.
        disk: a small disk of its own, of :func:`small_disk`.
        warm: server of warm processes.
    """

    def __init__(self, command: Command, everything: Path, disk: Path, warm: Warm) -> None:
        super().__init__(command, everything, disk, warm)
        self._disk = disk

    def full_disk(self, seed: int) -> Fault:
        """Run with a little room, then again once there is more."""
        folder = self.folder()
        filler, chance = self._disk / "filler", random.Random(f"{self.command.stage} {seed}")
        left_kb = chance.choice((4, 16, 64, 256, 1024))
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(self._disk).free - (left_kb << 10))
        ended = self.start(folder, cold=False).wait()
        filler.unlink()
        return self._fault("full disk", seed, folder, ended)

    def read_only_disk(self, seed: int) -> Fault:
        """Run on a disk that may not be written to, then again once it may."""
        folder = self.folder()
        outputs = [folder.with_name(f"{folder.name}.{name}") for name in ("out", "err")]
        with self._output_elsewhere(outputs):
            subprocess.run(["mount", "-o", "remount,ro", str(self._disk)], check=True)
            try:
                ended = self.start(folder, cold=False).wait()
            finally:
                subprocess.run(["mount", "-o", "remount,rw", str(self._disk)], check=True)
        return self._fault("read-only disk", seed, folder, ended)

    def vanished_folder(self, seed: int) -> Fault:
        """Remove the folder while the command runs."""
        folder = self.folder()
        process = self.start(folder, cold=False)
        time.sleep(random.Random(f"{self.command.stage} {seed}").uniform(0, self.took_s))
        shutil.rmtree(folder, ignore_errors=True)
        ended = process.wait()
        problems = list(_wrong(ended))
        shutil.rmtree(folder, ignore_errors=True)
        return Fault(self.command.stage, "vanished folder", seed, ended.code != 0, "; ".join(problems))

    def two_writers(self, seed: int) -> Fault:
        """Run twice at once: both may succeed, or one is refused; the result is that of one."""
        folder = self.folder()
        first, second = (self.start(folder, cold=False) for _ in range(2))
        ends = [first.wait(), second.wait()]
        codes = sorted(ended.code if ended.code is not None else -1 for ended in ends)
        problems = [] if codes in ([0, 0], [0, TAKEN]) else [f"exit codes {codes}: {ends[0].said}"]
        problems += self.after_rerun(folder)
        self.remove(folder)
        return Fault(self.command.stage, "two writers", seed, codes != [0, 0], "; ".join(problems))

    @contextmanager
    def _output_elsewhere(self, paths: Sequence[Path]) -> Iterator[None]:
        """Links to null, since a read-only disk takes no output either."""
        for path in paths:
            path.symlink_to(os.devnull)
        yield
        for path in paths:
            path.unlink()
            path.touch()

    def _fault(self, kind: str, seed: int, folder: Path, ended: Ended) -> Fault:
        problems = list(_wrong(ended))
        for path in files_of(folder):
            if reason := damage(path):
                problems.append(f"{path.relative_to(folder)}: {reason}")
        problems += self.after_rerun(folder)
        self.remove(folder)
        return Fault(self.command.stage, kind, seed, ended.code != 0, "; ".join(problems))


def _wrong(ended: Ended) -> Iterator[str]:
    if ended.code is None or ended.code < 0:
        yield f"exit code {ended.code}: {ended.said}"
    if "Traceback" in ended.said:
        yield f"a traceback: {ended.said}"
    if ended.orphans:
        yield f"{len(ended.orphans)} processes left running"


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A disk of its own in memory, for which one must be root."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


KINDS: dict[str, Callable[[Places, int], Fault]] = {
    "full disk": Places.full_disk,
    "read-only disk": Places.read_only_disk,
    "vanished folder": Places.vanished_folder,
    "two writers": Places.two_writers,
}


def faults(
    stages: Sequence[str], everything: Path, disk: Path, *, count: int, seed: int, warm: Warm
) -> Iterator[Fault]:
    """Put each of the stages into each kind of bad place ``count`` times."""
    for stage in stages:
        places = Places(COMMANDS[stage], everything, disk, warm)
        for number in range(count):
            yield from (run(places, seed + number) for run in KINDS.values())
