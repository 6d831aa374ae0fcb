"""RAFT through torchvision.

Source: Teed, Deng, "RAFT: recurrent all-pairs field transforms for optical flow", ECCV 2020.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn
from torch.nn import functional

from tadkit.config import RaftSettings
from tadkit.errors import WeightsError
from tadkit.flow.frames import check_frames
from tadkit.torchvision_import import import_torchvision

SIDE_MULTIPLE_PX = 8
SMALLEST_SIDE_PX = 128


class Raft:
    """Flow of adjacent frames by raft-small or raft-large.

    Raises:
        WeightsError: The weights are missing, damaged, of another net, or cannot be downloaded.
    """

    channels = 2

    def __init__(self, settings: RaftSettings, *, device: torch.device) -> None:
        self.settings = settings
        self.device = device
        self._net = _load_net(settings).eval().requires_grad_(False).to(device)

    def __call__(
        self, frames: UInt8[Tensor, "frames height width 3"] | UInt8[np.ndarray, "frames height width 3"]
    ) -> Float32[Tensor, "pairs 2 height width"]:
        """Flow k, in pixels, from frame k to frame k + 1: channel 0 to the right, channel 1 down.

        Raises:
            WeightsError: The net gave flow that is not finite.
        """
        levels = check_frames(frames).to(self.device)
        height, width = levels.shape[1:3]
        pairs = len(levels) - 1
        flow = torch.zeros((pairs, 2, height, width), device=self.device)
        for start in range(0, pairs, self.settings.batch_pairs):
            end = min(start + self.settings.batch_pairs, pairs)
            chunk = levels[start : end + 1]
            images = chunk.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1
            flow[start:end] = self._solve(images)
        if not bool(torch.isfinite(flow).all()):
            raise WeightsError(
                f"{self.settings.method}: flow is not finite (NaN or infinite): the weights in "
                f"{self.settings.weights or 'the download'} are damaged or untrained; name others with flow.weights"
            )
        return flow

    @torch.inference_mode()
    def _solve(self, images: Float32[Tensor, "frames 3 height width"]) -> Float32[Tensor, "pairs 2 height width"]:
        """Flow of each image to the next, padded for the net and cropped again."""
        height, width = images.shape[-2:]
        left, right = _padding(width)
        top, bottom = _padding(height)
        padded = functional.pad(images, (left, right, top, bottom), mode="replicate")
        steps = self._net(padded[:-1], padded[1:], num_flow_updates=self.settings.iterations)
        return cast(Tensor, steps[-1][..., top : top + height, left : left + width])


def _padding(side_px: int) -> tuple[int, int]:
    """Pixels before and after that make a side at least 128 and a multiple of 8."""
    whole = max(SMALLEST_SIDE_PX, -(-side_px // SIDE_MULTIPLE_PX) * SIDE_MULTIPLE_PX)
    before = (whole - side_px) // 2
    return before, whole - side_px - before


def _load_net(settings: RaftSettings) -> nn.Module:
    module = import_torchvision("torchvision.models.optical_flow")
    large = settings.method == "raft-large"
    net: nn.Module = module.raft_large() if large else module.raft_small()
    if settings.weights is None:
        state = _download(module.Raft_Large_Weights.DEFAULT if large else module.Raft_Small_Weights.DEFAULT, settings)
    else:
        state = _read_state(settings.weights, settings)
    try:
        net.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"flow.weights {settings.weights}: not a state dict of torchvision's {settings.method}; "
            "name its file, or set flow.method to the net that it belongs to"
        ) from error
    return net


def _read_state(path: Path, settings: RaftSettings) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(
            f"flow.weights {path}: no such file; it should hold the state dict of torchvision's {settings.method}"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"flow.weights {path}: cannot be read as weights; "
            f"expected a state dict of torchvision's {settings.method}, saved with torch.save"
        ) from error


def _download(weights: Any, settings: RaftSettings) -> Any:
    """The weights that torchvision offers, from its cache or the network."""
    try:
        return weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"{settings.method}: weights could not be downloaded ({' '.join(str(error).split())}); "
            f"fetch {weights.url} elsewhere and set flow.weights to the file"
        ) from error
