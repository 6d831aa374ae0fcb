"""Which windows a training run reads, in an order that depends on nothing but the seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from tadkit.config import HeadSettings, TrainSettings, View
from tadkit.records import VideoRecord
from tadkit.timeline import Timeline

_KEPT_SHARE = 0.5


class Window(NamedTuple):
    """Frames ``start`` to ``stop`` (half open) of the video numbered ``video``, in one view."""

    video: int
    start: int
    stop: int
    view: View


@dataclass(frozen=True, eq=False)
class TrainingVideo:
    """An annotated video as training sees it.

    Attributes:
        name: key in the stores.
        frames: sampled frames.
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
    """Put a video's annotations on its feature steps; labels that the recipe does not name are background."""
    known = [a for a in record.annotations if a.label in labels]
    seconds = np.array([(a.start_s, a.end_s) for a in known], dtype=np.float64).reshape(-1, 2)
    return TrainingVideo(
        name=record.name,
        frames=len(frame_timeline),
        segments=frame_timeline.strided(stride).positions(seconds),
        labels=np.array([labels.index(a.label) for a in known], dtype=np.int64),
    )


def window_steps(head: HeadSettings, train: TrainSettings, *, step_s: float) -> tuple[int, int]:
    """Feature steps of a training window, and the number of steps that windows start at multiples of.

    A window is at least ``train.window_s`` long and holds whole steps of the coarsest pyramid level; a head that sees a
    fixed window is trained on just that.
    """
    fixed = head.fixed_window_steps
    if fixed is not None:
        return fixed, 1
    align = 2 ** (head.pyramid_levels - 1)
    return max(1, math.ceil(train.window_s / step_s / align - 1e-9)) * align, align


class WindowPlan:
    """Windows of every step: each epoch covers every video once, at jittered places, in shuffled order."""

    def __init__(
        self, videos: Sequence[TrainingVideo], settings: TrainSettings, *, window_frames: int, align_frames: int
    ) -> None:
        """``window_frames`` and all starts are multiples of ``align_frames``."""
        assert window_frames % align_frames == 0, (window_frames, align_frames)
        self.videos = videos
        self.settings = settings
        self.window_frames = window_frames
        self.align_frames = align_frames
        count = sum(self._windows_of(video) for video in videos)
        self.steps_per_epoch = max(1, -(-count // settings.batch_windows))

    def _windows_of(self, video: TrainingVideo) -> int:
        return max(1, -(-video.frames // self.window_frames))

    def windows(self, step: int) -> list[Window]:
        """The windows of one step, counted over all epochs."""
        epoch, within = divmod(step, self.steps_per_epoch)
        generator = np.random.default_rng([self.settings.seed, epoch])
        order = self._epoch(generator)
        size = self.settings.batch_windows
        return [order[i % len(order)] for i in range(within * size, (within + 1) * size)]

    def _epoch(self, generator: np.random.Generator) -> list[Window]:
        windows = []
        for index, video in enumerate(self.videos):
            count = self._windows_of(video)
            slack = max(0, video.frames - self.window_frames)
            for number in range(count):
                place = (number + generator.random()) / count * slack
                start = round(place / self.align_frames) * self.align_frames
                view = self.settings.views[generator.integers(len(self.settings.views))]
                windows.append(Window(index, start, min(start + self.window_frames, video.frames), view))
        return [windows[i] for i in generator.permutation(len(windows))]


def window_truth(
    video: TrainingVideo, window: Window, *, stride: int
) -> tuple[Float64[np.ndarray, "n 2"], Int64[np.ndarray, " n"]]:
    """Segments of a window in its own steps.

    Segments are cut at the window's ends; one of which less than half is left is dropped, unless what is left fills
    half the window.
    """
    first, last = window.start / stride, -(-window.stop // stride)
    steps = last - first
    moved = video.segments - first
    cut = np.clip(moved, -0.5, steps - 0.5)
    left = cut[:, 1] - cut[:, 0]
    whole = moved[:, 1] - moved[:, 0]
    kept = (left > 0) & ((left >= _KEPT_SHARE * whole) | (left >= _KEPT_SHARE * steps))
    return cut[kept], video.labels[kept]
