"""CVAT for video 1.1 (XML): one file per video, in a folder.

CVAT counts frames. An action is a part of a track, from its first box to the box that is ``outside``; each frame is
shown until the next. Exact seconds are kept in the attributes ``start_s`` and ``end_s`` of the boxes (:mod:`.frames`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tadkit.annotations.formats.frames import FrameTimes
from tadkit.annotations.formats.source import (
    Known,
    Source,
    SourceVideo,
    action,
    described,
    file_of,
    files_of,
    maybe_number,
    name_of_file,
    number,
    read_xml,
)
from tadkit.errors import AnnotationError
from tadkit.files import write_text
from tadkit.records import Annotation

SHAPES = frozenset({"box", "polygon", "polyline", "points", "cuboid", "mask", "ellipse", "skeleton"})
_OF_VIDEO = ("subset", "duration_s", "fps")
_ATTRIBUTES = ("start_s", "end_s", *_OF_VIDEO)
_SOURCE = ("meta/task/source", "meta/job/source", "meta/source")
_SIZE = "1"


def read_cvat(path: Path, known: Known) -> Source:
    """Read an .xml file, or all .xml files of a folder.

    Raises:
        AnnotationError: not in this format, or the frame rate of a video is unknown.
    """
    read = [_task(file, known) for file in files_of(path, "*.xml")]
    return Source(tuple(video for video, _ in read), tuple(remark for _, remark in read if remark))


def _task(path: Path, known: Known) -> tuple[SourceVideo, str]:
    root = read_xml(path)
    if root.tag != "annotations":
        raise AnnotationError(f"{path}: root element <{root.tag}>; expected <annotations> of 'CVAT for video 1.1'")
    if root.find("meta/project") is not None:
        raise AnnotationError(f"{path}: a whole CVAT project; export each task separately as 'CVAT for video 1.1'")
    source = next((text for place in _SOURCE if (text := root.findtext(place))), "")
    name = name_of_file(source) if source else path.stem
    said: dict[str, Any] = {key: root.findtext(f"meta/tadkit/{key}") or _first(root, key) for key in _OF_VIDEO}
    times = known.times_of(name, fps=maybe_number(said["fps"], f"{path}: fps", unit="frames per second"))
    tracks = root.findall("track")
    if tracks and not times.known:
        raise AnnotationError(f"{path}: CVAT files do not contain the frame rate; give --fps or --videos")
    size, end = _frames(root, path)
    found = [a for track in tracks for a in _actions(track, times, end, f"{path}: track {track.get('id')}")]
    if not said["duration_s"] and size is not None and size == end and times.known:
        said["duration_s"] = times.seconds(size)
    single = len(root.findall("image")) + len(root.findall("tag"))
    remark = f"{path}: {single} images or single-frame tags are left out" if single else ""
    return described(name, found, said, f"{path}:"), remark


def _frames(root: ElementTree.Element, path: Path) -> tuple[float | None, float | None]:
    """Number of labelled frames, and the frame after the last one.

    They differ if a task or job covers only part of the video, or every n-th frame: frames are numbered in the video.
    """
    size, stop = (
        maybe_number(
            root.findtext(f"meta/task/{key}") or root.findtext(f"meta/job/{key}"), f"{path}: {key}", unit="a frame"
        )
        for key in ("size", "stop_frame")
    )
    return size, size if stop is None else stop + 1


def _first(root: ElementTree.Element, key: str) -> str | None:
    found = root.find(f"track/*/attribute[@name='{key}']")
    return None if found is None else found.text


def _actions(track: ElementTree.Element, times: FrameTimes, size: float | None, where: str) -> Iterator[Annotation]:
    """Segments in which the track is visible."""
    label, start, exact = str(track.get("label")), None, None
    shapes = [shape for shape in track if shape.tag in SHAPES]
    frames = [number(shape.get("frame"), f"{where} frame", unit="a frame number") for shape in shapes]
    for frame, shape in sorted(zip(frames, shapes, strict=True), key=lambda pair: pair[0]):
        outside = shape.get("outside") == "1"
        if start is None and not outside:
            start, exact = frame, shape
        elif start is not None and outside:
            span, start = (start, frame), None
            yield action(*times.exact(span, *_exact(exact, where), size=size), label, where)
    if start is not None:  # to the last frame with a box; a single box lasts to the end of the video
        last = max(frames) + 1 if max(frames) > start or size is None else size
        yield action(*times.exact((start, last), *_exact(exact, where), size=size), label, where)


def _exact(first: ElementTree.Element | None, where: str) -> tuple[float | None, float | None]:
    """Exact seconds that tadkit wrote into a track's first box."""
    given = {} if first is None else {item.get("name"): item.text for item in first.findall("attribute")}
    start_s, end_s = (number(t, where) if (t := given.get(key)) else None for key in ("start_s", "end_s"))
    return start_s, end_s


