"""``tadkit import features``: import features from other projects into a feature store, stamped in seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from tadkit.errors import StoreError, TadkitError, UsageError
from tadkit.files import digest_of, digest_of_file
from tadkit.interop import TableLayout
from tadkit.interop.feature_files import FeatureFile, Found, feature_files, read_features
from tadkit.interop.feature_grid import Grid, placed
from tadkit.interop.feature_streams import FeatureSet, feature_sets
from tadkit.progress import Progress
from tadkit.records import VideoRecord, read_dataset
from tadkit.store import PartWriter, open_store, read_store
from tadkit.store.layout import parts_folder

TRACK, MOTION = "original/appearance", "original/motion"
"""The tracks of the features, or of RGB and flow; training reads both as a single stream."""


@dataclass
class ImportResult:
    """Result of an import.

    Attributes:
        videos: number of videos in the store.
        channels: of every video, of RGB and flow together.
        steps: total of all videos.
        failed: the error of each file or video that was not imported.
        files: the file of each video.
        not_annotated: videos that are not in the annotations.
        notes: what was taken for something other than features, with the files concerned.
    """

    videos: int = 0
    channels: int = 0
    steps: int = 0
    failed: dict[str, TadkitError] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    not_annotated: list[str] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)
    _digests: dict[Path, str] = field(default_factory=dict, repr=False)

    def digest(self, path: Path) -> str:
        """SHA-256 of a file, computed once even if it contains many videos."""
        if path not in self._digests:
            self._digests[path] = digest_of_file(path)
        return self._digests[path]


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
    layout: TableLayout = "detect",
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
        layout: what csv files have besides features.
        rescaled: features of each video were resized to one number of steps, spaced evenly over its duration.
        progress: advanced for every file; warned of small differences in length.

    Raises:
        StoreError: no features, none of an annotated video, or the store cannot be written or has videos of other
            channels.
        AnnotationError: the annotations cannot be read.
        UsageError: ``rescaled`` without annotations, whose durations it needs, or with sampling options; stride or fps
            is not given anywhere.
    """
    if rescaled and annotations is None:
        raise UsageError("--rescaled spreads steps over durations; give them with --annotations")
    if rescaled and any(option is not None for option in (stride_frames, clip_frames, fps)):
        raise UsageError("--rescaled spreads steps over durations; leave out --stride, --clip-frames and --fps")
    records = None if annotations is None else read_dataset(annotations).videos
    files, result = list(feature_sets(feature_files(source))), ImportResult()
    grid = Grid(stride_frames, clip_frames, fps, rescaled, channels_first, layout)
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
        (kept, f"{out}: keeps {len(kept)} videos from before, in {parts_folder(out)}"),
    ):
        if names:
            progress.warn(f"{what}, such as '{names[0]}'")
    for note, names in result.notes.items():
        progress.warn(f"{source}: {note}, in {len(names)} files such as '{names[0]}'")
    return result


def _tracks(
    files: Sequence[Path | FeatureSet],
    records: Mapping[str, VideoRecord] | None,
    grid: Grid,
    result: ImportResult,
    progress: Progress,
) -> Iterator[_Track]:
    """Every usable track; failures are recorded in the result."""
    for path in files:
        progress.advance(note=path.name)
        for found in _found(path, grid.layout, result):
            if found.note:
                result.notes.setdefault(found.note, []).append(found.path.name)
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
    _refuse_other_channels(out, first.features.channels)
    written = []
    with open_store(out, kind="features", settings={"imported": True, "track": TRACK}) as store:
        try:
            for track in chain([first], tracks):
                _write(store.parts, track, result)
                written.append(track.name)
        finally:  # once, since each link rewrites the index; parts missing after a kill are found again
            store.link(*written)
        return sorted(set(store.videos()) - set(written))


def _refuse_other_channels(out: Path, channels: int) -> None:
    """Refuse a store whose videos have other channels; each is a file of its own, so deleting the index keeps them all.

    Raises:
        StoreError: such a video.
    """
    for part in sorted(parts_folder(out).glob("[!.]*.h5")):
        for video, found in _channels_in(part).items():
            if found != channels:
                raise StoreError(
                    f"{out}: '{video}' is in this store already and has {found} channels, these have {channels}; "
                    f"name another --out, or delete both {out} and the folder of its videos, {parts_folder(out)}"
                )


def _channels_in(part: Path) -> dict[str, int]:
    """Channels of each video in a part; empty if it is damaged, since no store takes it then."""
    try:
        with read_store(part, kind="features") as store:
            return {video: store.feature_channels(video) for video in store.videos()}
    except StoreError:
        return {}


def _found(path: Path | FeatureSet, layout: TableLayout, result: ImportResult) -> Iterator[Found]:
    """The content of a file or of the files of a video; an error is recorded for it."""
    try:
        yield from read_features(path, layout=layout)
    except StoreError as error:
        result.failed[str(path if isinstance(path, Path) else path.name)] = error


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
        steps, channels = len(features.values), features.channels
        if result.channels not in (0, channels):
            turned = "; if they are (channels, steps), add --channels-first" if steps == result.channels else ""
            raise StoreError(f"{found.path}: '{name}' has {channels} channels, others have {result.channels}{turned}")
        found_at = placed(features, name, record, grid)
        if found_at.warning:
            progress.warn(found_at.warning)
        if found_at.note:
            result.notes.setdefault(found_at.note, []).append(found.path.name)
        return _Track(name, features, found_at.stamps_s, found_at.duration_s)
    except UsageError:
        raise
    except TadkitError as error:
        result.failed[f"{found.path}: {found.name}"] = error
        return None


def _write(parts: PartWriter, track: _Track, result: ImportResult) -> None:
    path, stamps_s = track.features.path, track.stamps_s
    steps, channels = len(stamps_s), track.features.channels
    about: dict[str, str | float | bool] = {
        "source": path.name,
        "source_sha256": result.digest(path),
        "duration_s": track.duration_s,
    }
    if (flow := track.features.motion_path) is not None:
        about |= {"flow_source": flow.name, "flow_source_sha256": result.digest(flow)}
    key = digest_of({"imported": about, "stamps_s": [float(s) for s in stamps_s[:2]], "steps": steps})
    with parts.video(track.name, key=key, stamps_s=stamps_s, attributes=about) as entry:
        entry.append(TRACK, track.features.values)
        if track.features.motion is not None:
            entry.append(MOTION, track.features.motion)
    result.videos, result.channels, result.steps = result.videos + 1, channels, result.steps + steps


def _known_name(name: str, records: Mapping[str, VideoRecord]) -> str | None:
    """The annotated name of a video: unchanged, or with or without ActivityNet's ``v_``."""
    names = (name, f"v_{name}", name.removeprefix("v_"))
    return next((candidate for candidate in names if candidate in records), None)
