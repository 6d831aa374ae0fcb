"""CVAT: exports of tasks, jobs and projects as CVAT for video 1.1 or CVAT for images 1.1 (XML).

CVAT counts the frames of the video. A class is the label of a track, or the value of an attribute that the user names;
an action is a stretch in which the track is visible and the class stays the same (:mod:`.cvat_tracks`). Files of
tadkit have the exact seconds in the attributes ``start_s`` and ``end_s`` of the boxes (:mod:`.frames`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

from tadkit.annotations.formats.cvat_report import Report
from tadkit.annotations.formats.cvat_tracks import (
    EXACT,
    OF_VIDEO,
    Part,
    Seen,
    Span,
    attributes_of,
    images_seen,
    lone,
    part_of,
    single,
    spans,
    track_seen,
)
from tadkit.annotations.formats.folders import files_of, merged, not_read
from tadkit.annotations.formats.frames import FrameTimes
from tadkit.annotations.formats.reports import MALFORMED, malformed, named
from tadkit.annotations.formats.source import (
    Known,
    Source,
    SourceVideo,
    action,
    described,
    maybe_number,
    name_of_file,
    number,
    read_xml,
)
from tadkit.errors import AnnotationError
from tadkit.records import Annotation


@dataclass(frozen=True)
class _Read:
    """A task or job that was read: its frames, its video and when the frames of that are shown."""

    part: Part
    video: SourceVideo
    times: FrameTimes


def read_cvat(path: Path, known: Known) -> Source:
    """Read an .xml file, or all .xml files of a folder; tasks and jobs of one video are joined.

    Raises:
        AnnotationError: no file is in this format, or none has the attribute ``known.attribute``.
    """
    report = Report(known.attribute)
    read: dict[str, list[_Read]] = {}
    files = files_of(path, "*.xml")
    for file in files:
        try:
            root = read_xml(file)
            parts = _parts(root, file)
            report.lost += _of_no_task(root, parts, file)
            for part in parts:
                if (found := _task(root, part, known, report)) is not None:
                    read.setdefault(found.video.name, []).append(found)
        except AnnotationError as error:
            report.lost.append(str(error))
        except MALFORMED as cause:
            report.lost.append(str(malformed(file, "cvat", cause)))
    if known.attribute is not None and read and known.attribute not in report.attributes:
        names = named(report.attributes) or "none"
        raise AnnotationError(f"{path}: no attribute '{known.attribute}' has a value; attributes with values: {names}")
    videos = [video for parts in read.values() if (video := _joined(parts, known, report)) is not None]
    return merged([Source(tuple(videos), report.remarks(path), report.losses(path)), not_read(path, files)])


def _parts(root: ElementTree.Element, path: Path) -> list[Part]:
    if root.tag != "annotations":
        raise AnnotationError(f"{path}: root element <{root.tag}>; expected <annotations> of 'CVAT for video 1.1'")
    project = root.find("meta/project")
    if project is None:
        kind = "task" if root.find("meta/task") is not None else "job"
        meta = root.find(f"meta/{kind}")
        source = root.findtext("meta/source") or ""
        return [part_of(ElementTree.Element(kind) if meta is None else meta, kind, str(path), source)]
    found, offset, subset = [], 0, None
    for task in project.findall("tasks/task"):
        # bindings.ProjectData: frames are numbered on over the tasks of a subset
        offset = offset if task.findtext("subset") == subset else 0
        subset = task.findtext("subset")
        part = part_of(task, "task", f"{path}: task {task.findtext('id')}", "", offset)
        found.append(replace(part, task=task.findtext("id")))
        offset += part.first + part.step * (part.size or 0)
    return found


def _of_no_task(root: ElementTree.Element, parts: Sequence[Part], path: Path) -> Iterator[str]:
    """Tracks and pictures of a project that belong to none of its tasks."""
    tasks = {part.task for part in parts}
    for tag in _MARKED:
        others = [element for element in root.findall(tag) if not tasks & {None, element.get("task_id")}]
        named_tasks = named(str(element.get("task_id")) for element in others)
        if others:
            yield f"{path}: {len(others)} <{tag}> belong to no task of the project (task {named_tasks})"


def _task(root: ElementTree.Element, part: Part, known: Known, report: Report) -> _Read | None:
    """One task or job; None if nothing in it can be read."""
    name = name_of_file(part.source) if part.source else Path(part.place.partition(".xml: task ")[0]).stem
    said = {key: root.findtext(f"meta/tadkit/{key}") or _first(root, key) for key in OF_VIDEO}
    times = known.times_of(name, fps=maybe_number(said["fps"], f"{part.place}: fps", unit="frames per second"))
    tracks, images = ([e for e in root.findall(tag) if part.task in (None, e.get("task_id"))] for tag in _MARKED)
    if (tracks or images) and not times.known:
        report.lost.append(f"{part.place}: CVAT files do not contain the frame rate; give --fps or --videos")
        return None
    own = root.find("meta/tadkit") is not None
    lost_before = len(report.lost)
    found = list(_actions(tracks, images, part, own, times, report))
    if not found and len(report.lost) > lost_before:
        report.lost.append(f"{part.place}: '{name}' is left out: none of its labels could be converted")
        return None
    if not part.source:
        report.unnamed.append(f"'{name}' ({part.place})")
    if part.step > 1:
        report.stepped.append(f"'{name}' (every {part.step} frames)")
    if root.findtext("meta/task/mode") == "annotation":
        report.pictures.append(f"'{name}'")
    if (length_s := known.length_s(name)) is not None:
        said["duration_s"] = repr(length_s)
    elif not said["duration_s"] and part.whole and times.known:
        said["duration_s"] = repr(times.seconds(part.end or 0))
        report.ends.append(f"'{name}' ({part.kind} ends with frame {(part.end or 0) - 1})")
    return _Read(part, described(name, found, said, f"{part.place}:"), times)


_MARKED = ("track", "image")


def _first(root: ElementTree.Element, key: str) -> str | None:
    found = root.find(f"track/*/attribute[@name='{key}']")
    return None if found is None else found.text


def _actions(
    tracks: Sequence[ElementTree.Element],
    images: Sequence[ElementTree.Element],
    part: Part,
    own: bool,
    times: FrameTimes,
    report: Report,
) -> Iterator[Annotation]:
    """Actions of all tracks, of shapes of single frames, and of pictures."""
    singles = list[Seen]()
    size = part.end if times.stamps_s is None else len(times.stamps_s)
    for track in tracks:
        where = f"{part.place}: track {track.get('id')} ('{track.get('label')}')"
        report.note(str(track.get("label")), track.iter("attribute"))
        if not track.get("label"):
            report.lost.append(f"{where} has no label")
            continue
        try:
            seen = track_seen(track, part, report.attribute, where)
        except AnnotationError as error:
            report.lost.append(str(error))
            continue
        if own and len(seen) == 1:  # the action lasts to the end of the video
            found = [Span(seen[0].frame, part.end or seen[0].frame + 1, str(track.get("label")), seen[0].element)]
        elif not own and (only := lone(seen, part)) is not None:
            singles.append(only)
            continue
        else:
            found = list(spans(seen, part))
        if not found:
            report.never.append(where)
        yield from (_action(span, times, size, where) for span in found)
    if singles:
        report.single.append(f"{part.place} ({len(singles)})")
    for mark in (mark for image in images for mark in image):
        report.note(str(mark.get("label")), mark.iter("attribute"))
    for listed in (single(singles, part), images_seen(images, part, report.attribute, part.place)):
        yield from (_action(span, times, size, part.place) for span in spans(listed, part))


def _action(span: Span, times: FrameTimes, size: float | None, where: str) -> Annotation:
    given = {} if span.first is None else attributes_of(span.first)
    start_s, end_s = (number(text, where) if (text := given.get(key)) else None for key in EXACT)
    end = span.end if size is None or times.stamps_s is None else min(span.end, size)
    return action(*times.exact((span.start, end), start_s, end_s, size=size), span.label, where)


def _joined(parts: Sequence[_Read], known: Known, report: Report) -> SourceVideo | None:
    """A video from its tasks and jobs; None if they label the same frames, so that one would contradict another."""
    ordered = sorted(parts, key=lambda read: read.part.first)
    video, covered = ordered[0].video, [(read.part.first, read.part.end) for read in ordered]
    for (_, end), (start, _), read in zip(covered, covered[1:], ordered[1:], strict=False):
        if end is None or start < end:
            places = ", ".join(one.part.place for one in ordered)
            report.lost.append(f"'{video.name}' is labelled more than once ({places}) and left out; keep one of them")
            return None
        at_s = read.times.seconds(start) if start == end else None
        video = replace(video, annotations=_linked(video.annotations, read.video.annotations, at_s), duration_s=None)
    times = ordered[0].times
    if (length_s := known.length_s(video.name)) is not None and times.known:
        video = replace(video, duration_s=length_s)
        report.uncovered(video.name, covered, times, times.size(length_s) or 0)
    elif ordered[0].part.first > 0:
        report.late.append(f"'{video.name}' (from frame {ordered[0].part.first})")
    return video


def _linked(left: Sequence[Annotation], right: Sequence[Annotation], at_s: float | None) -> tuple[Annotation, ...]:
    """Actions of two parts of a video; one that the seam ``at_s`` cuts is one action again."""
    kept, rest = list(left), list(right)
    for a in left:
        after = next(
            (b for b in rest if at_s is not None and a.end_s == b.start_s == at_s and a.label == b.label), None
        )
        if after is not None:
            rest.remove(after)
            kept[kept.index(a)] = replace(a, end_s=after.end_s)
    return tuple(sorted([*kept, *rest], key=lambda a: (a.start_s, a.end_s)))
