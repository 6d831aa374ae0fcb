"""A net over time for features that were extracted before: it replaces the net over frames.

Not from the paper, whose students read frames: our choice for those who have RGB and flow features of a dataset, such
as I3D's, but not its videos (docs/method.md).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

from tadkit.config import TemporalEncoderSettings
from tadkit.models.backbones.backbone import Backbone


class TemporalEncoder(Backbone):
    """Layer norm of each step, a projection to ``width`` channels, and residual convolutions over time.

    The layer norm takes out the scale of the features, which differs between extractors and between steps: features
    need no scaling, and the length of a step's feature is not seen. Changes since the step before, which
    ``differences`` adds or puts in their place, are of the normed features, so that a small change stays small.
    """

    def __init__(self, settings: TemporalEncoderSettings, *, in_channels: int) -> None:
        """Read features of ``in_channels``."""
        super().__init__()
        self.channels, self.stride, self.align_frames = settings.width, 1, 1
        self.differences = settings.differences
        self.halo_frames = settings.depth * (settings.kernel // 2) + (settings.differences != "none")
        self.norm = nn.LayerNorm(in_channels)
        self.project = nn.Linear(in_channels, settings.width)
        added = settings.differences == "added"
        self.project_change = nn.Linear(in_channels, settings.width, bias=False) if added else None
        self.blocks = nn.ModuleList(
            _Residual(settings.width, kernel=settings.kernel, dropout=settings.dropout) for _ in range(settings.depth)
        )

    def forward(
        self, inputs: Shaped[Tensor, "batch steps in_channels"], mask: Bool[Tensor, "batch steps"]
    ) -> Float[Tensor, "batch channels steps"]:
        """Features of every step; a frame of other backbones is a step here."""
        real = mask[:, None].to(self.project.weight.dtype)
        read = self.norm(inputs)
        change = functional.pad(read[:, 1:] - read[:, :-1], (0, 0, 1, 0)) if self.differences != "none" else read
        x: Tensor = self.project(change if self.differences == "only" else read)
        if self.project_change is not None:
            x = x + self.project_change(change)
        x = x.transpose(1, 2) * real
        for block in self.blocks:
            x = block(x, real)
        return x


class _Residual(nn.Module):
    """x + dropout(convolution(relu(norm(x)))), with padding kept at zero."""

    def __init__(self, width: int, *, kernel: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.convolution = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.dropout = nn.Dropout1d(dropout)

    def forward(
        self, x: Float[Tensor, "batch width steps"], real: Float[Tensor, "batch 1 steps"]
    ) -> Float[Tensor, "batch width steps"]:
        read = torch.relu(self.norm(x.transpose(1, 2))).transpose(1, 2) * real
        added: Tensor = self.dropout(self.convolution(read)) * real
        return x + added
