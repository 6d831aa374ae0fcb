"""``tadkit data check``: find mistakes in annotations, alone or against videos and features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tadkit.annotations.findings import Finding
from tadkit.annotations.mistakes import Entry, check_entries, number_of, published_form
from tadkit.annotations.presets import PresetName, preset
from tadkit.annotations.video_times import VideoTimes
from tadkit.errors import AnnotationError, VideoError
from tadkit.files import read_json
from tadkit.progress import Progress
from tadkit.store import read_store
from tadkit.video.discovery import VIDEO_SUFFIXES, find_video, is_video

_FPS_SHARE = 0.005
_DURATION_SHARE = 0.01
_DURATION_S = 0.5
_STEPS = 2.0


@dataclass(frozen=True)
class CheckResult:
    """What was checked and what was found.

    Attributes:
        videos: number of videos in the annotations.
        findings: in the order of the files.
        forms: for each subset, the published version whose counts it matches (with a preset).
    """

    videos: int
    findings: tuple[Finding, ...]
    forms: dict[str, str]

    @property
    def errors(self) -> int:
        """Number of errors."""
        return sum(finding.level == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """Number of warnings."""
        return len(self.findings) - self.errors


def check(
    paths: Sequence[Path],
    *,
    videos: Path | None = None,
    features: Path | None = None,
    dataset: PresetName | None = None,
    progress: Progress,
) -> CheckResult:
    """Find mistakes in annotations.

    Args:
        paths: ActivityNet-style JSON files that belong together, such as one per split.
        videos: folder of the videos; checks that each exists and has the annotated length and frame rate.
        features: feature store; checks that each video is in it and has the annotated length.
        dataset: published dataset that the annotations should match.
        progress: advanced for each video.

    Raises:
        AnnotationError: a file is not ActivityNet-style JSON.
        StoreError: ``features`` is not a feature store.
        UsageError: ``videos`` is not a folder.
    """
    entries = [entry for path in paths for entry in read_entries(path)]
    known = None if dataset is None else preset(dataset)
    findings = [] if entries else [Finding("error", "", "no-videos", f"{' and '.join(map(str, paths))}: no video")]
    findings += check_entries(entries, known)
    if videos is not None:
        findings += _check_videos(entries, videos, progress)
    if features is not None:
        findings += _check_features(entries, features)
    forms = {} if known is None else {subset: published_form(entries, known, subset) for subset in known.counts}
    return CheckResult(len(entries), tuple(findings), {subset: form for subset, form in forms.items() if form})


def read_entries(path: Path) -> list[Entry]:
    """All video entries of a file, repeated ones included: JSON may repeat a key, and readers keep the last.

    Raises:
        AnnotationError: not ActivityNet-style JSON.
    """
    content = read_json(path, error=AnnotationError, of_pairs=_Pairs)
    database = content.get("database") if isinstance(content, _Pairs) else None
    if not isinstance(database, _Pairs):
        raise AnnotationError(f"{path}: no 'database' object; convert other formats first with: tadkit data convert")
    return [Entry(str(path), name, entry) for name, entry in database.pairs]


class _Pairs(dict[str, Any]):
    """A JSON object that remembers repeated keys."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


def _check_videos(entries: Sequence[Entry], folder: Path, progress: Progress) -> Iterator[Finding]:
    times = VideoTimes(folder)
    progress.start("check videos", total=len(entries), unit="videos")
    found = set()
    for entry in entries:
        progress.advance(note=entry.name)
        path = find_video(entry.name, folder)
        if path is None:
            yield Finding("error", entry.name, "missing-file", f"no video {entry.name}{VIDEO_SUFFIXES[0]} in {folder}")
            continue
        found.add(path.name)
        try:
            of_file = times[entry.name]
        except VideoError as error:
            yield Finding("error", entry.name, "unreadable", str(error))
            continue
        yield from _compare(entry, "fps", of_file.fps, _FPS_SHARE, 0.0, "frames per second")
        yield from _compare(entry, "duration", of_file.duration_s, _DURATION_SHARE, _DURATION_S, "s")
    files = {path.name for path in folder.iterdir() if is_video(path)}
    if more := sorted(files - found):
        yield Finding("warning", "", "extra-files", f"{len(more)} videos in {folder} not annotated, such as {more[0]}")


def _compare(entry: Entry, field: str, real: float | None, share: float, slack: float, unit: str) -> Iterator[Finding]:
    """Compare an annotated value with the file's; skip values that one of them lacks."""
    said = number_of(entry.content.get(field)) if isinstance(entry.content, dict) else None
    if said is not None and real is not None and abs(said - real) > max(slack, share * real):
        message = f"{field} is {said:g} {unit} in the annotations, {real:.6g} in the file"
        yield Finding("error", entry.name, field, message)


def _check_features(entries: Sequence[Entry], path: Path) -> Iterator[Finding]:
    with read_store(path, kind="features") as store:
        there = set(store.videos())
        for entry in entries:
            if entry.name not in there:
                yield Finding("error", entry.name, "missing-features", f"no features in {path}")
                continue
            stamps_s = store.stamps_s(entry.name)
            duration_s = number_of(entry.content.get("duration")) if isinstance(entry.content, dict) else None
            if len(stamps_s) == 0:
                yield Finding("error", entry.name, "features", f"{path} has no step of this video")
            elif duration_s is not None:
                step_s = float(np.median(np.diff(stamps_s))) if len(stamps_s) > 1 else duration_s
                end_s = float(stamps_s[-1])
                if not duration_s * 0.9 - _STEPS * step_s <= end_s <= duration_s * 1.02 + step_s:
                    said = f"features end at {end_s:.2f} s, the video at {duration_s:.2f} s; are stride and fps right?"
                    yield Finding("error", entry.name, "features", said)
        if more := sorted(there - {entry.name for entry in entries}):
            yield Finding(
                "warning", "", "extra-features", f"{len(more)} videos in {path} not annotated, such as {more[0]}"
            )
