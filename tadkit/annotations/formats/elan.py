"""ELAN (.eaf, EAF 3.0; Wittenburg et al., LREC 2006): one XML file per video, in a folder.

The class is the value of an annotation or, if that is empty, the entry of the controlled vocabulary that it refers to,
else the name of its tier. When it happens: :mod:`tadkit.annotations.formats.elan_times`. ELAN keeps milliseconds.
Annotations on a tier must not overlap, so overlapping actions are written to separate tiers.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from tadkit.annotations.formats.chosen import check_chosen, fits, listed, once_each
from tadkit.annotations.formats.elan_times import spans_of
from tadkit.annotations.formats.folders import files_of, merged, not_read, read_each
from tadkit.annotations.formats.source import (
    Known,
    Source,
    SourceVideo,
    described,
    file_of,
    lanes,
    name_of_file,
    number,
    read_xml,
)
from tadkit.errors import AnnotationError
from tadkit.files import write_text
from tadkit.records import Annotation
from tadkit.video.discovery import is_video

_TYPE = "action"
_OWN = "tadkit:"
_OWN_TIER = re.compile(r"actions( \d+)?")
_MS = 1000.0
_UNITS_S = {"milliseconds": 1 / _MS, "PAL-frames": 1 / 25, "NTSC-frames": 1001 / 30000}
_DECIMALS = 6
NOT_ANNOTATIONS = {".etf": "a template", ".pfsx": "preferences", ".psfx": "preferences", ".ecv": "a vocabulary"}
"""Suffixes of ELAN's other files, and what they hold."""


@dataclass
class _Seen:
    """Names in all files, for patterns that fit none of them."""

    tiers: set[str] = field(default_factory=set)
    types: set[str] = field(default_factory=set)
    participants: set[str] = field(default_factory=set)


def read_elan(path: Path, known: Known) -> Source:
    """Read an .eaf file, or all .eaf files of a folder, of the tiers that ``known`` chooses.

    Raises:
        AnnotationError: no file can be read, or a chosen tier, linguistic type or participant is in none of them.
    """
    if path.suffix.lower() in NOT_ANNOTATIONS:
        kind = NOT_ANNOTATIONS[path.suffix.lower()]
        raise AnnotationError(f"{path}: holds {kind} of ELAN and no annotations; give the .eaf file")
    seen = _Seen()
    files = files_of(path, "*.eaf")
    read = merged([read_each(files, lambda file: _document(file, known, seen)), not_read(path, files)])
    check_chosen("tier", known.tiers, seen.tiers, path)
    check_chosen("linguistic type", known.tier_types, seen.types, path)
    check_chosen("participant", known.subjects, seen.participants, path)
    return once_each(read, path, "keep one of these files")


def _document(path: Path, known: Known, seen: _Seen) -> Source:
    root = read_xml(path)
    if root.tag != "ANNOTATION_DOCUMENT":
        raise AnnotationError(f"{path}: root element <{root.tag}>; expected ELAN's <ANNOTATION_DOCUMENT>")
    name, origin_s, remarks = _media(root, path)
    tiers = root.findall("TIER")
    seen.tiers |= {tier.get("TIER_ID", "") for tier in tiers}
    seen.types |= {tier.get("LINGUISTIC_TYPE_REF", "") for tier in tiers}
    seen.participants |= {tier.get("PARTICIPANT", "") for tier in tiers} - {""}
    chosen = [tier for tier in tiers if _is_chosen(tier, known)]
    if tiers and not chosen:
        there = listed([tier.get("TIER_ID", "") for tier in tiers])
        return Source((), losses=(f"{path}: left out: it has none of the chosen tiers, but {there}",))
    unit_s, of_units = _unit_s(root, path)
    found, losses, of_labels = _actions(root, path, chosen, unit_s=unit_s, origin_s=origin_s)
    if len(chosen) > 1 and not (known.tiers or known.tier_types or known.subjects):
        filled = [tier.get("TIER_ID", "") for tier in chosen if tier.find("ANNOTATION") is not None]
        if len(filled) > 1 and not all(map(_OWN_TIER.fullmatch, filled)):
            there = listed(filled)
            remarks.append(f"{path}: actions of {len(filled)} tiers are read together, choose with --tier: {there}")
    said = {str(p.get("NAME")).removeprefix(_OWN): p.text for p in root.findall("HEADER/PROPERTY")}
    video = described(name, found, said, f"{path}:")
    if losses and not found:
        return Source((), losses=(*losses, f"{path}: no action is left, so '{name}' is left out"))
    return Source((video,), (*remarks, *of_units, *of_labels), tuple(losses))


