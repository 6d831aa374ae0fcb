"""Label Studio: exports of tasks in which stretches of a video are labelled.

Frames of timeline labels and of video rectangles count at the rate of the labelling interface: the ``frameRate`` of its
``Video`` tag, 24 unless the configuration says otherwise, and not the rate of the video. The export does not contain
it. The rate is therefore the user's, else the one of the key frames of video rectangles, else ``fps`` of the task's
data (which ``frameRate="$fps"`` refers to), else 24; the last two are named in a remark. tadkit writes
``timelinelabels`` if it knows a rate, with the exact seconds in the region's ``meta`` (:mod:`.frames`); else ``labels``
in seconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from tadkit.annotations.formats.folders import merged, not_read
from tadkit.annotations.formats.frames import FrameTimes
from tadkit.annotations.formats.label_studio_regions import Region, regions_of
from tadkit.annotations.formats.label_studio_report import DEFAULT_HZ, Report
from tadkit.annotations.formats.label_studio_tasks import files_of_tasks, name_of_task, raters_of, read_tasks
from tadkit.annotations.formats.reports import MALFORMED, malformed, named
from tadkit.annotations.formats.source import Known, Source, SourceVideo, action, file_of, maybe_number, number
from tadkit.errors import AnnotationError
from tadkit.files import write_text
from tadkit.records import Annotation, Detection

_SLACK_S = 1.0
_PER_SECOND = "frames per second"
_VIDEO_FPS = "video_fps"
"""Of a task's data: the rate of the video itself, which tadkit writes."""
Basis = Literal["given", "regions", "data", "default"]


def read_label_studio(path: Path, known: Known) -> Source:
    """Read an export of tasks: JSON, JSON-MIN, CSV or TSV, a file of a target storage, or a folder of them.

    Raises:
        AnnotationError: not in this format, or nobody is called ``known.rater``, or no control ``known.attribute``.
    """
    report, videos = Report(), {}
    twice: list[str] = []
    for where, task in read_tasks(path, report.lost):
        try:
            video = _task(task, where, known, report)
        except AnnotationError as error:
            report.lost.append(str(error))
            continue
        except MALFORMED as cause:
            report.lost.append(str(malformed(where, "label-studio", cause)))
            continue
        if video is not None and video.name in videos:
            twice.append(video.name)
        elif video is not None:
            videos[video.name] = video
    for name in dict.fromkeys(twice):
        del videos[name]
        report.lost.append(f"{twice.count(name) + 1} tasks for the video '{name}', which is left out; keep one of them")
    _refuse_unknown(path, known, report)
    said, lost = report.remarks(known), report.losses()
    source = Source(
        tuple(videos.values()), tuple(f"{path}: {one}" for one in said), tuple(f"{path}: {one}" for one in lost)
    )
    return merged([source, not_read(path, files_of_tasks(path))])


def _refuse_unknown(path: Path, known: Known, report: Report) -> None:
    if known.rater is not None and report.raters and known.rater not in report.raters:
        raise AnnotationError(f"{path}: nobody is called '{known.rater}'; --rater takes one of {named(report.raters)}")
    if known.attribute is not None and known.attribute not in report.controls:
        names = named(report.controls) or "none"
        raise AnnotationError(f"{path}: no region has a value of '{known.attribute}'; controls with values: {names}")


def _task(task: Mapping[str, Any], where: str, known: Known, report: Report) -> SourceVideo | None:
    """The video of a task; None if nobody labelled it."""
    given = [a for a in task.get("annotations") or [] if isinstance(a, Mapping)]
    kept = [a for a in given if not (a.get("was_cancelled") or a.get("skipped"))]
    for places, is_so in (
        (report.cancelled, kept and len(kept) < len(given)),
        (report.predicted, task.get("predictions")),
        (report.drafts, task.get("drafts")),
        (report.unlabelled, not kept),
    ):
        if is_so:
            places.append(where)
    report.raters |= {name for a in kept for name in raters_of(a)}
    chosen = [a for a in kept if known.rater is None or known.rater in raters_of(a)]
    if kept and not chosen:
        report.not_rater.append(where)
    if not chosen:
        return None
    if len(chosen) > 1:
        people = {next(raters_of(a), "unknown") for a in chosen}
        way_out = "choose one with --rater" if len(people) > 1 else "keep one annotation"
        raise AnnotationError(f"{where} was labelled {len(chosen)} times, by {named(people)}; {way_out}")
    return _video(task, regions_of(chosen[0].get("result") or [], task["data"], where), where, known, report)


