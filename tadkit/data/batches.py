"""Batches of windows for the three training stages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from tadkit.config import View
from tadkit.data.frames import FrameCache
from tadkit.data.windows import TrainingVideo, Window, WindowPlan, window_truth
from tadkit.distill import Batch, TeacherTargets, Truth
from tadkit.flow import decode as decode_motion
from tadkit.heads import HeadPredictions
from tadkit.store import TrackReader
from tadkit.views import view_frames, view_motion


class WindowBatches(ABC):
    """Batches by step number; subclasses say what a window holds."""

    def __init__(self, plan: WindowPlan, *, stride: int) -> None:
        """``stride`` is frames per feature step."""
        self.plan = plan
        self.stride = stride
        self.steps_per_epoch = plan.steps_per_epoch

    @abstractmethod
    def inputs(self, video: TrainingVideo, window: Window) -> dict[str, Tensor]:
        """Tensors of one window, time first, padded to the plan's length."""

    def teacher(self, windows: Sequence[Window]) -> TeacherTargets | None:  # noqa: ARG002 - for those that have one
        """Teacher outputs of a batch; None where the objective needs none."""
        return None

    def batch(self, step: int) -> Batch:
        """Batch of step ``step`` over all epochs."""
        windows = self.plan.windows(step)
        videos = [self.plan.videos[window.video] for window in windows]
        parts = [self.inputs(*pair) for pair in zip(videos, windows, strict=True)]
        truths = [window_truth(*pair, stride=self.stride) for pair in zip(videos, windows, strict=True)]
        return Batch(
            inputs={name: torch.stack([part[name] for part in parts]) for name in parts[0]},
            mask=torch.stack([self.mask(window) for window in windows]),
            truth=Truth(
                segments=[torch.from_numpy(segments).float() for segments, _ in truths],
                labels=[torch.from_numpy(labels) for _, labels in truths],
            ),
            teacher=self.teacher(windows),
        )

    def mask(self, window: Window) -> Tensor:
        """Real frames of a window (frames,)."""
        return torch.arange(self.plan.window_frames) < window.stop - window.start


class FlowBatches(WindowBatches):
    """Windows of flow from a flow store, for the teacher."""

    def __init__(self, plan: WindowPlan, *, stride: int, flow: TrackReader) -> None:
        """Read from the store ``flow``."""
        super().__init__(plan, stride=stride)
        self.flow = flow

    def inputs(self, video: TrainingVideo, window: Window) -> dict[str, Tensor]:
        """``flow`` (frames, channels, height, width); the last frame of a video repeats the flow before it."""
        flow = read_flow(self.flow, video.name, window.start, window.stop)
        return {"flow": pad_time(view_motion(torch.from_numpy(flow), window.view), self.plan.window_frames)}


class FrameBatches(WindowBatches):
    """Windows of RGB, with the teacher's cached outputs where ``teacher_tracks`` is given, for the student."""

    def __init__(
        self,
        plan: WindowPlan,
        *,
        stride: int,
        cache: FrameCache,
        paths: Mapping[str, Path],
        teacher_tracks: TrackReader | None,
        levels: int,
    ) -> None:
        """``paths`` finds a video's file by its name; ``levels`` are those of the teacher's head."""
        super().__init__(plan, stride=stride)
        self.cache = cache
        self.paths = paths
        self.teacher_tracks = teacher_tracks
        self.levels = levels

    def inputs(self, video: TrainingVideo, window: Window) -> dict[str, Tensor]:
        """``frames`` uint8 (frames, height, width, 3)."""
        frames = self.cache.read(self.paths[video.name], window.start, window.stop)
        return {"frames": pad_time(_viewed(frames, window.view), self.plan.window_frames)}

    def teacher(self, windows: Sequence[Window]) -> TeacherTargets | None:
        """f_T and y_T of the windows, in their views."""
        if self.teacher_tracks is None:
            return None
        parts = [self._teacher_window(self.teacher_tracks, window) for window in windows]
        features, predictions = zip(*parts, strict=True)
        merged = (
            tuple(torch.stack([p[field][level] for p in predictions]) for level in range(self.levels))
            for field in range(3)
        )
        return TeacherTargets(torch.stack(features), HeadPredictions(*merged))

    def _teacher_window(self, tracks: TrackReader, window: Window) -> tuple[Tensor, HeadPredictions]:
        name = self.plan.videos[window.video].name
        steps = self.plan.window_frames // self.stride
        first = window.start // self.stride
        last = -(-window.stop // self.stride)

        def read(track: str, scale: int) -> tuple[Tensor, Tensor]:
            values = tracks.read(name, f"{window.view}/{track}", first // scale, -(-last // scale))
            length = steps // scale
            return pad_time(torch.from_numpy(values).float(), length), torch.arange(length) < len(values)

        feature, _ = read("feature", 1)
        logits, masks = zip(*(read(f"logits_{level}", 2**level) for level in range(self.levels)), strict=True)
        offsets = tuple(read(f"offsets_{level}", 2**level)[0] for level in range(self.levels))
        return feature.T, HeadPredictions(tuple(logits), offsets, tuple(masks))


class FeatureBatches(WindowBatches):
    """Windows of cached branch features, for fusion and joint head."""

    def __init__(self, plan: WindowPlan, *, features: TrackReader, tracks: Sequence[str]) -> None:
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


def read_flow(
    store: TrackReader, name: str, start: int, stop: int
) -> Float[np.ndarray, "frames channels height width"]:
    """Motion of frames ``start`` to ``stop``; the last frame of a video, which has none, repeats the one before it."""
    count = store.length(name, "motion")
    bound = store.bound(name, "motion")
    coded = store.read(name, "motion", min(start, max(0, count - 1)), min(stop, count))
    if len(coded) == 0:  # a video of one frame has no flow: it stands still
        return np.zeros((stop - start, *coded.shape[1:]), dtype=np.float32)
    motion = coded.astype(np.float32) if bound is None else decode_motion(coded, bound)
    missing = stop - max(start, count)
    if start >= count:  # only the last frame was asked for
        return np.repeat(motion[-1:], stop - start, axis=0)
    return np.concatenate([motion, np.repeat(motion[-1:], missing, axis=0)]) if missing > 0 else motion


def pad_time(x: Tensor, length: int) -> Tensor:
    """Zeros after the last step until there are ``length``."""
    assert x.shape[0] <= length, (x.shape, length)
    return torch.cat([x, x.new_zeros((length - x.shape[0], *x.shape[1:]))]) if x.shape[0] < length else x


def _viewed(frames: UInt8[np.ndarray, "frames height width 3"], view: View) -> Tensor:
    return view_frames(torch.from_numpy(frames).movedim(-1, 1), view).movedim(1, -1).contiguous()
