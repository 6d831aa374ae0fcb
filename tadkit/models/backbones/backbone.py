"""What teacher and student expect of a net that turns frames into features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_NAMED = 3


class WeightsReport(NamedTuple):
    """How a weights file fits a backbone, by the backbone's own names; left over are names of the file.

    Attributes:
        path: the file.
        matched: loaded.
        averaged: those of the loaded ones that are averages over the colours.
        missing: not in the file; they keep their initial values.
        left_over: in the file, but of no use here, such as the classifier.
    """

    path: Path
    matched: tuple[str, ...]
    averaged: tuple[str, ...]
    missing: tuple[str, ...]
    left_over: tuple[str, ...]

    def __str__(self) -> str:
        """The report in one line."""
        total = len(self.matched) + len(self.missing)
        parts = [f"{self.path}: {len(self.matched)} of {total} tensors of the backbone loaded"]
        if self.averaged:
            parts.append(f"averaged over the colours: {listed(self.averaged)}")
        if self.missing:
            parts.append(f"{len(self.missing)} missing, left at their initial values: {listed(self.missing)}")
        if self.left_over:
            parts.append(f"{len(self.left_over)} of the file not used: {listed(self.left_over)}")
        return "; ".join(parts)


def listed(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


class Backbone(nn.Module, ABC):
    """From the frames of a clip, or its motion, to one feature for every ``stride`` frames.

    Attributes:
        channels: width of a feature step.
        stride: frames that make one feature step, by averaging or by strides inside the net.
        halo_frames: frames before the first and after the last frame of a step that the step depends on, at most.
        align_frames: a window cut out of a longer video must start at a multiple of it, so that its steps are those
            of one pass over the video. A multiple of ``stride``.
        lead_frames: frames before those of ``halo_frames`` that it depends on, too, because the net reads changes.
        rgb_mean: mean of red, green and blue, of 0..255, that the net's weights expect.
        rgb_std: their standard deviation.
        flow_unit_px: flow that the net reads as 1.
        gradient_unit: difference of grey levels that the net reads as 1.
        stack: flows, or gradients, that make one frame of motion.
        frozen_norm: whether batch norm keeps its statistics in training.
        weights_report: how the file fitted that the net started from, if it did.
    """

    channels: int
    stride: int
    halo_frames: int
    align_frames: int
    lead_frames: int = 0
    rgb_mean: tuple[float, float, float] = (127.0, 127.0, 127.0)
    rgb_std: tuple[float, float, float] = (128.0, 128.0, 128.0)
    flow_unit_px: float = 2.0
    gradient_unit: float = 32.0
    stack: int = 1
    frozen_norm: bool = False
    weights_report: WeightsReport | None = None

    @abstractmethod
    def forward(
        self, inputs: Shaped[Tensor, "batch frames ..."], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch channels steps"]:
        """Features of ceil(frames / stride) steps.

        Args:
            inputs: what was decoded or extracted, not scaled yet: see :meth:`prepare`. For nets that read features,
                their steps (batch, steps, channels).
            mask: false at padding, which does not reach the features of real frames. Steps of padding are zero.
        """

    def prepare(
        self, inputs: Shaped[Tensor, "batch frames ..."]
    ) -> Float[Tensor, "batch frames channels height width"]:
        """Scale inputs to what the net reads, about -1..1.

        Args:
            inputs: uint8 RGB (batch, frames, height, width, 3); or motion (batch, frames, channels, height, width),
                flow in pixels (2 channels) or temporal gradient in grey levels (3 channels), ``stack`` times each.
        """
        if inputs.dtype == torch.uint8:
            # A row of pixels at once: on a CPU that is three times as fast as the three colours of a pixel.
            width = inputs.shape[3]
            mean, std = (torch.tensor(x, device=inputs.device).repeat(width) for x in (self.rgb_mean, self.rgb_std))
            scaled = inputs.flatten(3).float().sub_(mean).div_(std)
            return rearrange(scaled, "b t h (w c) -> b t c h w", c=3)
        return inputs / (self.flow_unit_px if inputs.shape[2] == 2 * self.stack else self.gradient_unit)

    def own_name(self, published: str) -> str:
        """The name in this net's state dict of a tensor that the net's publisher calls ``published``."""
        return published

    def train(self, mode: bool = True) -> Self:
        """Keep frozen batch norm frozen: the frames of a few windows are too alike to estimate statistics from."""
        super().train(mode)
        for module in self.modules() if self.frozen_norm else ():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self


class PrefixedBackbone(Backbone):
    """A backbone that can be cut behind its first layers.

    Attributes:
        has_prefix: whether the first layers are not trained and see one frame at a time, so that training may keep
            their activations.
    """

    has_prefix: bool = False

    @abstractmethod
    def prefix(
        self, inputs: Shaped[Tensor, "frames ..."], *, lead: int = 0
    ) -> Float[Tensor, "frames_left height width depth"]:
        """With ``has_prefix``: activations behind the first layers. They stay the same during training.

        Args:
            inputs: frames or motion as in :meth:`forward`: of any clips, or with ``lead_frames`` of one.
            lead: the first of them that are only there for those that follow: ``lead_frames``, or as many as there are.
        """

    @abstractmethod
    def suffix(
        self, activations: Float[Tensor, "batch frames height width depth"], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch channels steps"]:
        """With ``has_prefix``: what :meth:`forward` returns for the inputs that have this :meth:`prefix`."""


class StreamedBackbone(PrefixedBackbone):
    """A backbone that reads a video in pieces and remembers what it needs of those before: no frame is computed twice.

    Features come ``halo_frames`` frames late, and with the last piece all that are left.
    """

    @abstractmethod
    def piece(
        self, frames: UInt8[Tensor, "frames height width 3"], kept: Sequence[Tensor], *, last: bool
    ) -> tuple[Float[Tensor, "frames_done channels"], list[Tensor]]:
        """Features of single frames, not yet averaged over the frames of a step, and what the next piece needs.

        Args:
            frames: those that follow the last piece; the first piece has more than ``halo_frames`` or is the last.
            kept: what the last piece returned; empty for the first.
            last: whether the video ends with this piece.
        """


def step_mask(mask: Bool[Tensor, "batch frames"], stride: int) -> Bool[Tensor, "batch steps"]:
    """Feature steps with at least one real frame."""
    padded = nn.functional.pad(mask, (0, -mask.shape[1] % stride))
    return padded.view(mask.shape[0], -1, stride).any(dim=2)


def average_steps(
    x: Float[Tensor, "batch frames channels"], mask: Bool[Tensor, "batch frames"], stride: int
) -> Float[Tensor, "batch steps channels"]:
    """Mean over groups of ``stride`` real frames; a short last group is averaged over the frames that it has.

    Frames of padding must be zero.
    """
    batch, frames, channels = x.shape
    rest = -frames % stride
    x = nn.functional.pad(x, (0, 0, 0, rest)).view(batch, -1, stride, channels).sum(dim=2)
    counts = nn.functional.pad(mask, (0, rest)).view(batch, -1, stride).sum(dim=2).clamp(min=1)
    return x / counts[..., None]
