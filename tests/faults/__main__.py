"""``python -m faults kills|videos|files|places`` with ``tests/`` on the path; see docs/contributing.md."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path

from faults.commands import COMMANDS, make_everything
from faults.kills import killed
from faults.record import keep
from faults.warm import Warm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("kills",))
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stage", action="append")
    parser.add_argument("--everything", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, Warm() as warm:
        everything = args.everything or Path(scratch) / "everything"
        if not everything.exists():
            make_everything(everything)
        work = Path(scratch) / "work"
        work.mkdir()
        for kill in killed(args.stage or list(COMMANDS), everything, work, count=args.count, seed=args.seed, warm=warm):
            keep("kills", [asdict(kill)], key=("stage", "seed"))
            print(kill, flush=True)


if __name__ == "__main__":
    main()
