"""Table of runs of ``examples/made-up-tracks.toml`` over seeds; docs/results.md says which runs.

python docs/made_up_tracks.py WORLD=RUN_FOLDER[,RUN_FOLDER...] [WORLD=...] > table.md, with the figures in
docs/made-up-tracks.json. Every run has other videos and other initial weights. Intervals are of the mean over runs, by
Student's t; differences are taken within runs, which have the same videos for all rows.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from statistics import fmean, stdev

from scipy.stats import t

PAIRS = (
    ("rgb", "rgb-matched"),
    ("rgb", "direct"),
    ("rgb", "decomposed"),
    ("direct", "decomposed"),
    ("rgb-matched", "decomposed"),
    ("decomposed", "two-stream"),
)


def mean_and_interval(values: list[float]) -> tuple[float, float, float]:
    """Mean of several runs, and its 95 % interval."""
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return fmean(values), fmean(values) - half, fmean(values) + half


def told(values: list[float], sign: str = "") -> str:
    """Such as ``52.8 (50.8 to 56.3)``, in per cent."""
    mean, low, high = (100 * value for value in mean_and_interval(values))
    return f"{mean:{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})"


def main(arguments: list[str]) -> None:
    """Print two tables and write the JSON."""
    worlds: dict[str, dict[str, list[float]]] = {}
    kept: dict[str, dict[str, object]] = {}
    for argument in arguments:
        world, _, folders = argument.partition("=")
        for folder in folders.split(","):
            rows = json.loads((Path(folder) / "report.json").read_text())["rows"]
            kept.setdefault(world, {})[Path(folder).name] = rows
            for row in rows:
                worlds.setdefault(world, {}).setdefault(row["name"], []).append(row["average_map"])
    print("| row |", " | ".join(worlds), "|")
    print("|---" * (len(worlds) + 1) + "|")
    for name in next(iter(worlds.values())):
        print(f"| {name} |", " | ".join(told(runs[name]) for runs in worlds.values()), "|")
    print()
    print("| difference |", " | ".join(worlds), "|")
    print("|---" * (len(worlds) + 1) + "|")
    for one, other in PAIRS:
        if all(one in runs and other in runs for runs in worlds.values()):
            differences = [
                told([b - a for a, b in zip(runs[one], runs[other], strict=True)], "+") for runs in worlds.values()
            ]
            print(f"| {other} minus {one} |", " | ".join(differences), "|")
    Path("docs/made-up-tracks.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
