"""Batches of windows for the three training stages."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from tadkit.config import View
from tadkit.distill import Batch, TeacherTargets, Truth
from tadkit.flow.codec import read_stacks
from tadkit.models.backbones import step_mask
from tadkit.models.branches import vary_colour
from tadkit.models.ensemble import EnsembleHead
from tadkit.models.heads import Head, HeadPredictions
from tadkit.runtime.world import world
from tadkit.store import TrackReader, VideoTracks
from tadkit.store.streams import FeatureStream
from tadkit.training.caches import FrameCache, PrefixCache, TrackCache
from tadkit.training.windows import TrainingVideo, Window, WindowPlan, window_truth
from tadkit.views import view_frames

TeacherHead: TypeAlias = Head | EnsembleHead
"""Predicts from f_T: the head of one teacher, or those of several."""


class WindowBatches(ABC):
    """Batches by step number; subclasses read the inputs of a window."""

    def __init__(self, plan: WindowPlan, *, stride: int) -> None:
        """``stride`` is frames per feature step."""
        self.plan = plan
        self.stride = stride
        self.steps_per_epoch = plan.steps_per_epoch

    @property
    def validation(self) -> WindowBatches | None:
        """Batches of the videos that the plan sets aside, read from the same files."""
        if self.plan.validation is None:
            return None
        aside = copy(self)
        aside.plan, aside.steps_per_epoch = self.plan.validation, self.plan.validation.steps_per_epoch
        return aside

    @abstractmethod
    def inputs(self, video: TrainingVideo, window: Window) -> dict[str, Tensor]:
        """Tensors of one window, time first, padded to the plan's length."""

    def teacher(self, windows: Sequence[Window]) -> TeacherTargets | None:  # noqa: ARG002 - for subclasses
        """Teacher outputs of a batch; None if the objective does not need them."""
        return None

    def batch(self, step: int) -> Batch:
        """Batch of step ``step`` over all epochs, with the inputs of this process's share of the windows."""
        windows = self.plan.windows(step)
        rows = world().share(len(windows))
        parts = [self.inputs(self.plan.videos[window.video], window) for window in windows[rows]]
        labelled = self.plan.labelled_windows(step)
        truths = [window_truth(self.plan.videos[window.video], window, stride=self.stride) for window in labelled]
        return Batch(
            inputs={name: torch.stack([part[name] for part in parts]) for name in parts[0]},
            mask=torch.stack([self.mask(window) for window in windows]),
            truth=Truth(
                segments=[torch.from_numpy(segments).float() for segments, _ in truths],
                labels=[torch.from_numpy(labels) for _, labels in truths],
            ),
            teacher=self.teacher(windows),
            rows=rows,
        )

    def mask(self, window: Window) -> Tensor:
        """Real frames of a window (frames,)."""
        return torch.arange(self.plan.window_frames) < window.stop - window.start


class FlowBatches(WindowBatches):
    """Windows of flow from a flow store, for the teacher."""

    def __init__(self, plan: WindowPlan, *, stride: int, flow: TrackReader, stack: int = 1) -> None:
        """Read from the store ``flow``, at each frame ``stack`` flows."""
        super().__init__(plan, stride=stride)
        self.flow, self.stack = flow, stack

    def inputs(self, video: TrainingVideo, window: Window) -> dict[str, Tensor]:
        """``flow`` (frames, channels, height, width), as :func:`tadkit.flow.codec.read_stacks` reads it."""
        flow = read_stacks(self.flow, video.name, window.start, window.stop, view=window.view, stack=self.stack)
        return {"flow": pad_time(flow, self.plan.window_frames)}


