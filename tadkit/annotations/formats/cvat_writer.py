"""Writes CVAT for video 1.1: one file per video, in a folder, with the exact seconds in attributes (:mod:`.frames`).

An action is a track of two boxes, the second ``outside``. CVAT drops attributes that a label does not declare.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from tadkit.annotations.formats.cvat_tracks import EXACT, OF_VIDEO
from tadkit.annotations.formats.frames import FrameTimes
from tadkit.annotations.formats.source import Known, SourceVideo, file_of
from tadkit.errors import AnnotationError
from tadkit.files import write_text
from tadkit.records import Annotation

_ATTRIBUTES = (*EXACT, *OF_VIDEO)
_SIZE = "1"


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
