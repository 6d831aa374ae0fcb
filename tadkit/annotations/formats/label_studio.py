"""Label Studio's JSON export: segments of a video's timeline.

Two kinds are read. ``timelinelabels`` (the tag TimelineLabels) has ranges of frames, counted from 1, the last one
included: frames a to b last from the start of frame a to the start of frame b + 1. ``labels`` (the tag Labels on the
video's audio) has seconds. tadkit writes ``timelinelabels`` if it knows the frame rate, with the exact seconds in
the region's ``meta`` (:mod:`.frames`); else ``labels``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tadkit.annotations.formats.frames import FrameTimes
from tadkit.annotations.formats.source import (
    Known,
    Source,
    SourceVideo,
    action,
    file_of,
    maybe_number,
    name_of_file,
    number,
)
from tadkit.errors import AnnotationError
from tadkit.files import read_json, write_text
from tadkit.records import Annotation

_UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")
_VIDEO_KEYS = ("video", "video_url", "videos", "url", "audio")
_VIDEO_FILE = re.compile(r"\.(mp4|mov|avi|mkv|webm|m4v|mpe?g)([?#]|$)", re.IGNORECASE)


def read_label_studio(path: Path, known: Known) -> Source:
    """Read an export of tasks, as JSON or JSON-MIN.

    Raises:
        AnnotationError: not in this format, several people labelled one video, or the frame rate is unknown.
    """
    tasks = read_json(path, error=AnnotationError)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise AnnotationError(f"{path}: expected a list of tasks; export as JSON or JSON-MIN")
    videos: dict[str, SourceVideo] = {}
    others = unlabelled = 0
    for task in (task if "data" in task else _full(task) for task in tasks):
        given = [a for a in task.get("annotations") or [] if not a.get("was_cancelled")]
        if not given:
            unlabelled += 1
            continue
        video, left_out = _task(task, given, path, known)
        if video.name in videos:
            raise AnnotationError(f"{path}: two tasks for the video '{video.name}'; keep one of them")
        videos[video.name] = video
        others += left_out
    counts = (
        (others, "regions or answers that are not timeline segments are left out"),
        (unlabelled, "unlabelled or skipped tasks are left out"),
    )
    return Source(tuple(videos.values()), tuple(f"{path}: {count} {what}" for count, what in counts if count))


def _full(task: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON-MIN task in the full format: JSON-MIN lists the values of the regions among the task's data."""
    regions = [
        {"type": "timelinelabels" if "timelinelabels" in value else "labels", "value": value}
        for values in task.values()
        if isinstance(values, list)
        for value in values
        if isinstance(value, dict) and ("timelinelabels" in value or {"start", "end", "labels"} <= set(value))
    ]
    return {"id": task.get("id"), "data": dict(task), "annotations": [{"result": regions}]}


def _name(task: Mapping[str, Any], path: Path) -> str:
    """The name of a task's video; the key of its address is the user's choice, usually ``video``."""
    data = task["data"]
    others = (key for key, value in data.items() if isinstance(value, str) and _VIDEO_FILE.search(value))
    address = next((str(data[key]) for key in (*_VIDEO_KEYS, *others) if data.get(key)), None)
    if address is None:
        raise AnnotationError(f"{path}: task {task.get('id')} names no video in 'data'; expected 'video'")
    name = name_of_file(address)
    return _UPLOAD.sub("", name) if "/data/upload/" in address else name


def _task(
    task: Mapping[str, Any], given: Sequence[Mapping[str, Any]], path: Path, known: Known
) -> tuple[SourceVideo, int]:
    data, name = task["data"], _name(task, path)
    where = f"{path}: '{name}'"
    if len(given) > 1:
        raise AnnotationError(f"{where} was labelled {len(given)} times; keep one annotation per task")
    regions = [region for annotation in given for region in annotation.get("result") or []]
    fps = maybe_number(data.get("fps"), f"{where} fps", unit="frames per second")
    times = known.times_of(name, fps=fps)
    lengths = [region.get("original_length") for region in regions if region.get("type") == "labels"]
    duration_s = maybe_number(data.get("duration", next(iter(lengths), None)), f"{where} duration")
    size = times.size(duration_s) if times.known else None
    found = [a for region in regions for a in _actions(region, times, size, where)]
    used = sum(region.get("type") in ("timelinelabels", "labels") for region in regions)
    video = SourceVideo(name, tuple(found), str(data.get("subset", "")), duration_s, fps)
    return video, len(regions) - used


def _actions(region: Mapping[str, Any], times: FrameTimes, size: int | None, where: str) -> Iterator[Annotation]:
    value = region.get("value") or {}
    match region.get("type"):
        case "labels":
            for label in value.get("labels", []):
                yield action(value.get("start"), value.get("end"), label, where)
        case "timelinelabels":
            if not times.known:
                raise AnnotationError(f"{where} has ranges of frames; give the frame rate with --fps or --videos")
            exact = _exact(region)
            for one in value.get("ranges", []):
                first, last = (number(one.get(end), f"{where} {end}", unit="a frame") for end in ("start", "end"))
                start_s, end_s = times.exact((first - 1, last), *exact, size=size)
                for label in value.get("timelinelabels", []):
                    yield action(start_s, end_s, label, where)


def _exact(region: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Exact seconds that tadkit wrote into the region's notes."""
    notes = (region.get("meta") or {}).get("text") or []
    match = re.search(r"start_s=(\S+) end_s=(\S+)", " ".join(map(str, notes)))
    if match is None:
        return None, None
    return number(match[1], "start_s"), number(match[2], "end_s")


def write_label_studio(path: Path, videos: Sequence[SourceVideo], known: Known) -> None:
    """Write tasks to import: TimelineLabels for videos of known frame rate, Labels in seconds for others."""
    tasks = []
    for place, video in enumerate(videos, start=1):
        times = known.times_of(video.name, fps=video.fps)
        regions = [
            {
                "id": f"{place}-{at}",
                **(_frames(a, times, times.size(video.duration_s)) if times.known else _seconds(a, video)),
            }
            for at, a in enumerate(video.annotations, start=1)
        ]
        extra = {"subset": video.subset, "duration": video.duration_s, "fps": times.rate_hz if times.known else None}
        data: dict[str, Any] = {"video": f"/data/local-files/?d={file_of(video, known)}"}
        data |= {key: value for key, value in extra.items() if value not in (None, "")}
        tasks.append({"id": place, "data": data, "annotations": [{"result": regions}]})
    write_text(path, json.dumps(tasks, indent=1) + "\n")


def _frames(a: Annotation, times: FrameTimes, size: int | None) -> dict[str, Any]:
    start, end = (round(frame) for frame in times.span(a.start_s, a.end_s, size=size))
    return {
        "type": "timelinelabels",
        "from_name": "timelineLabels",
        "to_name": "video",
        "value": {"ranges": [{"start": start + 1, "end": end}], "timelinelabels": [a.label]},
        "meta": {"text": [f"start_s={a.start_s!r} end_s={a.end_s!r}"]},
    }


def _seconds(a: Annotation, video: SourceVideo) -> dict[str, Any]:
    length = {} if video.duration_s is None else {"original_length": video.duration_s}
    value = {"start": a.start_s, "end": a.end_s, "labels": [a.label]}
    return {"type": "labels", "from_name": "videoLabels", "to_name": "audio", "value": value, **length}
