"""Temporal IoU: one rule for arrays and tensors."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tadkit.segments import temporal_iou, tensor_iou

SEGMENTS = np.array([[0.0, 4.0], [2.0, 6.0], [3.0, 3.0], [9.0, 10.0]])
EXPECTED = np.array([[1, 1 / 3, 0, 0], [1 / 3, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]])


def test_all_pairs_of_known_segments():
    np.testing.assert_allclose(temporal_iou(SEGMENTS[:, None], SEGMENTS[None]), EXPECTED, atol=1e-15)
    tensor = torch.from_numpy(SEGMENTS)
    np.testing.assert_allclose(tensor_iou(tensor[:, None], tensor[None]).numpy(), EXPECTED, atol=1e-15)


@given(
    ends=st.lists(st.floats(-50, 50), min_size=4, max_size=4),
    shift=st.floats(-20, 20),
    scale=st.floats(0.1, 10),
)
def test_it_is_symmetric_and_does_not_depend_on_zero_or_unit(ends, shift, scale):
    one, other = (np.sort(part)[None] for part in np.array(ends).reshape(2, 2))
    iou = temporal_iou(one, other)
    assert 0 <= iou <= 1
    np.testing.assert_array_equal(iou, temporal_iou(other, one))
    np.testing.assert_allclose(iou, temporal_iou(one * scale + shift, other * scale + shift), atol=1e-6)
