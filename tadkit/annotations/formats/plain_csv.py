"""Plain csv: a table that a person fills in by hand or with a script, without an annotation tool.

Columns ``video``, ``label``, ``start`` and ``end``, one row per action, in any order; times are seconds, ``mm:ss`` or
``hh:mm:ss.mmm``. Columns ``duration``, ``subset`` and ``fps`` are optional and describe the video. A row without label,
start and end lists a video without actions. Cells are separated by commas, semicolons or tabs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tadkit.annotations.formats.chosen import once_each
from tadkit.annotations.formats.clock import moment
from tadkit.annotations.formats.source import (
    Source,
    described,
    files_of,
    name_of_file,
    read_each,
    read_text,
    table_of,
)
from tadkit.errors import AnnotationError
from tadkit.records import Annotation
from tadkit.video.discovery import is_video

COLUMNS = ("video", "label", "start", "end")
_OF_VIDEO = {"duration": "duration_s", "subset": "subset", "fps": "fps"}


@dataclass
class _Found:
    """What the rows of one video say."""

    actions: list[Annotation] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)


def is_plain_heading(line: str) -> bool:
    """Whether a line is the heading of such a table."""
    return set(COLUMNS) <= set(_headings(line, _delimiter(line)))


def _delimiter(heading: str) -> str:
    return next((one for one in "\t;" if one in heading), ",")


def _headings(line: str, delimiter: str) -> list[str]:
    return [cell.strip().strip('"').strip().lower() for cell in line.split(delimiter)]


def read_plain_csv(path: Path) -> Source:
    """Read a table, or all .csv files of a folder. A row that cannot be read is a loss and never costs the others.

    Raises:
        AnnotationError: no file can be read, or one lacks a column.
    """
    read = read_each(files_of(path, "*.csv"), _table)
    return once_each(read, path, "put the rows of a video into one file")


def _table(path: Path) -> Source:
    lines = read_text(path).splitlines()
    heading = lines[0] if lines else ""
    delimiter = _delimiter(heading)
    names = _headings(heading, delimiter)
    if missing := [column for column in COLUMNS if column not in names]:
        raise AnnotationError(
            f"{path}: no column '{missing[0]}' in its first line; expected columns {', '.join(COLUMNS)}"
        )
    lines[0] = delimiter.join(names)
    found: dict[str, _Found] = {}
    losses = []
    for place, row in enumerate(table_of(lines, path, delimiter=delimiter), start=2):
        if any(row.values()):
            where = f"{path}, row {place}:"
            try:
                _add(found, row, where, decimal_comma=delimiter == ";")
            except AnnotationError as error:
                losses.append(f"{error}; left out")
    videos = tuple(described(name, one.actions, one.said, f"{path}: '{name}'") for name, one in found.items())
    return Source(videos, (), tuple(losses))


def _add(found: dict[str, _Found], row: Mapping[str, str], where: str, *, decimal_comma: bool) -> None:
    if not row["video"]:
        raise AnnotationError(f"{where} has no video")
    name = name_of_file(row["video"]) if is_video(Path(row["video"])) else row["video"]
    said = {ours: row[column] for column, ours in _OF_VIDEO.items() if row.get(column)}
    if decimal_comma:
        said |= {ours: said[ours].replace(",", ".") for ours in ("duration_s", "fps") if ours in said}
    if "duration_s" in said:
        said["duration_s"] = str(moment(said["duration_s"], f"{where} duration"))
    given = [column for column in COLUMNS[1:] if row[column]]
    times = {
        column: moment(row[column].replace(",", ".") if decimal_comma else row[column], f"{where} {column}")
        for column in ("start", "end")
        if row[column]
    }
    if given and len(given) < 3:
        missing = next(column for column in COLUMNS[1:] if column not in given)
        raise AnnotationError(f"{where} '{name}' has no {missing}")
    if given and times["end"] < times["start"]:
        raise AnnotationError(f"{where} '{name}' ends before it starts: {row['start']} to {row['end']}")
    one = found.setdefault(name, _Found())
    for key, value in said.items():
        if one.said.setdefault(key, value) != value:
            raise AnnotationError(f"{where} '{name}' has {key} {value}, and {one.said[key]} in a row before")
    if given:
        one.actions.append(Annotation(times["start"], times["end"], row["label"]))