class TaughtBatches(WindowBatches):
    """Windows for the student, with the teacher's cached outputs if ``teacher_outputs`` is given."""

    def __init__(
        self,
        plan: WindowPlan,
        *,
        stride: int,
        teacher_outputs: VideoTracks | None,
        strides: Sequence[int],
        teacher_head: TeacherHead | None = None,
        cache_bytes: int = 0,
    ) -> None:
        """Read the teacher's outputs.

        Args:
            plan: the windows of every step.
            stride: frames per feature step.
            teacher_outputs: the teacher's cached outputs; None for students that are trained without them.
            strides: feature steps from one step to the next, for each level of the teacher's predictions in the
                tracks; none if the tracks hold the feature alone.
            teacher_head: predicts from the teacher's feature if the tracks hold no predictions.
            cache_bytes: memory for tracks that are read whole once.
        """
        super().__init__(plan, stride=stride)
        self.track_cache = TrackCache(limit_bytes=cache_bytes)
        self.teacher_outputs = teacher_outputs
        self.strides = tuple(strides)
        self.teacher_head = None if teacher_head is None else teacher_head.eval().cpu()

    def teacher(self, windows: Sequence[Window]) -> TeacherTargets | None:
        """f_T and y_T of the windows, in their views."""
        tracks = self.teacher_outputs
        if tracks is None:
            return None
        feature = torch.stack([self._track(tracks, window, "feature", 1)[0].T for window in windows])
        if self.teacher_head is not None:
            mask = step_mask(torch.stack([self.mask(window) for window in windows]), self.stride)
            with torch.no_grad():
                return TeacherTargets(feature, self.teacher_head(feature, mask))
        logits, masks = self._levels(tracks, windows, "logits")
        return TeacherTargets(feature, HeadPredictions(logits, self._levels(tracks, windows, "offsets")[0], masks))

    def _levels(
        self, tracks: VideoTracks, windows: Sequence[Window], field: str
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """One field of the stored predictions and its masks, for every level."""
        read = [
            [self._track(tracks, window, f"{field}_{level}", stride) for window in windows]
            for level, stride in enumerate(self.strides)
        ]
        values, masks = (tuple(torch.stack([pair[part] for pair in level]) for level in read) for part in (0, 1))
        return values, masks

    def _track(self, tracks: VideoTracks, window: Window, track: str, scale: int) -> tuple[Tensor, Tensor]:
        """A window of a track that has every ``scale``-th step, padded to the plan's length; and its mask."""
        first, last = window.start // self.stride, -(-window.stop // self.stride)
        name = self.plan.videos[window.video].name
        start, stop = first // scale, -(-last // scale)
        values = self.track_cache.read(tracks.read, name, f"{window.view}/{track}", start=start, stop=stop)
        length = self.plan.window_frames // self.stride // scale
        return pad_time(torch.from_numpy(values).float(), length), torch.arange(length) < len(values)


class FrameBatches(TaughtBatches):
    """Windows of RGB."""

    def __init__(
        self,
        plan: WindowPlan,
        *,
        stride: int,
        cache: FrameCache,
        paths: Mapping[str, Path],
        teacher_outputs: VideoTracks | None,
        strides: Sequence[int],
        teacher_head: TeacherHead | None = None,
        prefix: PrefixCache | None = None,
    ) -> None:
        """Read frames through ``cache`` from the files ``paths``, by name.

        ``prefix`` gives activations instead of frames if the plan's windows have colours that are drawn beforehand. The
        rest is as in the base class.
        """
        super().__init__(
            plan, stride=stride, teacher_outputs=teacher_outputs, strides=strides, teacher_head=teacher_head
        )
        self.cache = cache
        self.paths = paths
        self.prefix = prefix

    def inputs(self, video: TrainingVideo, window: Window) -> dict[str, Tensor]:
        """``frames`` uint8 (frames, height, width, 3), or their ``activations`` (frames, height, width, depth)."""
        settings = self.plan.settings
        if self.prefix is None or (settings.colour_jitter and not settings.colour_variants):
            frames = self.cache.read(self.paths[video.name], window.start, window.stop)
            return {"frames": pad_time(_viewed(frames, window.view), self.plan.window_frames)}
        activations = self.prefix.read(video, window, partial(self._coloured, video, window))
        return {"activations": pad_time(activations, self.plan.window_frames)}

    def _coloured(self, video: TrainingVideo, window: Window, start: int, stop: int) -> Tensor:
        """Other frames of a window's video, in its view and with its colours."""
        settings = self.plan.settings
        viewed = _viewed(self.cache.read(self.paths[video.name], start, stop), window.view)
        if not settings.colour_jitter:
            return viewed
        place = zlib.crc32(f"{video.name}/{window.view}".encode())
        drawn = np.random.default_rng([settings.seed, place, window.colours]).uniform(-1, 1, 3)
        brightness, contrast, saturation = (1 + settings.colour_jitter * drawn).tolist()
        return vary_colour(viewed, (brightness, contrast, saturation))


class StreamBatches(TaughtBatches):
    """Windows of one stream of stored features, in place of frames or flow; the plan counts their steps as frames."""

    def __init__(
        self,
        plan: WindowPlan,
        *,
        stream: FeatureStream,
        name: Literal["frames", "flow"],
        teacher_outputs: VideoTracks | None = None,
        strides: Sequence[int] = (),
        teacher_head: TeacherHead | None = None,
        cache_bytes: int = 0,
    ) -> None:
        """``name`` is what the objective reads; the rest is as in the base class."""
        super().__init__(
            plan,
            stride=1,
            teacher_outputs=teacher_outputs,
            strides=strides,
            teacher_head=teacher_head,
            cache_bytes=cache_bytes,
        )
        self.stream = stream
        self.name = name

    def inputs(self, video: TrainingVideo, window: Window) -> dict[str, Tensor]:
        """The stream (steps, channels)."""
        read = self.track_cache.read(self.stream.read, video.name, start=window.start, stop=window.stop)
        steps = torch.from_numpy(read)
        return {self.name: pad_time(steps, self.plan.window_frames)}


class FeatureBatches(WindowBatches):
    """Windows of cached branch features, for fusion and joint head."""

    def __init__(self, plan: WindowPlan, *, features: VideoTracks, tracks: Sequence[str]) -> None:
        """``tracks`` are ``appearance`` and, with two branches, ``motion``. The plan counts feature steps as frames."""
        super().__init__(plan, stride=1)
        self.features = features
        self.tracks = tracks

    def inputs(self, video: TrainingVideo, window: Window) -> dict[str, Tensor]:
        """Each track (channels, steps)."""
        return {
            track: pad_time(self._read(video.name, window, track), self.plan.window_frames).T for track in self.tracks
        }

    def _read(self, name: str, window: Window, track: str) -> Tensor:
        return torch.from_numpy(self.features.read(name, f"{window.view}/{track}", window.start, window.stop)).float()


def pad_time(x: Tensor, length: int) -> Tensor:
    """Append zeros up to ``length`` steps."""
    assert x.shape[0] <= length, (x.shape, length)
    return torch.cat([x, x.new_zeros((length - x.shape[0], *x.shape[1:]))]) if x.shape[0] < length else x


def _viewed(frames: UInt8[np.ndarray, "frames height width 3"], view: View) -> Tensor:
    return view_frames(torch.from_numpy(frames).movedim(-1, 1), view).movedim(1, -1).contiguous()