def _video(task: Mapping[str, Any], regions: Sequence[Region], where: str, known: Known, report: Report) -> SourceVideo:
    data = task["data"] if isinstance(task["data"], Mapping) else {}
    tags = [str(result.get("to_name")) for region in regions for result in region.results]
    name, others = name_of_task(task, where, tags)
    if others:
        report.other_videos.append(f"{where} ('{name}' is taken, {named(others)} left out)")
    where = f"'{name}' ({where})"
    duration_s = _duration_s(name, data, regions, where, known, report)
    rate_hz, basis = _rate(data, regions, where, known)
    times, found, assumed, lost_before = FrameTimes(fps=rate_hz), [], False, report.lost_labels
    for region in regions:
        labels = _labels(region, known, report)
        try:
            for span_s, exact in _spans(region, times, duration_s) if labels else ():
                found += [action(*span_s, label, region.place) for label in labels]
                assumed |= not exact
        except AnnotationError as error:
            report.lost.append(str(error))
    if not found and report.lost_labels > lost_before:
        raise AnnotationError(f"{where} is left out: none of its labels could be converted")
    if assumed and basis in ("data", "default"):
        _refuse_too_long(found, duration_s, rate_hz, where)
        (report.assumed if basis == "default" else report.from_data).append(f"'{name}' at {rate_hz:g}")
    fps = maybe_number(data.get(_VIDEO_FPS), f"{where} {_VIDEO_FPS}", unit=_PER_SECOND)
    return SourceVideo(name, tuple(found), str(data.get("subset") or ""), duration_s, fps)


def _labels(region: Region, known: Known, report: Report) -> tuple[str, ...]:
    """Classes of a region of time; the report counts what is none or not used."""
    if region.kind in ("answer", "other"):
        (report.answers if region.kind == "answer" else report.without_time).append(region.described)
        return ()
    labels = region.classes(known.attribute)
    if not labels:
        (report.without_class if not region.controls else report.not_chosen).append(region.described)
    for name in region.unused(known.attribute):
        report.unused[name] = report.unused.get(name, 0) + 1
    for name in region.answered(known.attribute):
        report.answered[name] = report.answered.get(name, 0) + 1
    for name in region.controls:
        report.controls[name] = report.controls.get(name, 0) + 1
    for name in region.giving(known.attribute):
        report.giving[name] = report.giving.get(name, 0) + 1
    return labels


def _duration_s(
    name: str, data: Mapping[str, Any], regions: Sequence[Region], where: str, known: Known, report: Report
) -> float | None:
    """The length of the file, else the user's, else that of the data, else what the browser found."""
    if (length_s := known.length_s(name)) is not None:
        return length_s
    if (said := maybe_number(data.get("duration"), f"{where} duration")) is not None:
        return said
    drawn = next((length for region in regions for length in region.lengths()), None)
    if drawn is not None:
        report.drawn.append(f"'{name}' {drawn:g} s")
    return drawn


def _rate(data: Mapping[str, Any], regions: Sequence[Region], where: str, known: Known) -> tuple[float, Basis]:
    """Frames per second of the labelling interface, and where it comes from."""
    if known.fps is not None:
        return known.fps, "given"
    drawn = {rate for region in regions if (rate := region.rate_hz()) is not None}
    if len(drawn) == 1:
        return drawn.pop(), "regions"
    said = maybe_number(data.get("fps"), f"{where} fps", unit=_PER_SECOND)
    if said is None:
        return DEFAULT_HZ, "default"
    return 1 / said if said < 1 else said, "data"  # Video.js takes a rate below 1 for seconds per frame


