"""Nets over time and space: how a video of any length is laid before them, and which frames a step depends on.

Features are taken before the classifier and averaged over space; time is kept. A net with a temporal stride of s gives
one step for every s frames. Two kinds of nets differ in how they meet a long video:

- A :class:`ConvolutionalNet` depends on a bounded stretch of frames around a step, its receptive field, which is
  computed from its layers. A window with that halo on either side gives what one pass over the video gives.
- An :class:`AttentionNet` reads clips of the length that it was trained on. They lie on a grid from the start of the
  video; a step depends on the frames of its clip alone.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

from tadkit.errors import SettingsError
from tadkit.models.backbones.backbone import Backbone, average_steps


class VideoNet(Backbone):
    """A net over the frames of a whole clip.

    Every video of a batch is computed at its real length, so that padding reaches nothing: neither the features nor,
    in training, the statistics of batch norm.

    Attributes:
        net_stride: frames of one step of the net; ``stride`` is a multiple, over which steps are averaged.
        min_side_px: smallest height and width.
        side_multiple_px: height and width must be multiples of it.
    """

    net_stride: int
    min_side_px: int = 1
    side_multiple_px: int = 1

    @abstractmethod
    def steps_of(
        self, clip: Float[Tensor, "batch channels frames height width"]
    ) -> Float[Tensor, "batch features steps"]:
        """Features of ceil(frames / net_stride) steps of clips without padding."""

    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """The parts of the net in order, for ``frozen_blocks``."""

    def forward(
        self, inputs: Shaped[Tensor, "batch frames ..."], mask: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch channels steps"]:
        """Features of every step, averaged over space; real frames come first, padding after them.

        Raises:
            SettingsError: the net cannot read frames of this size.
        """
        clip = rearrange(self.prepare(inputs), "b t c h w -> b c t h w")
        self._check_size(*clip.shape[3:])
        batch, frames = mask.shape
        # A compiled or exported graph cannot branch on the mask's content.
        lengths = [frames] * batch if torch.compiler.is_compiling() else [int(n) for n in mask.sum(dim=1)]
        out = clip.new_zeros(batch, self.channels, -(-frames // self.stride))
        for length in sorted(set(lengths) - {0}):
            rows = [row for row, other in enumerate(lengths) if other == length]
            assert bool(torch.compiler.is_compiling() or mask[rows, :length].all()), "padding before real frames"
            features = self._strided(self.steps_of(clip[rows, :, :length])).to(out.dtype)
            out[rows, :, : features.shape[2]] = features
        return out

    def _strided(self, steps: Float[Tensor, "batch features steps"]) -> Float[Tensor, "batch features strided"]:
        """Average the net's steps to steps of ``stride`` frames."""
        if self.stride == self.net_stride:
            return steps
        real = torch.ones(steps.shape[0], steps.shape[2], dtype=torch.bool, device=steps.device)
        return average_steps(steps.transpose(1, 2), real, self.stride // self.net_stride).transpose(1, 2)

    def _check_size(self, height: int, width: int) -> None:
        smallest, multiple = self.min_side_px, self.side_multiple_px
        if any(side < smallest or side % multiple for side in (height, width)):
            wanted = f"at least {smallest}" + (f" and a multiple of {multiple}" if multiple > 1 else "")
            raise SettingsError(
                f"video: frames of {height}x{width} px do not suit this backbone; height and width must be {wanted}; "
                "change video.height_px and video.width_px, or the backbone"
            )

    def _freeze(self, count: int) -> None:
        """Do not train the first ``count`` blocks."""
        for block in self.blocks()[:count]:
            block.requires_grad_(False)


@runtime_checkable
class Reaching(Protocol):
    """A module of several layers that says which frames its steps depend on."""

    def receptive_field(self, before: ReceptiveField) -> ReceptiveField:
        """Receptive field after the module, whose inputs have the one ``before``."""


class ReceptiveField(NamedTuple):
    """Step k of a net depends on the frames from ``stride`` * k + ``first`` to ``stride`` * k + ``last``, inclusive."""

    stride: int = 1
    first: int = 0
    last: int = 0

    def after(self, *, kernel: int, stride: int, front: int) -> ReceptiveField:
        """After one more layer over time, with ``front`` steps of padding at the start."""
        return ReceptiveField(
            stride=self.stride * stride,
            first=self.first - front * self.stride,
            last=self.last + (kernel - 1 - front) * self.stride,
        )

    def joined(self, *others: ReceptiveField) -> ReceptiveField:
        """Of the sum or the concatenation of branches with the same stride."""
        branches = (self, *others)
        assert len({branch.stride for branch in branches}) == 1, branches
        return self._replace(first=min(b.first for b in branches), last=max(b.last for b in branches))

    def through(self, *layers: nn.Module) -> ReceptiveField:
        """After layers in sequence; of torch's own, only convolution and pooling reach over time."""
        field = self
        for layer in layers:
            match layer:
                case Reaching():
                    field = layer.receptive_field(field)
                case nn.Conv3d() | nn.MaxPool3d():
                    field = field.after(
                        kernel=_over_time(layer.kernel_size),
                        stride=_over_time(layer.stride),
                        front=_over_time(layer.padding),
                    )
                case nn.Sequential():
                    field = field.through(*layer)
        return field


def _over_time(size: Any) -> int:
    """The first of three sizes, or the one that all axes share."""
    return int(size if isinstance(size, int) else size[0])


class ConvolutionalNet(VideoNet):
    """A net whose steps depend on the frames nearby.

    Published nets differ in the frames that their step k is centred on: k * s, or up to half a step later. Here it is
    centred within half a frame on the middle of frames k * s to (k + 1) * s - 1, where ``Timeline.strided`` puts it:
    the video is preceded by some repeats of its first frame, and if that makes a step more, the first is dropped. At
    its end the last frame is repeated until the net's strides come out even, so that the padding of layers, even
    TensorFlow's, which depends on the length, is the same for a window and for the whole video.

    Attributes:
        lead_frames: repeats of the first frame before the video.
        lead_steps: steps that the net gives before the first one of the video.
    """

    lead_frames: int
    lead_steps: int

    @abstractmethod
    def net_steps(
        self, clip: Float[Tensor, "batch channels frames height width"]
    ) -> Float[Tensor, "batch features steps"]:
        """The net as published; frames are a multiple of ``net_stride``."""

    def _place(self, field: ReceptiveField, *, stride: int) -> None:
        """Centre the steps of a net with this receptive field, and state the halo."""
        self.net_stride = field.stride
        self.stride = self.align_frames = stride
        late = round((field.first + field.last) / 2 - (field.stride - 1) / 2)
        self.lead_frames = late % field.stride
        self.lead_steps = (self.lead_frames - late) // field.stride
        self.halo_frames = max(late - field.first, field.last - late - (field.stride - 1))

    def steps_of(
        self, clip: Float[Tensor, "batch channels frames height width"]
    ) -> Float[Tensor, "batch features steps"]:
        """Features of every ``net_stride`` frames."""
        frames = clip.shape[2]
        steps = -(-frames // self.net_stride)
        needed = max(-(-(frames + self.lead_frames) // self.net_stride), steps + self.lead_steps)
        trail = needed * self.net_stride - self.lead_frames - frames
        extended = functional.pad(clip, (0, 0, 0, 0, self.lead_frames, trail), mode="replicate")
        return self.net_steps(extended)[:, :, self.lead_steps : self.lead_steps + steps]


class AttentionNet(VideoNet):
    """A net that reads clips of a fixed length; the last, short one is completed by repeats of its last frame.

    Positions in time are those of training, never interpolated. A window must start where a clip does.

    Attributes:
        clip_frames: length of a clip, a multiple of ``stride``.
    """

    clip_frames: int

    @abstractmethod
    def clip_steps(
        self, clips: Float[Tensor, "clips channels frames height width"]
    ) -> Float[Tensor, "clips features steps"]:
        """Features of clips of ``clip_frames`` frames."""

    def _place(self, *, clip_frames: int, net_stride: int, stride: int) -> None:
        """State the grid and the halo."""
        self.clip_frames = self.align_frames = clip_frames
        self.net_stride, self.stride = net_stride, stride
        self.halo_frames = clip_frames - stride

    def steps_of(
        self, clip: Float[Tensor, "batch channels frames height width"]
    ) -> Float[Tensor, "batch features steps"]:
        """Features of every ``net_stride`` frames."""
        frames, length = clip.shape[2], self.clip_frames
        full = functional.pad(clip, (0, 0, 0, 0, 0, -frames % length), mode="replicate")
        clips = rearrange(full, "b c (n t) h w -> (b n) c t h w", t=length)
        steps: Any = rearrange(self.clip_steps(clips), "(b n) c s -> b c (n s)", b=clip.shape[0])
        kept: Tensor = steps[:, :, : -(-frames // self.net_stride)]
        return kept
