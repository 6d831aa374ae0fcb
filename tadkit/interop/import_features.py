"""``tadkit import features``: import features from other projects into a feature store, stamped in seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from tadkit.errors import AnnotationError, StoreError, TadkitError, UsageError
from tadkit.files import digest_of, digest_of_file
from tadkit.interop.feature_files import FeatureFile, Found, feature_files, read_features
from tadkit.progress import Progress
from tadkit.records import VideoRecord, read_dataset
from tadkit.store import PartWriter, open_store

TRACK = "original/appearance"
"""The track that training reads as a single stream."""
_REFUSED_SHARE = 0.1
_WARNED_STEPS = 2.0


@dataclass
class ImportResult:
    """Result of an import.

    Attributes:
        videos: number of videos in the store.
        channels: of every video.
        steps: total of all videos.
        failed: the error of each file or video that was not imported.
        files: the file of each video.
        not_annotated: videos that are not in the annotations.
    """

    videos: int = 0
    channels: int = 0
    steps: int = 0
    failed: dict[str, TadkitError] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    not_annotated: list[str] = field(default_factory=list)
    _digests: dict[Path, str] = field(default_factory=dict, repr=False)

    def digest(self, path: Path) -> str:
        """SHA-256 of a file, computed once even if it contains many videos."""
        if path not in self._digests:
            self._digests[path] = digest_of_file(path)
        return self._digests[path]


@dataclass(frozen=True)
class Grid:
    """Which frames a step covers; None if the feature files give it."""

    stride_frames: float | None
    clip_frames: float | None
    fps: float | None
    rescaled: bool
    channels_first: bool


def import_features(
    source: Path,
    out: Path,
    *,
    annotations: Path | None,
    stride_frames: float | None,
    clip_frames: float | None,
    fps: float | None,
    channels_first: bool,
    rescaled: bool = False,
    progress: Progress,
) -> ImportResult:
    """Import features into a store; failures are in the result, and the rest is kept.

    Step k is stamped at the centre of its frames: (k * stride + (clip - 1) / 2) / fps seconds. A store contains only
    seconds, so nothing later depends on this rule.

    Args:
        source: folder of files, one per video, or one h5 file.
        out: feature store to write.
        annotations: ActivityNet-style JSON: the features must match its durations, and its frame rates replace ``fps``;
            features of other videos are left out and counted.
        stride_frames: frames between steps, if the files do not give it.
        clip_frames: frames per step; by default those in the files, else the stride.
        fps: frames per second, if neither files nor annotations give it.
        channels_first: arrays are (channels, steps).
        rescaled: features of each video were resized to one number of steps, spaced evenly over its duration.
        progress: advanced for every file; warned of small differences in length.

    Raises:
        StoreError: no features, none of an annotated video, or the store cannot be written.
        AnnotationError: the annotations cannot be read.
        UsageError: ``rescaled`` without annotations, whose durations it needs, or with sampling options; stride or fps
            is not given anywhere.
    """
    if rescaled and annotations is None:
        raise UsageError("--rescaled spreads steps over durations; give them with --annotations")
    if rescaled and any(option is not None for option in (stride_frames, clip_frames, fps)):
        raise UsageError("--rescaled spreads steps over durations; leave out --stride, --clip-frames and --fps")
    records = None if annotations is None else read_dataset(annotations).videos
    files, result = feature_files(source), ImportResult()
    grid = Grid(stride_frames, clip_frames, fps, rescaled, channels_first)
    progress.start("import features", total=len(files), unit="files")
    kept = _write_all(out, _tracks(files, records, grid, result, progress), result)
    not_annotated = result.not_annotated
    if not_annotated and not result.files and not result.failed:
        raise StoreError(
            f"{source}: none of its videos, such as '{not_annotated[0]}', is in {annotations}; compare the names"
        )
    missing = [name for name in records or () if name not in result.files]
    for names, what in (
        (not_annotated, f"{source}: {len(not_annotated)} videos are not in {annotations} and are left out"),
        (missing, f"{annotations}: {len(missing)} of its {len(records or ())} videos have no features"),
        (kept, f"{out}: keeps {len(kept)} videos from before"),
    ):
        if names:
            progress.warn(f"{what}, such as '{names[0]}'")
    return result


def _tracks(
    files: Sequence[Path],
    records: Mapping[str, VideoRecord] | None,
    grid: Grid,
    result: ImportResult,
    progress: Progress,
) -> Iterator[_Track]:
    """Every usable track; failures are recorded in the result."""
    for path in files:
        progress.advance(note=path.name)
        for found in _found(path, result):
            name = found.name if records is None else _known_name(found.name, records)
            if name is None:
                result.not_annotated.append(found.name)
                continue
            track = _track(found, name, None if records is None else records[name], grid, result, progress)
            if track is not None:
                yield track


def _write_all(out: Path, tracks: Iterator[_Track], result: ImportResult) -> list[str]:
    """Write the tracks and return the videos that the store had before; without tracks no store is created."""
    first = next(tracks, None)
    if first is None:
        return []
    written = []
    with open_store(out, kind="features", settings={"imported": True, "track": TRACK}) as store:
        try:
            for track in chain([first], tracks):
                _write(store.parts, track, result)
                written.append(track.name)
        finally:  # once, since each link rewrites the index; parts missing after a kill are found again
            store.link(*written)
        return sorted(set(store.videos()) - set(written))


def _found(path: Path, result: ImportResult) -> Iterator[Found]:
    """The content of a file; an error is recorded for this file."""
    try:
        yield from read_features(path)
    except StoreError as error:
        result.failed[str(path)] = error


@dataclass(frozen=True)
class _Track:
    """Checked features, ready to be written."""

    name: str
    features: FeatureFile
    stamps_s: Float64[np.ndarray, " steps"]
    duration_s: float


def _track(
    found: Found,
    name: str,
    record: VideoRecord | None,
    grid: Grid,
    result: ImportResult,
    progress: Progress,
) -> _Track | None:
    """The track of one video; None if unusable, which is recorded in the result.

    Raises:
        UsageError: stride or fps is not given; then it is missing for all.
    """
    try:
        if name in result.files:
            raise StoreError(f"{found.path}: '{name}' is also in {result.files[name]}; keep one of them")
        result.files[name] = found.path
        features = found.features(channels_first=grid.channels_first)
        steps, channels = features.values.shape
        if result.channels not in (0, channels):
            turned = "; if they are (channels, steps), add --channels-first" if steps == result.channels else ""
            raise StoreError(f"{found.path}: '{name}' has {channels} channels, others have {result.channels}{turned}")
        return _Track(name, features, *_stamps(features, name, record, grid, progress))
    except UsageError:
        raise
    except TadkitError as error:
        result.failed[f"{found.path}: {found.name}"] = error
        return None


def _write(parts: PartWriter, track: _Track, result: ImportResult) -> None:
    path, stamps_s = track.features.path, track.stamps_s
    steps, channels = track.features.values.shape
    about: dict[str, str | float | bool] = {
        "source": path.name,
        "source_sha256": result.digest(path),
        "duration_s": track.duration_s,
    }
    key = digest_of({"imported": about, "stamps_s": [float(s) for s in stamps_s[:2]], "steps": steps})
    with parts.video(track.name, key=key, stamps_s=stamps_s, attributes=about) as entry:
        entry.append(TRACK, track.features.values)
    result.videos, result.channels, result.steps = result.videos + 1, channels, result.steps + steps


def _known_name(name: str, records: Mapping[str, VideoRecord]) -> str | None:
    """The annotated name of a video: unchanged, or with or without ActivityNet's ``v_``."""
    names = (name, f"v_{name}", name.removeprefix("v_"))
    return next((candidate for candidate in names if candidate in records), None)


