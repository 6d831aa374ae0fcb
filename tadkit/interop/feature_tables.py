"""Feature tables as CSV: which lines and columns are features, and which are headings and row numbers.

pandas writes a heading of numbers and a column of row numbers by default: both would become features. A first line is a
heading if it has words, an empty first cell, or exactly the numbers 0, 1, 2 ... of the columns; a first column is an
index if its heading is empty or a word such as ``frame``, or if it has exactly the row numbers, as whole numbers.
Tables whose other values are whole numbers too could mean either, so the user has to say what they are.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from tadkit.errors import StoreError
from tadkit.interop import TableLayout

_INDEX_NAMES = frozenset(
    {"index", "idx", "id", "frame", "frames", "step", "segment", "snippet", "clip", "row", "unnamed: 0"}
    | {"time", "t", "timestamp", "timestamps", "seconds", "second", "ms", "time_s", "frame_id", "frame_idx"}
)
_WHOLE = re.compile(r"\s*[+-]?\d+\s*")
_WHOLE_LINE = re.compile(r"[\d\s,+-]*")
_WORDS = re.compile(r"[A-Za-z]")
_NUMBERS = re.compile(r"\b(nan|inf|infinity)\b|(?<=[\d.])[eE](?=[+-]?\d)", re.IGNORECASE)


class FeatureTable(NamedTuple):
    """Features, and what was taken for a heading or row numbers; empty if nothing was."""

    values: Float32[np.ndarray, "steps channels"]
    note: str


def read_feature_table(path: Path, layout: TableLayout) -> FeatureTable:
    """Read a CSV of numbers, one step per line.

    Raises:
        StoreError: not such a table, or it could be read in two ways.
    """
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: not a table of comma-separated numbers ({error})") from error
    heading, index, note = (
        _detected(path, lines) if layout == "detect" else ("heading" in layout, "index" in layout, "")
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an empty file is reported below
            values = np.loadtxt(lines[int(heading) :], delimiter=",", ndmin=2, dtype=np.float32, comments=None)
    except ValueError as error:
        raise StoreError(f"{path}: not a table of comma-separated numbers ({error})") from error
    return FeatureTable(values[:, int(index) :], note)


def _detected(path: Path, lines: Sequence[str]) -> tuple[bool, bool, str]:
    """Whether there is a heading, whether the first column is an index, and a note that says so."""
    if not lines:
        return False, False, ""
    first = [cell.strip().strip('"') for cell in lines[0].split(",")]
    worded = not first[0] or any(_WORDS.search(_NUMBERS.sub("", cell)) for cell in first)
    numbered = len(first) > 1 and first == [str(n) for n in range(len(first))]
    named = worded and len(first) > 1 and (not first[0] or first[0].lower() in _INDEX_NAMES)
    counting = not worded and len(first) > 1 and _counts([line.partition(",")[0] for line in lines])
    if (numbered and _whole(lines[1:])) or (counting and _whole(lines) and len(lines) > 1):
        what = "first line" if numbered else "first column"
        raise StoreError(
            f"{path}: its {what} counts 0, 1, 2 ... and all values are whole numbers; say with --csv plain, heading, "
            "index or heading+index whether it is a heading or an index"
        )
    notes = (
        (numbered, f"the first line, 0 to {len(first) - 1}, is a heading and no step"),
        (named or (counting and not numbered), "the first column has row numbers or times and is no channel"),
    )
    return worded or numbered, named or (counting and not numbered), "; ".join(note for is_so, note in notes if is_so)


def _counts(cells: Sequence[str]) -> bool:
    """Whether cells are the row numbers, from 0 or 1 on, written as whole numbers."""
    if not all(_WHOLE.fullmatch(cell) for cell in cells):
        return False
    numbers = [int(cell) for cell in cells]
    return numbers in (list(range(len(cells))), list(range(1, len(cells) + 1)))


def _whole(lines: Sequence[str]) -> bool:
    return bool(lines) and all(_WHOLE_LINE.fullmatch(line) for line in lines)
