"""A 2-D net on every frame, with shifts of channels between neighbouring frames.

Source: Lin, Gan, Han, *TSM: Temporal Shift Module for Efficient Video Understanding*, ICCV 2019 (bidirectional; the
shift is inside the residual branch, so that the identity path keeps every frame's own features). We differ in three
places: only the deepest blocks shift, space is averaged, and neighbouring frames are averaged to one feature step.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, assert_never

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor, nn

from tadkit.config import TemporalShiftSettings
from tadkit.errors import SettingsError
from tadkit.models.backbones import efficientnet_lite
from tadkit.models.backbones.backbone import StreamedBackbone, average_steps
from tadkit.runtime.devices import import_torchvision

_LARGEST_CHANGE, _HALF_CHANGE = 2.0, 24.0
"""A change of d grey levels is read as 2 d / (abs(d) + 24): faint and strong contrasts become more alike."""
_TINY_CHANNELS = (16, 32, 64, 128)
_RESNET18_BLOCK = re.compile(r"layer([1-4])\.([01])\.(.+)")


class TemporalShiftBackbone(StreamedBackbone):
    """A 2-D net on every frame, whose deepest blocks read channels of the neighbouring frames."""

    def __init__(self, settings: TemporalShiftSettings, *, in_channels: int, pretrained: bool) -> None:
        """Build the net for ``in_channels`` (3 for RGB, 2 for flow); ``pretrained`` loads ImageNet weights.

        Raises:
            SettingsError: ``pretrained`` with a net that has no ImageNet weights.
            WeightsError: the weights are not installed.
        """
        super().__init__()
        self.name = settings.name
        self.changes_frames, self.colours = settings.changes_frames, settings.colours
        if settings.changes_frames:
            in_channels = (in_channels if settings.colours else 0) + len(settings.changes_frames)
        self.in_channels = in_channels
        self.blocks, self.channels = _build_blocks(settings, in_channels=in_channels, pretrained=pretrained)
        self.stride = self.align_frames = settings.stride
        self.frozen_norm = settings.starts_trained
        self.shift_fraction = settings.shift_fraction
        count = len(self.blocks)
        shifts = settings.shift_fraction > 0
        self.first_shift = max(1, count - settings.shift_blocks) if shifts else count
        self.halo_frames = count - self.first_shift
        self.frozen_blocks = min(settings.frozen_blocks, count)
        for block in self.blocks[: self.frozen_blocks]:
            block.requires_grad_(False)
        moving = not self.frozen_norm and any(isinstance(part, nn.BatchNorm2d) for part in self.blocks.modules())
        self.prefix_blocks = 0 if moving else min(self.first_shift, self.frozen_blocks)
        self.has_prefix = self.prefix_blocks > 0
        self.lead_frames = max(settings.changes_frames, default=0)

    def own_name(self, published: str) -> str:
        """Of torchvision's nets, and of the published EfficientNet-Lite0."""
        match self.name:
            case "efficientnet-lite0":
                return f"blocks.{efficientnet_lite.own_name(published)}"
            case "resnet18":
                return f"blocks.{_resnet18_name(published)}"
            case "mobilenet-v3-small":
                return published.replace("features.", "blocks.", 1)
            case "tiny":
                return published
            case name:
                assert_never(name)

    def prepare(
        self, inputs: Shaped[Tensor, "batch frames ..."]
    ) -> Float[Tensor, "batch frames channels height width"]:
        """As in the base class; with ``changes_frames``, of RGB the changes, beside or in place of the colours."""
        if not self.changes_frames or inputs.dtype != torch.uint8:
            return super().prepare(inputs)
        grey = _grey(inputs)
        return self._with_changes(inputs, torch.cat([grey[:, :1].expand(-1, self.lead_frames, -1, -1), grey], 1))

    def read(
        self, frames: UInt8[Tensor, "frames height width 3"], before: Sequence[Float[Tensor, "longest height width"]]
    ) -> tuple[Float[Tensor, "frames channels height width"], list[Float[Tensor, "longest height width"]]]:
        """What the first block reads of a piece of a video, and the grey levels that the next piece needs, if any.

        Args:
            frames: the piece.
            before: what the last piece returned second; empty for the first, and not used without changes.
        """
        if not self.changes_frames:
            return self.prepare(frames[None])[0], []
        longest, grey = self.lead_frames, _grey(frames)
        kept = before[0] if before else grey[:0]  # a traced graph has none of them in the state of its first piece
        grey = torch.cat([grey[:1].expand(longest - kept.shape[0], -1, -1), kept, grey])
        return self._with_changes(frames[None], grey[None])[0], [grey[-longest:]]

    def _with_changes(
        self,
        inputs: UInt8[Tensor, "batch frames height width 3"],
        grey: Float[Tensor, "batch longer height width"],
    ) -> Float[Tensor, "batch frames channels height width"]:
        """Colours, if the net reads them, and changes; ``grey`` starts ``lead_frames`` earlier."""
        frames = inputs.shape[1]
        first = grey.shape[1] - frames
        now = grey[:, first:]
        change = torch.stack([now - grey[:, first - back : first - back + frames] for back in self.changes_frames], 2)
        change = change.div_(change.abs().add_(_HALF_CHANGE)).mul_(_LARGEST_CHANGE)
        return torch.cat([super().prepare(inputs), change], 2) if self.colours else change

    def forward(
        self, inputs: Shaped[Tensor, "batch frames ..."], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch channels steps"]:
        """Features of every step; ``mask`` is false at padding, which does not reach the features of real frames."""
        x = rearrange(self.prepare(inputs), "b t c h w -> (b t) c h w")
        return self._features(x.contiguous(memory_format=torch.channels_last), mask, blocks_done=0)

    def prefix(
        self, inputs: Shaped[Tensor, "frames ..."], *, lead: int = 0
    ) -> Float[Tensor, "frames_left height width depth"]:
        """Activations behind the frozen blocks that do not shift."""
        x = self.prepare(inputs[None])[0, lead:].contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            for block in self.blocks[: self.prefix_blocks]:
                x = block(x)
        return x.permute(0, 2, 3, 1)

    def suffix(
        self, activations: Float[Tensor, "batch frames height width depth"], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch channels steps"]:
        """The blocks behind those of the prefix."""
        x = activations.flatten(0, 1).permute(0, 3, 1, 2)
        return self._features(x, mask, blocks_done=self.prefix_blocks)

    def piece(
        self, frames: UInt8[Tensor, "frames height width 3"], kept: Sequence[Tensor], *, last: bool
    ) -> tuple[Float[Tensor, "frames_done channels"], list[Tensor]]:
        """Of every block that shifts, its last two frames are kept: one that waits for the next, and the one before.

        They are followed by what :meth:`read` needs.
        """
        return self.piece_before(frames, kept, zeros=int(last))

    def piece_before(
        self, frames: UInt8[Tensor, "frames height width 3"], kept: Sequence[Tensor], *, zeros: int
    ) -> tuple[Float[Tensor, "frames_done channels"], list[Tensor]]:
        """:meth:`piece`, followed by ``zeros`` frames of zeros: one after the last piece, else none.

        A traced graph can take their number from the shape of an input.
        """
        x, grey = self.read(frames, kept[-1:])
        x = x.contiguous(memory_format=torch.channels_last)
        keep = []
        for number, block in enumerate(self.blocks):
            shifted = x
            if number >= self.first_shift:
                before = kept[number - self.first_shift] if kept else torch.zeros_like(x[:1])
                seen = torch.cat([before, x, x.new_zeros(zeros, *x.shape[1:])])
                keep.append(seen[-2:])
                x, shifted = seen[1:-1], shift_between(seen, fraction=self.shift_fraction)
            x = (
                _pooled_block(block, x, shifted)
                if number + 1 == len(self.blocks)
                else _shifted_block(block, x, shifted)
            )
        return x, keep + grey

    def _features(self, x: Tensor, mask: Tensor, *, blocks_done: int) -> Tensor:
        """Apply the blocks after the first ``blocks_done``, and average over space and steps."""
        batch, frames = mask.shape
        # A compiled or exported graph cannot branch on the mask's content.
        real = mask if torch.compiler.is_compiling() or not bool(mask.all()) else None
        for number, block in list(enumerate(self.blocks))[blocks_done:]:
            shifted = x
            if number >= self.first_shift:
                shifted = shift(x, frames=frames, real=real, fraction=self.shift_fraction)
            last = number + 1 == len(self.blocks)
            x = _pooled_block(block, x, shifted) if last else _shifted_block(block, x, shifted)
        return average_steps(x.view(batch, frames, -1) * mask[..., None], mask, self.stride).transpose(1, 2)


def _grey(frames: UInt8[Tensor, "*frames height width 3"]) -> Float[Tensor, "*frames height width"]:
    """Grey levels; a sum of strided colours is faster than a mean over them."""
    return (frames[..., 0].float() + frames[..., 1] + frames[..., 2]).div_(3)


def _pooled_block(block: nn.Module, x: Tensor, shifted: Tensor) -> Tensor:
    """The last block's result averaged over space, (frames, channels)."""
    if isinstance(block, efficientnet_lite.MobileBlock):
        return block.pooled(x, shifted)
    return _shifted_block(block, x, shifted).mean(dim=(2, 3))


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
    first: Literal["previous", "next"] = "previous",
) -> Float[Tensor, "frames_in_all channels height width"]:
    """Take some channels from the previous frame and as many from the next one; zeros beyond the ends.

    Args:
        x: the frames of all clips, one clip after the other.
        frames: number of frames of a clip.
        real: false at padding, whose channels are not taken; None if there is no padding.
        fraction: share of the channels taken from the previous frame.
        first: frame that the first of these channels come from; those after them come from the other neighbour.
    """
    clip = x.reshape(-1, frames, *x.shape[1:])
    weight = None if real is None else real[:, :, None, None, None].to(x.dtype)
    shifted: Tensor = _Shift.apply(clip, weight, *shifted_channels(x.shape[1], fraction, first))  # type: ignore[no-untyped-call]
    return shifted.flatten(0, 1)


def shift_between(
    seen: Float[Tensor, "frames channels height width"], *, fraction: float
) -> Float[Tensor, "frames-2 channels height width"]:
    """:func:`shift` of all frames but the first and the last, which only lend channels to their neighbours."""
    before, after = shifted_channels(seen.shape[1], fraction, "previous")
    return torch.cat([seen[:-2, before], seen[2:, after], seen[1:-1, after.stop :]], dim=1)


def shifted_channels(channels: int, fraction: float, first: Literal["previous", "next"]) -> tuple[slice, slice]:
    """Channels taken from the previous frame, and from the next one."""
    fold = max(1, int(channels * fraction))
    one, other = slice(0, fold), slice(fold, 2 * fold)
    return (one, other) if first == "previous" else (other, one)


class _Shift(torch.autograd.Function):
    """The shift; its backward pass is a shift too: one copy each way, where autograd through slices makes many."""

    @staticmethod
    def forward(ctx: Any, video: Tensor, real: Tensor | None, before: slice, after: slice) -> Tensor:
        ctx.real, ctx.before, ctx.after = real, before, after
        source = video if real is None else video * real
        out = video.clone()
        out[:, 1:, before] = source[:, :-1, before]
        out[:, :1, before] = 0
        out[:, :-1, after] = source[:, 1:, after]
        out[:, -1:, after] = 0
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = gradients
        before, after = ctx.before, ctx.after
        back = gradient.clone()
        back[:, :-1, before] = gradient[:, 1:, before]
        back[:, -1:, before] = 0
        back[:, 1:, after] = gradient[:, :-1, after]
        back[:, :1, after] = 0
        if ctx.real is not None:
            back[:, :, : max(before.stop, after.stop)] *= ctx.real
        return back, None, None, None


def _build_blocks(settings: TemporalShiftSettings, *, in_channels: int, pretrained: bool) -> tuple[nn.ModuleList, int]:
    if pretrained and settings.name != "efficientnet-lite0":
        raise SettingsError(
            f"backbone.pretrained: there are no ImageNet weights for '{settings.name}'; set it to false"
        )
    match settings.name:
        case "efficientnet-lite0":
            blocks = efficientnet_lite.efficientnet_lite0(in_channels=in_channels)
            if pretrained:
                changes = bool(settings.changes_frames)
                weights = efficientnet_lite.imagenet_weights(in_channels=in_channels, changes=changes)
                blocks.load_state_dict(weights)
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


def _resnet18_name(published: str) -> str:
    """Name in the list of blocks of a tensor of torchvision's ResNet-18: the stem, then two blocks of each stage."""
    if found := _RESNET18_BLOCK.match(published):
        return f"{2 * int(found[1]) + int(found[2]) - 1}.{found[3]}"
    part, _, rest = published.partition(".")
    return f"0.{('conv1', 'bn1').index(part)}.{rest}" if part in ("conv1", "bn1") else published


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
