"""Flow by OpenCV, one pair at a time on the CPU: DualTVL1, which TV-L1 is held against, and DIS, fast and classical.

Source of DIS: Kroeger, Timofte, Dai, Van Gool, "Fast optical flow using dense inverse search", ECCV 2016.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


def opencv_version() -> str:
    """Version of the installed OpenCV."""
    return str(cv2.__version__)


def has_optflow() -> bool:
    """Whether the installed OpenCV has the contrib module ``optflow``."""
    return hasattr(cv2, "optflow")


class OpencvTvl1:
    """TV-L1 of opencv-contrib.

    Defaults (OpenCV 4 and 5): tau .25, lambda .15, theta .3, 5 scales of step .8, 5 warps, 10 x 30 iterations at most,
    stopped at epsilon .01, median 5.

    Raises:
        SettingsError: This OpenCV has no ``optflow`` module.
    """

    channels = 2

    def __init__(self, *, device: torch.device) -> None:
        if not has_optflow():
            raise SettingsError(
                f"flow.method 'opencv-tvl1' needs OpenCV's contrib module optflow, which OpenCV {opencv_version()} "
                "here lacks: pip install opencv-contrib-python in place of opencv-python, or set flow.method = 'tvl1'"
            )
        self.device = device
        optflow: Any = cv2.optflow
        self._solver = optflow.DualTVL1OpticalFlow_create()
        self._scales: int = self._solver.getScalesNumber()

    def __call__(
        self, frames: UInt8[Tensor, "frames height width 3"] | UInt8[np.ndarray, "frames height width 3"]
    ) -> Float32[Tensor, "pairs 2 height width"]:
        """Flow k, in pixels, from frame k to frame k + 1: channel 0 to the right, channel 1 down."""
        return _pair_by_pair(frames, self._solve).to(self.device)

    def _solve(self, first: Grey, second: Grey) -> np.ndarray[Any, Any]:
        # Set anew each time: OpenCV keeps the fewer scales of a small picture for all those that follow.
        self._solver.setScalesNumber(self._scales)
        flow: np.ndarray[Any, Any] = self._solver.calc(first, second, None)
        return flow


class OpencvDis:
    """Dense inverse search of OpenCV: patches matched from coarse to fine; fast and medium refine by a variation.

    The flow is OpenCV's own wherever OpenCV copes. The finest scale is the preset's, a half or a quarter of the size;
    it may be the only one in pictures under 182 px, so take medium there.
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
        self._preset_scale: int = self._solver.getFinestScale()

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
        # Set anew each time: OpenCV keeps what it chose for a small picture for all those that follow.
        self._solver.setFinestScale(_finest_scale(self._preset_scale, *first.shape))
        flow: np.ndarray[Any, Any] = self._solver.calc(first, second, None)
        return flow[:height, :width]


def _finest_scale(preset_scale: int, height_px: int, width_px: int) -> int:
    """Halvings of the picture to ask OpenCV for: the preset's, but where that makes OpenCV crash.

    OpenCV starts where the longer side keeps 4 patches and the shorter one 1. Where that is finer than the preset ends,
    it starts and ends by the width alone, and reads beyond pictures that are wide and low.
    """
    longer, shorter = max(height_px, width_px) / DIS_PATCH_PX, min(height_px, width_px) // DIS_PATCH_PX
    coarsest = min(int(math.log2(longer / 4) + 0.5), int(math.log2(shorter)))
    by_width = max(0, math.floor(math.log2(width_px / DIS_PATCH_PX / 2.5)))
    if coarsest >= preset_scale or shorter >> by_width >= 1:
        return preset_scale
    return max(0, coarsest - 2)


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


OPENCV_VERSION = str(cv2.__version__)


@contextmanager
def same_threads(count: int) -> Iterator[None]:
    """Let torch and OpenCV each compute with ``count`` threads inside the block."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