def _is_chosen(tier: ElementTree.Element, known: Known) -> bool:
    """Whether a tier fits each kind of choice that was made."""
    choices = (
        (known.tiers, "TIER_ID"),
        (known.tier_types, "LINGUISTIC_TYPE_REF"),
        (known.subjects, "PARTICIPANT"),
    )
    return all(fits(tier.get(attribute, ""), patterns) for patterns, attribute in choices)


def _media(root: ElementTree.Element, path: Path) -> tuple[str, float, list[str]]:
    """Name of the annotated video, the time in it at which ELAN counts 0, and remarks.

    It is the first video, else the first file: the audio track may be listed before the video.
    """
    media_files = root.findall("HEADER/MEDIA_DESCRIPTOR")
    videos = [m for m in media_files if m.get("MIME_TYPE", "").startswith("video/") or is_video(Path(_address(m)))]
    header = root.find("HEADER")
    if not media_files:
        old = "" if header is None else header.get("MEDIA_FILE", "")
        said = [] if old else [f"{path}: names no media file; the video is called '{path.stem}', as this file is"]
        return name_of_file(old) if old else path.stem, 0.0, said
    media = next(iter(videos or media_files))
    name = name_of_file(_address(media)) or path.stem
    others = sorted({name_of_file(_address(other)) for other in videos} - {name})
    remarks = [f"{path}: shows {len(videos)} videos; actions are those of '{name}', not of {listed(others)}"]
    origin = media.get("TIME_ORIGIN") or "0"
    return name, number(origin, f"{path}: TIME_ORIGIN") / _MS, remarks if others else []


def _address(media: ElementTree.Element) -> str:
    return media.get("MEDIA_URL") or media.get("RELATIVE_MEDIA_URL") or ""


def _unit_s(root: ElementTree.Element, path: Path) -> tuple[float, list[str]]:
    header = root.find("HEADER")
    unit = "milliseconds" if header is None else header.get("TIME_UNITS") or "milliseconds"
    if unit not in _UNITS_S:
        raise AnnotationError(f"{path}: TIME_UNITS is '{unit}'; expected {', '.join(_UNITS_S)}")
    said = f"{path}: TIME_UNITS is '{unit}', so times are read as frames, of {_UNITS_S[unit]:.6g} s each"
    return _UNITS_S[unit], [] if unit == "milliseconds" else [said]


def _actions(
    root: ElementTree.Element, path: Path, tiers: Collection[ElementTree.Element], *, unit_s: float, origin_s: float
) -> tuple[list[Annotation], list[str], list[str]]:
    """Actions of the tiers, a line for each annotation without a time, and remarks on labels."""
    slots = [s for s in root.findall("TIME_ORDER/TIME_SLOT") if s.get("TIME_VALUE") is not None]
    spans = spans_of(root, {s.get("TIME_SLOT_ID", ""): _value(s) for s in slots})
    entries, vocabularies = _entries(root), _vocabularies(root)
    found, losses = [], []
    unnamed: Counter[str] = Counter()
    other = 0
    for tier in tiers:
        name = tier.get("TIER_ID", "")
        for item in tier.findall("ANNOTATION/*"):
            value = " ".join((item.findtext("ANNOTATION_VALUE") or "").split())
            entry = entries.get((vocabularies.get(tier.get("LINGUISTIC_TYPE_REF")), item.get("CVE_REF")), [])
            label = value or next(iter(entry), "") or name
            unnamed[name] += not value and not entry
            other += bool(value and entry and value not in entry)
            if item not in spans:
                losses.append(_without_time(item, label, f"{path}: tier '{name}'"))
                continue
            if any(map(math.isnan, spans[item])):
                what = f"{path}: tier '{name}': '{label}' ({item.get('ANNOTATION_ID', 'no id')}) is left out"
                losses.append(f"{what}: it depends on a time slot whose TIME_VALUE is not a number")
                continue
            start_s, end_s = (round(ms * unit_s + origin_s, _DECIMALS) for ms in spans[item])
            found.append(Annotation(start_s, end_s, label))
    tiers_named = ", ".join(f"'{name}' ({count})" for name, count in unnamed.items() if count)
    remarks = [f"{path}: annotations without a value are labelled by their tier: {tiers_named}"] if tiers_named else []
    if other:
        remarks.append(f"{path}: {other} values differ from their controlled vocabulary's entry; the values are used")
    return found, losses, remarks


