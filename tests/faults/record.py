"""What was injected and what came of it: docs/reliability.json, from which docs/reliability.md is generated."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from faults.worker import Outcome
from tadkit.files import write_text

KEPT = Path(__file__).parents[2] / "docs" / "reliability.json"


def keep(kind: str, rows: list[dict[str, Any]], *, key: tuple[str, ...]) -> None:
    """Add rows to those of a kind; a row with the same values under ``key`` is replaced."""
    kept = json.loads(KEPT.read_text()) if KEPT.is_file() else {}
    known = {tuple(row[name] for name in key): row for row in (*kept.get(kind, []), *rows)}
    kept[kind] = [known[values] for values in sorted(known)]
    write_text(KEPT, _text(kept))


def keep_counts(kind: str, found: Iterable[tuple[str, int, Outcome]], *, seed: int, count: int) -> None:
    """Count outcomes by form; what is lost is kept with its seed, and printed."""
    counts: dict[str, Counter[str]] = {}
    for number, (form, of, outcome) in enumerate(found):
        counts.setdefault(form, Counter())[outcome.kind] += 1
        if outcome.lost:
            print(f"{kind} {form} {of}: {outcome.kind}: {outcome.detail}", flush=True)
            keep(f"lost {kind}", [{"form": form, "seed": of, **asdict(outcome)}], key=("form", "seed"))
        if number % 100 == 99 or number + 1 == count:
            print(f"{number + 1} of {count}", flush=True)
            done = {"seed": seed, "count": number + 1}
            keep(kind, [{"form": form, **done, **of_form} for form, of_form in counts.items()], key=("form", "seed"))


def _text(kept: dict[str, list[dict[str, Any]]]) -> str:
    """One line a row, so that changes can be read."""
    parts = []
    for kind, rows in sorted(kept.items()):
        lines = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in rows)
        parts.append(f" {json.dumps(kind)}: [\n{lines}\n ]")
    return "{\n" + ",\n".join(parts) + "\n}\n"
