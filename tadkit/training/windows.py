"""The windows that a training run reads; they and their order depend on the seed alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from tadkit.config import HeadSettings, TrainSettings, View
from tadkit.errors import SettingsError
from tadkit.records import VideoRecord
from tadkit.timeline import Timeline

_KEPT_SHARE = 0.5
_SET_ASIDE = 2**32 - 1
"""Replaces the epoch's number in the seed of its windows; no run has that many epochs."""


class Window(NamedTuple):
    """Frames ``start`` to ``stop`` (half open) of the video numbered ``video``, in one view.

    ``colours`` is the number of its draw among ``TrainSettings.colour_variants``.
    """

    video: int
    start: int
    stop: int
    view: View
    colours: int = 0


@dataclass(frozen=True, eq=False)
class TrainingVideo:
    """A training video with its annotations on feature steps.

    Attributes:
        name: key in the stores.
        frames: number of sampled frames.
        segments: (n, 2) fractional positions on feature steps.
        labels: (n,) index in the recipe's labels.
    """

    name: str
    frames: int
    segments: Float64[np.ndarray, "n 2"]
    labels: Int64[np.ndarray, " n"]


def training_video(
    record: VideoRecord, frame_timeline: Timeline, *, labels: Sequence[str], stride: int
) -> TrainingVideo:
    """Convert a video's annotations to its feature steps; actions with other labels count as background."""
    known = [a for a in record.annotations if a.label in labels]
    seconds = np.array([(a.start_s, a.end_s) for a in known], dtype=np.float64).reshape(-1, 2)
    return TrainingVideo(
        name=record.name,
        frames=len(frame_timeline),
        segments=frame_timeline.strided(stride).positions(seconds),
        labels=np.array([labels.index(a.label) for a in known], dtype=np.int64),
    )


def unlabelled_video(name: str, frame_timeline: Timeline) -> TrainingVideo:
    """A video without annotations; no loss against the ground truth reads its windows."""
    return TrainingVideo(name, len(frame_timeline), np.zeros((0, 2)), np.zeros(0, dtype=np.int64))


def window_steps(head: HeadSettings, train: TrainSettings, *, step_s: float) -> tuple[int, int]:
    """Feature steps of a training window, and the number of steps that windows start at multiples of.

    A window is at least ``train.window_s`` long and holds whole steps of the coarsest pyramid level; a head that sees a
    fixed window is trained on just that.
    """
    fixed = head.fixed_window_steps
    if fixed is not None:
        return fixed, 1
    align = head.strides[-1]
    return max(1, math.ceil(train.window_s / step_s / align - 1e-9)) * align, align


class _Epoch(NamedTuple):
    """All windows of an epoch, in the order of their steps; one row each."""

    number: int
    videos: Int64[np.ndarray, " windows"]
    starts: Int64[np.ndarray, " windows"]
    views: Int64[np.ndarray, " windows"]


