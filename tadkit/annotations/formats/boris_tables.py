"""BORIS's exported tables, of versions 7 to 9: one row per event (tabular) or one row per action (aggregated).

Columns are found by their names, which differ between versions only in units and in a few words. A table limited to an
interval begins with stops or ends with starts, whose actions are cut and left out.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tadkit.annotations.formats.boris_events import (
    NO_SUBJECT,
    OTHER_VIEWS,
    POINTS,
    Event,
    MediaFile,
    Observation,
    Seen,
    Status,
    on_clock,
    paired,
)
from tadkit.annotations.formats.chosen import fits, listed
from tadkit.annotations.formats.clock import moment
from tadkit.annotations.formats.source import Known, maybe_number, number, read_text, refuse_surplus
from tadkit.errors import AnnotationError
from tadkit.records import Annotation

_PLAYERS = re.compile(r"player #(\d+):(.*?)(?=\|?\s*player #\d+:|$)")
_NONE = ("", "NA", "Not found")
_WHOLE = 0.9
_STATUS: Mapping[str, Status] = {"START": "START", "STOP": "STOP", "POINT": "POINT"}
_NAMES = {
    "observation": ("observation id", "observation"),
    "kind": ("observation type",),
    "source": ("source",),
    "media": ("media file name", "media file path", "media file"),
    "length": ("media duration", "total length"),
    "coded": ("observation duration", "coding duration"),
    "fps": ("fps",),
    "offset": ("time offset",),
    "subset": ("subset", "independent variable 'subset'"),
    "subject": ("subject",),
    "behavior": ("behavior",),
    "status": ("behavior type", "status"),
    "time": ("time",),
    "start": ("start",),
    "stop": ("stop",),
}
"""Our names of columns, and BORIS's without units, in lower case."""


@dataclass(frozen=True)
class _Row:
    """One row: where it is, its cells by our names, and its modifiers."""

    where: str
    cells: Mapping[str, str]
    modifiers: tuple[str, ...]

    def cell(self, name: str) -> str:
        return self.cells.get(name, "")


def read_tables(path: Path, known: Known, seen: Seen) -> tuple[list[Observation], list[str]]:
    """Observations of a table, and a line for each that cannot be read.

    Raises:
        AnnotationError: not such a table.
    """
    rows, above = _rows(path)
    by_observation: dict[str, list[_Row]] = {}
    for row in rows:
        by_observation.setdefault(row.cell("observation"), []).append(row)
    if list(by_observation) == [""]:  # one observation per file without an id, or one per media file
        by_observation = {}
        for row in rows:
            by_observation.setdefault(row.cell("media"), []).append(row)
        named = {name: f"{path}: '{name}'" for name in by_observation}
    else:
        named = {name: f"{path}: observation '{name}'" for name in by_observation}
    seen.observations |= named.keys()
    observed, losses = [], []
    for name, found in by_observation.items():
        if not fits(name, known.observations):
            continue
        try:
            observed.append(_observation(name, found, above, named[name], known, seen))
        except AnnotationError as error:
            losses.append(f"{error}; it is left out")
    return observed, losses


def _rows(path: Path) -> tuple[list[_Row], list[list[str]]]:
    """Rows below the heading line, at least one, and the lines above it (BORIS 7)."""
    lines = read_text(path).splitlines()
    for delimiter in ("\t", ";", ","):
        cells = [next(csv.reader([line], delimiter=delimiter), []) for line in lines]
        first = next((i for i, row in enumerate(cells) if "behavior" in map(_plain, row) and len(row) > 1), None)
        if first is not None:
            break
    else:
        raise AnnotationError(f"{path}: no heading line with 'Behavior'; expected events exported by BORIS")
    headings = [_plain(cell) for cell in cells[first]]
    above = [row for row in cells[:first] if len(row) > 1]
    said_above = {_plain(row[0]): row[1] for row in above}
    preset = {"offset": said_above.get("time offset", ""), "observation": said_above.get("observation id", "")}
    columns = {ours: next((headings.index(n) for n in names if n in headings), None) for ours, names in _NAMES.items()}
    if columns["time"] is None and (columns["start"] is None or columns["stop"] is None):
        raise AnnotationError(
            f"{path}: no column 'Time', and no 'Start (s)' with 'Stop (s)'; export tabular or aggregated events, "
            "not a time budget"
        )
    if columns["media"] is None and columns["source"] is None:
        raise AnnotationError(f"{path}: no column 'Media file name' or 'Source'; expected events exported by BORIS")
    modifiers = [place for place, name in enumerate(headings) if name.startswith("modifier")]
    rows = []
    for place, line in enumerate(csv.reader(lines[first + 1 :], delimiter=delimiter), start=first + 2):
        if any(map(str.strip, line)):
            refuse_surplus(line[len(headings) :], f"{path}, row {place}:")
            cut = [cell.strip() for cell in line] + [""] * (len(headings) - len(line))
            found = {ours: cut[column] for ours, column in columns.items() if column is not None}
            rows.append(_Row(f"{path}, row {place}:", preset | found, tuple(cut[n] for n in modifiers)))
    if not rows:
        raise AnnotationError(f"{path}: no event below the heading line")
    return rows, above


def _plain(heading: str) -> str:
    """A heading without its unit, in lower case."""
    return re.sub(r"\s*\((s|frame/s)\)$", "", heading.strip()).lower()


