"""THUMOS14: the official text files, and the JSON and csv files of AFSD, ActionFormer and OpenTAD.

Models are trained on its *validation* videos and evaluated on its *test* videos. Each format has its own names for the
two; here they are always ``training`` and ``testing``. Instances marked ``Ambiguous`` keep that label
(Jiang et al., THUMOS challenge 2014; AFSD: Lin et al., CVPR 2021).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tadkit.annotations.formats.activitynet import read_database
from tadkit.annotations.formats.items import each
from tadkit.annotations.formats.source import Source, SourceVideo, action, gathered, number, read_table, read_text
from tadkit.errors import AnnotationError
from tadkit.records import Annotation

OFFICIAL = {"val": "training", "test": "testing"}
AFSD = {"train": "training", "test": "testing"}
ACTIONFORMER = {"Validation": "training", "Test": "testing", "validation": "training", "test": "testing"}
OPENTAD = {"training": "training", "validation": "testing"}
_LINE = re.compile(r"(\S+)\s+(\S+)\s+(\S+)")


def read_official(path: Path) -> Source:
    """Read ``<Class>_val.txt`` and ``<Class>_test.txt`` in a folder, or in its subfolders ``val`` and ``test``.

    A line that is not ``video start end`` is a loss.

    Raises:
        AnnotationError: no such file.
    """
    found = [file for pattern in ("*.txt", "*/*.txt") for file in sorted(path.glob(pattern))]
    files = [(file, match) for file in found if (match := re.fullmatch(r"(\w+)_(val|test)\.txt", file.name))]
    if not files:
        raise AnnotationError(f"{path}: no file such as GolfSwing_val.txt or GolfSwing_test.txt in this folder")
    subsets: dict[str, str] = {}
    rows = []
    losses: list[str] = []
    for file, match in files:
        for video, annotation in read_lines(file, match[1], losses):
            rows.append((video, annotation))
            subsets[video] = OFFICIAL[match[2]]
    by_video = gathered(rows)
    videos = tuple(SourceVideo(name, tuple(by_video[name]), subsets[name]) for name in sorted(by_video))
    return Source(videos, losses=tuple(losses))


def read_lines(path: Path, label: str, losses: list[str]) -> list[tuple[str, Annotation]]:
    """Lines ``video start end`` of one class; any other line is added to ``losses``."""
    lines = [(place, line.strip()) for place, line in enumerate(read_text(path).splitlines(), start=1) if line.strip()]
    return each(lines, lambda line: _line(line[1], label, f"{path}, line {line[0]}:"), losses)


def _line(line: str, label: str, where: str) -> tuple[str, Annotation]:
    match = _LINE.fullmatch(line)
    if match is None:
        raise AnnotationError(f"{where} {line!r}; expected: video start end")
    return match[1], action(match[2], match[3], label, f"{where} '{match[1]}'")


def read_afsd(path: Path) -> Source:
    """Read AFSD's JSON, one of its ``*_Annotation.csv``, or its folder (the JSON).

    Durations and frame rates come from ``val_video_info.csv`` and ``test_video_info.csv`` beside it, if present.

    Raises:
        AnnotationError: not in this format.
    """
    if path.is_dir():
        path = path / "thumos_gt.json"
    source = _afsd_table(path) if path.suffix == ".csv" else read_database(path, subsets=AFSD)
    info = {}
    for name in ("val_video_info.csv", "test_video_info.csv"):
        if (path.parent / name).is_file():
            info.update({row["video"]: row for row in read_table(path.parent / name, "video", "fps", "count")})
    return replace(source, videos=tuple(_with_info(video, info.get(video.name), path) for video in source.videos))


def _afsd_table(path: Path) -> Source:
    part = path.name.partition("_")[0]
    if part not in OFFICIAL:
        raise AnnotationError(f"{path}: expected val_Annotation.csv or test_Annotation.csv")
    losses: list[str] = []
    rows = enumerate(read_table(path, "video", "type", "start", "end"), start=2)
    by_video = gathered(each(rows, lambda row: _row(row[1], f"{path}, row {row[0]}:"), losses))
    videos = tuple(SourceVideo(name, tuple(found), OFFICIAL[part]) for name, found in by_video.items())
    return Source(videos, losses=tuple(losses))


def _row(row: Mapping[str, str], where: str) -> tuple[str, Annotation]:
    return row["video"], action(row["start"], row["end"], row["type"], f"{where} '{row['video']}'")


def _with_info(video: SourceVideo, info: dict[str, str] | None, path: Path) -> SourceVideo:
    if info is None:
        return video
    where = f"{path.parent}: '{video.name}' in video_info.csv"
    fps = number(info["fps"], f"{where} fps", unit="frames per second")
    frames = number(info["count"], f"{where} count", unit="a number of frames")
    return SourceVideo(video.name, video.annotations, video.subset, frames / fps, fps)
