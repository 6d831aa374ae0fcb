"""Table of runs of ``examples/made-up-tracks.toml`` and its like over seeds; docs/results.md says which runs.

python docs/made_up_tracks.py COLUMN=[RUN_FOLDER,...] [COLUMN=...] > table.md: the figures of these runs are added to
those of the columns in docs/made-up-tracks.json, and the tables are of all runs of these columns. Every run has other
videos and other initial weights. Intervals are of the mean over runs, by Student's t; differences are taken within
runs, which have the same videos for all rows.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from statistics import fmean, stdev

from scipy.stats import t

PAIRS = (
    ("rgb", "two-stream"),
    ("rgb", "rgb-matched"),
    ("rgb", "direct"),
    ("rgb", "decomposed"),
    ("direct", "decomposed"),
    ("rgb-matched", "decomposed"),
    ("decomposed", "two-stream"),
    ("rgb", "direct-taught"),
    ("rgb", "decomposed-taught"),
    ("direct-taught", "decomposed-taught"),
    ("rgb-matched", "decomposed-taught"),
    ("decomposed", "decomposed-taught"),
    ("decomposed-taught", "two-stream"),
    ("decomposed-taught", "two-stream-taught"),
    ("rgb", "two-stream-taught"),
)
KEPT = Path("docs/made-up-tracks.json")

Runs = dict[str, dict[str, float]]
"""Mean mAP of each row by run."""


def told(values: list[float], sign: str = "") -> str:
    """Mean and 95 % interval in per cent, such as ``52.8 (50.8 to 56.3)``; nothing for fewer than two values."""
    if len(values) < 2:
        return ""
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    mean, low, high = (100 * value for value in (fmean(values), fmean(values) - half, fmean(values) + half))
    return f"{mean:{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})"


def minus(row: str, other: str, runs: Runs) -> list[float]:
    """Differences in the runs that have both rows."""
    ones, others = runs.get(row, {}), runs.get(other, {})
    return [ones[run] - others[run] for run in ones if run in others]


def main(arguments: list[str]) -> None:
    """Print two tables and write the JSON."""
    kept = json.loads(KEPT.read_text()) if KEPT.is_file() else {}
    columns: dict[str, Runs] = {}
    for argument in arguments:
        column, _, folders = argument.partition("=")
        runs, columns[column] = kept.setdefault(column, {}), {}
        for folder in map(Path, filter(None, folders.split(","))):
            runs[folder.name] = json.loads((folder / "report.json").read_text())["rows"]
        for name, table in sorted(runs.items()):
            for row in table:
                columns[column].setdefault(row["name"], {})[name] = row["average_map"]
    rows = {name: [told([*runs.get(name, {}).values()]) for runs in columns.values()] for name in _names(columns)}
    differences = {
        f"{row} minus {other}": [told(minus(row, other, runs), "+") for runs in columns.values()]
        for other, row in PAIRS
    }
    for heading, table in (("row", rows), ("difference", differences)):
        print(f"| {heading} |", " | ".join(columns), "|")
        print("|---" * (len(columns) + 1) + "|")
        for name, cells in table.items():
            if any(cells):
                print(f"| {name} |", " | ".join(cells), "|")
        print()
    KEPT.write_text(json.dumps(kept, indent=1) + "\n")


def _names(columns: dict[str, Runs]) -> dict[str, None]:
    return dict.fromkeys(name for runs in columns.values() for name in runs)


if __name__ == "__main__":
    main(sys.argv[1:])
