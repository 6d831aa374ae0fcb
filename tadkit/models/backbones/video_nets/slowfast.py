"""SlowFast-R50: a wide net on few frames beside a narrow one on all of them.

Source: Feichtenhofer, Fan, Malik, He, *SlowFast Networks for Video Recognition*, ICCV 2019, table 1. Names of
parameters and outputs are those of pytorchvideo; weights under the names of PySlowFast load, too. Features are the 2048
channels of the slow pathway beside the 256 of the fast one, averaged over the frames of a slow step: one step for every
4 (8x8) or 8 (4x16) frames. Both nets were trained on every second frame of a video with 30 frames per second.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tadkit.config import SlowFastSettings
from tadkit.models.backbones.video_nets.video_net import ConvolutionalNet, ReceptiveField

_Clip = Float[Tensor, "batch channels frames height width"]

_DEPTHS = (3, 4, 6, 3)
_WIDTHS = (64, 128, 256, 512)
_EXPANSION = 4
_SLOW_KERNELS = (1, 1, 3, 3)
_FAST_SHARE = 8
"""The slow pathway has this many times the channels of the fast one."""
_FUSION_RATIO = 2
"""Channels that reach the slow pathway, per channel of the fast one."""


class SlowFastNet(NamedTuple):
    """What the two nets differ in: fast frames for a slow one, and the kernel that leads from fast to slow."""

    slow_stride: int
    fusion_kernel: int


NETS = {"slowfast-r50-8x8": SlowFastNet(4, 7), "slowfast-r50-4x16": SlowFastNet(8, 5)}


class SlowFast(ConvolutionalNet):
    """SlowFast-R50 on RGB or flow."""

    rgb_mean = (114.75, 114.75, 114.75)
    rgb_std = (57.375, 57.375, 57.375)

    def __init__(self, settings: SlowFastSettings, *, in_channels: int) -> None:
        """Build the net for ``in_channels``."""
        super().__init__()
        self.net = Pathways(NETS[settings.name], in_channels=in_channels)
        self.channels = (_WIDTHS[-1] + _WIDTHS[-1] // _FAST_SHARE) * _EXPANSION
        self.slow_stride = NETS[settings.name].slow_stride
        slow, fast = self.net.receptive_fields()
        grouped = fast.after(kernel=self.slow_stride, stride=self.slow_stride, front=self.slow_stride // 2)
        self._place(slow.joined(grouped), stride=settings.stride)
        self.frozen_norm = settings.starts_trained
        self._freeze(settings.frozen_blocks)

    def own_name(self, published: str) -> str:
        """Of pytorchvideo (``blocks.1.multipathway_blocks.0...``) and of PySlowFast (``s2.pathway0_res0...``)."""
        return f"net.{pytorchvideo_name(published)}"

    def blocks(self) -> list[nn.Module]:
        """Stem and four stages, each with its fusion."""
        return list(self.net.blocks)

    def net_steps(self, clip: _Clip) -> Float[Tensor, "batch 2304 steps"]:
        """Both pathways averaged over space; a slow step reads the middle one of the fast frames averaged to it."""
        slow, fast = (x.mean(dim=(3, 4)) for x in self.net(clip))
        stride = self.slow_stride
        shifted = functional.pad(fast, (stride // 2, 0))[:, :, : fast.shape[2]]
        return torch.cat([slow, functional.avg_pool1d(shifted, stride)], dim=1)


class ConvNorm(nn.Module):
    """A stem: convolution, batch norm, ReLU and pooling over space."""

    def __init__(self, inputs: int, outputs: int, *, frames: int) -> None:
        """``frames`` is the kernel over time."""
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, (frames, 7, 7), (1, 2, 2), (frames // 2, 3, 3), bias=False)
        self.norm = nn.BatchNorm3d(outputs)

    def receptive_field(self, before: ReceptiveField) -> ReceptiveField:
        """Frames that a step depends on."""
        return before.through(self.conv)

    def forward(self, x: _Clip) -> _Clip:
        """Apply the layers."""
        return functional.max_pool3d(functional.relu(self.norm(self.conv(x))), (1, 3, 3), (1, 2, 2), (0, 1, 1))


class Bottleneck(nn.Module):
    """The residual branch: over time, over space, and back to many channels."""

    def __init__(self, inputs: int, width: int, *, frames: int, stride: int) -> None:
        """``frames`` is the kernel over time, ``stride`` that over space."""
        super().__init__()
        self.conv_a = nn.Conv3d(inputs, width, (frames, 1, 1), padding=(frames // 2, 0, 0), bias=False)
        self.norm_a = nn.BatchNorm3d(width)
        self.conv_b = nn.Conv3d(width, width, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
        self.norm_b = nn.BatchNorm3d(width)
        self.conv_c = nn.Conv3d(width, width * _EXPANSION, 1, bias=False)
        self.norm_c = nn.BatchNorm3d(width * _EXPANSION)

    def receptive_field(self, before: ReceptiveField) -> ReceptiveField:
        """Frames that a step depends on."""
        return before.through(self.conv_a, self.conv_b, self.conv_c)

    def forward(self, x: _Clip) -> _Clip:
        """Apply the layers."""
        x = functional.relu(self.norm_a(self.conv_a(x)), inplace=True)
        x = functional.relu(self.norm_b(self.conv_b(x)), inplace=True)
        out: Tensor = self.norm_c(self.conv_c(x))
        return out


class ResidualBlock(nn.Module):
    """A bottleneck beside the identity, or beside a projection where channels or size change."""

    def __init__(self, inputs: int, width: int, *, frames: int, stride: int, first: bool) -> None:
        """``first`` of a stage has the projection."""
        super().__init__()
        if first:
            self.branch1_conv = nn.Conv3d(inputs, width * _EXPANSION, 1, (1, stride, stride), bias=False)
            self.branch1_norm = nn.BatchNorm3d(width * _EXPANSION)
        self.first = first
        self.branch2 = Bottleneck(inputs, width, frames=frames, stride=stride)

    def receptive_field(self, before: ReceptiveField) -> ReceptiveField:
        """Frames that a step depends on."""
        return before.joined(before.through(self.branch2))

    def forward(self, x: _Clip) -> _Clip:
        """Apply the block."""
        beside = self.branch1_norm(self.branch1_conv(x)) if self.first else x
        return functional.relu(beside + self.branch2(x), inplace=True)


class Stage(nn.Module):
    """Residual blocks of one pathway."""

    def __init__(self, number: int, inputs: int, width: int, *, frames: int) -> None:
        """Stage ``number`` from 0; all but the first halve height and width."""
        super().__init__()
        self.res_blocks = nn.Sequential(
            *(
                ResidualBlock(
                    inputs if block == 0 else width * _EXPANSION,
                    width,
                    frames=frames,
                    stride=2 if number > 0 and block == 0 else 1,
                    first=block == 0,
                )
                for block in range(_DEPTHS[number])
            )
        )

    def receptive_field(self, before: ReceptiveField) -> ReceptiveField:
        """Frames that a step depends on."""
        return before.through(*self.res_blocks)

    def forward(self, x: _Clip) -> _Clip:
        """Apply the blocks."""
        out: Tensor = self.res_blocks(x)
        return out


class Fusion(nn.Module):
    """From the fast pathway to the slow one, by a convolution with the stride between them."""

    def __init__(self, inputs: int, net: SlowFastNet) -> None:
        """Read ``inputs`` channels of the fast pathway."""
        super().__init__()
        outputs, kernel = inputs * _FUSION_RATIO, net.fusion_kernel
        self.conv_fast_to_slow = nn.Conv3d(
            inputs, outputs, (kernel, 1, 1), (net.slow_stride, 1, 1), (kernel // 2, 0, 0), bias=False
        )
        self.norm = nn.BatchNorm3d(outputs)

    def forward(self, slow: _Clip, fast: _Clip) -> _Clip:
        """The slow pathway with what the fast one sees beside it."""
        return torch.cat([slow, functional.relu(self.norm(self.conv_fast_to_slow(fast)))], dim=1)


class TwoPathwayBlock(nn.Module):
    """Stem or stage of both pathways, and the fusion after it, which the last stage has not."""

    def __init__(self, slow: nn.Module, fast: nn.Module, fusion: Fusion | None) -> None:
        """Join the parts under their published names."""
        super().__init__()
        self.multipathway_blocks = nn.ModuleList([slow, fast])
        self.multipathway_fusion = fusion

    def receptive_fields(self, slow: ReceptiveField, fast: ReceptiveField) -> tuple[ReceptiveField, ReceptiveField]:
        """Frames that a step of each pathway depends on."""
        slow, fast = (x.through(block) for x, block in zip((slow, fast), self.multipathway_blocks, strict=True))
        if self.multipathway_fusion is not None:
            slow = slow.joined(fast.through(self.multipathway_fusion.conv_fast_to_slow))
        return slow, fast

    def forward(self, slow: _Clip, fast: _Clip) -> tuple[_Clip, _Clip]:
        """Apply the block to both pathways."""
        slow, fast = (block(x) for x, block in zip((slow, fast), self.multipathway_blocks, strict=True))
        return (slow if self.multipathway_fusion is None else self.multipathway_fusion(slow, fast)), fast


class Pathways(nn.Module):
    """The net before its classifier."""

    def __init__(self, net: SlowFastNet, *, in_channels: int) -> None:
        """Build stem and stages."""
        super().__init__()
        self.slow_stride = net.slow_stride
        slow, fast = _WIDTHS[0], _WIDTHS[0] // _FAST_SHARE
        stem = ConvNorm(in_channels, slow, frames=1), ConvNorm(in_channels, fast, frames=5)
        self.blocks = nn.ModuleList([TwoPathwayBlock(*stem, Fusion(fast, net))])
        for number, width in enumerate(_WIDTHS):
            narrow, fused = width // _FAST_SHARE, slow + fast * _FUSION_RATIO
            stages = Stage(number, fused, width, frames=_SLOW_KERNELS[number]), Stage(number, fast, narrow, frames=3)
            slow, fast = width * _EXPANSION, narrow * _EXPANSION
            last = number == len(_WIDTHS) - 1
            self.blocks.append(TwoPathwayBlock(*stages, None if last else Fusion(fast, net)))

    def receptive_fields(self) -> tuple[ReceptiveField, ReceptiveField]:
        """Frames that a step of the slow and of the fast pathway depend on."""
        fields = ReceptiveField(stride=self.slow_stride), ReceptiveField()
        for block in self._blocks():
            fields = block.receptive_fields(*fields)
        return fields

    def forward(self, clip: _Clip) -> tuple[_Clip, _Clip]:
        """Outputs of the slow pathway, which reads frames 0, ``slow_stride`` and so on, and of the fast one."""
        slow, fast = clip[:, :, :: self.slow_stride], clip
        for block in self._blocks():
            slow, fast = block(slow, fast)
        return slow, fast

    def _blocks(self) -> list[Any]:
        return list(self.blocks)


_PYSLOWFAST = (
    (r"^s1\.pathway(\d)_stem\.conv\.", r"blocks.0.multipathway_blocks.\1.conv."),
    (r"^s1\.pathway(\d)_stem\.bn\.", r"blocks.0.multipathway_blocks.\1.norm."),
    (r"\.branch1_bn\.", r".branch1_norm."),
    (r"\.branch1\.", r".branch1_conv."),
    (r"\.branch2\.([abc])\.", r".branch2.conv_\1."),
    (r"\.branch2\.([abc])_bn\.", r".branch2.norm_\1."),
    (r"_fuse\.conv_f2s\.", r"_fuse.conv_fast_to_slow."),
    (r"_fuse\.bn\.", r"_fuse.norm."),
)
"""Names of PySlowFast and those of pytorchvideo; stages are counted from 1 there and from 0 here."""


def pytorchvideo_name(name: str) -> str:
    """The name in pytorchvideo of a tensor of PySlowFast or pytorchvideo."""
    for pattern, replacement in _PYSLOWFAST:
        name = re.sub(pattern, replacement, name)
    if stage := re.match(r"s(\d)_fuse\.", name):
        return f"blocks.{int(stage[1]) - 1}.multipathway_fusion.{name[stage.end() :]}"
    if stage := re.match(r"s(\d)\.pathway(\d)_res(\d+)\.", name):
        number, pathway, block = stage.groups()
        start = f"blocks.{int(number) - 1}.multipathway_blocks.{pathway}.res_blocks.{block}."
        return start + name[stage.end() :]
    return name
