"""Generates the tables of docs/reliability.md from docs/reliability.json, by cog; ``python -m faults`` writes that."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

KEPT: dict[str, list[dict[str, Any]]] = json.loads((Path(__file__).parent / "reliability.json").read_text())
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
OUTCOMES = ("read", "refused")
LOST = ("traceback", "hang", "crash", "memory", "outside")


def tables() -> str:
    """All tables: what was injected, survived and lost, by stage and kind."""
    parts = [
        ("Kills", "stage", ("injected", *SIGNALS, "while it ran", "lost"), list(_kills())),
        ("Damaged videos", "form", ("injected", *OUTCOMES, "lost"), list(_cases("videos"))),
        ("Other damaged files", "file and command", ("injected", *OUTCOMES, "lost"), list(_cases("files"))),
        ("Disks and folders", "stage and kind", ("injected", "met", "lost"), list(_places())),
    ]
    return "\n\n".join(_section(*part) for part in parts if part[3])


def _section(heading: str, name: str, columns: Sequence[str], rows: list[tuple[str, list[int]]]) -> str:
    total = ("**all**", [sum(values) for values in zip(*(values for _, values in rows), strict=True)])
    lines = [f"| {label} | {' | '.join(map(str, values))} |" for label, values in [*rows, total]]
    return "\n".join(
        [f"### {heading}", "", f"| {name} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|", *lines]
    )


def _kills() -> Iterator[tuple[str, list[int]]]:
    kills = KEPT.get("kills", [])
    for stage in sorted({kill["stage"] for kill in kills}):
        own = [kill for kill in kills if kill["stage"] == stage]
        of_signals = [sum(kill["signal"] == name for kill in own) for name in SIGNALS]
        yield stage, [len(own), *of_signals, sum(kill["hit"] for kill in own), sum(bool(kill["lost"]) for kill in own)]


def _cases(kind: str) -> Iterator[tuple[str, list[int]]]:
    rows = KEPT.get(kind, [])
    for form in sorted({row["form"] for row in rows}):
        own = [row for row in rows if row["form"] == form]
        outcomes = [sum(row.get(name, 0) for row in own) for name in OUTCOMES]
        lost = sum(row.get(name, 0) for row in own for name in LOST)
        yield form, [sum(outcomes) + lost, *outcomes, lost]


def _places() -> Iterator[tuple[str, list[int]]]:
    faults = KEPT.get("places", [])
    for stage, kind in sorted({(fault["stage"], fault["kind"]) for fault in faults}):
        own = [fault for fault in faults if (fault["stage"], fault["kind"]) == (stage, kind)]
        yield f"{stage}, {kind}", [len(own), sum(f["hit"] for f in own), sum(bool(f["lost"]) for f in own)]
