"""What was injected and what came of it: docs/reliability.json, from which docs/reliability.md is generated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tadkit.files import write_text

KEPT = Path(__file__).parents[2] / "docs" / "reliability.json"


def keep(kind: str, rows: list[dict[str, Any]], *, key: tuple[str, ...]) -> None:
    """Add rows to those of a kind; a row with the same values under ``key`` is replaced."""
    kept = json.loads(KEPT.read_text()) if KEPT.is_file() else {}
    known = {tuple(row[name] for name in key): row for row in (*kept.get(kind, []), *rows)}
    kept[kind] = [known[values] for values in sorted(known)]
    write_text(KEPT, _text(kept))


def _text(kept: dict[str, list[dict[str, Any]]]) -> str:
    """One line a row, so that changes can be read."""
    parts = []
    for kind, rows in sorted(kept.items()):
        lines = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in rows)
        parts.append(f" {json.dumps(kind)}: [\n{lines}\n ]")
    return "{\n" + ",\n".join(parts) + "\n}\n"
