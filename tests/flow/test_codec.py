"""The int8 code: exact zero, a stated bound, counted clipping."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tadkit.flow import decode, encode

BOUNDS = st.floats(0.5, 300)
MOTIONS = hnp.arrays(np.float32, hnp.array_shapes(max_dims=4), elements=st.floats(-400, 400, width=32))


@given(MOTIONS, BOUNDS)
def test_error_inside_the_bound_is_half_a_step(motion: np.ndarray, bound: float) -> None:
    back = decode(encode(motion, bound).values, bound)
    inside = np.abs(motion) <= bound
    assert back.dtype == np.float32
    assert np.abs(back - motion)[inside].max(initial=0) <= bound / 254 * (1 + 1e-4)
    assert np.abs(back[~inside]) == pytest.approx(bound)


@given(MOTIONS, BOUNDS)
def test_negating_motion_negates_its_code(motion: np.ndarray, bound: float) -> None:
    np.testing.assert_array_equal(encode(-motion, bound).values, -encode(motion, bound).values)


def test_zero_is_zero_and_clipping_is_counted() -> None:
    coded = encode(torch.tensor([0.0, 20.0, -20.0, 20.5, -99.0]), 20.0)
    assert coded.values.tolist() == [0, 127, -127, 127, -127]
    assert coded.values.dtype == np.int8
    assert coded.clipped == pytest.approx(0.4)
    assert decode(torch.from_numpy(coded.values), 20.0)[0] == 0


def test_nothing_clips_nothing() -> None:
    coded = encode(np.zeros((0, 2, 4, 4), np.float32), 20.0)
    assert coded.values.shape == (0, 2, 4, 4)
    assert coded.clipped == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_motion_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        encode(np.array([0, bad], np.float32), 20.0)


def test_other_codes_are_refused() -> None:
    with pytest.raises(ValueError, match="int8"):
        decode(np.zeros(3, np.uint8), 20.0)
    with pytest.raises(ValueError, match="positive"):
        encode(np.zeros(3, np.float32), 0.0)
