"""BORIS (Friard and Gamba, 2016): project files (.boris), and folders of projects and exported tables.

An observation plays media files; a class is a behaviour of type state event, and an action is the time between two
events of the same subject, behaviour and modifiers: the first starts it, the second ends it. Overlapping actions of one
class are therefore written with different subjects. BORIS keeps milliseconds. Point events become actions of zero
length. Tables: :mod:`tadkit.annotations.formats.boris_tables`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tadkit.annotations.formats.boris_events import (
    NO_SUBJECT,
    OTHER_VIEWS,
    POINTS,
    Event,
    MediaFile,
    Observation,
    Seen,
    on_clock,
    paired,
    source_of,
)
from tadkit.annotations.formats.boris_tables import read_tables
from tadkit.annotations.formats.chosen import check_chosen, fits, listed
from tadkit.annotations.formats.folders import files_of, merged, not_read, read_each
from tadkit.annotations.formats.source import Known, Source, SourceVideo, file_of, lanes, maybe_number, number
from tadkit.errors import AnnotationError
from tadkit.files import read_json, write_text
from tadkit.records import Annotation, Detection

PLAYERS = "12345678"
TABLES = (".csv", ".tsv", ".txt")
_POINT = "Point event"
_WITHOUT_MEDIA = ("LIVE", "IMAGES")
_DATE = "2000-01-01T00:00:00"
"""Fixed, so that equal annotations give equal files."""
_MALFORMED = (AnnotationError, AttributeError, IndexError, KeyError, TypeError, ValueError)


def read_boris(path: Path, known: Known) -> Source:
    """Read a project, a table of events, or all files of a folder: BORIS exports one table per observation.

    What cannot be read of one observation is a loss and never costs the others.

    Raises:
        AnnotationError: no file can be read, or a chosen observation or subject is in none of them.
    """
    seen = Seen()
    observed: list[Observation] = []

    def read_file(file: Path) -> Source:
        read = read_tables if file.suffix.lower() in TABLES else _project
        found, losses = read(file, known, seen)
        observed.extend(found)
        return Source((), losses=tuple(losses))

    files = files_of(path, "*.boris", "*.tsv", "*.csv")
    unread = merged([read_each(files, read_file), not_read(path, files)])
    check_chosen("observation", known.observations, seen.observations, path)
    check_chosen("subject", known.subjects, seen.subjects, path)
    return merged([unread, source_of(observed, known)])


def _project(path: Path, known: Known, seen: Seen) -> tuple[list[Observation], list[str]]:
    content = read_json(path, error=AnnotationError, distinct=True)
    observations = content.get("observations") if isinstance(content, dict) else None
    if not isinstance(observations, dict):
        raise AnnotationError(f"{path}: no 'observations' object; expected a BORIS project")
    types = {str(b.get("code")): str(b.get("type", "")) for b in content.get("behaviors_conf", {}).values()}
    seen.observations |= observations.keys()
    observed, losses = [], []
    for name, observation in observations.items():
        if not fits(name, known.observations):
            continue
        where = f"{path}: observation '{name}'"
        try:
            observed.append(_observation(name, observation, types, where, known, seen))
        except _MALFORMED as cause:
            said = f"{where}: not an observation of BORIS ({type(cause).__name__}: {str(cause)[:100]})"
            losses.append(f"{cause if isinstance(cause, AnnotationError) else said}; it is left out")
    return observed, losses


def _observation(
    name: str, observation: Mapping[str, Any], types: Mapping[str, str], where: str, known: Known, seen: Seen
) -> Observation:
    files, info = observation.get("file") or {}, observation.get("media_info") or {}
    if isinstance(files, list):  # live observations, and projects of the first versions
        files = {PLAYERS[0]: files}
    media = [] if observation.get("type") in _WITHOUT_MEDIA else [str(file) for file in files.get(PLAYERS[0]) or []]
    events = observation.get("events") or []
    if not media:
        said = f"{where} has no media file (it is live, or of images)"
        lost = [f"{said} and is left out with its {len(events)} events"] if events else []
        return Observation(where, name, (), (), remarks=[] if events else [said], losses=lost)
    remarks = []
    if others := [str(file) for player, listed_files in files.items() if player != "1" for file in listed_files or []]:
        remarks.append(OTHER_VIEWS.format(where=where, others=listed(others)))
    lengths, rates = info.get("length") or {}, info.get("fps") or {}
    of_files = [
        MediaFile(
            file,
            maybe_number(lengths.get(file), f"{where} length of '{file}'"),
            maybe_number(rates.get(file), f"{where} fps of '{file}'", unit="frames per second"),
        )
        for file in media
    ]
    kept, lost = _events(events, observation, of_files, types, where, known, seen)
    actions, unpaired = paired(kept, where)
    if points := sum(event.status == "POINT" for event in kept):
        remarks.append(POINTS.format(where=where, points=points))
    interval = observation.get("observation time interval") or [0, 0]
    if any(interval):
        remarks.append(f"{where} was limited to {interval[0]} to {interval[1]} s; the rest counts as without actions")
    subset = str((observation.get("independent_variables") or {}).get("subset") or "")
    return Observation(where, name, of_files, actions, subset, remarks, [*lost, *unpaired])


def _events(
    events: Sequence[Any],
    observation: Mapping[str, Any],
    files: Sequence[MediaFile],
    types: Mapping[str, str],
    where: str,
    known: Known,
    seen: Seen,
) -> tuple[list[Event], list[str]]:
    """Events of the chosen subjects, and losses.

    An event that cannot be read makes all others of its subject and behaviour doubtful, since they alternate.
    """
    kept, lost = [], []
    doubtful: set[tuple[str, str]] = set()
    for place, event in enumerate(events):
        subject, label = str(event[1]) or NO_SUBJECT, str(event[2])
        seen.subjects.add(subject)
        if not fits(subject, known.subjects):
            continue
        try:
            if types and label not in types:
                raise AnnotationError(f"{where} event {place}: '{label}' is not in the ethogram")
            seconds = _seconds(number(event[0], f"{where} event {place}"), observation, files, f"{where} event {place}")
        except AnnotationError as error:
            lost.append(f"{error}; left out with all '{label}' of '{subject}'")
            doubtful.add((subject, label))
            continue
        point = types.get(label, "").startswith(_POINT)
        kept.append(Event(seconds, label, (subject, *map(str, event[3:4])), "POINT" if point else ""))
    return [event for event in kept if (event.shared[0], event.label) not in doubtful], list(dict.fromkeys(lost))


def _seconds(seconds: float, observation: Mapping[str, Any], files: Sequence[MediaFile], where: str) -> float:
    """Seconds on the observation's clock: less its offset and, where BORIS added it, the file's creation time."""
    zero_s = number(observation.get("time offset") or 0.0, f"{where} time offset")
    if not observation.get("media_creation_date_as_offset"):
        return on_clock(seconds, zero_s)
    created = (observation.get("media_info") or {}).get("media_creation_time") or {}
    times = [number(created.get(one.file), f"{where} media creation time, the zero of its times,") for one in files]
    if len(files) == 1:
        return on_clock(seconds, zero_s + times[0])
    # BORIS adds the creation time of the file that is playing, so the file is the one that the time then falls into.
    start_s, fitting = 0.0, []
    for one, created_s in zip(files, times, strict=True):
        at_s = on_clock(seconds, zero_s + created_s)
        if one.length_s is not None and start_s <= at_s <= start_s + one.length_s:
            fitting.append(at_s)
        start_s += one.length_s or 0.0
    if len(fitting) != 1 or any(one.length_s is None for one in files):
        raise AnnotationError(f"{where}: its time {seconds:.15g} s falls into {len(fitting)} of the files in a row")
    return fitting[0]


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


def _score(a: Annotation) -> str:
    """The score of a detection, as the comment on the event that starts it."""
    return f"score={a.score!r}" if isinstance(a, Detection) else ""


def _written(video: SourceVideo, file: str) -> dict[str, Any]:
    events = [
        [round(seconds, 3), _subject(lane), a.label, "", comment]
        for lane, annotations in enumerate(_subjects(video))
        for a in annotations
        for seconds, comment in ((a.start_s, _score(a)), (a.end_s, ""))
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
