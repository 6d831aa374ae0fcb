"""I3D: Inception with its filters inflated over time.

Source: Carreira and Zisserman, *Quo Vadis, Action Recognition?*, CVPR 2017, figure 3. Names of parameters and outputs
are those of the public code from which most published weights and features come, pytorch-i3d by AJ Piergiovanni.
Features are those of Mixed_5c, 1024 wide, one step for every 8 frames; feature files made with that code hold means of
two neighbouring steps.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tadkit.config import I3DSettings
from tadkit.models.backbones.video_nets.video_net import ConvolutionalNet, ReceptiveField

_Clip = Float[Tensor, "batch channels frames height width"]

# Inputs, and outputs of the four branches: 1x1; 1x1 and 3x3; 1x1 and 3x3; pooling and 1x1.
_INCEPTION = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}
_CHANNELS = 1024


class I3D(ConvolutionalNet):
    """I3D on RGB or flow."""

    rgb_mean = (127.5, 127.5, 127.5)
    rgb_std = (127.5, 127.5, 127.5)
    flow_unit_px = 20.0

    def __init__(self, settings: I3DSettings, *, in_channels: int) -> None:
        """Build the net for ``in_channels``."""
        super().__init__()
        self.net = i3d_layers(in_channels)
        self.channels = _CHANNELS
        self._place(ReceptiveField().through(self.net), stride=settings.stride)
        self.frozen_norm = settings.starts_trained
        self._freeze(settings.frozen_blocks)

    def own_name(self, published: str) -> str:
        """Of pytorch-i3d, such as ``Mixed_5c.b0.conv3d.weight``."""
        return f"net.{published}"

    def blocks(self) -> list[nn.Module]:
        """Three convolutions and nine inception blocks."""
        return [layer for layer in self.net if not isinstance(layer, SamePool)]

    def net_steps(self, clip: _Clip) -> Float[Tensor, "batch 1024 steps"]:
        """Mixed_5c averaged over space."""
        steps: Tensor = self.net(clip).mean(dim=(3, 4))
        return steps


def same_pads(x: _Clip, kernel: tuple[int, ...], stride: tuple[int, ...]) -> list[int]:
    """Padding as TensorFlow's SAME, for ``functional.pad``: ceil(size / stride) outputs, an odd one at the end."""
    pads: list[int] = []
    for size, width, step in reversed(list(zip(x.shape[2:], kernel, stride, strict=True))):
        total = max((-(-size // step) - 1) * step + width - size, 0)
        pads += [total // 2, total - total // 2]
    return pads


def _same_field(before: ReceptiveField, kernel: int, stride: int) -> ReceptiveField:
    """Of a layer with SAME padding, where the number of frames is a multiple of the stride."""
    return before.after(kernel=kernel, stride=stride, front=max(kernel - stride, 0) // 2)


class SameConv3d(nn.Conv3d):
    """Convolution with SAME padding."""

    def receptive_field(self, before: ReceptiveField) -> ReceptiveField:
        """Frames that a step depends on."""
        return _same_field(before, self.kernel_size[0], self.stride[0])

    def forward(self, x: _Clip) -> _Clip:
        """Convolve; pads that are equal on both sides are left to the convolution, which copies nothing."""
        pads = same_pads(x, self.kernel_size, self.stride)
        before = (pads[4], pads[2], pads[0])
        if before != (pads[5], pads[3], pads[1]):
            x, before = functional.pad(x, pads), (0, 0, 0)
        return functional.conv3d(x, self.weight, self.bias, self.stride, before)


class SamePool(nn.Module):
    """Maximum with SAME padding by zeros, which change nothing after a ReLU."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        """Sizes over time, height and width."""
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def receptive_field(self, before: ReceptiveField) -> ReceptiveField:
        """Frames that a step depends on."""
        return _same_field(before, self.kernel[0], self.stride[0])

    def forward(self, x: _Clip) -> _Clip:
        """Pool."""
        padded = functional.pad(x, same_pads(x, self.kernel, self.stride))
        return functional.max_pool3d(padded, self.kernel, self.stride)


class Unit(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        """``kernel`` and ``stride`` are those of all three axes."""
        super().__init__()
        self.conv3d = SameConv3d(inputs, outputs, kernel, stride=stride, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=1e-3, momentum=0.01)

    def receptive_field(self, before: ReceptiveField) -> ReceptiveField:
        """Frames that a step depends on."""
        return before.through(self.conv3d)

    def forward(self, x: _Clip) -> _Clip:
        """Apply the layers."""
        return functional.relu(self.bn(self.conv3d(x)), inplace=True)


class Inception(nn.Module):
    """Four branches side by side."""

    def __init__(self, inputs: int, outputs: tuple[int, int, int, int, int, int]) -> None:
        """``outputs`` of each convolution."""
        super().__init__()
        self.b0 = Unit(inputs, outputs[0])
        self.b1a, self.b1b = Unit(inputs, outputs[1]), Unit(outputs[1], outputs[2], 3)
        self.b2a, self.b2b = Unit(inputs, outputs[3]), Unit(outputs[3], outputs[4], 3)
        self.b3a, self.b3b = SamePool((3, 3, 3), (1, 1, 1)), Unit(inputs, outputs[5])

    def _branches(self) -> tuple[tuple[nn.Module, ...], ...]:
        return (self.b0,), (self.b1a, self.b1b), (self.b2a, self.b2b), (self.b3a, self.b3b)

    def receptive_field(self, before: ReceptiveField) -> ReceptiveField:
        """Frames that a step depends on."""
        return before.joined(*(before.through(*branch) for branch in self._branches()))

    def forward(self, x: _Clip) -> _Clip:
        """Outputs of the branches, one after the other along channels."""
        return torch.cat(
            [self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))],
            dim=1,
        )


def i3d_layers(in_channels: int) -> nn.Sequential:
    """All layers before the classifier, under their published names."""
    mixed = {name: Inception(inputs, outputs) for name, (inputs, outputs) in _INCEPTION.items()}
    layers = OrderedDict[str, nn.Module]()
    layers["Conv3d_1a_7x7"] = Unit(in_channels, 64, 7, 2)
    layers["MaxPool3d_2a_3x3"] = SamePool((1, 3, 3), (1, 2, 2))
    layers["Conv3d_2b_1x1"] = Unit(64, 64)
    layers["Conv3d_2c_3x3"] = Unit(64, 192, 3)
    layers["MaxPool3d_3a_3x3"] = SamePool((1, 3, 3), (1, 2, 2))
    layers |= {name: block for name, block in mixed.items() if name.startswith("Mixed_3")}
    layers["MaxPool3d_4a_3x3"] = SamePool((3, 3, 3), (2, 2, 2))
    layers |= {name: block for name, block in mixed.items() if name.startswith("Mixed_4")}
    layers["MaxPool3d_5a_2x2"] = SamePool((2, 2, 2), (2, 2, 2))
    layers |= {name: block for name, block in mixed.items() if name.startswith("Mixed_5")}
    return nn.Sequential(layers)
