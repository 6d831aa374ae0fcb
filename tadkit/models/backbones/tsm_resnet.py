"""ResNets with temporal shifts where TSM's authors put them, so that weights trained with their code fit.

Source: Lin, Gan, Han, *TSM: Temporal Shift Module for Efficient Video Understanding*, ICCV 2019, and its public code
(``shift_place`` ``blockres``, ``shift_div`` 8): the input of the first convolution of residual blocks is shifted, the
identity path is not. The first eighth of the channels comes from the next frame and the second from the previous one.
We differ in one place: instead of averaging the scores of all frames, we average the features of ``stride`` frames.
"""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

from tadkit.config import TsmResnetSettings
from tadkit.errors import WeightsError
from tadkit.models.backbones.backbone import Backbone, average_steps
from tadkit.models.backbones.temporal_shift import shift
from tadkit.runtime import import_torchvision

SHIFT_FRACTION = 1 / 8
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
        self.net.fc = nn.Identity()
        state = _downloaded(models.get_model_weights(name).IMAGENET1K_V1, settings.name) if pretrained else None
        if state is not None:
            self.net.load_state_dict({key: value for key, value in state.items() if not key.startswith("fc.")})
        _read_channels(self.net, in_channels)
        self.stride = self.align_frames = settings.stride
        self.frozen_norm = settings.pretrained
        self.halo_frames = sum(shifts for _, shifts in self.blocks())
        stem = nn.ModuleList([self.net.conv1, self.net.bn1])
        for block in [stem, *(block for block, _ in self.blocks())][: settings.frozen_blocks]:
            block.requires_grad_(False)

    def blocks(self) -> list[tuple[nn.Module, bool]]:
        """The residual blocks in order, and whether each shifts its input."""
        every = 2 if len(self.net.layer3) >= _DEEP_STAGE_BLOCKS else 1
        stages = (self.net.layer1, self.net.layer2, self.net.layer3, self.net.layer4)
        return [(block, number % every == 0) for stage in stages for number, block in enumerate(stage)]

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


def _read_channels(net: Any, in_channels: int) -> None:
    """Give a net a stem for ``in_channels``; filters for other input than RGB are averages over the colours.

    As in TSN's cross-modality initialisation (Wang et al., ECCV 2016, section 3.2).
    """
    if in_channels == 3:
        return
    colours = net.conv1.weight.detach()
    net.conv1 = nn.Conv2d(in_channels, colours.shape[0], 7, stride=2, padding=3, bias=False)
    with torch.no_grad():
        net.conv1.weight.copy_(colours.mean(dim=1, keepdim=True) * (3 / in_channels))


def _downloaded(weights: Any, name: str) -> dict[str, Tensor]:
    """Torchvision's published weights, from its cache or the network."""
    try:
        with redirect_stdout(StringIO()):  # torch.hub writes there; stdout is for results
            state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
            return state
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"ImageNet weights of {name} could not be downloaded ({' '.join(str(error).split())}); "
            "set backbone.pretrained = false, or try again with a network"
        ) from error
