"""The temporal gradient: the difference of adjacent frames, a cheap substitute for flow."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from tadkit.flow.frames import check_frames


class TemporalGradient:
    """Frame k + 1 minus frame k, in levels of each colour channel."""

    channels = 3

    def __init__(self, *, device: torch.device) -> None:
        self.device = device

    def __call__(
        self, frames: UInt8[Tensor, "frames height width 3"] | UInt8[np.ndarray, "frames height width 3"]
    ) -> Float32[Tensor, "pairs 3 height width"]:
        """Differences, -255..255."""
        levels = check_frames(frames).to(self.device).permute(0, 3, 1, 2).to(torch.float32)
        return (levels[1:] - levels[:-1]).contiguous()