def _observation(
    name: str, rows: Sequence[_Row], above: Sequence[Sequence[str]], where: str, known: Known, seen: Seen
) -> Observation:
    if len({row.cell("source") for row in rows}) > 1:
        raise AnnotationError(f"{where} has rows of different sources")
    files, others = _files(rows, above, where)
    if not files:
        said = f"{where} has no media file (it is live, or of images) and is left out with its {len(rows)} rows"
        return Observation(where, name, (), (), losses=[said])
    seen.subjects |= {row.cell("subject") or NO_SUBJECT for row in rows}
    kept = [row for row in rows if fits(row.cell("subject") or NO_SUBJECT, known.subjects)]
    aggregated = "start" in rows[0].cells and "stop" in rows[0].cells
    actions, lost = _aggregated(kept) if aggregated else _toggled(kept, where)
    remarks = _assumed(rows[0], files, others, sum(row.cell("status").upper() == "POINT" for row in kept), where)
    subset = rows[0].cell("subset")
    return Observation(where, name, files, actions, "" if subset in _NONE else subset, remarks, lost)


def _assumed(row: _Row, files: Sequence[MediaFile], others: Sequence[str], points: int, where: str) -> list[str]:
    remarks = [OTHER_VIEWS.format(where=where, others=listed(others))] if others else []
    if points:
        remarks.append(POINTS.format(where=where, points=points))
    coded = row.cell("coded")
    coded_s = None if coded in _NONE else maybe_number(coded, f"{where} observation duration")
    length_s = sum(media.length_s or 0.0 for media in files)
    if coded_s is not None and coded_s < _WHOLE * length_s:
        remarks.append(f"{where} covers {coded_s:g} s of {length_s:g} s; the rest counts as without actions")
    return remarks


def _files(rows: Sequence[_Row], above: Sequence[Sequence[str]], where: str) -> tuple[list[MediaFile], list[str]]:
    """Files of the first player in order, and those of the others; none if the observation has no media."""
    first = rows[0]
    source = first.cell("source")
    if first.cell("kind").upper().startswith(("LIVE", "FROM ", "IMAGES")) or source == "NA":
        return [], []
    players = {int(player): shown for player, shown in _PLAYERS.findall(source)}
    others = [file for player, shown in players.items() if player != 1 for file in _parts(shown)]
    if players:
        files = _parts(players.get(1, ""))
    elif source not in _NONE and first.cell("media") in _NONE:
        files = _parts(source)
    else:
        files = [file for line in above if _plain(line[0]) == "player #1" for file in _parts(line[1])]
        names = dict.fromkeys(row.cell("media").removeprefix("player #1:") for row in rows)
        there = [name for name in names if name not in _NONE]
        if not files and len(there) > 1:
            raise AnnotationError(
                f"{where} plays {len(there)} files in a row, whose order and lengths its table does not have; "
                "convert the project file, or export it with BORIS 8 or later"
            )
        files = files or there
    # One value per file of the first player; BORIS 7 gives the length of all files together.
    lengths, rates = (_parts(first.cell(column).partition("|")[0]) for column in ("length", "fps"))
    same = len(lengths) == len(files)
    return [
        MediaFile(
            file,
            maybe_number(lengths[n], f"{where} media duration") if same and lengths[n] not in _NONE else None,
            maybe_number(rates[n], f"{where} FPS") if len(rates) == len(files) and rates[n] not in _NONE else None,
        )
        for n, file in enumerate(files)
    ], others


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(";") if part.strip()]


def _time_s(row: _Row, column: str) -> float:
    zero = row.cell("offset")
    zero_s = 0.0 if zero in _NONE else number(zero, f"{row.where} time offset")
    return on_clock(moment(row.cell(column), f"{row.where} {column}"), zero_s)


def _aggregated(rows: Iterable[_Row]) -> tuple[list[Annotation], list[str]]:
    found, lost = [], []
    for row in rows:
        label, point = row.cell("behavior"), row.cell("status").upper() == "POINT"
        try:
            start_s = _time_s(row, "start")
            end_s = start_s if point and row.cell("stop") in _NONE else _time_s(row, "stop")
            if not label or end_s < start_s:
                raise AnnotationError(
                    f"{row.where} '{label}' from {start_s:g} to {end_s:g} s; expected start before end"
                )
            found.append(Annotation(start_s, end_s, label))
        except AnnotationError as error:
            lost.append(f"{error}; left out")
    return found, lost


def _toggled(rows: Sequence[_Row], where: str) -> tuple[list[Annotation], list[str]]:
    """Actions of rows with a status or, in a table without that column, of rows that alternate."""
    events, lost = [], []
    for row in rows:
        label, said = row.cell("behavior"), row.cell("status").upper()
        status: Status = _STATUS.get(said, "")
        try:
            if not label or ("status" in row.cells and not status):
                raise AnnotationError(
                    f"{row.where} '{label}' is '{said}'; expected a behavior with START, STOP or POINT"
                )
            events.append(Event(_time_s(row, "time"), label, (row.cell("subject"), *row.modifiers), status))
        except AnnotationError as error:
            if "status" not in row.cells:
                raise AnnotationError(f"{error}, and its table does not say which events start or stop") from error
            lost.append(f"{error}; left out")
    actions, unpaired = paired(events, where)
    return actions, [*lost, *unpaired]
