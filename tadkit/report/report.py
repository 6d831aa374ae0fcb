"""``tadkit report``: one HTML page with the videos, their detections and annotations, to look at or to edit."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from tadkit.errors import UsageError, VideoError, printable
from tadkit.files import digest_of, write_text
from tadkit.flow.panels import encoded
from tadkit.progress import Progress
from tadkit.records import (
    AMBIGUOUS,
    HIGH_CONFIDENCE,
    Annotation,
    Detection,
    DetectionsFile,
    VideoRecord,
    read_dataset,
    read_detections_file,
)
from tadkit.report.comparison import TIOUS, Comparison, compare
from tadkit.report.page_file import page_text
from tadkit.video import open_video
from tadkit.video.container import codec_name
from tadkit.video.discovery import find_video, named, videos_in
from tadkit.video.index import build_index

SUFFIXES = (".html", ".htm")
THUMBNAIL_PX = 160
"""Longer side of a picture in the index."""
THUMBNAIL_AT = 0.3
"""The picture shows the frame after this share of the video."""
_NO_DETECTIONS = DetectionsFile({}, {}, {}, None)
_NAMED = 3


class ReportResult(NamedTuple):
    """What was written."""

    out: Path
    videos: int
    detections: int
    annotations: int
    missing: Sequence[str]
    """Names of the videos without a file, or with one that cannot be read."""


@dataclass
class _Video:
    """One video of the page; a file that is missing or cannot be read has a ``problem``."""

    name: str
    record: VideoRecord | None
    detections: Sequence[Detection]
    stated_s: float | None
    path: Path | None = None
    problem: str | None = None
    codec: str | None = None
    file_s: float | None = None
    thumbnail: str | None = field(default=None, repr=False)
    stretches: Sequence[tuple[float, float]] = ()

    @property
    def actions(self) -> Sequence[Annotation]:
        return () if self.record is None else self.record.annotations

    @property
    def known_s(self) -> float | None:
        """Duration as annotated, as in the detections file, or of the video file."""
        annotated = None if self.record is None else self.record.duration_s
        return next((one for one in (annotated, self.stated_s, self.file_s) if one is not None), None)


def write_report(
    out: Path,
    *,
    detections: Path | None = None,
    truth: Path | None = None,
    videos: Path | None = None,
    recursive: bool = False,
    labels: Sequence[str] = (),
    edit: bool = False,
    progress: Progress,
) -> ReportResult:
    """Write the page.

    It shows the videos of the detections file; with ``edit`` those of the annotations, too, so that none is lost; and
    without detections those of the annotations and the folder.

    Args:
        out: the page, ``.html``.
        detections: detections file.
        truth: annotations; with ``edit``, those to correct.
        videos: folder of the videos, which the page names by their path from its own folder.
        recursive: search the folder's sub-folders, too.
        labels: labels to offer beside those of the files.
        edit: annotations can be made, changed and downloaded.
        progress: reports videos, and warns of those that are missing or cannot be read.

    Raises:
        UsageError: nothing to show, a label given twice, or ``out`` has another suffix, is an input or cannot be
            written.
        AnnotationError: a file is not what it should be.
        VideoError: the folder has no videos, or two whose names clash.
    """
    _check(out, detections, truth, videos, labels, edit=edit)
    found = _NO_DETECTIONS if detections is None else read_detections_file(detections)
    records = {} if truth is None else read_dataset(truth).videos
    files = {} if videos is None else _files(videos, recursive=recursive)
    annotated = set() if videos is None else {find_video(name, videos) for name in records}
    others = [name for name, path in files.items() if path not in annotated]
    names = _names(found, records, others, edit=edit, detected=detections is not None)
    if not names:
        raise UsageError(f"{detections or truth}: has no video to show")
    shown = [
        _Video(
            name,
            records.get(name),
            found.videos.get(name, ()),
            found.durations_s.get(name),
            stretches=found.stretches.get(name, ()),
        )
        for name in names
    ]
    _find_files(shown, videos, files, out, progress)
    title = next(path.name for path in (detections, truth, videos) if path is not None)
    warnings = _remarks(shown, progress, with_folder=videos is not None)
    every = _labels(shown, labels)
    data = _data(shown, found, every, out=out, title=title, truth=truth is not None, edit=edit, warnings=warnings)
    write_text(out, page_text(data, title=f"{title} · tadkit report"))
    return ReportResult(
        out,
        len(shown),
        sum(len(video.detections) for video in shown),
        sum(len(video.actions) for video in shown),
        [video.name for video in shown if video.path is None or video.problem is not None],
    )


def _check(
    out: Path, detections: Path | None, truth: Path | None, videos: Path | None, labels: Sequence[str], *, edit: bool
) -> None:
    if out.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{out}: the report is an HTML page; give it the suffix .html")
    if detections is None and truth is None and not (edit and videos is not None):
        raise UsageError(
            "nothing to show: give a detections file, or --truth ANNOTATIONS; to label videos from scratch, give "
            "--videos DIR and --edit"
        )
    if twice := next((label for number, label in enumerate(labels) if label in labels[:number]), None):
        raise UsageError(f"--labels: '{twice}' is given twice")
    if labels and not edit:
        raise UsageError("--labels: needs --edit; without it there is nothing to label")


def _files(folder: Path, *, recursive: bool) -> dict[str, Path]:
    """Videos of a folder, by the names that annotations give them: the path from the folder, without suffix."""
    if not folder.is_dir():
        raise VideoError(f"{folder}: no such folder; --videos is the folder of the videos")
    files: dict[str, Path] = {}
    for path in videos_in([folder], recursive=recursive):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in files:
            raise VideoError(f"{path} and {files[name].name}: both are '{name}' in annotations; rename one of them")
        files[name] = path
    return files


def _names(
    found: DetectionsFile,
    records: Mapping[str, VideoRecord],
    others: Sequence[str],
    *,
    edit: bool,
    detected: bool,
) -> list[str]:
    """Names of the videos of the page; ``others`` are those of the folder that are not annotated."""
    names = list(found.videos)
    if edit or not detected:
        names += [name for name in records if name not in found.videos]
    if edit and not detected:
        names += [name for name in others if name not in records]
    return names


def _find_files(
    shown: Sequence[_Video], folder: Path | None, files: Mapping[str, Path], out: Path, progress: Progress
) -> None:
    """Find the file of each video, and take its length and a picture."""
    if folder is None:
        return
    unique = named(list(files.values()))  # as tadkit detect names the videos of folders
    owner: dict[Path, str] = {}
    progress.start("videos", total=len(shown), unit="videos")
    for video in shown:
        video.path = find_video(video.name, folder) or unique.get(video.name)
        if video.path is None:
            video.problem = f"There was no file for '{video.name}' in {folder} when this page was made."
        elif (other := owner.setdefault(video.path.resolve(), video.name)) != video.name:
            raise VideoError(f"{video.path}: is the file of both '{other}' and '{video.name}'; rename one of them")
        else:
            if video.path.resolve() == out.resolve():
                raise UsageError(f"--out {out}: is an input of this command; choose another file")
            _look_into(video, video.path)
        progress.advance(note=video.name)


def _look_into(video: _Video, path: Path) -> None:
    try:
        video.codec = codec_name(path)
        index = build_index(path)
        video.file_s = index.duration_s
        scale = THUMBNAIL_PX / max(index.size_hw)
        height, width = (max(2, round(side * scale)) for side in index.size_hw)
        with open_video(path, size_hw=(height, width)) as reader:
            frame = reader.read([int(THUMBNAIL_AT * (len(reader.stamps_s) - 1))])[0]
        video.thumbnail = "data:image/jpeg;base64," + base64.b64encode(encoded(frame, ".jpg")).decode()
    except VideoError as error:
        video.problem = str(error)


def _remarks(shown: Sequence[_Video], progress: Progress, *, with_folder: bool) -> list[str]:
    """Warn of videos that are missing or cannot be read, and say so on the page."""
    missing = [video.name for video in shown if video.path is None] if with_folder else []
    remarks = []
    if missing:
        some = ", ".join(f"'{printable(name)}'" for name in missing[:_NAMED]) + (
            ", ..." if len(missing) > _NAMED else ""
        )
        remarks.append(f"{len(missing)} of {len(shown)} videos have no file in --videos: {some}")
    remarks += [printable(video.problem) for video in shown if video.path is not None and video.problem is not None]
    for remark in remarks:
        progress.warn(remark)
    return [f"{remark}." for remark in remarks]


def _labels(shown: Sequence[_Video], given: Sequence[str]) -> list[str]:
    """The given labels, then all others in the order of the alphabet, the ambiguous one last."""
    others = {one.label for video in shown for one in (*video.actions, *video.detections)} - set(given)
    return [*given, *sorted(others, key=lambda label: (label == AMBIGUOUS, label))]


def _data(
    shown: Sequence[_Video],
    found: DetectionsFile,
    labels: Sequence[str],
    *,
    out: Path,
    title: str,
    truth: bool,
    edit: bool,
    warnings: Sequence[str],
) -> dict[str, Any]:
    """What the page reads."""
    judged = {video.name: video.actions for video in shown if video.record is not None}
    compared = compare({video.name: video.detections for video in shown}, judged, labels=labels) if not edit else {}
    scores = [one.score for video in shown for one in video.detections]
    entries = [_entry(video, compared.get(video.name), labels) for video in shown]
    data: dict[str, Any] = {
        "title": title,
        "about": _about(shown, found),
        "edit": edit,
        "truth": truth,
        "labels": labels,
        "ambiguous": AMBIGUOUS,
        "shown_from": dict(found.operating_points),
        "otherwise": HIGH_CONFIDENCE,
        "score_range": [min([0.0, *scores]), max([1.0, *scores])],
        "tious": TIOUS,
        "download": f"{Path(title).stem}-annotations.json",
    }
    digest = digest_of(data | {"videos": entries})
    for video, entry in zip(shown, entries, strict=True):
        entry |= {"url": _url(video.path, out), "problem": video.problem, "thumbnail": video.thumbnail}
    return data | {"videos": entries, "digest": digest, "warnings": list(warnings)}


def _entry(video: _Video, compared: Comparison | None, labels: Sequence[str]) -> dict[str, Any]:
    number = {label: place for place, label in enumerate(labels)}
    detections = sorted(video.detections, key=lambda d: d.start_s) if compared is None else compared.detections
    actions = video.actions if compared is None else compared.actions
    last_s = max((one.end_s for one in (*detections, *actions)), default=0.0)
    return {
        "name": video.name,
        "subset": "" if video.record is None else video.record.subset,
        "fps": None if video.record is None else video.record.fps,
        "duration": last_s if video.known_s is None else video.known_s,
        "exact": video.known_s is not None,
        "annotated": video.record is not None,
        "codec": video.codec,
        "stretches": video.stretches,
        "detections": [[d.start_s, d.end_s, number[d.label], d.score] for d in detections],
        "truth": [[a.start_s, a.end_s, number[a.label]] for a in actions],
        "matches": None
        if compared is None
        else {"taken": compared.taken, "nearest": compared.nearest, "overlap": compared.overlap},
    }


def _about(shown: Sequence[_Video], found: DetectionsFile) -> str:
    """A line of counts."""
    detections = sum(len(video.detections) for video in shown)
    actions = sum(len(video.actions) for video in shown)
    counts = [(len(shown), "video"), (detections, "detection"), (actions, "annotation")]
    parts = [f"{count} {noun}{'s' * (count != 1)}" for count, noun in counts if count]
    return " · ".join([*parts, *([f"model {found.model}"] if found.model else [])])


def _url(path: Path | None, out: Path) -> str | None:
    """Where the page finds a video: its path from the page's folder."""
    if path is None:
        return None
    try:
        relative = os.path.relpath(path.absolute(), out.absolute().parent)
    except ValueError:  # another drive
        return path.absolute().as_uri()
    return quote(os.fsencode(Path(relative).as_posix()))
