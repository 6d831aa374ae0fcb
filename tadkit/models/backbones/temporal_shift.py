"""A 2-D net on every frame, with shifts of channels between neighbouring frames.

Source: Lin, Gan, Han, *TSM: Temporal Shift Module for Efficient Video Understanding*, ICCV 2019 (bidirectional; the
shift is inside the residual branch, so that the identity path keeps every frame's own features). We differ in three
places: only the deepest blocks shift, space is averaged, and neighbouring frames are averaged to one feature step.
"""

from __future__ import annotations

from typing import Any, assert_never

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tadkit.config import BackboneSettings
from tadkit.errors import SettingsError
from tadkit.models.backbones import efficientnet_lite
from tadkit.runtime import import_torchvision

_TINY_CHANNELS = (16, 32, 64, 128)


class TemporalShiftBackbone(nn.Module):
    """From frames to features.

    Attributes:
        channels: width of a feature step.
        stride: frames averaged to one step.
        halo_frames: frames on either side that a frame's feature depends on.
    """

    def __init__(self, settings: BackboneSettings, *, in_channels: int, pretrained: bool) -> None:
        """Build the net for ``in_channels`` (3 for RGB, 2 for flow); ``pretrained`` loads ImageNet weights.

        Raises:
            SettingsError: ``pretrained`` with a net that has no ImageNet weights.
            WeightsError: the weights are not installed.
        """
        super().__init__()
        self.blocks, self.channels = _build_blocks(settings, in_channels=in_channels, pretrained=pretrained)
        self.stride = settings.stride
        self.frozen_norm = settings.pretrained
        self.shift_fraction = settings.shift_fraction
        count = len(self.blocks)
        shifts = settings.shift_fraction > 0
        self.first_shift = max(1, count - settings.shift_blocks) if shifts else count
        self.halo_frames = count - self.first_shift
        self.frozen_blocks = min(settings.frozen_blocks, count)
        for block in self.blocks[: self.frozen_blocks]:
            block.requires_grad_(False)

    def train(self, mode: bool = True) -> TemporalShiftBackbone:
        """Keep pretrained batch norm frozen: the frames of a few windows are too alike to estimate statistics from."""
        super().train(mode)
        for module in self.modules() if self.frozen_norm else ():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(
        self, clip: Float[Tensor, "batch frames channels height width"], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch features steps"]:
        """Features of every step; ``mask`` is false at padding, which does not reach the features of real frames."""
        batch, frames = clip.shape[:2]
        x = rearrange(clip, "b t c h w -> (b t) c h w").contiguous(memory_format=torch.channels_last)
        # A compiled or exported graph cannot branch on the mask's content.
        real = mask if torch.compiler.is_compiling() or not bool(mask.all()) else None
        for number, block in enumerate(self.blocks):
            if number < self.first_shift:
                x = block(x)
            else:
                x = _shifted_block(block, x, shift(x, frames=frames, real=real, fraction=self.shift_fraction))
        pooled = x.mean(dim=(2, 3)).view(batch, frames, -1) * mask[..., None]
        return _average_groups(pooled, mask, self.stride).transpose(1, 2)


def _shifted_block(block: nn.Module, x: Tensor, shifted: Tensor) -> Tensor:
    """Apply a block with ``x`` on its identity path and ``shifted`` in its residual branch.

    A block without an identity path reads ``shifted`` alone.
    """
    match block:
        case efficientnet_lite.MobileBlock():
            out: Tensor = block(x, shifted)
        case nn.Module(conv1=nn.Module(), conv2=nn.Module()):
            out = _shifted_basic_block(block, x, shifted)
        case nn.Module(block=nn.Module() as branch, use_res_connect=bool() as has_identity):
            out = branch(shifted)  # torchvision's InvertedResidual
            out = x + out if has_identity else out
        case _:
            out = block(shifted)
    return out


def _shifted_basic_block(block: Any, x: Tensor, shifted: Tensor) -> Tensor:
    """The forward pass of torchvision's BasicBlock, of ResNet-18."""
    out = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(shifted)))))
    identity = x if block.downsample is None else block.downsample(x)
    added: Tensor = block.relu(out + identity)
    return added