def _value(slot: ElementTree.Element) -> float:
    """The value of a time slot; one that is not a number is NaN, and so is every time that depends on it."""
    try:
        return number(slot.get("TIME_VALUE"), "slot")
    except AnnotationError:
        return math.nan


def _without_time(item: ElementTree.Element, label: str, where: str) -> str:
    what = f"{where}: '{label}' ({item.get('ANNOTATION_ID', 'no id')}) is left out"
    if item.tag == "REF_ANNOTATION":
        return f"{what}: it refers to {item.get('ANNOTATION_REF', 'nothing')}, which has no time"
    slots = " and ".join(str(item.get(f"TIME_SLOT_REF{end}")) for end in (1, 2))
    return f"{what}: of its time slots {slots}, one has no time and is in no chain between two that have"


def _vocabularies(root: ElementTree.Element) -> Mapping[str | None, str | None]:
    types = root.findall("LINGUISTIC_TYPE")
    return {one.get("LINGUISTIC_TYPE_ID"): one.get("CONTROLLED_VOCABULARY_REF") for one in types}


def _entries(root: ElementTree.Element) -> Mapping[tuple[str | None, str | None], list[str]]:
    """Values, one per language, of the entries of controlled vocabularies, by the names of both."""
    return {
        (vocabulary.get("CV_ID"), entry.get("CVE_ID")): [
            text for value in entry.findall("CVE_VALUE") if (text := " ".join((value.text or "").split()))
        ]
        for vocabulary in root.findall("CONTROLLED_VOCABULARY")
        for entry in vocabulary.findall("CV_ENTRY_ML")
    }


def write_elan(folder: Path, videos: Sequence[SourceVideo], known: Known) -> None:
    """Write ``<video>.eaf`` for each video into ``folder``; subset, duration and rate are properties of its header."""
    for video in videos:
        write_elan_file(folder / f"{video.name}.eaf", video, known)


def write_elan_file(path: Path, video: SourceVideo | None, known: Known) -> None:
    """Write the annotations of one video; None writes a file without annotations that names no video."""
    root = _tree(SourceVideo("", ()), "") if video is None else _tree(video, file_of(video, known))
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'
    write_text(path, text, durable=False)  # there may be thousands


def _tree(video: SourceVideo, file: str) -> ElementTree.Element:
    about = {"AUTHOR": "tadkit", "DATE": _DATE, "FORMAT": "3.0", "VERSION": "3.0", _SCHEMA_LOCATION: _SCHEMA}
    root = ElementTree.Element("ANNOTATION_DOCUMENT", about)
    header = ElementTree.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    if file:  # the plain file name: ELAN looks for it beside the .eaf
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


_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_SCHEMA_LOCATION = "{http://www.w3.org/2001/XMLSchema-instance}noNamespaceSchemaLocation"
"""ELAN writes it, and pympi does not read files without it."""
_DATE = "2000-01-01T00:00:00+00:00"
"""Fixed, so that equal annotations give equal files."""


def _ends(whole_ms: tuple[int, int, str]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Slot number and milliseconds of either end."""
    return (1, whole_ms[0]), (2, whole_ms[1])


def _whole_ms(lane: Sequence[Annotation]) -> list[tuple[int, int, str]]:
    return [(round(a.start_s * _MS), round(a.end_s * _MS), a.label) for a in lane]
