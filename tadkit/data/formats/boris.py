"""BORIS (Friard and Gamba, 2016): project files (.boris) and exported events (CSV or TSV).

A video is an observation with one media file, a class is a behaviour of type state event, and an action lies between
two events of the same subject, behaviour and modifiers: BORIS toggles. Actions of one class that overlap are therefore
written with different subjects. BORIS keeps milliseconds. Point events have no length and become actions of none.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tadkit.data.formats.source import (
    Known,
    Source,
    SourceVideo,
    action,
    file_of,
    lanes,
    maybe_number,
    name_of_file,
    number,
    read_text,
    table_of,
)
from tadkit.errors import AnnotationError
from tadkit.files import read_json, write_text
from tadkit.records import Annotation

PLAYERS = "12345678"
_POINT = "Point event"
_DATE = "2000-01-01T00:00:00"
"""Equal annotations are equal files."""
_Event = tuple[float, str, str]
"""Seconds, what identifies the toggle, class."""


def read_boris(path: Path) -> Source:
    """Read a project, or a table of events.

    Raises:
        AnnotationError: not in this form, an observation without or with several media files in a row, or a state event
            that starts and does not stop.
    """
    return _tabular(path) if path.suffix.lower() in (".csv", ".tsv") else _project(path)


def _project(path: Path) -> Source:
    content = read_json(path, error=AnnotationError)
    observations = content.get("observations") if isinstance(content, dict) else None
    if not isinstance(observations, dict):
        raise AnnotationError(f"{path}: no 'observations' object; expected a BORIS project")
    points = {b.get("code") for b in content.get("behaviors_conf", {}).values() if b.get("type", "").startswith(_POINT)}
    videos, without_media = [], 0
    for name, observation in observations.items():
        media = [file for player in PLAYERS[:1] for file in observation.get("file", {}).get(player, [])]
        if not media:
            without_media += 1
            continue
        where = f"{path}: observation '{name}'"
        if len(media) > 1:
            raise AnnotationError(f"{where} plays {len(media)} files in a row; split it into one observation a video")
        videos.append(_observation(observation, media[0], points, where))
    remark = f"{path}: {without_media} observations without a media file (live or images) are left out"
    return Source(_joined(videos, path), (remark,) if without_media else ())


def _observation(observation: Mapping[str, Any], media: str, points: set[Any], where: str) -> SourceVideo:
    events = [
        (number(event[0], f"{where} event"), "\t".join(str(part) for part in (event[1], *event[3:4])), str(event[2]))
        for event in observation.get("events", [])
    ]
    info, extra = observation.get("media_info", {}), observation.get("independent_variables", {})
    return SourceVideo(
        name=name_of_file(media),
        annotations=tuple(_paired(events, points, where)),
        subset=str(extra.get("subset", "")),
        duration_s=maybe_number(info.get("length", {}).get(media), f"{where} media length"),
        fps=maybe_number(info.get("fps", {}).get(media), f"{where} fps", unit="frames a second"),
    )


def _paired(events: Iterable[_Event], points: set[Any], where: str) -> list[Annotation]:
    """Actions of toggling events, in order of their starts."""
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


def _joined(videos: Sequence[SourceVideo], path: Path) -> tuple[SourceVideo, ...]:
    names = [video.name for video in videos]
    if twice := [name for name in names if names.count(name) > 1]:
        raise AnnotationError(f"{path}: several observations of the video '{twice[0]}'; keep one of them in the file")
    return tuple(videos)


def _tabular(path: Path) -> Source:
    """Tabular events (a row an event) and aggregated events (a row an action), of BORIS 7 and later."""
    rows = _rows(path)
    columns = set(rows[0]) if rows else set()
    media = next((c for c in ("Media file name", "Media file path", "Media file", "Source") if c in columns), None)
    if media is None or "Behavior" not in columns:
        raise AnnotationError(
            f"{path}: no columns 'Behavior' and 'Media file name'; expected events that BORIS exported"
        )
    by_video: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_video.setdefault(name_of_file(row[media].removeprefix("player #1:").strip()), []).append(row)
    aggregated = "Start (s)" in columns and "Stop (s)" in columns
    videos = []
    for name, of_video in by_video.items():
        where = f"{path}: '{name}'"
        annotations = _aggregated(of_video, where) if aggregated else _toggled(of_video, where)
        duration = next((of_video[0][c] for c in ("Media duration (s)", "Total length") if c in columns), None)
        fps = next((of_video[0][c] for c in ("FPS (frame/s)", "FPS") if c in columns), None)
        videos.append(
            SourceVideo(
                name=name,
                annotations=tuple(annotations),
                subset=of_video[0].get("subset", ""),
                duration_s=maybe_number(duration, f"{where} media duration"),
                fps=maybe_number(None if fps == "NA" else fps, f"{where} FPS", unit="frames a second"),
            )
        )
    return Source(tuple(videos))


def _rows(path: Path) -> list[dict[str, str]]:
    """Rows below the line of headings, before which BORIS 7 tells of the observation."""
    lines = read_text(path).splitlines()
    delimiter = "\t" if path.suffix.lower() == ".tsv" or any("\tBehavior\t" in line for line in lines) else ","
    cells = [next(csv.reader([line], delimiter=delimiter), []) for line in lines]
    first = next((i for i, row in enumerate(cells) if "Behavior" in row), None)
    if first is None:
        raise AnnotationError(f"{path}: no line of headings with 'Behavior'; expected events that BORIS exported")
    return table_of(lines[first:], path, delimiter=delimiter)


def _aggregated(rows: Iterable[Mapping[str, str]], where: str) -> list[Annotation]:
    return [
        action(
            row["Start (s)"], row["Start (s)"] if row["Stop (s)"] == "NA" else row["Stop (s)"], row["Behavior"], where
        )
        for row in rows
    ]


def _toggled(rows: Sequence[Mapping[str, str]], where: str) -> list[Annotation]:
    kind = "Behavior type" if "Behavior type" in rows[0] else "Status"
    points = {row["Behavior"] for row in rows if row.get(kind, "").upper() == "POINT"}
    modifiers = [c for c in rows[0] if c == "Subject" or c.startswith("Modifier")]
    events = [
        (number(row.get("Time"), f"{where} Time"), "\t".join(row[c] for c in modifiers), row["Behavior"])
        for row in rows
    ]
    return _paired(events, points, where)


def write_boris(path: Path, videos: Sequence[SourceVideo], known: Known) -> None:
    """Write a project: an observation a video, with subset as independent variable and length as media info."""
    labels = sorted({a.label for video in videos for a in video.annotations})
    codes = {
        str(i): {"type": "State event", "key": "", "code": label} | dict.fromkeys(_BEHAVIOUR, "")
        for i, label in enumerate(labels)
    }
    lane_count = max((len(_subjects(video)) for video in videos), default=0)
    subjects = [_subject(lane) for lane in range(1, lane_count)]
    subset = {"label": "subset", "description": "", "type": "text", "default value": "", "possible values": ""}
    project = {
        "time_format": "hh:mm:ss",
        "project_date": _DATE,
        "project_name": path.stem,
        "project_description": "written by tadkit",
        "project_format_version": "7.0",
        "subjects_conf": {str(i): {"key": "", "name": name, "description": ""} for i, name in enumerate(subjects)},
        "behaviors_conf": codes,
        "observations": {video.name: _written(video, file_of(video, known)) for video in videos},
        "behavioral_categories": [],
        "independent_variables": {"0": subset},
        "coding_map": {},
        "behaviors_coding_map": [],
        "converters": {},
    }
    write_text(path, json.dumps(project, indent=1) + "\n")


_BEHAVIOUR = ("description", "color", "category", "modifiers", "excluded", "coding map")


def _subjects(video: SourceVideo) -> list[list[Annotation]]:
    """Lanes such that no lane holds two overlapping actions of one class; most videos need one."""
    found: list[list[Annotation]] = []
    for label in sorted({a.label for a in video.annotations}):
        for number_of_lane, lane in enumerate(lanes(a for a in video.annotations if a.label == label)):
            if number_of_lane == len(found):
                found.append([])
            found[number_of_lane].extend(lane)
    return found


def _subject(lane: int) -> str:
    return "" if lane == 0 else f"overlap {lane}"


def _written(video: SourceVideo, file: str) -> dict[str, Any]:
    events = [
        [round(seconds, 3), _subject(lane), a.label, "", ""]
        for lane, annotations in enumerate(_subjects(video))
        for a in annotations
        for seconds in (a.start_s, a.end_s)
    ]
    info: dict[str, Any] = {"length": {}, "fps": {}, "hasVideo": {file: True}, "hasAudio": {file: False}}
    info["length"] = {} if video.duration_s is None else {file: video.duration_s}
    info["fps"] = {} if video.fps is None else {file: video.fps}
    return {
        "file": {player: [file] if player == "1" else [] for player in PLAYERS},
        "type": "MEDIA",
        "date": _DATE,
        "description": "",
        "time offset": 0.0,
        "events": sorted(events, key=lambda event: event[0]),
        "observation time interval": [0, 0],
        "independent_variables": {"subset": video.subset},
        "visualize_spectrogram": False,
        "visualize_waveform": False,
        "close_behaviors_between_videos": False,
        "media_info": info,
    }
