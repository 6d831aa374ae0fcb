"""BORIS events: pairing starts with stops, and reading exported tables (CSV or TSV)."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tadkit.annotations.formats.source import (
    Source,
    SourceVideo,
    action,
    described,
    name_of_file,
    number,
    read_text,
    table_of,
)
from tadkit.errors import AnnotationError
from tadkit.records import Annotation

_PLAYER = "player #1:"
_MEDIA = ("Media file name", "Media file path", "Media file")
_LENGTH = ("Media duration (s)", "Total length")
_FPS = ("FPS (frame/s)", "FPS")
_OFFSET = "Time offset (s)"
_DECIMALS = 6
_Event = tuple[float, str, str]
"""Seconds, key of the toggle (subject and modifiers), class."""
IN_A_ROW = "{where} plays {count} files in a row, on one clock; make one observation per video and export again"


def source_of(videos: Sequence[SourceVideo], path: Path, without_media: int) -> Source:
    """Videos, and a remark about observations without media."""
    remark = f"{path}: {without_media} observations without a media file (live or images) are left out"
    return Source(tuple(videos), (remark,) if without_media else ())


def since(value: Any, zero_s: float, where: str) -> float:
    """Seconds from the video's start: BORIS adds the observation's time offset to each event."""
    seconds = number(value, where)
    return round(seconds - zero_s, _DECIMALS) if zero_s else seconds


def paired(events: Iterable[_Event], points: set[Any], where: str) -> list[Annotation]:
    """Actions from toggling events, sorted by start."""
    open_s: dict[tuple[str, str], float] = {}
    found = []
    for seconds, toggle, label in sorted(events, key=lambda event: event[0]):
        if label in points:
            found.append(Annotation(seconds, seconds, label))
        elif (toggle, label) in open_s:
            found.append(action(open_s.pop((toggle, label)), seconds, label, where))
        else:
            open_s[toggle, label] = seconds
    if open_s:
        (_, label), seconds = next(iter(open_s.items()))
        raise AnnotationError(f"{where} starts '{label}' at {seconds:g} s and never stops it; fix the pair in BORIS")
    return sorted(found, key=lambda a: (a.start_s, a.end_s))


def read_events(path: Path) -> Source:
    """Read tabular events (one row per event) or aggregated events (one row per action) of BORIS 7 and later."""
    rows = _rows(path)
    if "Behavior" not in rows[0] or not {*_MEDIA, "Source"} & rows[0].keys():
        raise AnnotationError(f"{path}: no columns 'Behavior' and 'Media file name'; expected events exported by BORIS")
    by_observation: dict[tuple[str, str], list[dict[str, str]]] = {}
    without_media = set()
    for row in rows:
        name, media = row.get("Observation id", ""), _media(row, path)
        if media in ("", "NA"):
            without_media.add(name)
        else:
            by_observation.setdefault((name, media), []).append(row)
    names = [name for name, _ in by_observation if name]
    if several := [name for name in names if names.count(name) > 1]:
        where = f"{path}: observation '{several[0]}'"
        raise AnnotationError(IN_A_ROW.format(where=where, count=names.count(several[0])))
    videos = [_of_rows(found, media, path) for (_, media), found in by_observation.items()]
    return source_of(videos, path, len(without_media))


def _media(row: Mapping[str, str], path: Path) -> str:
    """The file of the first player; empty or NA if there is none."""
    if row.get("Observation type", "").upper().startswith(("LIVE", "FROM DIR", "IMAGES")):
        return ""
    said = row.get("Source", "").partition("|")[0].strip()
    if not said.startswith(_PLAYER):
        said = next((row[column] for column in _MEDIA if column in row), said).removeprefix(_PLAYER)
    files = said.removeprefix(_PLAYER).split(";")
    if len(files) > 1:
        where = f"{path}: observation '{row.get('Observation id', '')}'"
        raise AnnotationError(IN_A_ROW.format(where=where, count=len(files)))
    return files[0].strip()


def _of_rows(rows: Sequence[Mapping[str, str]], media: str, path: Path) -> SourceVideo:
    name, first = name_of_file(media), rows[0]
    where = f"{path}: '{name}'"
    actions = _aggregated if "Start (s)" in first and "Stop (s)" in first else _toggled
    # One value per player; the first counts.
    columns = {"subset": ("subset",), "duration_s": _LENGTH, "fps": _FPS}
    values = {key: next((first[c] for c in columns[key] if c in first), "").partition("|")[0] for key in columns}
    said = {key: "" if value == "NA" else value for key, value in values.items()}
    return described(name, actions(rows, where), said, where)


def _rows(path: Path) -> list[dict[str, str]]:
    """Rows below the heading line, at least one; a time offset above it (BORIS 7) is added to each row."""
    lines = read_text(path).splitlines()
    delimiter = "\t" if path.suffix.lower() == ".tsv" or any("\tBehavior\t" in line for line in lines) else ","
    cells = [next(csv.reader([line], delimiter=delimiter), []) for line in lines]
    first = next((i for i, row in enumerate(cells) if "Behavior" in row), None)
    if first is None:
        raise AnnotationError(f"{path}: no heading line with 'Behavior'; expected events exported by BORIS")
    above = {row[0]: row[1] for row in cells[:first] if len(row) > 1 and row[0] == _OFFSET}
    rows = [above | row for row in table_of(lines[first:], path, delimiter=delimiter)]
    if not rows:
        raise AnnotationError(f"{path}: no event below the heading line")
    return rows


def _aggregated(rows: Iterable[Mapping[str, str]], where: str) -> list[Annotation]:
    found = []
    for row in rows:
        stop = row["Start (s)"] if row["Stop (s)"] == "NA" else row["Stop (s)"]
        start_s, end_s = (since(value, _zero_s(row, where), f"{where} time") for value in (row["Start (s)"], stop))
        found.append(action(start_s, end_s, row["Behavior"], where))
    return found


def _zero_s(row: Mapping[str, str], where: str) -> float:
    return number(row.get(_OFFSET) or 0.0, f"{where} {_OFFSET}")


def _toggled(rows: Sequence[Mapping[str, str]], where: str) -> list[Annotation]:
    kind = "Behavior type" if "Behavior type" in rows[0] else "Status"
    points = {row["Behavior"] for row in rows if row.get(kind, "").upper() == "POINT"}
    modifiers = [c for c in rows[0] if c == "Subject" or c.startswith("Modifier")]
    events = [
        (
            since(row.get("Time"), _zero_s(row, where), f"{where} Time"),
            "\t".join(row[c] for c in modifiers),
            row["Behavior"],
        )
        for row in rows
    ]
    return paired(events, points, where)
