"""ResNets with temporal shifts where TSM's authors put them, so that weights trained with their code fit.

Source: Lin, Gan, Han, *TSM: Temporal Shift Module for Efficient Video Understanding*, ICCV 2019, and its public code
(``shift_place`` ``blockres``, ``shift_div`` 8): the input of the first convolution of residual blocks is shifted, the
identity path is not. The first eighth of the channels comes from the next frame and the second from the previous one.
We differ in one place: instead of averaging the scores of all frames, we average the features of ``stride`` frames.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

from tadkit.config import TsmResnetSettings
from tadkit.models.backbones.backbone import Backbone, average_steps
from tadkit.models.backbones.temporal_shift import shift
from tadkit.models.backbones.weights import averaged_over_colours, torchvision_weights
from tadkit.runtime.devices import import_torchvision

SHIFT_FRACTION = 1 / 8
_SHIFTED = re.compile(r"^(layer[1-4]\.\d+\.conv1)\.net\.")
"""How TSM's authors name a convolution that reads shifted input."""
_DEEP_STAGE_BLOCKS = 23
"""From this length of the third stage on, every other block shifts."""


class TsmResnet(Backbone):
    """A ResNet on every frame, whose residual branches read channels of the neighbouring frames."""

    rgb_mean = (123.675, 116.28, 103.53)
    rgb_std = (58.395, 57.12, 57.375)

    def __init__(self, settings: TsmResnetSettings, *, in_channels: int, pretrained: bool) -> None:
        """Build the net for ``in_channels``; ``pretrained`` loads torchvision's ImageNet weights.

        Raises:
            WeightsError: the weights cannot be downloaded.
        """
        super().__init__()
        models = import_torchvision("torchvision.models")
        name = settings.name.removeprefix("tsm-")
        self.net: Any = getattr(models, name)(weights=None)
        self.channels = self.net.fc.in_features
        if pretrained:
            self.net.load_state_dict(
                torchvision_weights(models.get_model_weights(name).IMAGENET1K_V1, name=settings.name)
            )
        self.net.fc = nn.Identity()
        if in_channels != 3:
            colours = self.net.conv1.weight.detach()
            self.net.conv1 = nn.Conv2d(in_channels, colours.shape[0], 7, stride=2, padding=3, bias=False)
            self.net.conv1.weight = nn.Parameter(averaged_over_colours(colours, channels=in_channels))
        self.stride = self.align_frames = settings.stride
        self.frozen_norm = settings.starts_trained
        self.halo_frames = sum(shifts for _, shifts in self.blocks())
        stem = nn.ModuleList([self.net.conv1, self.net.bn1])
        for block in [stem, *(block for block, _ in self.blocks())][: settings.frozen_blocks]:
            block.requires_grad_(False)

    def blocks(self) -> list[tuple[nn.Module, bool]]:
        """The residual blocks in order, and whether each shifts its input."""
        every = 2 if len(self.net.layer3) >= _DEEP_STAGE_BLOCKS else 1
        stages = (self.net.layer1, self.net.layer2, self.net.layer3, self.net.layer4)
        return [(block, number % every == 0) for stage in stages for number, block in enumerate(stage)]

    def own_name(self, published: str) -> str:
        """Of torchvision's ResNets, and of those of TSM's authors (``base_model.layer1.0.conv1.net.weight``)."""
        return "net." + _SHIFTED.sub(r"\1.", published.removeprefix("base_model."))

    def forward(
        self, inputs: Shaped[Tensor, "batch frames ..."], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch channels steps"]:
        """Features of every step, averaged over space and ``stride`` frames."""
        clip, net = self.prepare(inputs), self.net
        batch, frames = clip.shape[:2]
        x = rearrange(clip, "b t c h w -> (b t) c h w").contiguous(memory_format=torch.channels_last)
        # A compiled or exported graph cannot branch on the mask's content.
        real = mask if torch.compiler.is_compiling() or not bool(mask.all()) else None
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        for block, shifts in self.blocks():
            branch = shift(x, frames=frames, real=real, fraction=SHIFT_FRACTION, first="next") if shifts else x
            x = residual_block(block, x, branch)
        pooled = x.mean(dim=(2, 3)).view(batch, frames, -1) * mask[..., None]
        return average_steps(pooled, mask, self.stride).transpose(1, 2)


def residual_block(block: Any, x: Tensor, branch: Tensor) -> Tensor:
    """The forward pass of torchvision's BasicBlock or Bottleneck: ``x`` on the identity path, ``branch`` beside it."""
    out = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(branch)))))
    if hasattr(block, "conv3"):
        out = block.bn3(block.conv3(block.relu(out)))
    identity = x if block.downsample is None else block.downsample(x)
    return functional.relu(out + identity, inplace=True)
