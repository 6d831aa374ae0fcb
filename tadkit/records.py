"""Reads annotations and writes detections, both as ActivityNet-style JSON."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tadkit.errors import AnnotationError, TadkitError
from tadkit.files import encodable, read_json, write_text

AMBIGUOUS = "Ambiguous"
"""THUMOS14's label of segments that annotators could not decide on; no protocol counts it as a class."""
DETECTIONS_VERSION = "VERSION 1.3"
_MOST_SHOWN = 80
_OF_TOOLS = (".csv", ".tsv", ".xml", ".eaf", ".boris")
LONGEST_S = 1e9
"""Largest time in seconds that is accepted (30 years)."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """One action: ``label`` from ``start_s`` to ``end_s`` (half open), in seconds as players show them."""

    start_s: float
    end_s: float
    label: str


@dataclass(frozen=True)
class VideoRecord:
    """An annotated untrimmed video; ``fps`` is None if the annotations do not state it."""

    name: str
    duration_s: float
    subset: str
    annotations: tuple[Annotation, ...]
    fps: float | None = None


@dataclass(frozen=True)
class Dataset:
    """Annotated videos by name."""

    videos: Mapping[str, VideoRecord]


@dataclass(frozen=True, slots=True)
class Detection(Annotation):
    """One detected action with its score in [0, 1]."""

    score: float


DetectionsByVideo = Mapping[str, Sequence[Detection]]
THUMOS14_TIOU = "0.3:0.1:0.7"
"""THUMOS14's thresholds, from 0.3 in steps of 0.1 to 0.7; what evaluation uses unless others are given."""
HIGH_CONFIDENCE = 0.3
"""Minimum score of the detections that are shown to a person, for labels without an operating point."""


def is_shown(
    detection: Detection, operating_points: Mapping[str, float], *, otherwise: float = HIGH_CONFIDENCE
) -> bool:
    """Whether a detection's score reaches the operating point of its label, or ``otherwise`` if that has none."""
    return detection.score >= operating_points.get(detection.label, otherwise)


def shown_of(
    detections: Iterable[Detection],
    operating_points: Mapping[str, float],
    *,
    least: float | None = None,
    top: int | None = None,
    per_class: int | None = None,
) -> list[Detection]:
    """The detections of one video that are shown to a person, best score first.

    Args:
        detections: all of the video.
        operating_points: for some labels, the score from which they are shown; :data:`HIGH_CONFIDENCE` for others.
        least: score from which they are shown, in place of the operating points.
        top: show at most this number.
        per_class: show at most this number of each label.
    """
    points, otherwise = (operating_points, HIGH_CONFIDENCE) if least is None else ({}, least)
    of_label: Counter[str] = Counter()
    found = []
    for detection in sorted(detections, key=lambda d: -d.score):
        if is_shown(detection, points, otherwise=otherwise):
            of_label[detection.label] += 1
            if per_class is None or of_label[detection.label] <= per_class:
                found.append(detection)
    return found[:top]


def read_dataset(path: Path) -> Dataset:
    """Read ActivityNet-style annotations.

    Numbers stored as text are converted (AFSD, G-TAD); segments past the end of the video are kept unchanged.

    Raises:
        AnnotationError: not an annotations file; the message names the file, the video and the value.
    """
    if path.suffix.lower() in _OF_TOOLS and path.is_file():
        raise AnnotationError(f"{path}: not ActivityNet-style JSON; convert it first with: tadkit data convert")
    content = read_json(path, error=AnnotationError, distinct=True)
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict):
        raise AnnotationError(
            f"{path}: no 'database' object{_instead(content, 'results', 'a detections file')}; "
            "expected ActivityNet-style JSON, see docs/formats.md"
        )
    return Dataset({name: _video_record(path, name, entry) for name, entry in database.items()})


def check_subset(subset: str, known: Iterable[str], *, where: str, error: type[TadkitError] = AnnotationError) -> None:
    """Check that some video is in ``subset``.

    Args:
        subset: name to check, matched exactly.
        known: subset of each annotated video; empty if a video has none.
        where: file or setting, for the error message.
        error: class of the error.

    Raises:
        TadkitError: no video is in it; the message lists the subsets that exist.
    """
    names = sorted(set(known))
    if subset not in names:
        there = ", ".join(f"'{name}'" for name in names if name)
        choices = f"the annotations have {there}" if there else "the videos have no subsets, so do not select one"
        raise error(f"{where}: no subset '{subset}'; {choices}")


def _instead(content: Any, key: str, kind: str) -> str:
    """Hint for a file of the other kind, such as when two arguments are swapped."""
    return f" but '{key}', as in {kind}" if isinstance(content, dict) and key in content else ""


def _video_record(path: Path, name: str, entry: Any) -> VideoRecord:
    where = f"{path}: '{name}'"
    if not isinstance(entry, dict):
        raise AnnotationError(f"{where} is not an object with duration, subset and annotations")
    annotations = entry.get("annotations", [])
    if not isinstance(annotations, list):
        raise AnnotationError(f"{where} has annotations that are not a list")
    return VideoRecord(
        name=name,
        duration_s=_duration_s(entry.get("duration"), where),
        subset=str(entry.get("subset", "")),
        annotations=tuple(_annotation(where, item) for item in annotations),
        fps=None if entry.get("fps") is None else _number(entry["fps"], where, "fps", unit="frames a second"),
    )


def _duration_s(value: Any, where: str) -> float:
    if value is None:
        raise AnnotationError(f"{where} has no duration; add it with: tadkit data convert, --durations or --videos")
    return _number(value, where, "duration")


