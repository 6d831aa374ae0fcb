"""A limit of a stretch is the same in a long video as in a short one, and that of the whole video where it is short."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tadkit.models.decode.limits import best_nearby

ITEMS = st.lists(st.tuples(st.integers(0, 60), st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.9])), max_size=60)


def arrays(items: list[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(items, dtype=float).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def by_counting(at: np.ndarray, scores: np.ndarray, *, limit: int, reach: float) -> list[int]:
    """The definition with loops."""
    kept = []
    for own in range(len(at)):
        better = [
            other
            for other in range(len(at))
            if abs(at[other] - at[own]) <= reach
            and (scores[other] > scores[own] or (scores[other] == scores[own] and other < own))
        ]
        if len(better) < limit:
            kept.append(own)
    return sorted(kept, key=lambda index: (-scores[index], index))


@given(ITEMS, st.integers(1, 9), st.integers(1, 40))
@settings(max_examples=30)
def test_an_item_is_kept_unless_enough_better_ones_are_near(
    items: list[tuple[int, float]], limit: int, reach: int
) -> None:
    at, scores = arrays(items)
    kept = best_nearby(at, scores, limit=limit, reach=reach)
    assert kept.tolist() == by_counting(at, scores, limit=limit, reach=reach)


@given(ITEMS, st.integers(1, 9), st.integers(1, 40))
@settings(max_examples=30)
def test_no_stretch_holds_more_than_the_limit(items: list[tuple[int, float]], limit: int, reach: int) -> None:
    at, scores = arrays(items)
    kept = np.sort(at[best_nearby(at, scores, limit=limit, reach=reach)])
    for first in kept:
        assert ((kept >= first) & (kept <= first + reach)).sum() <= limit


@given(ITEMS, st.integers(1, 9))
@settings(max_examples=30)
def test_where_all_are_near_the_best_of_all_are_kept(items: list[tuple[int, float]], limit: int) -> None:
    at, scores = arrays(items)
    best = np.argsort(-scores, kind="stable")[:limit].tolist()
    for reach in (60.0, math.inf):
        assert best_nearby(at, scores, limit=limit, reach=reach).tolist() == best


@given(ITEMS, ITEMS, st.integers(1, 9), st.integers(1, 20))
@settings(max_examples=30)
def test_what_is_beyond_the_reach_changes_nothing(
    here: list[tuple[int, float]], there: list[tuple[int, float]], limit: int, reach: int
) -> None:
    at, scores = arrays(here)
    far, other = arrays(there)
    both = best_nearby(np.append(at, far + 61 + reach), np.append(scores, other), limit=limit, reach=reach)
    assert both[both < len(at)].tolist() == best_nearby(at, scores, limit=limit, reach=reach).tolist()
