"""RAFT through torchvision.

Source: Teed, Deng, "RAFT: recurrent all-pairs field transforms for optical flow", ECCV 2020.
"""

from __future__ import annotations

import pickle
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor, nn
from torch.nn import functional

from tadkit.config import RaftSettings
from tadkit.errors import SettingsError, WeightsError
from tadkit.flow.frames import check_frames
from tadkit.runtime.devices import import_torchvision

SIDE_MULTIPLE_PX = 8
SMALLEST_SIDE_PX = 128
BATCH_BYTES = 4 << 30
"""Memory limit of a batch, by the estimate of :func:`memory_bytes`; more pairs are split into several batches."""
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Raft:
    """Flow of adjacent frames by raft-small or raft-large.

    ``precision`` bf16 or fp16 applies to the convolutions (autocast); frames, correlation look-ups and flow stay
    float32.

    Raises:
        SettingsError: fp16 on a CPU.
        WeightsError: The weights are missing, damaged, of another net, or cannot be downloaded.
    """

    channels = 2

    def __init__(self, settings: RaftSettings, *, device: torch.device) -> None:
        if settings.precision == "fp16" and device.type == "cpu":
            raise SettingsError("flow.precision 'fp16' needs a GPU: on a CPU set flow.precision to 'no' or 'bf16'")
        self.settings = settings
        self.device = device
        self._net = _load_net(settings).eval().requires_grad_(False).to(device)

    def __call__(
        self, frames: UInt8[Tensor, "frames height width 3"] | UInt8[np.ndarray, "frames height width 3"]
    ) -> Float32[Tensor, "pairs 2 height width"]:
        """Flow k, in pixels, from frame k to frame k + 1: channel 0 to the right, channel 1 down.

        Raises:
            SettingsError: One pair of frames of this size needs more memory than the device has free.
            WeightsError: The net returned flow that is not finite.
        """
        levels = check_frames(frames)
        pairs, height, width = len(levels) - 1, *levels.shape[1:3]
        self._check_memory(height, width)
        flow = torch.zeros((pairs, 2, height, width), device=self.device)
        size = min(self.settings.batch_pairs, max(1, BATCH_BYTES // memory_bytes(height, width)))
        for start in range(0, pairs, size):
            end = min(start + size, pairs)
            flow[start:end] = self._solve(levels[start : end + 1].to(self.device))
        if not bool(torch.isfinite(flow).all()):
            raise WeightsError(self._not_finite())
        return flow

    @torch.inference_mode()
    def _solve(self, frames: UInt8[Tensor, "frames height width 3"]) -> Float32[Tensor, "pairs 2 height width"]:
        """Flow of each frame to the next, padded for the net and cropped again."""
        images = frames.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1
        height, width = images.shape[-2:]
        left, right = _padding(width)
        top, bottom = _padding(height)
        padded = functional.pad(images, (left, right, top, bottom), mode="replicate")
        precision = self.settings.precision
        with torch.autocast(self.device.type, _DTYPES.get(precision, torch.bfloat16), enabled=precision != "no"):
            steps = self._net(padded[:-1], padded[1:], num_flow_updates=self.settings.iterations)
        return cast(Tensor, steps[-1][..., top : top + height, left : left + width].float())

    def _check_memory(self, height_px: int, width_px: int) -> None:
        need, free = memory_bytes(height_px, width_px), _free_bytes(self.device)
        if free is not None and need > free:
            raise SettingsError(
                f"{self.settings.method} on frames of {width_px}x{height_px} px needs about {need / 2**30:.1f} GiB for "
                f"one pair (it grows with the square of the pixels), but {free / 2**30:.1f} GiB are free on "
                f"{self.device}: lower video.height_px and video.width_px, or choose another flow.method"
            )

    def _not_finite(self) -> str:
        weights = self.settings.weights or "the download"
        if self.settings.precision == "no":
            return (
                f"{self.settings.method} returned flow that is not finite (NaN or infinite): the weights in {weights} "
                "are damaged or untrained; set flow.weights to another file"
            )
        return (
            f"{self.settings.method} returned flow that is not finite (NaN or infinite): {self.settings.precision} is "
            f"not precise enough, or the weights in {weights} are damaged; set flow.precision = 'no', or flow.weights "
            "to another file"
        )


def memory_bytes(height_px: int, width_px: int) -> int:
    """Approximate peak memory of one pair, fitted to measurements on a CPU from 336x256 to 1920x1080 px.

    The correlation volume of all pairs of 8x8 px cells with its pyramid (4 bytes a value, 85/64 of the finest level)
    times 1.5, plus 400 bytes a pixel for the nets.
    """
    height, width = (side + sum(_padding(side)) for side in (height_px, width_px))
    volume = (height // SIDE_MULTIPLE_PX * (width // SIDE_MULTIPLE_PX)) ** 2 * 4 * 85 // 64
    return volume * 3 // 2 + 400 * height * width


def _free_bytes(device: torch.device) -> int | None:
    """Memory still available on the device; None if the system does not report it."""
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + held
    meminfo = Path("/proc/meminfo")
    if device.type != "cpu" or not meminfo.exists():
        return None
    kibibytes = [int(line.split()[1]) for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:")]
    return kibibytes[0] * 1024 if kibibytes else None


def _padding(side_px: int) -> tuple[int, int]:
    """Pixels to add before and after a side to make it at least 128 and a multiple of 8."""
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
            "name the right file, or set flow.method to the net that these weights belong to"
        ) from error
    if settings.weights is not None and (broken := [n for n, x in net.state_dict().items() if not x.isfinite().all()]):
        raise WeightsError(
            f"flow.weights {settings.weights}: NaN or infinity in {broken[0]}; the file is damaged, name another one"
        )
    return net


def _read_state(path: Path, settings: RaftSettings) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(
            f"flow.weights {path}: no such file; expected the state dict of torchvision's {settings.method}"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"flow.weights {path}: cannot be read as weights; "
            f"expected a state dict of torchvision's {settings.method}, saved with torch.save"
        ) from error


def _download(weights: Any, settings: RaftSettings) -> Any:
    """Torchvision's published weights, from its cache or the network."""
    try:
        with redirect_stdout(StringIO()):  # torch.hub writes there; stdout is for results
            return weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise WeightsError(
            f"{settings.method}: weights could not be downloaded ({' '.join(str(error).split())}); "
            f"download {weights.url} on another machine and set flow.weights to the file"
        ) from error
