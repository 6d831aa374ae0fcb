"""Flow by OpenCV, one pair at a time on the CPU: DualTVL1, the reference for our TV-L1, and the faster DIS.

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
"""Frames with a shorter side are padded by repeating the border; OpenCV rejects those below 12 px."""


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
                f"flow.method 'opencv-tvl1' needs OpenCV's module optflow, missing from OpenCV {opencv_version()}: "
                "install opencv-contrib-python instead of opencv-python, or set flow.method = 'tvl1'"
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
        # Set for each pair: OpenCV reduces the scales for a small picture and keeps that for all later ones.
        self._solver.setScalesNumber(self._scales)
        flow: np.ndarray[Any, Any] = self._solver.calc(first, second, None)
        return flow


class OpencvDis:
    """OpenCV's dense inverse search: patches matched from coarse to fine; fast and medium add variational refinement.

    The flow is identical to OpenCV's wherever OpenCV works. The preset sets the finest scale, 1/2 or 1/4 of the size;
    pictures under 182 px may have no other scale, so use medium for them.
    """

    channels = 2

    def __init__(self, settings: OpencvDisSettings, *, device: torch.device) -> None:
        self.device = device
        presets = {
            "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
            "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
            "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
        }
        # Missing from OpenCV 5's type stubs, but not from its module.
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
        # Set for each pair: OpenCV keeps the scale that it chose for a small picture for all later ones.
        self._solver.setFinestScale(_finest_scale(self._preset_scale, *first.shape))
        flow: np.ndarray[Any, Any] = self._solver.calc(first, second, None)
        return flow[:height, :width]


def _finest_scale(preset_scale: int, height_px: int, width_px: int) -> int:
    """How often to halve the picture at the finest scale: as the preset says, except where OpenCV would crash.

    OpenCV starts at the scale where the longer side has 4 patches and the shorter one 1. If that is finer than the
    preset's finest scale, OpenCV uses the width alone and reads outside wide, low pictures.
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
    """Flow of each pair; ``solve`` returns (height, width, 2) for two grey pictures."""
    colour = check_frames(frames).cpu().numpy()
    grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in colour]
    flows = torch.zeros((len(grey) - 1, *grey[0].shape, 2))
    for flow, first, second in zip(flows, grey[:-1], grey[1:], strict=True):
        flow.copy_(torch.from_numpy(np.ascontiguousarray(solve(first, second))))
    return flows.permute(0, 3, 1, 2).contiguous()


OPENCV_VERSION = str(cv2.__version__)


@contextmanager
def same_threads(count: int) -> Iterator[None]:
    """Limit torch and OpenCV to ``count`` threads each inside the block."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
