"""VideoMAE: a plain vision transformer over tubelets of 2 frames by 16 x 16 pixels.

Source: Tong, Song, Wang, Wang, *VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video
Pre-Training*, NeurIPS 2022, section 3; names of parameters are those of its public code, MCG-NJU/VideoMAE. Features are
averaged over the tubelets of the same two frames, before the last norm, where the public code averages over all.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tadkit.config import VideoMaeSettings
from tadkit.models.backbones.video_nets.video_net import AttentionNet

_Tokens = Float[Tensor, "clips tokens channels"]

_CLIP_FRAMES = 16
_TUBELET_FRAMES = 2
_PATCH_PX = 16
_TRAINED_SIDE = 14
"""Patches along a side of the frames of 224 x 224 px that the nets were trained on."""
_DEPTH = 12
_HIDDEN = 4
_EPS = 1e-6


class Width(NamedTuple):
    """Channels and attention heads."""

    channels: int
    heads: int


NETS = {"videomae-s": Width(384, 6), "videomae-b": Width(768, 12)}


class VideoMae(AttentionNet):
    """VideoMAE-S or -B: one step for every 2 frames, from clips of 16.

    At other sizes than 224 x 224 px the positions of training are interpolated over space (bicubic), as is usual for
    vision transformers, and kept over time.
    """

    rgb_mean = (123.675, 116.28, 103.53)
    rgb_std = (58.395, 57.12, 57.375)
    min_side_px = _PATCH_PX
    side_multiple_px = _PATCH_PX

    def __init__(self, settings: VideoMaeSettings, *, in_channels: int) -> None:
        """Build the net for ``in_channels``."""
        super().__init__()
        width = NETS[settings.name]
        self.net = Transformer(width, in_channels=in_channels)
        self.channels = width.channels
        self._place(clip_frames=_CLIP_FRAMES, net_stride=_TUBELET_FRAMES, stride=settings.stride)
        self._freeze(settings.frozen_blocks)

    def own_name(self, published: str) -> str:
        """Of fine-tuned nets, and of the encoder of pre-trained ones.

        The last norm of the pre-trained encoder, which is meant for single tokens, is left out as in the public code's
        fine-tuning, and that of averages keeps its initial values.
        """
        return f"net.{published.removeprefix('encoder.')}"

    def blocks(self) -> list[nn.Module]:
        """Patch embedding and 12 transformer blocks."""
        return [self.net.patch_embed, *self.net.blocks]

    def clip_steps(self, clips: Float[Tensor, "clips channels 16 height width"]) -> Float[Tensor, "clips features 8"]:
        """Tokens averaged over space, then normalised."""
        steps: Tensor = self.net(clips)
        return steps.transpose(1, 2)


class PatchEmbed(nn.Module):
    """From pixels to one token for each tubelet."""

    def __init__(self, in_channels: int, channels: int) -> None:
        """Map ``in_channels`` to ``channels``."""
        super().__init__()
        size = (_TUBELET_FRAMES, _PATCH_PX, _PATCH_PX)
        self.proj = nn.Conv3d(in_channels, channels, size, size)

    def forward(self, clips: Float[Tensor, "clips c t h w"]) -> Float[Tensor, "clips channels t2 h2 w2"]:
        """Embed."""
        embedded: Tensor = self.proj(clips)
        return embedded


class Attention(nn.Module):
    """Attention of all tokens of a clip; queries and values have a bias, keys have none."""

    def __init__(self, width: Width) -> None:
        """Build the projections."""
        super().__init__()
        self.heads = width.heads
        self.qkv = nn.Linear(width.channels, 3 * width.channels, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width.channels))
        self.v_bias = nn.Parameter(torch.zeros(width.channels))
        self.proj = nn.Linear(width.channels, width.channels)

    def forward(self, x: _Tokens) -> _Tokens:
        """Attend."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        mapped = functional.linear(x, self.qkv.weight, bias)
        q, k, v = rearrange(mapped, "b n (three h c) -> three b h n c", three=3, h=self.heads)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(rearrange(mixed, "b h n c -> b n (h c)"))
        return out


class Mlp(nn.Module):
    """Two layers on each token."""

    def __init__(self, channels: int) -> None:
        """Build the layers."""
        super().__init__()
        self.fc1 = nn.Linear(channels, _HIDDEN * channels)
        self.fc2 = nn.Linear(_HIDDEN * channels, channels)

    def forward(self, x: _Tokens) -> _Tokens:
        """Apply the layers."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    """Attention and layers on each token, each on a normalised copy that is added to the tokens."""

    def __init__(self, width: Width) -> None:
        """Build the block."""
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width.channels, eps=_EPS), Attention(width)
        self.norm2, self.mlp = nn.LayerNorm(width.channels, eps=_EPS), Mlp(width.channels)

    def forward(self, x: _Tokens) -> _Tokens:
        """Apply the block."""
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Transformer(nn.Module):
    """The encoder, under its published names."""

    positions: Float[Tensor, "t h w channels"]

    def __init__(self, width: Width, *, in_channels: int) -> None:
        """Build the encoder for ``in_channels``."""
        super().__init__()
        self.patch_embed = PatchEmbed(in_channels, width.channels)
        self.blocks = nn.ModuleList([Block(width) for _ in range(_DEPTH)])
        self.fc_norm = nn.LayerNorm(width.channels, eps=_EPS)
        self.register_buffer("positions", sine_positions(width.channels), persistent=False)

    def forward(self, clips: Float[Tensor, "clips c 16 h w"]) -> Float[Tensor, "clips 8 channels"]:
        """Features of the tubelets of two frames, averaged over space."""
        embedded = rearrange(self.patch_embed(clips), "b c t h w -> b t h w c")
        times, height, width = embedded.shape[1:4]
        x: Any = rearrange(embedded + self._positions(height, width), "b t h w c -> b (t h w) c")
        for block in self.blocks:
            x = block(x)
        normed: Tensor = self.fc_norm(rearrange(x, "b (t s) c -> b t s c", t=times).mean(dim=2))
        return normed

    def _positions(self, height: int, width: int) -> Float[Tensor, "t height width channels"]:
        """Positions on another grid than that of training, interpolated over space."""
        if (height, width) == (_TRAINED_SIDE, _TRAINED_SIDE):
            return self.positions
        maps = rearrange(self.positions, "t h w c -> t c h w")
        resized = functional.interpolate(maps, size=(height, width), mode="bicubic", align_corners=False)
        return rearrange(resized, "t c h w -> t h w c")


def sine_positions(channels: int) -> Float[Tensor, "8 14 14 channels"]:
    """Sines and cosines of the number of a token, counted through frames, rows and columns in that order.

    Channels 2 i and 2 i + 1 hold the sine and the cosine of n / 10000^(2 i / channels) (Vaswani et al., *Attention Is
    All You Need*, NeurIPS 2017, section 3.5).
    """
    times = _CLIP_FRAMES // _TUBELET_FRAMES
    number = torch.arange(times * _TRAINED_SIDE**2, dtype=torch.float64)[:, None]
    angles = number / 10000 ** (torch.arange(0, channels, 2, dtype=torch.float64) / channels)
    table = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
    return table.float().view(times, _TRAINED_SIDE, _TRAINED_SIDE, channels)