def _annotation(where: str, item: Any) -> Annotation:
    if not isinstance(item, dict) or not isinstance(item.get("label"), str):
        raise AnnotationError(f"{where} has an annotation without a text 'label'")
    start_s, end_s = _segment(item.get("segment"), where)
    return Annotation(start_s, end_s, item["label"])


def _segment(value: Any, where: str) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2:
        raise AnnotationError(f"{where} has a segment {shown(value)}; expected [start, end] in seconds")
    start_s, end_s = _number(value[0], where, "segment"), _number(value[1], where, "segment")
    if end_s < start_s:
        raise AnnotationError(f"{where} has a segment that ends before it starts: [{start_s}, {end_s}]")
    return start_s, end_s


def _number(value: Any, where: str, name: str, *, unit: str = "a number of seconds", limit: float = LONGEST_S) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= limit or isinstance(value, bool):
        raise AnnotationError(f"{where} {name} is {shown(value)}; expected {unit}")
    return number


def shown(value: Any) -> str:
    """A value from a file as an error message shows it; long values are cut."""
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def write_dataset(path: Path, dataset: Dataset) -> None:
    """Write annotations as ActivityNet-style JSON, atomically."""
    database = {
        video.name: {
            "subset": video.subset,
            "duration": video.duration_s,
            **({} if video.fps is None else {"fps": video.fps}),
            "annotations": [{"segment": [a.start_s, a.end_s], "label": a.label} for a in video.annotations],
        }
        for video in dataset.videos.values()
    }
    write_text(path, json.dumps({"version": "tadkit 1", "taxonomy": [], "database": database}, indent=1) + "\n")


def detections_json(detections: DetectionsByVideo, *, external: Mapping[str, Any]) -> str:
    """The text of a detections file: three keys, full precision, ``external`` under ``external_data``.

    Names are :func:`tadkit.files.encodable`, so that the file can be read again.
    """
    results = {
        encodable(video): [{"label": d.label, "score": d.score, "segment": [d.start_s, d.end_s]} for d in found]
        for video, found in detections.items()
    }
    content = {"version": DETECTIONS_VERSION, "results": results, "external_data": dict(external)}
    return json.dumps(content, indent=1) + "\n"


def write_detections(path: Path, detections: DetectionsByVideo, *, external: Mapping[str, Any]) -> None:
    """Write a detections file atomically."""
    write_text(path, detections_json(detections, external=external))


def read_detections(path: Path) -> dict[str, list[Detection]]:
    """Read a detections file; ``version`` and ``external_data`` may be absent.

    Raises:
        AnnotationError: not a detections file; the message names the file, the video and the value.
    """
    return read_detections_file(path).videos


@dataclass(frozen=True)
class DetectionsFile:
    """The contents of a detections file.

    Attributes:
        videos: detections by video name.
        operating_points: for some labels, the score from which detections are shown to a person.
        durations_s: length of some of the videos.
        model: file name of the model that made them; None if the file does not state it.
        stretches: seconds of the stretches of some of the videos that are to be labelled, as (start, end).
    """

    videos: dict[str, list[Detection]]
    operating_points: Mapping[str, float]
    durations_s: Mapping[str, float]
    model: str | None
    stretches: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)


def read_detections_file(path: Path) -> DetectionsFile:
    """Read a detections file with what its ``external_data`` says about showing it; other files' may lack all of that.

    Raises:
        AnnotationError: not a detections file; the message names the file, the video and the value.
    """
    content = read_json(path, error=AnnotationError, distinct=True)
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict):
        raise AnnotationError(
            f"{path}: no 'results' object{_instead(content, 'database', 'an annotations file')}; "
            "expected a detections file, see docs/formats.md"
        )
    if strange := [video for video, found in results.items() if not isinstance(found, list)]:
        raise AnnotationError(f"{path}: '{strange[0]}' has detections that are not a list")
    external = content.get("external_data")
    external = external if isinstance(external, dict) else {}
    model = external.get("model")
    name = model.get("file") if isinstance(model, dict) else None
    return DetectionsFile(
        {video: [_detection(f"{path}: '{video}'", item) for item in found] for video, found in results.items()},
        _numbers(external, "operating_points", path, unit="a score"),
        _numbers(external, "durations_s", path, unit="a number of seconds"),
        name if isinstance(name, str) else None,
        _stretches(external, path),
    )


def _stretches(external: Mapping[str, Any], path: Path) -> dict[str, list[tuple[float, float]]]:
    """The stretches in ``external_data``, in the order of the file; empty where there are none."""
    found = external.get("stretches")
    items = found.items() if isinstance(found, dict) else ()
    return {
        name: [
            _segment(one, f"{path}: external_data.stretches: '{name}'")
            for one in (given if isinstance(given, list) else [given])
        ]
        for name, given in items
    }


def _numbers(external: Mapping[str, Any], key: str, path: Path, *, unit: str) -> dict[str, float]:
    """An object of numbers in ``external_data``; empty where there is none."""
    found = external.get(key)
    items = found.items() if isinstance(found, dict) else ()
    return {name: _number(value, f"{path}: external_data.{key}: '{name}'", "value", unit=unit) for name, value in items}


def _detection(where: str, item: Any) -> Detection:
    if not isinstance(item, dict) or not isinstance(item.get("label"), str):
        raise AnnotationError(f"{where} has a detection without a text 'label'")
    start_s, end_s = _segment(item.get("segment"), where)
    return Detection(
        start_s,
        end_s,
        item["label"],
        _number(item.get("score"), where, "score", unit="a number", limit=sys.float_info.max),
    )
