"""ELAN (.eaf, EAF 3.0; Wittenburg et al., LREC 2006): one XML file per video, in a folder.

The class is the value of an annotation, or the name of its tier if the value is empty. Only time-aligned annotations
are actions: those that refer to others (dependent tiers) are counted and left out. ELAN keeps milliseconds. Annotations
on a tier must not overlap, so overlapping actions are written to separate tiers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from tadkit.annotations.formats.source import (
    Known,
    Source,
    SourceVideo,
    action,
    described,
    file_of,
    files_of,
    lanes,
    name_of_file,
    number,
    read_xml,
)
from tadkit.errors import AnnotationError
from tadkit.files import write_text
from tadkit.records import Annotation

_TYPE = "action"
_OWN = "tadkit:"
_MS = 1000.0


def read_elan(path: Path) -> Source:
    """Read an .eaf file, or all .eaf files of a folder.

    Raises:
        AnnotationError: not in this format.
    """
    files = files_of(path, "*.eaf")
    read = [_document(file) for file in files]
    remarks = [f"{f}: {left} dependent annotations are left out" for f, (_, left) in zip(files, read, strict=True)]
    kept = [remark for remark, (_, left) in zip(remarks, read, strict=True) if left]
    return Source(tuple(video for video, _ in read), tuple(kept))


def _document(path: Path) -> tuple[SourceVideo, int]:
    root = read_xml(path)
    if root.tag != "ANNOTATION_DOCUMENT":
        raise AnnotationError(f"{path}: root element <{root.tag}>; expected ELAN's <ANNOTATION_DOCUMENT>")
    media = _media(root)
    address = "" if media is None else media.get("MEDIA_URL") or media.get("RELATIVE_MEDIA_URL") or ""
    origin_s = 0.0 if media is None else number(media.get("TIME_ORIGIN", "0"), f"{path}: TIME_ORIGIN") / _MS
    seconds = _slots(root, path)
    found = []
    for tier in root.findall("TIER"):
        for item in tier.iter("ALIGNABLE_ANNOTATION"):
            label = (item.findtext("ANNOTATION_VALUE") or "").strip() or str(tier.get("TIER_ID"))
            where = f"{path}: '{label}'"
            start_s, end_s = (_at(seconds, item.get(f"TIME_SLOT_REF{end}"), where) + origin_s for end in (1, 2))
            found.append(action(start_s, end_s, label, where))
    said = {str(p.get("NAME")).removeprefix(_OWN): p.text for p in root.findall("HEADER/PROPERTY")}
    video = described(name_of_file(address) if address else path.stem, found, said, f"{path}:")
    return video, sum(1 for _ in root.iter("REF_ANNOTATION"))


def _media(root: ElementTree.Element) -> ElementTree.Element | None:
    """The first video, else the first file: the audio track may be listed before the video."""
    listed = root.findall("HEADER/MEDIA_DESCRIPTOR")
    videos = [media for media in listed if media.get("MIME_TYPE", "").startswith("video/")]
    return next(iter(videos or listed), None)


def _at(seconds: dict[str, float], slot: str | None, where: str) -> float:
    if slot not in seconds:
        raise AnnotationError(f"{where} refers to the time slot {slot!r}, which has no time")
    return seconds[slot]


def _slots(root: ElementTree.Element, path: Path) -> dict[str, float]:
    """Seconds of the time slots; those without a value are spaced evenly between their neighbours, as in ELAN."""
    slots = root.findall("TIME_ORDER/TIME_SLOT")
    values = [None if s.get("TIME_VALUE") is None else number(s.get("TIME_VALUE"), f"{path}: slot") for s in slots]
    at = [place for place, value in enumerate(values) if value is not None]
    if not at:
        return {}
    every = np.interp(np.arange(len(slots)), at, [values[place] or 0.0 for place in at])
    return {str(slot.get("TIME_SLOT_ID")): float(ms) / _MS for slot, ms in zip(slots, every, strict=True)}


def write_elan(folder: Path, videos: Sequence[SourceVideo], known: Known) -> None:
    """Write ``<video>.eaf`` for each video into ``folder``; subset, duration and rate are properties of its header."""
    for video in videos:
        root = _tree(video, file_of(video, known))
        ElementTree.indent(root)
        text = ElementTree.tostring(root, encoding="unicode")
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'
        write_text(folder / f"{video.name}.eaf", text, durable=False)  # there may be thousands


def _tree(video: SourceVideo, file: str) -> ElementTree.Element:
    root = ElementTree.Element("ANNOTATION_DOCUMENT", AUTHOR="tadkit", DATE=_DATE, FORMAT="3.0", VERSION="3.0")
    header = ElementTree.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    # The plain file name: ELAN looks for it beside the .eaf.
    ElementTree.SubElement(
        header, "MEDIA_DESCRIPTOR", MEDIA_URL=file, RELATIVE_MEDIA_URL=f"./{file}", MIME_TYPE="video/mp4"
    )
    extra = (("subset", video.subset), ("duration_s", video.duration_s), ("fps", video.fps))
    for name, value in extra:
        if value:
            ElementTree.SubElement(header, "PROPERTY", NAME=f"{_OWN}{name}").text = str(value)
    order = ElementTree.SubElement(root, "TIME_ORDER")
    tiers = [_whole_ms(lane) for lane in lanes(video.annotations)]
    ends = [
        (ms, place, at, end) for place, tier in enumerate(tiers) for at, a in enumerate(tier) for end, ms in _ends(a)
    ]
    slots = {}
    for count, (ms, *which) in enumerate(sorted(ends), start=1):  # one per end, so that moving one moves no other
        slots[tuple(which)] = f"ts{count}"
        ElementTree.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=f"ts{count}", TIME_VALUE=str(ms))
    for place, tier in enumerate(tiers):
        name = "actions" if place == 0 else f"actions {place + 1}"
        element = ElementTree.SubElement(root, "TIER", LINGUISTIC_TYPE_REF=_TYPE, TIER_ID=name)
        for at, (_, _, label) in enumerate(tier):
            refs = {f"TIME_SLOT_REF{end}": slots[place, at, end] for end in (1, 2)}
            outer = ElementTree.SubElement(element, "ANNOTATION")
            inner = ElementTree.SubElement(outer, "ALIGNABLE_ANNOTATION", {"ANNOTATION_ID": f"a{place}_{at}", **refs})
            ElementTree.SubElement(inner, "ANNOTATION_VALUE").text = label
    ElementTree.SubElement(
        root, "LINGUISTIC_TYPE", GRAPHIC_REFERENCES="false", LINGUISTIC_TYPE_ID=_TYPE, TIME_ALIGNABLE="true"
    )
    return root


_DATE = "2000-01-01T00:00:00+00:00"
"""Fixed, so that equal annotations give equal files."""


def _ends(whole_ms: tuple[int, int, str]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Slot number and milliseconds of either end."""
    return (1, whole_ms[0]), (2, whole_ms[1])


def _whole_ms(lane: Sequence[Annotation]) -> list[tuple[int, int, str]]:
    return [(round(a.start_s * _MS), round(a.end_s * _MS), a.label) for a in lane]
