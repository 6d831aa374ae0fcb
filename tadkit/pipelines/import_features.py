"""``tadkit import features``: features that others extracted, as a feature store with stamps in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from tadkit.data.feature_files import FeatureFile, feature_files, read_features
from tadkit.errors import StoreError, TadkitError, UsageError
from tadkit.files import digest_of, digest_of_file
from tadkit.progress import Progress
from tadkit.records import VideoRecord, read_dataset
from tadkit.store import TrackStore, open_store

TRACK = "original/appearance"
"""Where training looks for a single stream."""
_REFUSED_SHARE = 0.1
_TOLD_STEPS = 2.0


@dataclass
class ImportResult:
    """What was imported.

    Attributes:
        videos: number of videos in the store.
        channels: of every video.
        steps: of all videos together.
        failed: the error of each file or video that was not imported.
        files: the file of each video.
    """

    videos: int = 0
    channels: int = 0
    steps: int = 0
    failed: dict[str, TadkitError] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """Which frames a step sees; None is what the features' own files must say."""

    stride_frames: float | None
    clip_frames: float | None
    fps: float | None
    rescaled: bool


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
    """Put features of others into a store; what cannot be used is in the result, and the rest is kept.

    Step k is put at the centre of the frames that it sees: (k * stride + (clip - 1) / 2) / fps seconds. A store knows
    seconds alone, so that nothing after this depends on the rule.

    Args:
        source: folder of files, one a video, or one h5 file.
        out: feature store to write.
        annotations: ActivityNet-style JSON: its durations must fit, and its frame rates stand in for ``fps``; features
            of other videos are left out and counted.
        stride_frames: frames between steps, where the files do not say.
        clip_frames: frames that a step sees; the stride where nobody says.
        fps: frames a second, where neither files nor annotations say.
        channels_first: arrays are (channels, steps).
        rescaled: features of each video were resized to one number of steps, which lie evenly over its duration.
        progress: told of every file, and of lengths that differ a little.

    Raises:
        StoreError: no features, or the store cannot be written.
        AnnotationError: the annotations cannot be read.
        UsageError: ``rescaled`` without annotations, whose durations it needs.
    """
    if rescaled and annotations is None:
        raise UsageError("--rescaled spreads steps over durations; give them with --annotations")
    records = None if annotations is None else read_dataset(annotations).videos
    files = feature_files(source)
    grid = Grid(stride_frames, clip_frames, fps, rescaled)
    result, strangers = ImportResult(), 0
    progress.start("import features", total=len(files), unit="files")
    with open_store(out, kind="features", settings={"imported": True, "track": TRACK}) as store:
        for path in files:
            progress.advance(note=path.name)
            try:
                for found in read_features(path, channels_first=channels_first):
                    strangers += not _add(store, found, records, grid, result, progress)
            except UsageError:  # what is not said is not said of any
                raise
            except TadkitError as error:
                result.failed[str(path)] = error
    if strangers:
        progress.warn(f"{source}: {strangers} videos are not in {annotations} and are left out")
    if records is not None and result.videos < len(records) and not result.failed:
        progress.warn(f"{annotations}: {len(records) - result.videos} of its {len(records)} videos have no features")
    return result


def _add(
    store: TrackStore,
    found: FeatureFile,
    records: Mapping[str, VideoRecord] | None,
    grid: Grid,
    result: ImportResult,
    progress: Progress,
) -> bool:
    """Write one video; False where the annotations do not have it."""
    name = found.name if records is None else _known_name(found.name, records)
    if name is None:
        return False
    if name in result.files:
        raise StoreError(f"{found.path}: '{name}' is in {result.files[name]}, too; keep one of them")
    result.files[name] = found.path
    record = None if records is None else records[name]
    steps, channels = found.values.shape
    if result.channels not in (0, channels):
        turned = "; are they (channels, steps)? then say --channels-first" if steps == result.channels else ""
        raise StoreError(f"{found.path}: '{name}' has {channels} channels, others have {result.channels}{turned}")
    stamps_s, duration_s = _stamps(found, name, record, grid, progress)
    about: dict[str, str | float | bool] = {
        "source": found.path.name,
        "source_sha256": digest_of_file(found.path),
        "duration_s": duration_s,
    }
    key = digest_of({"imported": about, "stamps_s": [float(s) for s in stamps_s[:2]], "steps": steps})
    with store.video(name, key=key, stamps_s=stamps_s, attributes=about) as entry:
        entry.append(TRACK, found.values)
    result.videos, result.channels, result.steps = result.videos + 1, channels, result.steps + steps
    return True


def _known_name(name: str, records: Mapping[str, VideoRecord]) -> str | None:
    """The annotations' name of a video: as it is, or with or without the ``v_`` of ActivityNet."""
    names = (name, f"v_{name}", name.removeprefix("v_"))
    return next((candidate for candidate in names if candidate in records), None)


def _stamps(
    found: FeatureFile, name: str, record: VideoRecord | None, grid: Grid, progress: Progress
) -> tuple[Float64[np.ndarray, " steps"], float]:
    """Centre of each step, and the video's duration: the annotated one, else where the last step ends."""
    steps = len(found.values)
    if grid.rescaled:
        assert record is not None
        return (np.arange(steps) + 0.5) * record.duration_s / steps, record.duration_s
    stride = _given(found.stride_frames, grid.stride_frames, "--stride", name, found.path)
    clip = grid.clip_frames or found.clip_frames or stride
    annotated = None if record is None else record.fps
    fps = _given(found.fps or annotated, grid.fps, "--fps", name, found.path)
    stamps_s = (np.arange(steps) * stride + (clip - 1) / 2) / fps
    ends_s = ((steps - 1) * stride + clip) / fps
    if record is None:
        return stamps_s, ends_s
    off_s = abs(ends_s - record.duration_s)
    if off_s > max(_REFUSED_SHARE * record.duration_s, _TOLD_STEPS * max(stride, clip) / fps):
        raise StoreError(
            f"{found.path}: {steps} steps of stride {stride:g} at {fps:g} frames a second end at {ends_s:.2f} s, but "
            f"'{name}' lasts {record.duration_s:.2f} s; check --stride, --clip-frames and --fps (or say --rescaled)"
        )
    if off_s > _TOLD_STEPS * max(stride, clip) / fps:
        progress.warn(f"'{name}': features end at {ends_s:.2f} s, the video at {record.duration_s:.2f} s")
    return stamps_s, record.duration_s


def _given(said: float | None, option: float | None, flag: str, name: str, path: Path) -> float:
    value = option if option is not None else said
    if value is None:
        raise UsageError(f"{path}: '{name}' does not say it, so give {flag}")
    return value
