"""Remembers what each written file was made from, so that work goes on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tadkit.errors import UsageError
from tadkit.files import digest_of, read_json, write_text


class Ledger:
    """A JSON file that maps file names to digests of the settings they were made from."""

    def __init__(self, path: Path) -> None:
        """Read the ledger at ``path``; a missing one is empty.

        Raises:
            UsageError: the file is there but is no ledger.
        """
        self._path = path
        self._made: dict[str, str] = {}
        if path.exists():
            content = read_json(path, error=UsageError)
            if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
                raise UsageError(f"{path}: not a record of made files; remove it to make them again")
            self._made = content

    def holds(self, path: Path, made_from: Any) -> bool:
        """Whether ``path`` exists and was made from settings equal to ``made_from``."""
        return path.is_file() and self._made.get(path.name) == digest_of(made_from)

    def add(self, path: Path, made_from: Any) -> None:
        """Remember that ``path`` was made whole from ``made_from``."""
        self._made[path.name] = digest_of(made_from)
        write_text(self._path, json.dumps(self._made, indent=1, sort_keys=True) + "\n")
