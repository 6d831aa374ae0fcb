"""Annotation formats of datasets and tools, one module each: all are read, those of tools also written."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import assert_never

from tadkit.annotations.formats.activitynet import read_database
from tadkit.annotations.formats.bmn import read_bmn
from tadkit.annotations.formats.boris import read_boris, write_boris
from tadkit.annotations.formats.charades import read_charades
from tadkit.annotations.formats.cvat import read_cvat
from tadkit.annotations.formats.cvat_writer import write_cvat
from tadkit.annotations.formats.ego4d import read_ego4d
from tadkit.annotations.formats.elan import read_elan, write_elan
from tadkit.annotations.formats.epic_kitchens import read_epic_kitchens
from tadkit.annotations.formats.frames import FrameTimes
from tadkit.annotations.formats.guess import guess
from tadkit.annotations.formats.label_studio import read_label_studio, write_label_studio
from tadkit.annotations.formats.numbered import read_classes, read_multithumos
from tadkit.annotations.formats.plain_csv import read_plain_csv
from tadkit.annotations.formats.reports import MALFORMED, malformed
from tadkit.annotations.formats.source import Known, Source, SourceVideo, file_of, forward, read_table
from tadkit.annotations.formats.thumos14 import ACTIONFORMER, OPENTAD, read_afsd, read_official
from tadkit.annotations.formats.via import read_via, write_via
from tadkit.annotations.forms import Format, Tool
from tadkit.errors import AnnotationError

__all__ = [
    "Format",
    "FrameTimes",
    "Known",
    "Source",
    "SourceVideo",
    "Tool",
    "first_losses",
    "guess",
    "read_annotations",
    "read_classes",
    "read_table",
    "write_annotations",
]


_MOST_LOSSES = 5
_PUBLISHED_REVERSED: dict[Format, int] = {"charades": 7}
"""Segments that end before they start in datasets as published."""


def read_annotations(path: Path, form: Format, known: Known) -> Source:
    """Read annotations of any format.

    Args:
        path: file or folder.
        form: its format; see :func:`guess`.
        known: information that the source lacks.

    Raises:
        AnnotationError: missing, or not in this format; one line that names the file, the video and the value.
    """
    if not path.exists():
        raise AnnotationError(f"{path}: no such file or folder")
    try:
        source = _read(path, form, known)
    except MALFORMED as cause:
        raise malformed(path, form, cause) from cause
    if source.losses and not source.videos:
        raise AnnotationError("; ".join((*first_losses(source.losses), *source.remarks)))
    names = Counter(video.name for video in source.videos)
    if twice := [name for name, count in names.items() if count > 1]:
        raise AnnotationError(f"{path}: the video '{twice[0]}' is listed twice; keep one of its files or entries")
    return forward(source, path, published=_PUBLISHED_REVERSED.get(form, 0))


def first_losses(losses: Sequence[str]) -> tuple[str, ...]:
    """The losses that an error names; if there are more, their count and that nothing is left."""
    more = len(losses) - _MOST_LOSSES
    return (*losses[:_MOST_LOSSES], *([f"and {more} more, so that no labelled video is left"] if more > 0 else []))


def _read(path: Path, form: Format, known: Known) -> Source:
    match form:
        case "tadkit" | "activitynet" | "hacs" | "fineaction":
            return read_database(path)
        case "bmn":
            return read_bmn(path)
        case "thumos14":
            return read_official(path)
        case "thumos14-afsd":
            return read_afsd(path)
        case "thumos14-actionformer":
            return read_database(path, subsets=ACTIONFORMER)
        case "thumos14-opentad":
            return read_database(path, subsets=OPENTAD)
        case "multithumos":
            return read_multithumos(path, known)
        case "charades":
            return read_charades(path, known)
        case "epic-kitchens":
            return read_epic_kitchens(path, known)
        case "ego4d-mq":
            return read_ego4d(path)
        case "csv":
            return read_plain_csv(path, known)
        case "boris" | "elan" | "cvat" | "label-studio" | "via":
            return _read_tool(path, form, known)
        case _:
            assert_never(form)


def _read_tool(path: Path, form: Tool, known: Known) -> Source:
    match form:
        case "boris":
            return read_boris(path, known)
        case "elan":
            return read_elan(path, known)
        case "cvat":
            return read_cvat(path, known)
        case "label-studio":
            return read_label_studio(path, known)
        case "via":
            return read_via(path, known)
        case _:
            assert_never(form)


def write_annotations(path: Path, form: Tool, videos: Sequence[SourceVideo], known: Known) -> None:
    """Write annotations for a tool: ``path`` is a file; for ELAN and CVAT a folder with one file per video.

    Read back, segments agree within half a millisecond (BORIS and ELAN keep milliseconds) or exactly (the others).

    Raises:
        AnnotationError: a name or label that the tool cannot store, or CVAT without a frame rate; nothing is written
            then.
    """
    for video in videos:
        file_of(video, known)
        for label in {a.label for a in video.annotations}:
            if label != label.strip() or not label or re.search(r"[\0-\x1f\x7f\ud800-\udfff\ufffe\uffff]", label):
                raise AnnotationError(
                    f"'{video.name}': label {label!r} is empty, has spaces around it or control characters"
                )
    match form:
        case "boris":
            write_boris(path, videos, known)
        case "elan":
            write_elan(path, videos, known)
        case "cvat":
            write_cvat(path, videos, known)
        case "label-studio":
            write_label_studio(path, videos, known)
        case "via":
            write_via(path, videos, known)
        case _:
            assert_never(form)
