"""BORIS (Friard and Gamba, 2016): project files (.boris) and exported events (CSV or TSV).

A video is an observation with one media file, a class is a behaviour of type state event, and an action is the time
between two events of the same subject, behaviour and modifiers: the first starts it, the second ends it. Overlapping
actions of one class are therefore written with different subjects. BORIS keeps milliseconds. Point events become
actions of zero length.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tadkit.annotations.formats.boris_events import IN_A_ROW, paired, read_events, since, source_of
from tadkit.annotations.formats.source import (
    Known,
    Source,
    SourceVideo,
    described,
    file_of,
    files_of,
    lanes,
    name_of_file,
    number,
)
from tadkit.errors import AnnotationError
from tadkit.files import read_json, write_text
from tadkit.records import Annotation

PLAYERS = "12345678"
TABLES = (".csv", ".tsv")
_POINT = "Point event"
_DATE = "2000-01-01T00:00:00"
"""Fixed, so that equal annotations give equal files."""


def read_boris(path: Path) -> Source:
    """Read a project, a table of events, or all files of a folder: BORIS exports one table per observation.

    Raises:
        AnnotationError: not in this format, several observations of a video, several media files in one observation,
            or a state event that never stops.
    """
    files = files_of(path, "*.boris", "*.tsv", "*.csv")
    read = [read_events(file) if file.suffix.lower() in TABLES else _project(file) for file in files]
    videos = [video for source in read for video in source.videos]
    return Source(_joined(videos, path), tuple(remark for source in read for remark in source.remarks))


def _joined(videos: Sequence[SourceVideo], path: Path) -> tuple[SourceVideo, ...]:
    counts = Counter(video.name for video in videos)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise AnnotationError(f"{path}: several observations of the video '{twice[0]}'; keep one of them")
    return tuple(videos)


def _project(path: Path) -> Source:
    content = read_json(path, error=AnnotationError)
    observations = content.get("observations") if isinstance(content, dict) else None
    if not isinstance(observations, dict):
        raise AnnotationError(f"{path}: no 'observations' object; expected a BORIS project")
    points = {b.get("code") for b in content.get("behaviors_conf", {}).values() if b.get("type", "").startswith(_POINT)}
    videos, without_media = [], 0
    for name, observation in observations.items():
        files = observation.get("file") or {}  # live observations have a list
        media = files.get(PLAYERS[0]) if isinstance(files, dict) else None
        if not media:
            without_media += 1
            continue
        where = f"{path}: observation '{name}'"
        if len(media) > 1:
            raise AnnotationError(IN_A_ROW.format(where=where, count=len(media)))
        videos.append(_observation(observation, media[0], points, where))
    return source_of(videos, path, without_media)


def _observation(observation: Mapping[str, Any], media: str, points: set[Any], where: str) -> SourceVideo:
    info, extra = observation.get("media_info") or {}, observation.get("independent_variables") or {}
    zero_s = number(observation.get("time offset") or 0.0, f"{where} time offset")
    if observation.get("media_creation_date_as_offset"):
        created = (info.get("media_creation_time") or {}).get(media)
        zero_s += number(created, f"{where} media creation time, the zero of its times,")
    events = [
        (
            since(event[0], zero_s, f"{where} event"),
            "\t".join(str(part) for part in (event[1], *event[3:4])),
            str(event[2]),
        )
        for event in observation.get("events", [])
    ]
    said = {"subset": extra.get("subset")}
    said |= {key: (info.get(name) or {}).get(media) for key, name in (("duration_s", "length"), ("fps", "fps"))}
    return described(name_of_file(media), paired(events, points, where), said, where)


def write_boris(path: Path, videos: Sequence[SourceVideo], known: Known) -> None:
    """Write a project: one observation per video, with subset as independent variable and length as media info."""
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
    """Lanes in which no two actions of one class overlap; most videos need one."""
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
    info: dict[str, Any] = {"hasVideo": {file: True}, "hasAudio": {file: False}, "offset": {"1": 0.0}}
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