def _stamps(
    found: FeatureFile, name: str, record: VideoRecord | None, grid: Grid, progress: Progress
) -> tuple[Float64[np.ndarray, " steps"], float]:
    """Centre of each step, and the video's duration: the annotated one, else the end of the last step."""
    steps, channels = found.values.shape
    if record is not None and record.duration_s <= 0:
        raise AnnotationError(f"'{name}' lasts {record.duration_s:g} s in the annotations; expected a number above 0")
    if grid.rescaled:
        assert record is not None
        return (np.arange(steps) + 0.5) * record.duration_s / steps, record.duration_s
    stride = _given(found.stride_frames, grid.stride_frames, "stride", "--stride", name, found.path)
    clip = grid.clip_frames or found.clip_frames or stride
    annotated = None if record is None else record.fps
    fps = _given(found.fps or annotated, grid.fps, "frame rate", "--fps", name, found.path)
    if fps <= 0:
        raise AnnotationError(f"'{name}' has {fps:g} frames per second in the annotations; correct them or give --fps")
    stamps_s = (np.arange(steps) * stride + (clip - 1) / 2) / fps
    ends_s, turned_s = (((count - 1) * stride + clip) / fps for count in (steps, channels))
    if record is None:
        return stamps_s, ends_s
    off_s, slack_s = abs(ends_s - record.duration_s), _WARNED_STEPS * max(stride, clip) / fps
    if off_s > max(_REFUSED_SHARE * record.duration_s, slack_s):
        turned = abs(turned_s - record.duration_s) <= slack_s
        way_out = "--channels-first" if turned else "--stride, --clip-frames and --fps (or add --rescaled)"
        raise StoreError(
            f"{found.path}: {steps} steps of stride {stride:g} at {fps:g} frames per second end at {ends_s:.2f} s, but "
            f"'{name}' lasts {record.duration_s:.2f} s; check {way_out}"
        )
    if off_s > slack_s:
        progress.warn(f"'{name}': features end at {ends_s:.2f} s, the video at {record.duration_s:.2f} s")
    return stamps_s, record.duration_s


def _given(said: float | None, option: float | None, what: str, flag: str, name: str, path: Path) -> float:
    value = option if option is not None else said
    if value is None:
        raise UsageError(f"{path}: the {what} of '{name}' is not known; give {flag}")
    return value
