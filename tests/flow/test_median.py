"""The network of minima and maxima gives the median."""

import pytest
import torch
from torch.nn import functional

from tadkit.flow.median import median_filter


@pytest.mark.parametrize("size_px", [1, 3, 5])
def test_equals_sorting(size_px: int) -> None:
    field = torch.randn(2, 3, 11, 13, generator=torch.Generator().manual_seed(0))
    radius = size_px // 2
    padded = functional.pad(field, (radius, radius, radius, radius), mode="replicate")
    squares = padded.unfold(2, size_px, 1).unfold(3, size_px, 1).flatten(-2)
    assert torch.equal(median_filter(field, size_px), squares.median(dim=-1).values)