def _spans(region: Region, times: FrameTimes, duration_s: float | None) -> Iterator[tuple[tuple[float, float], bool]]:
    """Start and end in seconds, and whether they are independent of the frame rate."""
    if region.kind == "seconds":
        ends = (number(region.value[end], f"{region.place} {end}") for end in ("start", "end"))
        start_s, end_s = ends
        yield (start_s, end_s), True
        return
    size, notes = times.size(duration_s), _exact(region)
    for span in region.frames(size):
        found = times.exact(span, *notes, size=size)
        yield found, found == notes


def _refuse_too_long(found: Sequence[Annotation], duration_s: float | None, rate_hz: float, where: str) -> None:
    """An assumed rate at which labels lie past the end of the video is wrong, and so is every second."""
    last_s = max(a.end_s for a in found)
    if duration_s is not None and last_s > duration_s + _SLACK_S:
        raise AnnotationError(
            f"{where} is left out: at {rate_hz:g} frames per second its labels end at {last_s:g} s, but it lasts "
            f"{duration_s:g} s; give the frameRate of the labelling configuration with --fps"
        )


def _exact(region: Region) -> tuple[float | None, float | None]:
    """Exact seconds that tadkit wrote into the region's notes."""
    notes = [note for r in region.results for note in (r.get("meta") or {}).get("text") or []]
    match = re.search(r"start_s=(\S+) end_s=(\S+)", " ".join(map(str, notes)))
    if match is None:
        return None, None
    return number(match[1], "start_s"), number(match[2], "end_s")


def write_label_studio(
    path: Path, videos: Sequence[SourceVideo], known: Known, *, predicted_by: str | None = None
) -> None:
    """Write tasks to import: TimelineLabels for videos of known frame rate, Labels in seconds for others.

    The rate is that of the labelling interface, ``known.fps`` or the video's average rate, at which Label Studio counts
    playing time; it is written as ``fps`` of the data, for ``frameRate="$fps"`` in the configuration. The
    video's own rate is ``video_fps``.

    With ``predicted_by``, the name of a model, the actions are detections, and are written as predictions for a person
    to correct: each region has its score, and the task their mean.
    """
    tasks = []
    for place, video in enumerate(videos, start=1):
        times = _interface(video, known)
        regions = [
            {
                "id": f"{place}-{at}",
                **(_frames(a, times, times.size(video.duration_s)) if times.known else _seconds(a, video)),
            }
            for at, a in enumerate(video.annotations, start=1)
        ]
        extra = {"subset": video.subset, "duration": video.duration_s, "fps": times.rate_hz if times.known else None}
        extra[_VIDEO_FPS] = video.fps
        data: dict[str, Any] = {"video": f"/data/local-files/?d={file_of(video, known)}"}
        data |= {key: value for key, value in extra.items() if value not in (None, "")}
        if predicted_by is None:
            tasks.append({"id": place, "data": data, "annotations": [{"result": regions}]})
        else:
            tasks.append({"id": place, "data": data, "predictions": [_prediction(regions, video, predicted_by)]})
    write_text(path, json.dumps(tasks, indent=1) + "\n")


def _prediction(regions: Sequence[Mapping[str, Any]], video: SourceVideo, model: str) -> dict[str, Any]:
    """Regions with the scores of the video's detections, which are in the same order."""
    scores = [a.score for a in video.annotations if isinstance(a, Detection)]
    scored = [{**region, "score": score} for region, score in zip(regions, scores, strict=True)]
    return {"model_version": model, "score": fmean(scores) if scores else 0.0, "result": scored}


def _interface(video: SourceVideo, known: Known) -> FrameTimes:
    times = known.times_of(video.name, fps=video.fps)
    return FrameTimes(fps=known.fps or (times.rate_hz if times.known else None))


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