def write_cvat(folder: Path, videos: Sequence[SourceVideo], known: Known) -> None:
    """Write ``<video>.xml`` for each video into ``folder``.

    Raises:
        AnnotationError: the frame rate of a video is unknown.
    """
    times_of = {video.name: known.times_of(video.name, fps=video.fps) for video in videos}
    if unknown := [name for name, times in times_of.items() if not times.known]:
        raise AnnotationError(f"'{unknown[0]}': CVAT counts frames, so the rate is needed; give --fps or --videos")
    for video in videos:
        times = times_of[video.name]
        root = _tree(video, file_of(video, known), times)
        ElementTree.indent(root)
        text = ElementTree.tostring(root, encoding="unicode")
        text = f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'
        write_text(folder / f"{video.name}.xml", text, durable=False)  # there may be thousands


def _tree(video: SourceVideo, file: str, times: FrameTimes) -> ElementTree.Element:
    root = ElementTree.Element("annotations")
    _text(root, "version", "1.1")
    meta = ElementTree.SubElement(root, "meta")
    task = ElementTree.SubElement(meta, "task")
    _text(task, "name", video.name)
    if (size := times.size(video.duration_s)) is not None:
        _text(task, "size", str(size))
    _text(task, "mode", "interpolation")
    every = ElementTree.SubElement(task, "labels")
    for label in sorted({a.label for a in video.annotations}):
        element = ElementTree.SubElement(every, "label")
        _text(element, "name", label)
        attributes = ElementTree.SubElement(element, "attributes")
        for name in _ATTRIBUTES:
            attribute = ElementTree.SubElement(attributes, "attribute")
            for key, value in (("name", name), ("mutable", "False"), ("input_type", "text")):
                _text(attribute, key, value)
    _text(task, "source", file)
    exact = {"subset": video.subset, "duration_s": _plain(video.duration_s), "fps": _plain(video.fps or times.rate_hz)}
    own = ElementTree.SubElement(meta, "tadkit")  # CVAT drops it on import, so tracks repeat it
    for key, value in exact.items():
        _text(own, key, value)
    for place, a in enumerate(video.annotations):
        _track(root, place, a, times.span(a.start_s, a.end_s, size=size), exact, ends=size)
    return root


def _track(
    root: ElementTree.Element,
    place: int,
    a: Annotation,
    span: tuple[float, float],
    exact: dict[str, str],
    *,
    ends: int | None,
) -> None:
    """A track of two boxes, the second ``outside``; of one box if the action lasts to the video's last frame."""
    track = ElementTree.SubElement(root, "track", id=str(place), label=a.label, source="manual")
    start, end = (round(frame) for frame in span)
    for frame, outside in ((start, "0"), (end, "1")) if end != ends else ((start, "0"),):
        corners = {"xtl": "0", "ytl": "0", "xbr": _SIZE, "ybr": _SIZE}
        flags = {"frame": str(frame), "keyframe": "1", "outside": outside, "occluded": "0"}
        box = ElementTree.SubElement(track, "box", {**flags, **corners})
        for name, value in {"start_s": repr(a.start_s), "end_s": repr(a.end_s), **exact}.items():
            attribute = ElementTree.SubElement(box, "attribute", name=name)
            attribute.text = value


def _plain(value: float | None) -> str:
    return "" if value is None else repr(value)


def _text(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = text
