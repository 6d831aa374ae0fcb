"""What training keeps in memory between steps, each up to a limit: frames, activations of frozen layers, tracks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from tadkit.config import VideoSettings, View
from tadkit.models.backbones import Backbone, PrefixedBackbone
from tadkit.training.windows import TrainingVideo, Window
from tadkit.video import open_sampled

_CHUNK = 256
_PREFIX_CHUNK = 32


class FrameCache:
    """Decoded frames of videos, kept in memory up to a limit; a video that does not fit is decoded again each time."""

    def __init__(self, settings: VideoSettings, *, limit_bytes: int) -> None:
        """Keep at most ``limit_bytes`` of frames."""
        self.settings = settings
        self.free_bytes = limit_bytes
        self.videos: dict[Path, UInt8[np.ndarray, "frames height width 3"]] = {}

    def read(self, path: Path, start: int, stop: int) -> UInt8[np.ndarray, "frames height width 3"]:
        """Sampled frames ``start`` to ``stop`` (half open).

        Raises:
            VideoError: the video cannot be read.
        """
        if path not in self.videos:
            with open_sampled(path, self.settings) as video:
                height, width = self.settings.size_hw
                if len(video) * height * width * 3 > self.free_bytes:
                    return video.frames(start, stop)
                chunks = [video.frames(at, min(at + _CHUNK, len(video))) for at in range(0, len(video), _CHUNK)]
            self.videos[path] = np.concatenate(chunks)
            self.free_bytes -= self.videos[path].nbytes
        return self.videos[path][start:stop]


class PrefixCache:
    """Activations of the student's first layers, kept in the memory that the decoded frames leave.

    They are computed for chunks of frames that start at the same places in every run, and outside autocast: a frame's
    activations are the same to the bit, whatever is kept.
    """

    def __init__(self, backbone: PrefixedBackbone, frames: FrameCache) -> None:
        """Share the limit of ``frames``; ``backbone`` has a prefix."""
        self.backbone = backbone
        self.frames = frames
        self.chunks: dict[tuple[str, View, int, int], Tensor] = {}

    @classmethod
    def of(cls, backbone: Backbone, frames: FrameCache) -> PrefixCache | None:
        """The cache of a backbone that has a prefix; None for the others."""
        return cls(backbone, frames) if isinstance(backbone, PrefixedBackbone) and backbone.has_prefix else None

    @torch.no_grad()
    def read(
        self, video: TrainingVideo, window: Window, inputs: Callable[[int, int], Tensor]
    ) -> Float[Tensor, "frames height width depth"]:
        """Activations of a window; ``inputs`` gives the frames ``start`` to ``stop`` of its video in its view.

        Raises:
            VideoError: the video cannot be read.
        """
        first, chunks = window.start // _PREFIX_CHUNK, []
        for number in range(first, -(-window.stop // _PREFIX_CHUNK)):
            key = (video.name, window.view, window.colours, number)
            chunk = self.chunks.get(key)
            if chunk is None:
                start, stop = number * _PREFIX_CHUNK, min((number + 1) * _PREFIX_CHUNK, video.frames)
                lead = min(start, self.backbone.lead_frames)
                frames = inputs(start - lead, stop).to(next(self.backbone.parameters()).device)
                chunk = self.backbone.prefix(frames, lead=lead).cpu().contiguous()
                if chunk.nbytes <= self.frames.free_bytes:
                    self.frames.free_bytes -= chunk.nbytes
                    self.chunks[key] = chunk
            chunks.append(chunk)
        return torch.cat(chunks)[window.start - first * _PREFIX_CHUNK :][: window.stop - window.start]


class TrackCache:
    """Tracks of stores, each read whole once and kept if it fits; the others are then read window by window."""

    def __init__(self, *, limit_bytes: int) -> None:
        """Keep at most ``limit_bytes``."""
        self.free_bytes = limit_bytes
        self.tracks: dict[tuple[str, ...], Shaped[np.ndarray, "steps channels"]] = {}
        self._too_large: set[tuple[str, ...]] = set()

    def read(
        self, source: Callable[..., np.ndarray], *names: str, start: int, stop: int
    ) -> Shaped[np.ndarray, "steps channels"]:
        """Steps ``start`` to ``stop`` (half open) of what ``source`` reads of ``names``, which name one track.

        Raises:
            StoreError: the source has no such track, or not so many steps.
        """
        if self.free_bytes > 0 and names not in self.tracks and names not in self._too_large:
            whole = source(*names)
            if whole.nbytes <= self.free_bytes:
                self.free_bytes -= whole.nbytes
                self.tracks[names] = whole
            else:
                self._too_large.add(names)
        kept = self.tracks.get(names)
        return source(*names, start, stop) if kept is None or stop > len(kept) else kept[start:stop]
