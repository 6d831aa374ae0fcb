"""The eight views of a picture (mirrored, turned), and what each does to motion seen in it.

A view is an optional transpose, then an optional mirroring of columns and of rows; a displacement (u to the right, v
down) changes with its picture: transposing swaps u and v, mirroring negates one. So the flow between the views of two
frames is the view of their flow. All functions take NumPy arrays or tensors, with height and width last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from tadkit.config import View

Picture = TypeVar("Picture", np.ndarray, Tensor)


class _Axes(NamedTuple):
    """What a view does to the axes, in this order."""

    transposed: bool
    columns_mirrored: bool
    rows_mirrored: bool


AXES: dict[View, _Axes] = {
    "original": _Axes(False, False, False),
    "mirror": _Axes(False, True, False),
    "flip": _Axes(False, False, True),
    "turn180": _Axes(False, True, True),
    "turn90": _Axes(True, False, True),
    "turn270": _Axes(True, True, False),
    "transpose": _Axes(True, False, False),
    "antitranspose": _Axes(True, True, True),
}


def view_frames(frames: Picture, view: View) -> Picture:
    """Pictures (..., height, width) in a view; turn90 is counter-clockwise.

    Returns:
        Contiguous pictures (..., height, width), or (..., width, height) for a view that transposes.
    """
    axes = AXES[view]
    mirrored = tuple(axis for axis, wanted in ((-1, axes.columns_mirrored), (-2, axes.rows_mirrored)) if wanted)
    if isinstance(frames, np.ndarray):
        turned = np.swapaxes(frames, -1, -2) if axes.transposed else frames
        return np.ascontiguousarray(np.flip(turned, mirrored))
    tensor = frames.transpose(-1, -2) if axes.transposed else frames
    return (tensor.flip(mirrored) if mirrored else tensor).contiguous()


def view_flow(flow: Picture, view: View) -> Picture:
    """Flow (..., 2, height, width), channel 0 = u to the right, 1 = v down, as seen in a view.

    Returns:
        A new flow: positions as in :func:`view_frames`, displacements swapped and negated to match.
    """
    axes = AXES[view]
    seen = view_frames(flow, view)
    u, v = seen[..., 0, :, :], seen[..., 1, :, :]
    if axes.transposed:
        u, v = v, u
    u = -u if axes.columns_mirrored else u
    v = -v if axes.rows_mirrored else v
    return np.stack([u, v], axis=-3) if isinstance(u, np.ndarray) else torch.stack([u, v], dim=-3)


def view_motion(motion: Picture, view: View) -> Picture:
    """Motion (..., channels, height, width) in a view: two channels are flow, any other number a picture."""
    return view_flow(motion, view) if motion.shape[-3] == 2 else view_frames(motion, view)


def inverse_view(view: View) -> View:
    """The view that undoes ``view``; only quarter turns differ from their inverse."""
    inverse: dict[View, View] = {"turn90": "turn270", "turn270": "turn90"}
    return inverse.get(view, view)


def views_of(views: Sequence[View]) -> tuple[View, ...]:
    """Views to extract for a stage that samples from ``views``: the original first, each once."""
    original: View = "original"
    return tuple(dict.fromkeys([original, *views]))
