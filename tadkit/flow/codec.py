"""Motion as int8: 127 steps on either side of an exact zero, with a stated bound.

Source: the usual 8-bit code of flow (Wang et al., "Temporal segment networks", ECCV 2016); ours is signed, so zero
motion is exactly zero and mirroring is negation.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int8, Shaped
from torch import Tensor

from tadkit.config import View
from tadkit.views import view_motion

STEPS = 127

Motion = TypeVar("Motion", np.ndarray, Tensor)


class EncodedFlow(NamedTuple):
    """Coded motion and how much of it was clipped."""

    values: Int8[np.ndarray, "*shape"]
    """round(127 * motion / bound), clamped to -127..127."""
    clipped: float
    """Share of the values, 0..1, beyond the bound."""


def encode(motion: Float[Tensor, "*shape"] | Float[np.ndarray, "*shape"], bound: float) -> EncodedFlow:
    """Code motion of any shape; inside the bound the error is at most ``bound / 254``.

    Args:
        motion: Pixels (flow) or grey levels (temporal gradient).
        bound: Largest value, in the motion's unit, that the code holds.

    Raises:
        ValueError: The bound is not positive, or the motion is not finite.
    """
    _check_bound(bound)
    tensor = torch.from_numpy(motion) if isinstance(motion, np.ndarray) else motion
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError("motion to encode has values that are not finite (NaN or infinite)")
    clipped = float((tensor.abs() > bound).double().mean()) if tensor.numel() else 0.0
    values = (tensor * (STEPS / bound)).round_().clamp_(-STEPS, STEPS).to(torch.int8)
    return EncodedFlow(values.cpu().numpy(), clipped)


def decode(values: Motion, bound: float) -> Motion:
    """Motion as float32, in the unit of ``bound``, from its int8 code; an array gives an array, a tensor a tensor.

    Raises:
        ValueError: The bound is not positive, or the values are not int8.
    """
    _check_bound(bound)
    if values.dtype not in (np.int8, torch.int8):
        raise ValueError(f"coded motion is int8, got {values.dtype}")
    if isinstance(values, np.ndarray):
        return values.astype(np.float32) * np.float32(bound / STEPS)
    return values.to(torch.float32) * (bound / STEPS)


def _check_bound(bound: float) -> None:
    if not bound > 0:
        raise ValueError(f"the bound of coded motion must be positive, got {bound}")


class FlowTracks(Protocol):
    """Coded flow of videos: a flow store, or one video's flow that is computed as it is read."""

    def length(self, video: str, track: str) -> int:
        """Flows of ``video``: one for each frame but the last."""

    def bound(self, video: str, track: str) -> float | None:
        """Value of the largest integer of the int8 code; None for float16."""

    def read(self, video: str, track: str, start: int, stop: int) -> Shaped[np.ndarray, "flows channels height width"]:
        """Flows ``start`` to ``stop``, half open, as coded."""


def read_flow(store: FlowTracks, name: str, start: int, stop: int) -> Float[np.ndarray, "frames channels height width"]:
    """Motion of frames ``start`` to ``stop``; the last frame of a video, which has none, repeats the previous one."""
    count = store.length(name, "motion")
    bound = store.bound(name, "motion")
    coded = store.read(name, "motion", min(start, max(0, count - 1)), min(stop, count))
    if len(coded) == 0:  # a video of one frame has no flow: use zeros
        return np.zeros((stop - start, *coded.shape[1:]), dtype=np.float32)
    motion = coded.astype(np.float32) if bound is None else decode(coded, bound)
    missing = stop - max(start, count)
    if start >= count:  # only the last frame is requested
        return np.repeat(motion[-1:], stop - start, axis=0)
    return np.concatenate([motion, np.repeat(motion[-1:], missing, axis=0)]) if missing > 0 else motion


def read_stacks(
    store: FlowTracks, name: str, start: int, stop: int, *, view: View = "original", stack: int = 1
) -> Float[Tensor, "frames stacked_channels height width"]:
    """The teacher's input at frames ``start`` to ``stop``: at each the flows around it, in a view.

    Frame k has the flows k - L // 2 to k - L // 2 + L - 1 of a ``stack`` of L, the channels of one after those of the
    one before (u, v, u, v ...). With an even L they lie between the L + 1 frames centred on frame k. Before the first
    and after the last flow of the video these are repeated, so the last frame alone repeats the flow before it.

    Source: optical flow stacking of Simonyan and Zisserman, NeurIPS 2014, equation 1, which starts at frame k; ours is
    centred, because a frame's feature stands for that moment. Their subtraction of each flow's mean is left out.
    """
    frames, before = store.length(name, "motion") + 1, stack // 2
    first, last = max(start - before, 0), min(stop + stack - 1 - before, frames)
    motion = view_motion(torch.from_numpy(read_flow(store, name, first, last)), view)
    around = torch.arange(start, stop)[:, None] - before + torch.arange(stack)
    return motion[around.clamp(first, last - 1) - first].flatten(1, 2)
