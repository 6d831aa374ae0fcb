"""``python -m faults kills|videos|files|places`` with ``tests/`` on the path; see docs/contributing.md."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from faults import files, kills, places, videos
from faults.commands import COMMANDS, make_everything
from faults.record import keep, keep_counts
from faults.warm import Warm
from faults.worker import Worker


def main() -> None:
    """Run one kind of faults and keep what came of it."""
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("kind", choices=list(KINDS))
    parser.add_argument("--count", type=int, default=16, help="kills of each stage, damaged files in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stage", action="append", help="run only these")
    parser.add_argument("--everything", type=Path, help="folder of data and models, made if it does not exist")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        everything = arguments.everything or Path(folder) / "everything"
        if not everything.exists():
            make_everything(everything)
        (Path(folder) / "scratch").mkdir()
        KINDS[arguments.kind](arguments, everything, Path(folder) / "scratch")


def _kills(arguments: argparse.Namespace, everything: Path, scratch: Path) -> None:
    stages, count, seed = arguments.stage or list(COMMANDS), arguments.count, arguments.seed
    with Warm() as warm:
        for kill in kills.killed(stages, everything, scratch, count=count, seed=seed, warm=warm):
            keep("kills", [asdict(kill)], key=("stage", "seed"))
            print(kill, flush=True)


def _videos(arguments: argparse.Namespace, everything: Path, scratch: Path) -> None:
    with Worker() as worker:
        found = videos.cases(everything, scratch, worker, count=arguments.count, seed=arguments.seed)
        keep_counts("videos", found, seed=arguments.seed, count=arguments.count)


def _files(arguments: argparse.Namespace, everything: Path, scratch: Path) -> None:
    with Worker() as worker:
        found = files.cases(everything, scratch, worker, count=arguments.count, seed=arguments.seed)
        keep_counts("files", found, seed=arguments.seed, count=arguments.count)


def _places(arguments: argparse.Namespace, everything: Path, scratch: Path) -> None:
    stages, count, seed = arguments.stage or list(COMMANDS), arguments.count, arguments.seed
    with Warm() as warm, places.small_disk(scratch / "disk") as disk:
        for fault in places.faults(stages, everything, disk, count=count, seed=seed, warm=warm):
            keep("places", [asdict(fault)], key=("stage", "kind", "seed"))
            print(fault, flush=True)


KINDS: dict[str, Callable[[argparse.Namespace, Path, Path], None]] = {
    "kills": _kills,
    "videos": _videos,
    "files": _files,
    "places": _places,
}

if __name__ == "__main__":
    main()
