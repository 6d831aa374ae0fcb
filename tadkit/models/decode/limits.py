"""The best of every stretch of time, so that a long video is not poorer than a short one.

A limit of N within a reach of S keeps an item unless N better ones are within S of it, so any stretch as long as S has
at most N of what is kept. Whether an item is kept depends on its surroundings alone: not on the length of the video,
where it begins, or the size of any chunk. If all items are within S of each other, the N best are kept.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64, Int64


def best_nearby(
    at: Float64[np.ndarray, " n"], scores: Float64[np.ndarray, " n"], *, limit: int, reach: float
) -> Int64[np.ndarray, " kept"]:
    """Indices of the items that have fewer than ``limit`` better ones within ``reach``, by descending score.

    Takes time for ``n log n``. Of equal scores, the lower index is better.

    Args:
        at: where each item is, in any unit.
        scores: of the items.
        limit: number of better items that excludes one.
        reach: largest distance at which an item counts, in the unit of ``at``; infinite: the ``limit`` best of all.
    """
    by_score = np.argsort(-scores, kind="stable")
    if len(at) <= limit or not math.isfinite(reach) or np.ptp(at) <= reach:
        return by_score[:limit]
    rank = np.empty(len(at), dtype=np.int64)
    rank[by_score] = np.arange(len(at))
    by_time = np.argsort(at, kind="stable")
    times, ranks = at[by_time], rank[by_time]
    first = np.searchsorted(times, times - reach, side="left")
    last = np.searchsorted(times, times + reach, side="right")
    crowded = np.flatnonzero(last - first > limit)
    excluded = _lower_between(ranks, first[crowded], last[crowded], ranks[crowded]) >= limit
    kept = np.ones(len(at), dtype=bool)
    kept[by_time[crowded[excluded]]] = False
    return by_score[kept[by_score]]


def _lower_between(
    values: Int64[np.ndarray, " n"],
    first: Int64[np.ndarray, " queries"],
    last: Int64[np.ndarray, " queries"],
    bound: Int64[np.ndarray, " queries"],
) -> Int64[np.ndarray, " queries"]:
    """How many of ``values[first:last]`` are below ``bound``, for all queries at once.

    Values are whole numbers from 0 to n - 1. They are sorted bit by bit from the highest one, as in a wavelet matrix
    (Claude, Navarro, Ordóñez, Information Systems 2015); each query follows the bits of its bound.
    """
    count = np.zeros(len(bound), dtype=np.int64)
    for bit in reversed(range(len(values).bit_length())):
        clear = (values >> bit) & 1 == 0
        zeros = np.concatenate(([0], np.cumsum(clear)))  # up to each place
        first_zero, last_zero = zeros[first], zeros[last]
        one = (bound >> bit) & 1 == 1
        count += np.where(one, last_zero - first_zero, 0)
        first = np.where(one, zeros[-1] + first - first_zero, first_zero)
        last = np.where(one, zeros[-1] + last - last_zero, last_zero)
        values = np.concatenate((values[clear], values[~clear]))
    return count
