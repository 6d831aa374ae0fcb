"""Frozen features of videos, which teacher and student read: RGB of an ImageNet net, and histograms of flow."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch.nn import functional

from tadkit.config import FlowSettings, FrozenSettings, TemporalShiftSettings, VideoSettings
from tadkit.errors import VideoError
from tadkit.extraction.results import ExtractionResult, description
from tadkit.flow.codec import read_flow
from tadkit.flow.histograms import flow_histograms, stacked
from tadkit.keys import features_key, flow_key, frozen_key
from tadkit.models.backbones.temporal_shift import TemporalShiftBackbone
from tadkit.progress import Progress, VideoProgress
from tadkit.runtime.devices import torch_device
from tadkit.store import TrackReader, open_store, read_store
from tadkit.video import SampledVideo, open_sampled
from tadkit.video.digests import source_key

_FRAMES, _FLOWS = 16, 128
"""Frames and flows that are read at once; they bound the memory."""


class FrozenNet:
    """The net of the RGB features."""

    def __init__(self, settings: FrozenSettings, *, device: torch.device) -> None:
        """Load the weights.

        Raises:
            WeightsError: they are not installed.
        """
        net = TemporalShiftBackbone(
            TemporalShiftSettings(name=settings.backbone, shift_fraction=0.0, stride=1), in_channels=3, pretrained=True
        )
        self._net, self._blocks = net.to(device).eval(), settings.blocks
        self._grid, self._device = settings.grid, device

    @torch.inference_mode()
    def __call__(self, frames: UInt8[np.ndarray, "frames height width 3"]) -> Float32[np.ndarray, "frames channels"]:
        """Features of each frame by itself: those of one cell follow those of the one before, row by row."""
        x = self._net.prepare(torch.from_numpy(frames)[None].to(self._device))[0]
        x = x.contiguous(memory_format=torch.channels_last)
        for block in self._net.blocks[: self._blocks]:
            x = block(x)
        cells = functional.adaptive_avg_pool2d(x, self._grid)
        return cells.permute(0, 2, 3, 1).flatten(1).cpu().numpy()


def extract_frozen_features(
    items: Mapping[str, Path],
    out: Path,
    *,
    flow_store: Path | None,
    frozen: FrozenSettings,
    flow: FlowSettings,
    video: VideoSettings,
    device: str,
    progress: Progress,
) -> ExtractionResult:
    """Write the frozen features of videos, given by name, to the store ``out``; those that it has are kept.

    The tracks are those of imported features: ``original/appearance`` for RGB and ``original/motion`` for flow, whose
    flow is read from ``flow_store`` (``tadkit extract-flow``) and left out without it. Steps are the sampled frames.

    Raises:
        WeightsError: the ImageNet weights are not installed.
        StoreError: a store cannot be read or written.
    """
    result, net = ExtractionResult(), FrozenNet(frozen, device=torch_device(device))
    parts = {"frozen": frozen, "flow": flow, "video": video}
    settings = {"imported": True, **{name: part.model_dump(mode="json") for name, part in parts.items()}}
    advances = VideoProgress(progress, "frozen features", videos=len(items))
    with ExitStack() as opened:
        store = opened.enter_context(open_store(out, kind="features", settings=settings))
        flows = None if flow_store is None else opened.enter_context(read_store(flow_store, kind="flow"))
        for name, path in items.items():
            try:
                key = _key(path, frozen=frozen, flow=None if flows is None else flow, video=video)
                if store.has(name, key):
                    result.reused.append(name)
                else:
                    with open_sampled(path, video) as sampled:
                        advances.begin(name, frames=len(sampled))
                        tracks = {"appearance": _seen(sampled, net, advances)}
                        if flows is not None:
                            histograms = _histograms(flows, name, frozen.motion_grid)
                            tracks["motion"] = stacked(histograms, stack=flow.stack)
                        about = description(sampled)
                        with store.video(name, key=key, stamps_s=sampled.stamps_s, attributes=about) as entry:
                            for track, values in tracks.items():
                                entry.append(f"original/{track}", values.astype(np.float16))
                    result.done.append(name)
            except VideoError as error:
                result.failed[name] = error
            advances.end(name)
    return result


def _key(path: Path, *, frozen: FrozenSettings, flow: FlowSettings | None, video: VideoSettings) -> str:
    if flow is None:
        return frozen_key(features_key(source_key(path), model="", video=video, views=()), frozen=frozen, stack=0)
    return frozen_key(flow_key(source_key(path), flow, video), frozen=frozen, stack=flow.stack)


def _seen(video: SampledVideo, net: FrozenNet, progress: VideoProgress) -> Float32[np.ndarray, "steps channels"]:
    parts = []
    for start in range(0, len(video), _FRAMES):
        parts.append(net(video.frames(start, min(start + _FRAMES, len(video)))))
        progress.advance(len(parts[-1]))
    return np.concatenate(parts)


def _histograms(flows: TrackReader, name: str, grid: int) -> Float32[np.ndarray, "flows channels"]:
    count = flows.length(name, "motion")
    starts = range(0, max(count, 1), _FLOWS)
    parts = [
        flow_histograms(read_flow(flows, name, start, min(start + _FLOWS, max(count, 1))), grid) for start in starts
    ]
    return np.concatenate(parts)[:count]
