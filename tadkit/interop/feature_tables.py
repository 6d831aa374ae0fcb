"""Feature tables as CSV: which lines and columns are features, and which are headings, row numbers and times.

pandas writes a heading of numbers and a column of row numbers by default: both would become features. A first line is a
heading if it has words, an empty first cell, or exactly the numbers 0, 1, 2 ... of the columns. First columns are no
channels if their headings are empty or made of words such as ``frame`` and ``start``, or if they have exactly the row
numbers, as whole numbers. What could be either, the user has to say: whole numbers throughout, a column that rises in
equal steps as times do, a column without a number in its name among numbered ones.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64

from tadkit.errors import StoreError
from tadkit.interop import TableLayout

_INDEX_WORD = re.compile(
    "index|idx|ids?|unnamed|frames?|steps?|segment|snippet|clip|row|window|shot|chunk|number|num|no|nr|times?|t|"
    "timestamps?|stamp|seconds?|secs?|s|milliseconds?|msec|ms|minutes?|pts|starts?|begins?|onset|ends?|stop|offset|"
    "from|to|cent(?:re|er)|mid|middle|duration"
)
_LEAST_ROWS_FROM_0, _LEAST_ROWS = 3, 5
"""Rows from which equal steps are no chance."""
_WHOLE = re.compile(r"\s*[+-]?\d+\s*")
_WHOLE_LINE = re.compile(r"[\d\s,+-]*")
_WORDS = re.compile(r"[A-Za-z]")
_NUMBERED = re.compile(r"\d")
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
    heading, note, index = "heading" in layout, "", int("index" in layout)
    if layout == "detect":
        heading, index, note = _detected(path, lines)
    elif heading and index and lines:
        index = max(index, _named_index(_cells(lines[0])))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an empty file is reported below
            values = np.loadtxt(lines[int(heading) :], delimiter=",", ndmin=2, dtype=np.float64, comments=None)
    except ValueError as error:
        raise StoreError(f"{path}: not a table of comma-separated numbers ({error})") from error
    features = values[:, index:]
    if layout == "detect" and (column := _rising(features)):
        raise StoreError(
            f"{path}: its column {index + column} rises in equal steps, as times do; remove it, or say with --csv "
            "plain, heading, index or heading+index whether the file has a heading and the first column is no feature"
        )
    with np.errstate(over="ignore"):  # infinite values are refused later
        return FeatureTable(features.astype(np.float32), note)


def _detected(path: Path, lines: Sequence[str]) -> tuple[bool, int, str]:
    """Whether there is a heading, how many of the first columns are an index, and a note that says so."""
    if not lines:
        return False, 0, ""
    first = _cells(lines[0])
    worded = not first[0] or any(_WORDS.search(_NUMBERS.sub("", cell)) for cell in first)
    numbered = len(first) > 1 and first == [str(n) for n in range(len(first))]
    counting = not worded and len(first) > 1 and _counts([line.partition(",")[0] for line in lines])
    if (numbered and _whole(lines[1:])) or (counting and _whole(lines) and len(lines) > 1):
        what = "first line" if numbered else "first column"
        raise StoreError(
            f"{path}: its {what} counts 0, 1, 2 ... and all values are whole numbers; say with --csv plain, heading, "
            "index or heading+index whether it is a heading or an index"
        )
    index = _named_index(first) if worded else int(counting and not numbered)
    if worded and (odd := _odd(first[index:])):
        raise StoreError(
            f"{path}: its column '{odd}' may be no feature; remove it, or say with --csv heading that all columns are "
            "features, or with --csv heading+index that the first is none"
        )
    columns = "column has" if index == 1 else f"{index} columns have"
    notes = (
        (numbered, f"the first line, 0 to {len(first) - 1}, is a heading and no step"),
        (worded, "the first line has the names of the columns and is no step"),
        (index, f"the first {columns} row numbers or times and {'is no channel' if index == 1 else 'are no channels'}"),
    )
    return worded or numbered, index, "; ".join(note for is_so, note in notes if is_so)


def _cells(line: str) -> list[str]:
    return [cell.strip().strip('"') for cell in line.split(",")]


def _named_index(names: Sequence[str]) -> int:
    """How many of the first columns are row numbers or times by their names; one column at least is a feature."""
    columns = 0
    while columns < len(names) - 1 and (_is_index(names[columns]) or (columns == 0 and not names[0])):
        columns += 1
    return columns


def _is_index(name: str) -> bool:
    words = re.findall(r"[a-z]+", name.lower())
    return (
        bool(words) and all(map(_INDEX_WORD.fullmatch, words)) and (words[0] == "unnamed" or not _NUMBERED.search(name))
    )


def _odd(names: Sequence[str]) -> str:
    """The first name of an index, or without a number among numbered ones; empty if there is none."""
    numbered = sum(bool(_NUMBERED.search(name)) for name in names)
    plain = [name for name in names if not _NUMBERED.search(name)]
    odd = [name for name in plain if _is_index(name) or len(plain) < numbered]
    return odd[0] if odd else ""


def _rising(values: Float64[np.ndarray, "steps channels"]) -> int:
    """Number from 1 of the first or last column if it rises in equal steps and not all columns do; else 0."""
    steps, channels = values.shape
    if steps < 2 or channels < 2 or not np.isfinite(values).all():
        return 0
    enough = {n: steps >= (_LEAST_ROWS if values[0, n] else _LEAST_ROWS_FROM_0) for n in (0, channels - 1)}
    rising = [n for n, is_enough in enough.items() if is_enough and _in_equal_steps(values[:, n])]
    if not rising or all(_in_equal_steps(column) for column in values.T):
        return 0
    return rising[0] + 1


def _in_equal_steps(column: Float64[np.ndarray, " steps"]) -> bool:
    """Whether numbers rise in equal steps, but for the rounding with which they are written."""
    last = len(column) - 1
    step = (column[-1] - column[0]) / last
    if step <= 0:
        return False
    places = next((n for n in range(6) if (np.round(column, n) == column).all()), 6)
    off = np.abs(column - column[0] - np.arange(last + 1) * step).max()
    return bool(off <= min(10.0**-places, step / 8))


def _counts(cells: Sequence[str]) -> bool:
    """Whether cells are the row numbers, from 0 or 1 on, written as whole numbers."""
    if not all(_WHOLE.fullmatch(cell) for cell in cells):
        return False
    numbers = [int(cell) for cell in cells]
    return numbers in (list(range(len(cells))), list(range(1, len(cells) + 1)))


def _whole(lines: Sequence[str]) -> bool:
    return bool(lines) and all(_WHOLE_LINE.fullmatch(line) for line in lines)
