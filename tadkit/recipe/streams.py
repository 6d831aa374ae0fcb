"""Streams of RGB and flow: of features, and those of a two-stream row's head; and times of frames without flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Shaped

from tadkit.config import FeatureStreams, Recipe, VideoSettings, overlap
from tadkit.errors import SettingsError, StoreError
from tadkit.extraction.extract_flow import extract_flow_of
from tadkit.extraction.frozen_features import extract_frozen_features
from tadkit.files import digest_of
from tadkit.progress import Progress
from tadkit.recipe.videos import Item
from tadkit.store import TrackReader, VideoTracks, read_store
from tadkit.store.streams import FeatureStream
from tadkit.timeline import Timeline
from tadkit.video import open_sampled
from tadkit.video.digests import source_key


def with_streams(recipe: Recipe, items: tuple[Item, ...]) -> tuple[Recipe, tuple[Item, ...]]:
    """A recipe with the widths of its streams, and its videos with the keys of their features.

    Raises:
        StoreError: a video lacks a stream, or has another number of channels than the others.
        SettingsError: the recipe states other widths, or a range that is part of the other stream's track.
    """
    names = [item.name for item in items]
    with read_store(items[0].path, kind="features") as store:
        found = _found(recipe, store, names)
        teachers = tuple(
            teacher
            if teacher.stream is None
            else teacher.model_copy(update={"features": _found(recipe.of_teacher(teacher.name), store, names)})
            for teacher in recipe.teachers
        )
        items = tuple(replace(item, stored_key=store.key(item.name)) for item in items)
    changed = {"features": found} | ({"teachers": teachers} if teachers else {})
    return recipe.model_copy(update=changed), items


def frozen_items(
    recipe: Recipe, items: tuple[Item, ...], *, folder: Path, device: str, progress: Progress
) -> tuple[Item, ...]:
    """The videos of a recipe with ``[frozen]``, with the store of their features, which is filled where it lacks some.

    Args:
        recipe: its frames, flow and frozen features are used.
        items: videos, labelled and unlabelled.
        folder: where flow and features are kept.
        device: computes both; of several, separated by commas, features are computed by the first.
        progress: counts frame pairs and videos.

    Raises:
        VideoError: a video cannot be read; the features of the others are kept.
        WeightsError: the ImageNet weights are not installed.
        StoreError: a store cannot be read or written.
    """
    assert recipe.frozen is not None
    videos, flow, store = {item.name: item.path for item in items}, folder / "flow.h5", folder / "frozen.h5"
    computed = extract_flow_of(
        videos, flow, flow=recipe.flow, video=recipe.video, device=device, progress=progress, retry_failed=True
    )
    computed.raise_if_failed()
    extract_frozen_features(
        videos,
        store,
        flow_store=flow,
        frozen=recipe.frozen,
        flow=recipe.flow,
        video=recipe.video,
        device=device.split(",")[0],
        progress=progress,
    ).raise_if_failed()
    return tuple(replace(item, path=store) for item in items)


def _found(recipe: Recipe, store: TrackReader, videos: Sequence[str]) -> FeatureStreams:
    """The streams of a recipe's source, with their widths in a store."""
    source, where = recipe.stream_source, str(store.path)
    assert source is not None
    assert source.rgb is not None
    assert source.flow is not None
    found = FeatureStreams(
        rgb=source.rgb,
        flow=source.flow,
        rgb_channels=equal_channels(FeatureStream(store, source.rgb).channels, videos, where=where),
        flow_channels=equal_channels(FeatureStream(store, source.flow).channels, videos, where=where),
        channels=equal_channels(store.feature_channels, videos, where=where),
    )
    rgb, flow = (FeatureStream(store, name).range_in_features(videos[0]) for name in (source.rgb, source.flow))
    if rgb is not None and flow is not None and overlap(rgb, flow):
        raise SettingsError(
            f"sources: rgb {source.rgb} and flow {source.flow} have channels in common: they are channels "
            f"{_words(rgb)} and {_words(flow)} of {where}; the student must not read flow"
        )
    if recipe.features not in (None, found):
        raise SettingsError(f"features: a run fills this section in, and {where} has others; leave it out")
    return found


def _words(channels: range) -> str:
    return f"{channels.start}:{channels.stop}"


def equal_channels(channels_of: Callable[[str], int], videos: Sequence[str], *, where: str) -> int:
    """The number of channels that all videos have.

    Raises:
        StoreError: they differ.
    """
    found = {video: channels_of(video) for video in videos}
    counts = sorted(set(found.values()))
    if len(counts) > 1:
        names = [next(video for video, channels in found.items() if channels == count) for count in counts[:2]]
        raise StoreError(
            f"{where}: '{names[0]}' has {counts[0]} channels and '{names[1]}' {counts[1]}; import them together"
        )
    return counts[0]


def median_step_s(store: VideoTracks, videos: Sequence[str]) -> float:
    """Seconds from one step of the features to the next: the median over the videos."""
    return float(np.median([Timeline(store.stamps_s(video)).step_s for video in videos]))


class TwoStreams:
    """Reads a video's motion from the teacher's outputs, and its appearance from an RGB student's features."""

    def __init__(self, teacher: VideoTracks, student: VideoTracks) -> None:
        """Both have the same steps, because the strides of teacher and student are equal."""
        self._teacher, self._student = teacher, student

    def stamps_s(self, video: str) -> Float64[np.ndarray, " stamps"]:
        """Seconds of the steps of ``video``."""
        return self._student.stamps_s(video)

    def key(self, video: str) -> str:
        """Digest of everything that either feature depends on."""
        return digest_of([self._teacher.key(video), self._student.key(video)])

    def read(
        self, video: str, track: str, start: int = 0, stop: int | None = None
    ) -> Shaped[np.ndarray, "steps channels"]:
        """Steps ``start`` to ``stop`` (half open; None is the end) of ``VIEW/motion`` or ``VIEW/appearance``."""
        view, _, branch = track.rpartition("/")
        if branch == "motion":
            return self._teacher.read(video, f"{view}/feature", start, stop)
        return self._student.read(video, track, start, stop)


class FrameTimes:
    """When the sampled frames of video files are shown, read once; there is nothing else to read."""

    def __init__(self, files: Mapping[str, Path], video: VideoSettings) -> None:
        """``files`` by name, sampled as ``video`` says."""
        self._files, self._video = files, video
        self._stamps_s: dict[str, Float64[np.ndarray, " stamps"]] = {}

    def stamps_s(self, video: str) -> Float64[np.ndarray, " stamps"]:
        """Seconds of the frames of ``video``.

        Raises:
            VideoError: it cannot be read as a video.
        """
        if video not in self._stamps_s:
            with open_sampled(self._files[video], self._video) as sampled:
                self._stamps_s[video] = sampled.stamps_s
        return self._stamps_s[video]

    def key(self, video: str) -> str:
        """Digest of the file, and of how it is read."""
        return source_key(self._files[video])

    def read(
        self, video: str, track: str, start: int = 0, stop: int | None = None
    ) -> Shaped[np.ndarray, "steps channels"]:
        """No track is stored."""
        raise AssertionError((video, track, start, stop))
