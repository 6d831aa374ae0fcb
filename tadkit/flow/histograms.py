"""Histograms of flow: what moves where and in which direction, for models that read features instead of flow.

Source: histograms of oriented optical flow (Laptev et al., CVPR 2008; Dalal, Triggs, Schmid, ECCV 2006), with a bin
for what is still, as there. Ours differ: a pixel counts with the logarithm of its speed, so that a fast limb does not
outweigh the rest of the body, and is shared between the two nearest directions; the signed mean flow of the cell is
there, too. Nothing is normalised, so the scale is kept.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32, Int64

DIRECTIONS = 8
CHANNELS = DIRECTIONS + 3
"""Of a cell: directions, still share, mean u, mean v."""
_STILL_PX = 0.25


def flow_histograms(motion: Float[np.ndarray, "flows 2 height width"], grid: int) -> Float32[np.ndarray, "flows cells"]:
    """Histograms of the cells of each flow, row by row; ``grid * grid * CHANNELS`` values.

    A direction has the mean over the cell of log(1 + speed in pixels) of the pixels that move that way, first right,
    then turning towards down. The still share is that of the pixels slower than a quarter of a pixel.
    """
    flows, _, height, width = motion.shape
    cells = _cell_of(height, grid)[:, None] * grid + _cell_of(width, grid)[None, :]
    index = (np.arange(flows)[:, None] * grid**2 + cells.reshape(1, -1)).ravel()
    count, pixels = flows * grid**2, np.bincount(cells.ravel(), minlength=grid**2)
    u, v = (motion[:, axis].reshape(-1).astype(np.float32) for axis in (0, 1))
    speed = np.hypot(u, v)
    weight, turn = np.log1p(speed), np.arctan2(v, u) / (2 * np.pi) * DIRECTIONS % DIRECTIONS
    lower = np.floor(turn).astype(np.int64) % DIRECTIONS
    share = turn - np.floor(turn)
    found = np.zeros((count, CHANNELS))
    for direction, part in ((lower, weight * (1 - share)), ((lower + 1) % DIRECTIONS, weight * share)):
        sums = np.bincount(index * DIRECTIONS + direction, weights=part, minlength=count * DIRECTIONS)
        found[:, :DIRECTIONS] += sums.reshape(count, DIRECTIONS)
    for place, values in enumerate((speed < _STILL_PX, u, v), start=DIRECTIONS):
        found[:, place] = np.bincount(index, weights=values, minlength=count)
    means = found.reshape(flows, grid**2, CHANNELS) / np.maximum(pixels, 1)[:, None]
    return means.reshape(flows, -1).astype(np.float32)


def _cell_of(side_px: int, grid: int) -> Int64[np.ndarray, " side"]:
    """Row or column of cells that each pixel is in."""
    return np.asarray(np.arange(side_px) * grid // side_px, dtype=np.int64)


def stacked(
    histograms: Float32[np.ndarray, "flows channels"], *, stack: int
) -> Float32[np.ndarray, "frames stacked_channels"]:
    """The histograms of the flows around each frame, as :func:`tadkit.flow.codec.read_stacks` stacks flow."""
    frames, last = len(histograms) + 1, max(len(histograms) - 1, 0)
    around = np.arange(frames)[:, None] - stack // 2 + np.arange(stack)
    if not len(histograms):  # a video of one frame has no flow
        return np.zeros((1, stack * histograms.shape[1]), dtype=np.float32)
    taken: np.ndarray = histograms[around.clip(0, last)]
    return taken.reshape(frames, -1)
