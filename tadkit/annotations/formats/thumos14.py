"""THUMOS14 in the forms that go round: the official text files, and the JSON and csv of AFSD, ActionFormer, OpenTAD.

Its *validation* videos are what models train on, and its *test* videos what they are judged on; each form has words of
its own for the two, so they are looked up by form: here they are always ``training`` and ``testing``. Instances marked
``Ambiguous`` keep that label (Jiang et al., THUMOS challenge 2014; AFSD: Lin et al., CVPR 2021).
"""

from __future__ import annotations

import re
from pathlib import Path

from tadkit.annotations.formats.activitynet import read_database
from tadkit.annotations.formats.source import Source, SourceVideo, action, gathered, number, read_table, read_text
from tadkit.errors import AnnotationError
from tadkit.records import Annotation

OFFICIAL = {"val": "training", "test": "testing"}
AFSD = {"train": "training", "test": "testing"}
ACTIONFORMER = {"Validation": "training", "Test": "testing", "validation": "training", "test": "testing"}
OPENTAD = {"training": "training", "validation": "testing"}
_LINE = re.compile(r"(\S+)\s+(\S+)\s+(\S+)")


def read_official(path: Path) -> Source:
    """Read ``<Class>_val.txt`` and ``<Class>_test.txt`` of a folder, or of its folders ``val`` and ``test``.

    Raises:
        AnnotationError: there is no such file, or a line is not ``video start end``.
    """
    found = [file for pattern in ("*.txt", "*/*.txt") for file in sorted(path.glob(pattern))]
    files = [(file, match) for file in found if (match := re.fullmatch(r"(\w+)_(val|test)\.txt", file.name))]
    if not files:
        raise AnnotationError(f"{path}: no file such as GolfSwing_val.txt or GolfSwing_test.txt in this folder")
    subsets: dict[str, str] = {}
    rows = []
    for file, match in files:
        for video, annotation in read_lines(file, match[1]):
            rows.append((video, annotation))
            subsets[video] = OFFICIAL[match[2]]
    by_video = gathered(rows)
    return Source(tuple(SourceVideo(name, tuple(by_video[name]), subsets[name]) for name in sorted(by_video)))


def read_lines(path: Path, label: str) -> list[tuple[str, Annotation]]:
    """Lines ``video start end`` of one class.

    Raises:
        AnnotationError: a line is something else.
    """
    rows = []
    for count, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            where = f"{path}, line {count}:"
            match = _LINE.fullmatch(line.strip())
            if match is None:
                raise AnnotationError(f"{where} {line.strip()!r}; expected: video start end")
            rows.append((match[1], action(match[2], match[3], label, f"{where} '{match[1]}'")))
    return rows


def read_afsd(path: Path) -> Source:
    """Read AFSD's JSON, one of its ``*_Annotation.csv``, or its folder (the JSON).

    Durations and frame rates come from ``val_video_info.csv`` and ``test_video_info.csv`` beside it, where they are.

    Raises:
        AnnotationError: not in this form.
    """
    if path.is_dir():
        path = path / "thumos_gt.json"
    source = _afsd_table(path) if path.suffix == ".csv" else read_database(path, subsets=AFSD)
    info = {}
    for name in ("val_video_info.csv", "test_video_info.csv"):
        if (path.parent / name).is_file():
            info.update({row["video"]: row for row in read_table(path.parent / name, "video", "fps", "count")})
    return Source(tuple(_with_info(video, info.get(video.name), path) for video in source.videos))


def _afsd_table(path: Path) -> Source:
    part = path.name.partition("_")[0]
    if part not in OFFICIAL:
        raise AnnotationError(f"{path}: expected val_Annotation.csv or test_Annotation.csv")
    rows = read_table(path, "video", "type", "start", "end")
    by_video = gathered(
        (row["video"], action(row["start"], row["end"], row["type"], f"{path}: '{row['video']}'")) for row in rows
    )
    return Source(tuple(SourceVideo(name, tuple(found), OFFICIAL[part]) for name, found in by_video.items()))


def _with_info(video: SourceVideo, info: dict[str, str] | None, path: Path) -> SourceVideo:
    if info is None:
        return video
    where = f"{path.parent}: '{video.name}' in video_info.csv"
    fps = number(info["fps"], f"{where} fps", unit="frames a second")
    frames = number(info["count"], f"{where} count", unit="a number of frames")
    return SourceVideo(video.name, video.annotations, video.subset, frames / fps, fps)
