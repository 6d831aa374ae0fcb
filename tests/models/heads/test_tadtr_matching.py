import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tadkit.models.heads.tadtr import assign

SIDES = st.integers(0, 5)
COSTS = st.tuples(SIDES, SIDES).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(-20, 20).map(lambda n: n / 4))
)


def least(cost: np.ndarray) -> float:
    """Least sum over all assignments, tried one by one."""
    rows, columns = sorted(cost.shape)
    wide = cost if cost.shape[0] <= cost.shape[1] else cost.T
    return min(sum(wide[range(rows), chosen]) for chosen in itertools.permutations(range(columns), rows))


@given(COSTS)
def test_assignment_is_the_cheapest_of_all(cost: np.ndarray) -> None:
    rows, columns = assign(cost)
    assert len(rows) == len(columns) == min(cost.shape)
    assert len(set(rows)) == len(set(columns)) == len(rows)
    assert (np.diff(rows) > 0).all()
    assert cost[rows, columns].sum() == least(cost)


def test_a_permutation_among_hundreds_is_found() -> None:
    random = np.random.default_rng(0)
    cost = random.uniform(1, 2, (60, 300))
    hidden = random.permutation(300)[:60]
    cost[range(60), hidden] = random.uniform(0, 0.01, 60)
    np.testing.assert_array_equal(assign(cost)[1], hidden)


def test_entries_that_are_not_finite_are_avoided() -> None:
    cost = np.array([[np.nan, 5.0, 1.0], [2.0, np.inf, 1.5]])
    assert [side.tolist() for side in assign(cost)] == [[0, 1], [2, 0]]