class WindowPlan:
    """Windows of every step: each epoch covers every video once, at jittered places, in shuffled order.

    Windows of unlabelled videos come on top, after the others of a step. So the labelled windows, their order and the
    number of steps are what they are without, however many hours of unlabelled videos there are. Those go round in
    epochs of their own.

    Attributes:
        videos: those to train on, unlabelled ones last.
        unlabelled: plan of the unlabelled videos; None without.
        validation: plan of the videos that are set aside, in the original view; None without validation.
    """

    def __init__(
        self,
        videos: Sequence[TrainingVideo],
        settings: TrainSettings,
        *,
        window_frames: int,
        align_frames: int,
        unlabelled: WindowPlan | None = None,
    ) -> None:
        """``window_frames`` and all starts are multiples of ``align_frames``.

        Raises:
            SettingsError: validation is on, and there are fewer than two videos to split.
        """
        assert window_frames % align_frames == 0, (window_frames, align_frames)
        videos, aside = set_aside(videos, settings)
        unchanged = settings.model_copy(update={"views": ("original",), "validate_every": 0, "colour_jitter": 0.0})
        self.validation: WindowPlan | None = (
            WindowPlan(aside, unchanged, window_frames=window_frames, align_frames=align_frames) if aside else None
        )
        self.unlabelled = unlabelled
        self._labelled = len(videos)
        self.videos: list[TrainingVideo] = videos if unlabelled is None else [*videos, *unlabelled.videos]
        self.settings = settings
        self.window_frames = window_frames
        self.align_frames = align_frames
        self._frames = np.array([video.frames for video in videos], dtype=np.int64)
        self._counts = np.maximum(1, -(-self._frames // window_frames))
        self.steps_per_epoch = max(1, -(-int(self._counts.sum()) // settings.batch_windows))
        self._planned: _Epoch | None = None

    def windows(self, step: int) -> list[Window]:
        """The windows of one step, counted over all epochs; safe to call from several threads."""
        added = [] if self.unlabelled is None else self.unlabelled.windows(step)
        return self.labelled_windows(step) + [window._replace(video=self._labelled + window.video) for window in added]

    def labelled_windows(self, step: int) -> list[Window]:
        """Those of :meth:`windows` that have ground truth, which come first."""
        number, within = divmod(step, self.steps_per_epoch)
        epoch = self._planned
        if epoch is None or epoch.number != number:
            # Two threads may plan the same epoch at once; both get the same plan.
            self._planned = epoch = self._plan(number)
        size = self.settings.batch_windows
        return [self._window(epoch, i % len(epoch.videos)) for i in range(within * size, (within + 1) * size)]

    def _window(self, epoch: _Epoch, row: int) -> Window:
        video, start = int(epoch.videos[row]), int(epoch.starts[row])
        stop = min(start + self.window_frames, self.videos[video].frames)
        return Window(video, start, stop, self.settings.views[epoch.views[row]], self._colours(epoch.number, row))

    def _colours(self, epoch: int, row: int) -> int:
        """Drawn apart from the plan, so that places and views do not depend on it."""
        variants = self.settings.colour_variants if self.settings.colour_jitter else 0
        return int(np.random.default_rng([self.settings.seed, epoch, row]).integers(variants)) if variants else 0

    def _plan(self, number: int) -> _Epoch:
        """Draw the windows of an epoch: place and view of each window in turn, then the order."""
        generator = np.random.default_rng([self.settings.seed, number])
        choices, total = len(self.settings.views), int(self._counts.sum())
        drawn = [(generator.random(), generator.integers(choices)) for _ in range(total)]
        jitter, views = np.array([place for place, _ in drawn]), np.array([view for _, view in drawn])
        videos = np.repeat(np.arange(self._labelled), self._counts)
        first = np.cumsum(self._counts) - self._counts
        within = np.arange(total) - first[videos]
        slack = np.maximum(0, self._frames - self.window_frames)[videos]
        places = (within + jitter) / self._counts[videos] * slack
        starts = np.round(places / self.align_frames).astype(np.int64) * self.align_frames
        order = generator.permutation(total)
        return _Epoch(number, videos[order], starts[order], views[order])


def set_aside(
    videos: Sequence[TrainingVideo], settings: TrainSettings
) -> tuple[list[TrainingVideo], list[TrainingVideo]]:
    """Split videos into those to train on and those to validate on, by the seed; without validation none are set aside.

    Raises:
        SettingsError: there are fewer than two videos to split.
    """
    if not settings.validate_every:
        return list(videos), []
    if len(videos) < 2:
        raise SettingsError(
            f"validate_every: needs two training videos or more to set one aside, but there are {len(videos)}; "
            "set it to 0"
        )
    count = min(len(videos) - 1, max(1, round(settings.validation_share * len(videos))))
    chosen = set(np.random.default_rng([settings.seed, _SET_ASIDE]).permutation(len(videos))[:count].tolist())
    return (
        [video for number, video in enumerate(videos) if number not in chosen],
        [video for number, video in enumerate(videos) if number in chosen],
    )


def window_truth(
    video: TrainingVideo, window: Window, *, stride: int
) -> tuple[Float64[np.ndarray, "n 2"], Int64[np.ndarray, " n"]]:
    """Segments of a window in its own steps.

    Segments are clipped to the window. A segment that keeps less than half of its length is dropped, unless the rest
    fills half of the window.
    """
    first, last = window.start / stride, -(-window.stop // stride)
    steps = last - first
    moved = video.segments - first
    cut = np.clip(moved, -0.5, steps - 0.5)
    left = cut[:, 1] - cut[:, 0]
    whole = moved[:, 1] - moved[:, 0]
    kept = (left > 0) & ((left >= _KEPT_SHARE * whole) | (left >= _KEPT_SHARE * steps))
    return cut[kept], video.labels[kept]
