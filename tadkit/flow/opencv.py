"""OpenCV's DualTVL1 with its own defaults: the reference that other implementations are held against."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from tadkit.errors import SettingsError
from tadkit.flow.frames import check_frames


class OpencvTvl1:
    """TV-L1 of opencv-contrib, one pair at a time on the CPU.

    Defaults (OpenCV 4 and 5): tau .25, lambda .15, theta .3, 5 scales of step .8, 5 warps, 10 x 30 iterations at most,
    stopped at epsilon .01, median 5.

    Raises:
        SettingsError: This OpenCV has no ``optflow`` module.
    """

    channels = 2

    def __init__(self, *, device: torch.device) -> None:
        if not hasattr(cv2, "optflow"):
            raise SettingsError(
                f"flow.method 'opencv-tvl1' needs OpenCV's contrib module optflow, which OpenCV {cv2.__version__} here "
                "lacks: pip install opencv-contrib-python in place of opencv-python, or set flow.method = 'tvl1'"
            )
        self.device = device
        optflow: Any = cv2.optflow
        self._solver = optflow.DualTVL1OpticalFlow_create()

    def __call__(
        self, frames: UInt8[Tensor, "frames height width 3"] | UInt8[np.ndarray, "frames height width 3"]
    ) -> Float32[Tensor, "pairs 2 height width"]:
        """Flow k, in pixels, from frame k to frame k + 1: channel 0 to the right, channel 1 down."""
        colour = check_frames(frames).cpu().numpy()
        grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in colour]
        flows = torch.zeros((len(grey) - 1, *grey[0].shape, 2))
        for flow, first, second in zip(flows, grey[:-1], grey[1:], strict=True):
            flow.copy_(torch.from_numpy(self._solver.calc(first, second, None)))
        return flows.permute(0, 3, 1, 2).contiguous().to(self.device)
