"""Checks and grey levels of the frames that flow methods read."""

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
    """The frames as a contiguous tensor, so that memory layout does not change the result, not even in rounding.

    Raises:
        ValueError: The frames are not uint8 (frames, height, width, 3), or are empty.
    """
    dtype = str(frames.dtype).removeprefix("torch.")
    if dtype != "uint8" or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(
            f"flow reads uint8 frames of shape (frames >= 1, height, width, 3), got {dtype} {tuple(frames.shape)}"
        )
    if isinstance(frames, np.ndarray):
        return torch.from_numpy(np.require(frames, requirements=("C", "W")))
    return frames.contiguous()


def grey_levels(frames: UInt8[Tensor, "frames height width 3"]) -> Float32[Tensor, "frames height width"]:
    """Grey levels 0..255, weighted as OpenCV does but not rounded."""
    # Not a matrix product: its rounding depends on a pixel's position, so a pair's flow would depend on its batch.
    red, green, blue = frames.to(torch.float32).unbind(dim=-1)
    return red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]
