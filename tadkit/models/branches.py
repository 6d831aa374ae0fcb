"""Branch mapping, halo, and jitter of colour and flow, for teacher and student."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from tadkit.models.backbones import Backbone

_MID_GREY = 127.5


class BranchMapping(nn.Module):
    """A 1-D mapping over time: convolution of three steps, layer norm over channels, ReLU.

    The paper leaves the layer open (docs/method.md); this is our choice. It depends on one step on either side.
    """

    halo_steps = 1

    def __init__(self, *, inputs: int, outputs: int) -> None:
        """Map ``inputs`` channels to ``outputs``."""
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, 3, padding=1)
        self.norm = nn.LayerNorm(outputs)

    def forward(
        self, x: Float[Tensor, "batch inputs time"], mask: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch outputs time"]:
        """Map; padding is set to zero in input and output."""
        real = mask[:, None].to(x.dtype)
        mapped = self.norm(self.conv(x * real).transpose(1, 2)).transpose(1, 2)
        return torch.relu(mapped) * real


def halo_frames(backbone: Backbone, *, stack: int = 1) -> int:
    """Halo of a stack of flows, backbone and branch mapping, rounded up so that windows start where they may."""
    need = stack // 2 + backbone.lead_frames + backbone.halo_frames + BranchMapping.halo_steps * backbone.stride
    return -(-need // backbone.align_frames) * backbone.align_frames


def jitter_flow(
    motion: Float[Tensor, "batch frames channels height width"], amount: float, drawn: Float[Tensor, " batch"]
) -> Float[Tensor, "batch frames channels height width"]:
    """Make a window's motion larger or smaller: s · motion, with one s in [1 - amount, 1 + amount) for each window.

    Directions stay, zero stays zero, and with temporal gradients s is a change of contrast. ``drawn`` is in [0, 1).
    """
    scale = 1 + amount * (2 * drawn.view(-1, 1, 1, 1, 1) - 1)
    return motion * scale.to(motion.device, motion.dtype)


def jitter_colour(
    frames: UInt8[Tensor, "batch frames height width 3"],
    mask: Bool[Tensor, "batch frames"],
    amount: float,
    drawn: Float[Tensor, "3 batch"],
) -> UInt8[Tensor, "batch frames height width 3"]:
    """Change brightness, contrast and saturation by up to ``amount``, by the same factors in all frames of a window.

    Contrast is relative to the mean of the window's real frames, so that padding does not affect them. ``drawn`` has a
    number in [0, 1) for each of the three.
    """
    if amount == 0:
        return frames
    factors = 1 + amount * (2 * drawn.view(3, -1, 1, 1, 1, 1) - 1)
    brightness, contrast, saturation = factors.to(frames.device)
    x = frames.float().mul_(brightness)
    real = mask[:, :, None, None, None]
    mean = (x.mean(dim=(2, 3, 4), keepdim=True) * real).sum(dim=1, keepdim=True) / real.sum(dim=1, keepdim=True).clamp(
        min=1
    )
    return _recoloured(x, mean, contrast, saturation)


def vary_colour(
    frames: UInt8[Tensor, "frames height width 3"], factors: tuple[float, float, float]
) -> UInt8[Tensor, "frames height width 3"]:
    """Change brightness, contrast and saturation by three factors.

    Each frame is changed by itself: contrast is relative to mid-grey, not to the mean as in :func:`jitter_colour`.
    """
    brightness, contrast, saturation = factors
    return _recoloured(frames.float() * brightness, _MID_GREY, contrast, saturation)


def _recoloured(
    x: Tensor, mean: Tensor | float, contrast: Tensor | float, saturation: Tensor | float
) -> UInt8[Tensor, "*frames height width 3"]:
    """Change contrast and saturation of RGB; overwrites ``x``."""
    grey = (x[..., :1] + x[..., 1:2] + x[..., 2:]).div_(3)
    offset = grey.mul_((1 - saturation) * contrast).add_((1 - contrast) * mean)
    jittered: Tensor = x.mul_(contrast * saturation).add_(offset)
    return jittered.clamp_(0, 255).to(torch.uint8)
