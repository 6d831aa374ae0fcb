"""Flow by OpenCV, one pair at a time on the CPU: DualTVL1, which TV-L1 is held against, and DIS, fast and classical.

Source of DIS: Kroeger, Timofte, Dai, Van Gool, "Fast optical flow using dense inverse search", ECCV 2016.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from tadkit.config import OpencvDisSettings
from tadkit.errors import SettingsError
from tadkit.flow.frames import check_frames

Grey = UInt8[np.ndarray, "height width"]

DIS_PATCH_PX = 8
DIS_SMALLEST_SIDE_PX = 16
"""Frames with a shorter side are padded by repeating the border; OpenCV refuses those below 12 px."""


class OpencvTvl1:
    """TV-L1 of opencv-contrib.

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
        return _pair_by_pair(frames, lambda first, second: self._solver.calc(first, second, None)).to(self.device)


class OpencvDis:
    """Dense inverse search of OpenCV: patches matched from coarse to fine, then refined by a variational step.

    The preset's finest scale is kept where the picture has it; in a smaller picture it is two scales below the
    coarsest, as OpenCV chooses. OpenCV goes by the width alone there, and crashes on pictures that are wide and low.
    """

    channels = 2

    def __init__(self, settings: OpencvDisSettings, *, device: torch.device) -> None:
        self.device = device
        presets = {
            "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
            "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
            "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
        }
        # OpenCV 5's type stubs lack it, its module does not.
        create: Any = cv2.DISOpticalFlow_create  # type: ignore[attr-defined,unused-ignore]
        self._solver = create(presets[settings.preset])
        self._finest_scale = self._solver.getFinestScale()

    def __call__(
        self, frames: UInt8[Tensor, "frames height width 3"] | UInt8[np.ndarray, "frames height width 3"]
    ) -> Float32[Tensor, "pairs 2 height width"]:
        """Flow k, in pixels, from frame k to frame k + 1: channel 0 to the right, channel 1 down."""
        return _pair_by_pair(frames, self._solve).to(self.device)

    def _solve(self, first: Grey, second: Grey) -> np.ndarray[Any, Any]:
        height, width = first.shape
        bottom, right = max(0, DIS_SMALLEST_SIDE_PX - height), max(0, DIS_SMALLEST_SIDE_PX - width)
        if bottom or right:
            first = cv2.copyMakeBorder(first, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
            second = cv2.copyMakeBorder(second, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        coarsest = dis_coarsest_scale(*first.shape)
        # Set anew each time: OpenCV keeps what it chose for a small picture for all those that follow.
        self._solver.setFinestScale(self._finest_scale if coarsest >= self._finest_scale else max(0, coarsest - 2))
        flow: np.ndarray[Any, Any] = self._solver.calc(first, second, None)
        return flow[:height, :width]


def dis_coarsest_scale(height_px: int, width_px: int) -> int:
    """Halvings of the picture that OpenCV's DIS starts from: the longer side keeps 4 patches, the shorter one 1."""
    by_reach = int(math.log2(max(height_px, width_px) / (4 * DIS_PATCH_PX)) + 0.5)
    return min(by_reach, int(math.log2(min(height_px, width_px) // DIS_PATCH_PX)))


def _pair_by_pair(
    frames: UInt8[Tensor, "frames height width 3"] | UInt8[np.ndarray, "frames height width 3"],
    solve: Callable[[Grey, Grey], np.ndarray[Any, Any]],
) -> Float32[Tensor, "pairs 2 height width"]:
    """``solve`` gives (height, width, 2) of two grey pictures."""
    colour = check_frames(frames).cpu().numpy()
    grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in colour]
    flows = torch.zeros((len(grey) - 1, *grey[0].shape, 2))
    for flow, first, second in zip(flows, grey[:-1], grey[1:], strict=True):
        flow.copy_(torch.from_numpy(np.ascontiguousarray(solve(first, second))))
    return flows.permute(0, 3, 1, 2).contiguous()
