"""``tadkit import features``: features that others extracted, as a feature store with stamps in seconds."""

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
        strangers: videos that the annotations do not have.
    """

    videos: int = 0
    channels: int = 0
    steps: int = 0
    failed: dict[str, TadkitError] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    strangers: list[str] = field(default_factory=list)
    _digests: dict[Path, str] = field(default_factory=dict, repr=False)

    def digest(self, path: Path) -> str:
        """SHA-256 of a file, read once although it may hold many videos."""
        if path not in self._digests:
            self._digests[path] = digest_of_file(path)
        return self._digests[path]


@dataclass(frozen=True)
class Grid:
    """Which frames a step sees; None is what the features' own files must say."""

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
        StoreError: no features, none of a video of the annotations, or the store cannot be written.
        AnnotationError: the annotations cannot be read.
        UsageError: ``rescaled`` without annotations, whose durations it needs, or with what it makes no use of; nobody
            says stride or fps.
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
    strangers = result.strangers
    if strangers and not result.files and not result.failed:
        raise StoreError(
            f"{source}: none of its videos, such as '{strangers[0]}', is in {annotations}; are names equal?"
        )
    missing = [name for name in records or () if name not in result.files]
    for names, what in (
        (strangers, f"{source}: {len(strangers)} videos are not in {annotations} and are left out"),
        (missing, f"{annotations}: {len(missing)} of its {len(records or ())} videos have no features"),
        (kept, f"{out}: keeps {len(kept)} videos that it had before"),
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
    """Every track that can be used; what cannot is in the result."""
    for path in files:
        progress.advance(note=path.name)
        for found in _found(path, result):
            name = found.name if records is None else _known_name(found.name, records)
            if name is None:
                result.strangers.append(found.name)
                continue
            track = _track(found, name, None if records is None else records[name], grid, result, progress)
            if track is not None:
                yield track


def _write_all(out: Path, tracks: Iterator[_Track], result: ImportResult) -> list[str]:
    """Write the tracks, and return the videos that the store had before; where there is no track, no store is made."""
    first = next(tracks, None)
    if first is None:
        return []
    written = []
    with open_store(out, kind="features", settings={"imported": True, "track": TRACK}) as store:
        try:
            for track in chain([first], tracks):
                _write(store.parts, track, result)
                written.append(track.name)
        finally:  # once: an index is as long as the store, and parts that a kill leaves out of it are found again
            store.link(*written)
        return sorted(set(store.videos()) - set(written))


def _found(path: Path, result: ImportResult) -> Iterator[Found]:
    """What a file holds; an error is of this file."""
    try:
        yield from read_features(path)
    except StoreError as error:
        result.failed[str(path)] = error


@dataclass(frozen=True)
class _Track:
    """Features that fit, ready to be written."""

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
    """The track of one video; None where it cannot be used, which is in the result.

    Raises:
        UsageError: nobody says stride or fps; what is not said is not said of any.
    """
    try:
        if name in result.files:
            raise StoreError(f"{found.path}: '{name}' is in {result.files[name]}, too; keep one of them")
        result.files[name] = found.path
        features = found.features(channels_first=grid.channels_first)
        steps, channels = features.values.shape
        if result.channels not in (0, channels):
            turned = "; are they (channels, steps)? then say --channels-first" if steps == result.channels else ""
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
    """The annotations' name of a video: as it is, or with or without the ``v_`` of ActivityNet."""
    names = (name, f"v_{name}", name.removeprefix("v_"))
    return next((candidate for candidate in names if candidate in records), None)


def _stamps(
    found: FeatureFile, name: str, record: VideoRecord | None, grid: Grid, progress: Progress
) -> tuple[Float64[np.ndarray, " steps"], float]:
    """Centre of each step, and the video's duration: the annotated one, else where the last step ends."""
    steps, channels = found.values.shape
    if record is not None and record.duration_s <= 0:
        raise AnnotationError(f"'{name}' lasts {record.duration_s:g} s in the annotations; expected a number above 0")
    if grid.rescaled:
        assert record is not None
        return (np.arange(steps) + 0.5) * record.duration_s / steps, record.duration_s
    stride = _given(found.stride_frames, grid.stride_frames, "stride", "--stride", name, found.path)
    clip = grid.clip_frames or found.clip_frames or stride
    annotated = None if record is None else record.fps
    fps = _given(found.fps or annotated, grid.fps, "frames a second", "--fps", name, found.path)
    if fps <= 0:
        raise AnnotationError(f"'{name}' has {fps:g} frames a second in the annotations; correct them, or give --fps")
    stamps_s = (np.arange(steps) * stride + (clip - 1) / 2) / fps
    ends_s, turned_s = (((count - 1) * stride + clip) / fps for count in (steps, channels))
    if record is None:
        return stamps_s, ends_s
    off_s, slack_s = abs(ends_s - record.duration_s), _TOLD_STEPS * max(stride, clip) / fps
    if off_s > max(_REFUSED_SHARE * record.duration_s, slack_s):
        turned = abs(turned_s - record.duration_s) <= slack_s
        way_out = "--channels-first" if turned else "--stride, --clip-frames and --fps (or say --rescaled)"
        raise StoreError(
            f"{found.path}: {steps} steps of stride {stride:g} at {fps:g} frames a second end at {ends_s:.2f} s, but "
            f"'{name}' lasts {record.duration_s:.2f} s; check {way_out}"
        )
    if off_s > slack_s:
        progress.warn(f"'{name}': features end at {ends_s:.2f} s, the video at {record.duration_s:.2f} s")
    return stamps_s, record.duration_s


def _given(said: float | None, option: float | None, what: str, flag: str, name: str, path: Path) -> float:
    value = option if option is not None else said
    if value is None:
        raise UsageError(f"{path}: nothing says the {what} of '{name}', so give {flag}")
    return value
