"""What every reader of annotations returns, and how text, numbers, tables and XML are read from untrusted files."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from tadkit.annotations.formats.frames import FrameTimes
from tadkit.errors import AnnotationError
from tadkit.records import Annotation, shown


@dataclass(frozen=True)
class SourceVideo:
    """One video of a source; what the source does not contain is None.

    Attributes:
        name: key in tadkit's annotations.
        annotations: actions in seconds, in the order of the source.
        subset: ``training``, ``validation``, ``testing``, or the source's own name.
        duration_s: length.
        fps: frames per second.
    """

    name: str
    annotations: tuple[Annotation, ...]
    subset: str = ""
    duration_s: float | None = None
    fps: float | None = None


@dataclass(frozen=True)
class Source:
    """What was read from a source.

    Attributes:
        videos: its annotated videos.
        remarks: a line for each assumption, and for what the format leaves out by design.
        losses: a line for each annotation, video or file that could not be read, naming its place.
    """

    videos: tuple[SourceVideo, ...]
    remarks: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """What the user supplies besides the source.

    Attributes:
        classes: class names by number or code, for sources that have numbers only.
        noun: EPIC-KITCHENS: use nouns as labels instead of verbs.
        fps: frame rate of frame-based formats, used when neither source nor video gives one.
        frame_times: rate or time stamps of some videos.
        attribute: the attribute (CVAT, VIA) or control (Label Studio) that holds the classes; None detects it.
        rater: whose labels to use where several people labelled a video (Label Studio).
        lengths: durations in seconds by video, which replace what a source only assumes.
        tiers: ELAN: names or patterns (``*``, ``?``) of the tiers to read; empty reads all.
        tier_types: ELAN: the same for the linguistic types of tiers.
        subjects: BORIS's subjects, or ELAN's participants, to read; empty reads all.
        observations: BORIS: observations to read; empty reads all.
    """

    classes: Mapping[str, str] | None = None
    noun: bool = False
    fps: float | None = None
    frame_times: Mapping[str, FrameTimes] = field(default_factory=dict)
    attribute: str | None = None
    rater: str | None = None
    lengths: Mapping[str, float] = field(default_factory=dict)

    def length_s(self, video: str) -> float | None:
        """The duration of ``video``: that of its file, else the one that the user gives; None if there is neither."""
        found = self.frame_times.get(video, FrameTimes()).duration_s
        return self.lengths.get(video) if found is None else found

    tiers: tuple[str, ...] = ()
    tier_types: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    observations: tuple[str, ...] = ()

    def times_of(self, video: str, *, fps: float | None = None) -> FrameTimes:
        """When the frames of ``video`` are shown; ``fps`` is the source's own rate."""
        found = self.frame_times.get(video, FrameTimes())
        return found if found.stamps_s is not None else replace(found, fps=found.fps or fps or self.fps)


def number(value: Any, where: str, *, unit: str = "a number of seconds") -> float:
    """A finite number, from a number or text.

    Raises:
        AnnotationError: anything else; the message starts with ``where``.
    """
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise AnnotationError(f"{where} is {shown(value)}; expected {unit}")
    return found


def maybe_number(value: Any, where: str, *, unit: str = "a number of seconds") -> float | None:
    """As :func:`number`; None, empty text and a number that is not positive mean unknown."""
    found = None if value is None or value == "" else number(value, where, unit=unit)
    return found if found is not None and found > 0 else None


def action(start: Any, end: Any, label: str, where: str) -> Annotation:
    """An annotation from numbers or text; it may end before it starts, which :func:`forward` removes.

    Raises:
        AnnotationError: not numbers; the message starts with ``where``.
    """
    return Annotation(number(start, f"{where} start"), number(end, f"{where} end"), label)


def forward(source: Source, path: Path, *, published: int = 0) -> Source:
    """The source without segments that end before they start, which are a loss.

    Up to ``published`` of them, as many as the published files have, are a remark.
    """
    wrong = [(video.name, a) for video in source.videos for a in video.annotations if a.end_s < a.start_s]
    if not wrong:
        return source
    named = ", ".join(f"'{name}' [{a.start_s:g}, {a.end_s:g}]" for name, a in wrong)
    said = f"{path}: {len(wrong)} segments end before they start and are left out: {named}"
    videos = tuple(
        replace(video, annotations=tuple(a for a in video.annotations if a.end_s >= a.start_s))
        for video in source.videos
    )
    if len(wrong) <= published:
        return Source(videos, (*source.remarks, said), source.losses)
    return Source(videos, source.remarks, (*source.losses, said))


