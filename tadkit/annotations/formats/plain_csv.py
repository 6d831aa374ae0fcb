"""Plain csv: a table that a person fills in by hand or with a script, without an annotation tool.

Columns ``video``, ``label``, ``start`` and ``end``, one row per action, in any order; times are seconds, ``mm:ss`` or
``hh:mm:ss.mmm``. Columns ``duration``, ``subset`` and ``fps`` are optional and describe the video. A row without label,
start and end lists a video without actions. Cells are separated by commas, semicolons or tabs. A video is called by its
file name without the suffix, or by its path where ``--videos`` has it in that sub-folder.
"""

from __future__ import annotations

import csv
import io
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tadkit.annotations.formats.chosen import once_each
from tadkit.annotations.formats.clock import moment
from tadkit.annotations.formats.folders import files_of, merged, not_read, read_each
from tadkit.annotations.formats.reports import counted
from tadkit.annotations.formats.source import Known, Source, described, name_of_file, number, read_text
from tadkit.errors import AnnotationError
from tadkit.records import Annotation, shown
from tadkit.video.discovery import is_video

COLUMNS = ("video", "label", "start", "end")
_OF_VIDEO = {"duration": "duration_s", "subset": "subset", "fps": "fps"}
_SUBSETS = {
    **dict.fromkeys(("train", "training"), "training"),
    **dict.fromkeys(("val", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "testing"),
}
_SEPARATOR = re.compile(r'"?sep=(.)"?[,;\t]*', re.IGNORECASE)
"""Excel's own first line, which names the separator."""
_CONTROL = re.compile(r"[\0-\x1f\x7f\x85\u2028\u2029]")


@dataclass
class _Found:
    """What the rows of one video say: its actions, values, those values as written, and its files."""

    actions: list[Annotation] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Rows:
    """The rows of a table, each with its place, and what separates their cells."""

    path: Path
    names: list[str]
    delimiter: str
    rows: list[tuple[str, list[str]]]


def is_plain_table(text: str) -> bool:
    """Whether a text is such a table, by its heading."""
    heading, delimiter, _ = _heading(text)
    return set(COLUMNS) <= set(_headings(heading, delimiter))


def _heading(text: str) -> tuple[str, str, int]:
    """The first line with words, the delimiter, and the number of lines up to it."""
    separator = None
    for place, line in enumerate(io.StringIO(text, newline=None), start=1):
        found = _SEPARATOR.fullmatch(line.strip(" \n")) if separator is None else None
        if found is not None:
            separator = found[1]
        elif line.strip(" ,;\t\n"):
            delimiter = separator or next((one for one in "\t;" if one in line), ",")
            return line, delimiter, place
    return "", ",", 0


def _headings(line: str, delimiter: str) -> list[str]:
    return [cell.strip().strip('"').strip().lower() for cell in line.split(delimiter)]


def read_plain_csv(path: Path, known: Known) -> Source:
    """Read a table, or all .csv and .tsv files of a folder.

    A row that cannot be read is a loss and never costs the others.

    Raises:
        AnnotationError: no file can be read, or one lacks a column.
    """
    files = files_of(path, "*.csv", "*.tsv")
    read = read_each(files, lambda file: _table(file, known))
    return once_each(merged([read, not_read(path, files)]), path, "put the rows of a video into one file")


def _rows(path: Path) -> _Rows:
    text = read_text(path)
    heading, delimiter, above = _heading(text)
    if not heading:
        raise AnnotationError(f"{path}: is empty; expected columns {', '.join(COLUMNS)} in its first line")
    names = _headings(heading, delimiter)
    if missing := [column for column in COLUMNS if column not in names]:
        raise AnnotationError(
            f"{path}: no column '{missing[0]}' in its first line; expected columns {', '.join(COLUMNS)}"
        )
    if twice := [column for column in (*COLUMNS, *_OF_VIDEO) if names.count(column) > 1]:
        raise AnnotationError(f"{path}: has several columns '{twice[0]}' in its first line; keep one of them")
    lines = io.StringIO(text, newline="")
    for _ in range(above):
        next(lines)
    try:
        return _Rows(path, names, delimiter, list(_placed(csv.reader(lines, delimiter=delimiter), path, above)))
    except csv.Error as cause:
        raise AnnotationError(f"{path}: not a table ({cause}); is a quotation mark never closed?") from cause


def _placed(reader: Iterator[list[str]], path: Path, above: int) -> Iterator[tuple[str, list[str]]]:
    """Rows with words, each with its lines in the file."""
    last = above
    for cells in reader:
        first, last = last + 1, above + reader.line_num  # type: ignore[attr-defined]
        place = f"row {first}" if first == last else f"rows {first} to {last}"
        if any(cell.strip() for cell in cells):
            yield f"{path}, {place}:", [cell.strip() for cell in cells]


def _table(path: Path, known: Known) -> Source:
    table = _rows(path)
    found: dict[str, _Found] = {}
    losses = []
    for where, cells in table.rows:
        try:
            _add(found, _named(cells, table, where), where, known, decimal_comma=table.delimiter == ";")
        except AnnotationError as error:
            losses.append(f"{error}; left out")
    for name in [name for name, one in found.items() if len(one.files) > 1]:
        files = " and ".join(shown(file) for file in sorted(found.pop(name).files)[:2])
        losses.append(
            f"{path}: '{name}' is the name of different files, {files}, and is left out; rename one, or "
            "give --videos with the folder that holds both; one file is written alike in all rows"
        )
    strange = [f"'{one.said['subset']}' ('{name}')" for name, one in found.items() if _is_strange(one)]
    said = counted("subsets are none of training, validation and testing, and are kept as they are", strange)
    videos = tuple(described(name, one.actions, one.said, f"{path}: '{name}'") for name, one in found.items())
    return Source(videos, tuple(f"{path}: {one}" for one in said), tuple(losses))


def _is_strange(one: _Found) -> bool:
    return one.said.get("subset", "training") not in _SUBSETS.values()


def _named(cells: list[str], table: _Rows, where: str) -> dict[str, str]:
    """The cells of a row by column.

    Raises:
        AnnotationError: more cells than columns, or text that no cell can have.
    """
    if any(cells[len(table.names) :]):
        advice = "write decimals with a point, and put a label that has a comma in quotation marks"
        raise AnnotationError(
            f"{where} has {len(cells)} cells, and the heading {len(table.names)}"
            + (f"; {advice}, or separate the cells by semicolons" if table.delimiter == "," else "")
        )
    row = dict.fromkeys(table.names, "") | dict(zip(table.names, cells, strict=False))
    if "\n" in row["label"] and table.delimiter in row["label"]:
        raise AnnotationError(f"{where} has one label over several lines; is a quotation mark never closed?")
    row["label"] = re.sub(r"\s*[\r\n]+\s*", " ", row["label"])
    for column in COLUMNS[:2]:
        if _CONTROL.search(row[column]):
            raise AnnotationError(f"{where} {column} {shown(row[column])} has control characters")
    return row


def _add(found: dict[str, _Found], row: Mapping[str, str], where: str, known: Known, *, decimal_comma: bool) -> None:
    if not row["video"]:
        raise AnnotationError(f"{where} has no video")
    name = _name(row["video"], known)
    said = {column: row[column] for column in _OF_VIDEO if row.get(column)}
    values = {_OF_VIDEO[column]: text for column, text in said.items()}
    if "subset" in said:
        values["subset"] = _SUBSETS.get(said["subset"].lower(), said["subset"])
    if "duration" in said:
        values["duration_s"] = str(_seconds(said["duration"], f"{where} duration", decimal_comma=decimal_comma))
    if "fps" in said:
        plain = said["fps"].replace(",", ".") if decimal_comma else said["fps"]
        values["fps"] = str(number(plain, f"{where} fps", unit="frames per second"))
    given = [column for column in COLUMNS[1:] if row[column]]
    times = {
        column: _seconds(row[column], f"{where} {column}", decimal_comma=decimal_comma)
        for column in ("start", "end")
        if row[column]
    }
    if given and len(given) < 3:
        missing = next(column for column in COLUMNS[1:] if column not in given)
        raise AnnotationError(f"{where} '{name}' has no {missing}")
    if given and times["end"] < times["start"]:
        raise AnnotationError(f"{where} '{name}' ends before it starts: {row['start']} to {row['end']}")
    one = found.setdefault(name, _Found())
    for column, text in said.items():
        value = values[_OF_VIDEO[column]]
        if one.said.setdefault(_OF_VIDEO[column], value) != value:
            raise AnnotationError(f"{where} '{name}' has {column} {text}, and {one.written[column]} in a row before")
        one.written.setdefault(column, text)
    one.files |= _file(row["video"])
    if given:
        one.actions.append(Annotation(times["start"], times["end"], row["label"]))


def _seconds(text: str, where: str, *, decimal_comma: bool) -> float:
    plain = text.replace(",", ".") if decimal_comma else text
    try:
        return moment(plain, where)
    except AnnotationError as error:
        raise AnnotationError(str(error).replace(repr(plain[:80]), repr(text[:80]))) from error


def _name(cell: str, known: Known) -> str:
    """The name of a video: its place in the folder of videos if it is found there, else its file name."""
    if not is_video(Path(cell)):
        return cell
    *folders, _ = PurePosixPath(cell.replace("\\", "/")).parts
    stem = name_of_file(cell)
    names = ["/".join((*folders[at:], stem)) for at in range(len(folders))]
    return next((name for name in names if name in known.frame_times), stem)


def _file(cell: str) -> set[str]:
    """The file that a cell names, if it names one and not only a video."""
    path = PurePosixPath(posixpath.normpath(cell.replace("\\", "/")))
    return {str(path.with_suffix(path.suffix.lower()))} if is_video(Path(path)) else set()