def shift(
    x: Float[Tensor, "frames_in_all channels height width"],
    *,
    frames: int,
    real: Bool[Tensor, "batch frames"] | None,
    fraction: float,
) -> Float[Tensor, "frames_in_all channels height width"]:
    """Take some channels from the previous frame and as many from the next one; zeros beyond the ends.

    Args:
        x: the frames of all clips, one clip after the other.
        frames: number of frames of a clip.
        real: false at padding, whose channels are not taken; None if there is no padding.
        fraction: share of the channels taken from the previous frame.
    """
    clip = x.reshape(-1, frames, *x.shape[1:])
    weight = None if real is None else real[:, :, None, None, None].to(x.dtype)
    shifted: Tensor = _Shift.apply(clip, weight, max(1, int(x.shape[1] * fraction)))  # type: ignore[no-untyped-call]
    return shifted.flatten(0, 1)


class _Shift(torch.autograd.Function):
    """The shift; its backward pass is a shift too: one copy each way, where autograd through slices makes many."""

    @staticmethod
    def forward(ctx: Any, video: Tensor, real: Tensor | None, fold: int) -> Tensor:
        ctx.real, ctx.fold = real, fold
        before, after = slice(0, fold), slice(fold, 2 * fold)
        source = video if real is None else video * real
        out = video.clone()
        out[:, 1:, before] = source[:, :-1, before]
        out[:, :1, before] = 0
        out[:, :-1, after] = source[:, 1:, after]
        out[:, -1:, after] = 0
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        before, after = slice(0, ctx.fold), slice(ctx.fold, 2 * ctx.fold)
        back = gradient.clone()
        back[:, :-1, before] = gradient[:, 1:, before]
        back[:, -1:, before] = 0
        back[:, 1:, after] = gradient[:, :-1, after]
        back[:, :1, after] = 0
        if ctx.real is not None:
            back[:, :, : 2 * ctx.fold] *= ctx.real
        return back, None, None


def _average_groups(
    x: Float[Tensor, "batch frames channels"], mask: Bool[Tensor, "batch frames"], stride: int
) -> Float[Tensor, "batch steps channels"]:
    """Mean over groups of ``stride`` real frames; a short last group is averaged over the frames that it has."""
    batch, frames, channels = x.shape
    rest = -frames % stride
    x = nn.functional.pad(x, (0, 0, 0, rest)).view(batch, -1, stride, channels).sum(dim=2)
    counts = nn.functional.pad(mask, (0, rest)).view(batch, -1, stride).sum(dim=2).clamp(min=1)
    return x / counts[..., None]


def step_mask(mask: Bool[Tensor, "batch frames"], stride: int) -> Bool[Tensor, "batch steps"]:
    """Feature steps with at least one real frame."""
    padded = nn.functional.pad(mask, (0, -mask.shape[1] % stride))
    return padded.view(mask.shape[0], -1, stride).any(dim=2)


def _build_blocks(settings: BackboneSettings, *, in_channels: int, pretrained: bool) -> tuple[nn.ModuleList, int]:
    if pretrained and settings.name != "efficientnet-lite0":
        raise SettingsError(
            f"backbone.pretrained: there are no ImageNet weights for '{settings.name}'; set it to false"
        )
    match settings.name:
        case "efficientnet-lite0":
            blocks = efficientnet_lite.efficientnet_lite0(in_channels=in_channels)
            if pretrained:
                blocks.load_state_dict(efficientnet_lite.imagenet_weights(in_channels=in_channels))
            return blocks, efficientnet_lite.OUT_CHANNELS
        case "tiny":
            return _tiny_blocks(in_channels), _TINY_CHANNELS[-1]
        case "resnet18":
            net = import_torchvision("torchvision.models").resnet18(weights=None)
            net.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
            stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
            return nn.ModuleList([stem, *net.layer1, *net.layer2, *net.layer3, *net.layer4]), 512
        case "mobilenet-v3-small":
            features = import_torchvision("torchvision.models").mobilenet_v3_small(weights=None).features
            features[0][0] = nn.Conv2d(in_channels, 16, 3, stride=2, padding=1, bias=False)
            return nn.ModuleList(features), 576
        case name:
            assert_never(name)


def _tiny_blocks(in_channels: int) -> nn.ModuleList:
    """Four strided convolutions: a net that trains from scratch in minutes."""
    blocks = []
    for inputs, outputs in zip((in_channels, *_TINY_CHANNELS), _TINY_CHANNELS, strict=False):
        blocks.append(
            nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
                nn.GroupNorm(min(8, outputs // 8), outputs),
                nn.ReLU(inplace=True),
            )
        )
    return nn.ModuleList(blocks)