def gathered(rows: Iterable[tuple[str, Annotation]]) -> dict[str, list[Annotation]]:
    """Annotations by video, in their order."""
    found: dict[str, list[Annotation]] = {}
    for video, annotation in rows:
        found.setdefault(video, []).append(annotation)
    return found


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, with or without a byte-order mark.

    Raises:
        AnnotationError: missing, not a file, or not text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as cause:
        raise AnnotationError(f"{path}: no such file") from cause
    except OSError as cause:
        raise AnnotationError(f"{path}: cannot be read as a text file ({cause})") from cause
    except UnicodeDecodeError as cause:
        raise AnnotationError(
            f"{path}: cannot be read as a text file, since it is not in UTF-8; save it as UTF-8, which Excel calls "
            "'CSV UTF-8'"
        ) from cause


def read_table(path: Path, *columns: str, delimiter: str = ",") -> list[dict[str, str]]:
    """Rows of a CSV file with a heading line.

    Raises:
        AnnotationError: unreadable, without one of ``columns``, or a row has more cells than the heading.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, restval="")
    try:
        headings = [heading.strip() for heading in reader.fieldnames or []]
        reader.fieldnames = headings
        if missing := [column for column in columns if column not in headings]:
            raise AnnotationError(f"{path}: no column '{missing[0]}'; expected columns {', '.join(columns)}")
        return [_row(row, f"{path}, row {reader.line_num}:") for row in reader]
    except csv.Error as cause:
        raise AnnotationError(f"{path}: not a table ({cause}); is a quotation mark never closed?") from cause


def refuse_surplus(cells: Iterable[object], where: str) -> None:
    """Refuse a row with cells beyond the heading, whose other cells may be in the wrong columns.

    Raises:
        AnnotationError: one of ``cells`` is not empty.
    """
    if any(str(cell).strip() for cell in cells):
        raise AnnotationError(
            f"{where} has more cells than the heading; write decimals with a point, and put text that has a comma in "
            "quotation marks"
        )


def _row(row: Mapping[Any, Any], where: str) -> dict[str, str]:
    refuse_surplus(row.get(None) or (), where)
    return {key: (value or "").strip() for key, value in row.items() if isinstance(key, str)}


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file; document types and entities are refused, so nothing is expanded or fetched.

    Raises:
        AnnotationError: missing, not XML, or with a document type, which could define entities.
    """
    text = re.sub(r"^\s*<\?xml[^>]*\?>", "", read_text(path))
    try:
        root: ElementTree.Element = fromstring(text, forbid_dtd=True)
    except DefusedXmlException as cause:
        raise AnnotationError(
            f"{path}: has a document type (<!DOCTYPE>), which annotation tools do not write; remove it"
        ) from cause
    except ElementTree.ParseError as cause:
        raise AnnotationError(f"{path}: not XML ({cause})") from cause
    return root


def name_of_file(text: str) -> str:
    """A video's name from a path or URL: the file name without its suffix."""
    plain = text
    if "://" in text or text.startswith("/data/"):  # Label Studio gives local files in the query ?d=
        plain = unquote(text.rpartition("?d=")[2] if "?d=" in text else re.split("[?#]", text)[0])
    return PurePosixPath(plain.replace("\\", "/")).stem


def described(name: str, found: Iterable[Annotation], said: Mapping[str, Any], where: str) -> SourceVideo:
    """A video with sorted actions; ``said`` has its subset, duration_s and fps, as numbers or text.

    Raises:
        AnnotationError: a value is not a number; the message starts with ``where``.
    """
    return SourceVideo(
        name=name,
        annotations=tuple(sorted(found, key=lambda a: (a.start_s, a.end_s))),
        subset=str(said.get("subset") or ""),
        duration_s=maybe_number(said.get("duration_s"), f"{where} duration"),
        fps=maybe_number(said.get("fps"), f"{where} fps", unit="frames per second"),
    )


def file_of(video: SourceVideo, known: Known) -> str:
    """The file name of a video for annotation tools.

    Raises:
        AnnotationError: the name contains a path separator, which no tool can store.
    """
    if re.search(r"[/\\\0]", video.name) or not video.name.strip(". "):
        raise AnnotationError(f"'{video.name}' is not a file name that annotation tools can store; rename the video")
    return known.frame_times.get(video.name, FrameTimes()).file or f"{video.name}.mp4"


def lanes(annotations: Iterable[Annotation]) -> list[list[Annotation]]:
    """Annotations in the fewest lanes without overlap, each sorted by time."""
    found: list[list[Annotation]] = []
    for annotation in sorted(annotations, key=lambda a: (a.start_s, a.end_s)):
        free = [lane for lane in found if lane[-1].end_s <= annotation.start_s]
        if free:
            free[0].append(annotation)
        else:
            found.append([annotation])
    return found


def resolved(subset: str, subsets: Mapping[str, str], where: str) -> str:
    """The name in tadkit of a source's ``subset``, an exact look-up.

    Raises:
        AnnotationError: this format does not use it.
    """
    if subset not in subsets:
        names = ", ".join(f"'{name}'" for name in subsets)
        raise AnnotationError(
            f"{where} has subset '{subset}'; this format uses {names}; --from activitynet keeps any name as it is"
        )
    return subsets[subset]
