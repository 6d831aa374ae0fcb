"""Assignment of rows to columns at the least total cost, and overlap of segments: what query heads match by."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor


def assign(cost: Float[np.ndarray, "rows cols"]) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Pairs of distinct rows and columns with the least sum of costs; as many as the shorter side has entries.

    Shortest augmenting paths (Jonker, Volgenant, Computing 1987; rectangular as in Crouse, IEEE TAES 2016): exact, one
    NumPy operation over the columns for each step of a path. Sets of a few hundred take milliseconds, which is why
    SciPy is not a dependency.

    Args:
        cost: any finite numbers; entries that are not finite count as dearer than all others.

    Returns:
        Row indices in rising order and the column of each.
    """
    rows, columns = cost.shape
    if rows > columns:
        of_column, of_row = assign(cost.T)
        order = np.argsort(of_row)
        return of_row[order], of_column[order]
    finite = cost[np.isfinite(cost)]
    dear = 2 * (1 + float(np.abs(finite).max(initial=0.0))) * (1 + rows)
    price = np.where(np.isfinite(cost), cost, dear).astype(np.float64)
    row_price, column_price = np.zeros(rows), np.zeros(columns)
    row_of = np.full(columns, -1)
    for row in range(rows):
        _augment(price, row, row_price, column_price, row_of)
    taken = np.flatnonzero(row_of >= 0)
    order = np.argsort(row_of[taken])
    return row_of[taken][order].astype(np.int64), taken[order].astype(np.int64)


def _augment(
    price: Float64[np.ndarray, "rows cols"],
    row: int,
    row_price: Float64[np.ndarray, " rows"],
    column_price: Float64[np.ndarray, " cols"],
    row_of: Int64[np.ndarray, " cols"],
) -> None:
    """Give ``row`` a column by the cheapest alternating path; changes the dual prices and ``row_of``."""
    columns = price.shape[1]
    distance, came_from = np.full(columns, np.inf), np.full(columns, -1)
    done = np.zeros(columns, dtype=bool)
    here, so_far = row, 0.0
    while True:
        through = so_far + price[here] - row_price[here] - column_price
        shorter = ~done & (through < distance)
        distance[shorter], came_from[shorter] = through[shorter], here
        nearest = int(np.where(done, np.inf, distance).argmin())
        so_far, done[nearest] = float(distance[nearest]), True
        if row_of[nearest] < 0:
            break
        here = int(row_of[nearest])
    slack = so_far - distance[done]
    column_price[done] -= slack
    row_price[row] += so_far
    held = row_of[done] >= 0
    row_price[row_of[done][held]] += slack[held]
    while True:
        step = int(came_from[nearest])
        row_of[nearest], nearest = step, _column_of(row_of, step)
        if step == row:
            break


def _column_of(row_of: Int64[np.ndarray, " cols"], row: int) -> int:
    """The column that ``row`` held; -1 if none."""
    held = np.flatnonzero(row_of == row)
    return int(held[0]) if len(held) else -1


def segment_iou(one: Float[Tensor, "*one 2"], other: Float[Tensor, "*other 2"]) -> Float[Tensor, "*both"]:
    """Intersection over union of segments whose leading dimensions fit each other; 0 where the union has no length."""
    intersection = torch.minimum(one[..., 1], other[..., 1]) - torch.maximum(one[..., 0], other[..., 0])
    intersection = intersection.clamp(min=0)
    union = (one[..., 1] - one[..., 0]) + (other[..., 1] - other[..., 0]) - intersection
    return intersection / union.clamp(min=1e-6)


def pairwise_iou(one: Float[Tensor, "m 2"], other: Float[Tensor, "n 2"]) -> Float[Tensor, "m n"]:
    """Intersection over union of each segment of ``one`` with each of ``other``."""
    return segment_iou(one[:, None], other[None])
