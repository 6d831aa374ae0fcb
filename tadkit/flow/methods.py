"""The protocol of flow methods, and building one from settings."""

from __future__ import annotations

from typing import Protocol, assert_never

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from tadkit.config import (
    FlowSettings,
    OpencvDisSettings,
    OpencvTvl1Settings,
    PluginFlowSettings,
    RaftSettings,
    TemporalGradientSettings,
    Tvl1Settings,
)
from tadkit.runtime.plugins import made_by_plugin, wrong_plugin


class FlowMethod(Protocol):
    """Motion between adjacent frames; N frames give N - 1 motions, motion k from frame k to frame k + 1.

    Flow has two channels: u, pixels to the right, and v, pixels down, of the frames as given. The temporal gradient has
    three: grey levels (-255..255) of red, green and blue.
    """

    channels: int

    def __call__(
        self, frames: UInt8[Tensor, "frames height width 3"] | UInt8[np.ndarray, "frames height width 3"]
    ) -> Float32[Tensor, "pairs channels height width"]:
        """Motion of each frame to the next, on the method's device; one frame gives none.

        Raises:
            ValueError: The frames are not uint8 (frames >= 1, height, width, 3).
        """
        ...


def build_flow(settings: FlowSettings, *, device: torch.device) -> FlowMethod:
    """Build the method that the settings name; its libraries are imported only here.

    Raises:
        SettingsError: The settings name opencv-tvl1 and this OpenCV lacks it, or an entry point that does not work.
        WeightsError: RAFT's weights are missing, damaged or do not fit.
    """
    match settings:
        case Tvl1Settings():
            from tadkit.flow.tvl1 import Tvl1

            return Tvl1(settings, device=device)
        case OpencvTvl1Settings():
            from tadkit.flow.opencv import OpencvTvl1

            return OpencvTvl1(device=device)
        case OpencvDisSettings():
            from tadkit.flow.opencv import OpencvDis

            return OpencvDis(settings, device=device)
        case TemporalGradientSettings():
            from tadkit.flow.temporal_gradient import TemporalGradient

            return TemporalGradient(device=device)
        case RaftSettings():
            from tadkit.flow.raft import Raft

            return Raft(settings, device=device)
        case PluginFlowSettings():
            return _plugin_flow(settings.entry_point, device=device)
        case _:
            assert_never(settings)


def _plugin_flow(entry_point: str, *, device: torch.device) -> FlowMethod:
    method: FlowMethod = made_by_plugin("tadkit.flow", entry_point, device=device)
    if not callable(method) or getattr(method, "channels", None) != 2:
        raise wrong_plugin("tadkit.flow", entry_point, "is no flow method: it must be callable, with channels = 2")
    return method
