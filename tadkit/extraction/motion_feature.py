"""The teacher's feature f_T of a video, from stored flow, or from flow that is computed on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor

from tadkit.config import FlowSettings, View
from tadkit.extraction.flow_video import CodedFlow, code_bound, flow_blocks, flow_of_blocks
from tadkit.flow import FlowMethod
from tadkit.flow.codec import FlowTracks, read_stacks
from tadkit.models.teacher import MotionStream
from tadkit.store.streams import FeatureStream
from tadkit.video import SampledVideo, windows

CORE_FRAMES = 256
"""Frames computed at a time; with the halo they bound the memory, and the result does not depend on them."""


@torch.inference_mode()
def motion_feature(
    flow: FlowTracks | FeatureStream,
    name: str,
    frames: int,
    *,
    model: MotionStream,
    view: View = "original",
    core_frames: int = CORE_FRAMES,
    advance: Callable[[int], None] | None = None,
) -> Float[Tensor, "1 channels steps"]:
    """f_T of one video of ``frames`` frames, or steps of features, in one view, on the model's device.

    Windows have the halo that the model's shifts and mapping need, so the result equals that of one pass.
    """
    device = next(model.parameters()).device
    stride, align = model.backbone.stride, model.backbone.align_frames
    parts = []
    for window in windows(frames, core=max(1, core_frames // align) * align, halo=model.halo_frames):
        motion = _seen(flow, name, window.start, window.stop, view=view, stack=model.stack)
        mask = torch.ones(1, len(motion), dtype=torch.bool, device=device)
        feature = model.features(motion[None].to(device), mask)
        parts.append(feature[:, :, window.core_steps(stride)])
        if advance is not None:
            advance(window.core_stop - window.core_start)
    return torch.cat(parts, dim=2)


def _seen(flow: FlowTracks | FeatureStream, name: str, start: int, stop: int, *, view: View, stack: int) -> Tensor:
    """What the model reads: flow in a view, or steps of features, which have the original view only."""
    if isinstance(flow, FeatureStream):
        return torch.from_numpy(flow.read(name, start, stop))
    return read_stacks(flow, name, start, stop, view=view, stack=stack)


def feature_of_video(
    model: MotionStream,
    video: SampledVideo,
    *,
    flow: FlowSettings,
    method: FlowMethod,
    core_frames: int = CORE_FRAMES,
    advance: Callable[[int], None] | None = None,
) -> Float32[np.ndarray, "steps channels"]:
    """f_T of an open video, rounded like that of a store; its flow is that of ``tadkit extract-flow``.

    Raises:
        VideoError: a frame cannot be decoded.
        TadkitError: flow is not finite, or does not fit in the device's memory.
    """
    with _computed(video, flow, method) as tracks:
        feature = motion_feature(tracks, "", len(video), model=model, core_frames=core_frames, advance=advance)
    return rounded(feature)


def rounded(feature: Float[Tensor, "1 channels steps"]) -> Float32[np.ndarray, "steps channels"]:
    """f_T as a store gives it back, which keeps float16."""
    return feature[0].T.half().float().cpu().numpy()


@contextmanager
def _computed(video: SampledVideo, flow: FlowSettings, method: FlowMethod) -> Iterator[FlowTracks]:
    blocks, size_hw = flow_blocks(len(video) - 1, flow, size_hw=video.reader.size_hw), video.reader.size_hw
    empty = np.zeros((0, method.channels, *size_hw), dtype=flow.code)
    with flow_of_blocks(video, blocks, flow, method) as coded:
        yield _ComputedFlow(coded, pairs=len(video) - 1, bound=code_bound(flow), empty=empty)


class _ComputedFlow:
    """Flow of one video that reads like a store, computed when it is read.

    Every range must start no earlier than the one before: what lies before it is forgotten, so that memory does not
    grow with the video.
    """

    def __init__(
        self, coded: Iterator[CodedFlow], *, pairs: int, bound: float | None, empty: Shaped[np.ndarray, "0 c h w"]
    ) -> None:
        self._coded, self._pairs, self._bound, self._empty = coded, pairs, bound, empty
        self._kept: deque[np.ndarray] = deque()
        self._first, self._computed = 0, 0

    def length(self, video: str, track: str) -> int:  # noqa: ARG002 - there is one
        """Frame pairs."""
        return self._pairs

    def bound(self, video: str, track: str) -> float | None:  # noqa: ARG002 - there is one
        """Bound of the int8 code; None for float16."""
        return self._bound

    def read(
        self,
        video: str,  # noqa: ARG002 - there is one
        track: str,  # noqa: ARG002 - there is one
        start: int,
        stop: int,
    ) -> Shaped[np.ndarray, "flows channels height width"]:
        """Flows ``start`` to ``stop``, half open."""
        assert start >= self._first, (start, self._first)
        while self._computed < stop:
            values = next(self._coded).values
            self._kept.append(values)
            self._computed += len(values)
        while self._kept and self._first + len(self._kept[0]) <= start:
            self._first += len(self._kept.popleft())
        around = np.concatenate([self._empty, *self._kept])
        return around[start - self._first : stop - self._first]
