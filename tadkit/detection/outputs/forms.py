"""The form of an output by its suffix, and which videos go into which file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tadkit.detection.outputs.content import Content, safe_names
from tadkit.detection.outputs.cut_list import write_cut_list
from tadkit.detection.outputs.fiftyone import write_fiftyone
from tadkit.detection.outputs.subtitles import write_srt, write_vtt
from tadkit.detection.outputs.tables import pyarrow, write_csv, write_json, write_jsonl, write_parquet
from tadkit.errors import UsageError

PLACE = "{video}"
"""Stands in a path for the name of a video: one file for each."""


class Form(NamedTuple):
    """How a file is written.

    Attributes:
        write: writes it.
        has_all: whether it is for evaluation, with all detections; else for people, with those that are shown.
        one_video: whether a file can have one video only.
    """

    write: Callable[[Path, Content], None]
    has_all: bool = False
    one_video: bool = False


def _write_for_tool(path: Path, content: Content) -> None:
    """Write for an annotation tool; its writer is imported only now, since detecting starts faster without it."""
    from tadkit.detection.outputs.tools import WRITERS

    WRITERS[_suffix(path)](path, content)


FORMS: Mapping[str, Form] = {
    ".labelstudio.json": Form(_write_for_tool),
    ".via.json": Form(_write_for_tool),
    ".fiftyone.json": Form(write_fiftyone, has_all=True),
    ".json": Form(write_json, has_all=True),
    ".jsonl": Form(write_jsonl, has_all=True),
    ".csv": Form(write_csv, has_all=True),
    ".parquet": Form(write_parquet, has_all=True),
    ".srt": Form(write_srt, one_video=True),
    ".vtt": Form(write_vtt, one_video=True),
    ".eaf": Form(_write_for_tool, one_video=True),
    ".boris": Form(_write_for_tool),
    ".ffconcat": Form(write_cut_list),
}
"""Forms by suffix, in lower case; double suffixes come before single ones."""


def form_of(path: Path) -> Form:
    """The form that the suffix of ``path`` names; case is ignored.

    Raises:
        UsageError: none has that suffix.
    """
    return FORMS[_suffix(path)]


def _suffix(path: Path) -> str:
    for suffix in FORMS:
        if path.name.lower().endswith(suffix):
            return suffix
    singles = [suffix for suffix in FORMS if suffix.count(".") == 1]
    doubles = [suffix for suffix in FORMS if suffix.count(".") > 1]
    raise UsageError(
        f"{path}: detections are written as {', '.join((*singles, *doubles))}; choose one of these suffixes"
    )


def has_all(path: Path) -> bool:
    """Whether all detections go into ``path``, for evaluation, or those that are shown, for people."""
    return form_of(path).has_all


def refuse_form(path: Path, *, videos: int) -> None:
    """Refuse, before any work, a path that ``videos`` videos cannot be written to.

    Raises:
        UsageError: the suffix is unknown, or a file of its form has one video only.
        TadkitError: the form needs a package that is not installed.
    """
    form = form_of(path)
    if form.write is write_parquet:
        pyarrow()
    if form.one_video and videos > 1 and PLACE not in str(path):
        raise UsageError(
            f"{path}: {path.suffix} files have one video each, and there are {videos}; "
            f"put {PLACE} into the path, such as {path.with_name(f'{PLACE}{path.suffix}')}"
        )


def per_video(path: Path, names: Collection[str]) -> dict[Path, list[str]]:
    """The files that ``path`` stands for, each with the names of its videos."""
    if PLACE not in str(path):
        return {path: list(names)}
    return {Path(str(path).replace(PLACE, plain)): [name] for name, plain in safe_names(names).items()}


def write_content(path: Path, content: Content) -> list[Path]:
    """Write detections in the form that the suffix of ``path`` names; ``{video}`` in it gives a file for each video.

    Returns:
        The files that were written.

    Raises:
        UsageError: the suffix is unknown, there are several videos for a form that has one, or a file cannot be
            written.
        TadkitError: the form needs a package that is not installed.
    """
    refuse_form(path, videos=len(content.videos))
    write = form_of(path).write
    files = per_video(path, [video.name for video in content.videos])
    by_name = {video.name: video for video in content.videos}
    for file, names in files.items():
        write(file, replace(content, videos=tuple(by_name[name] for name in names)))
    return list(files)
