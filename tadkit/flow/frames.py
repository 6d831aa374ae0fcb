"""What flow methods ask of the frames that they are given."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601), as in OpenCV."""


def check_frames(
    frames: UInt8[Tensor, "frames height width 3"] | UInt8[np.ndarray, "frames height width 3"],
) -> UInt8[Tensor, "frames height width 3"]:
    """The frames as a tensor.

    Raises:
        ValueError: They are not uint8 (frames, height, width, 3), or there is none.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(frames)) if isinstance(frames, np.ndarray) else frames
    if tensor.dtype != torch.uint8 or tensor.ndim != 4 or tensor.shape[-1] != 3 or len(tensor) == 0:
        raise ValueError(
            "flow reads uint8 frames of shape (frames >= 1, height, width, 3), "
            f"got {tensor.dtype} {tuple(tensor.shape)}"
        )
    return tensor


def grey_levels(frames: UInt8[Tensor, "frames height width 3"]) -> Float32[Tensor, "frames height width"]:
    """Grey levels 0..255, weighted as OpenCV does but not rounded."""
    return frames.to(torch.float32) @ torch.tensor(LUMA, dtype=torch.float32, device=frames.device)
