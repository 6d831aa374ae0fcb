from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

BLOCK_PX = 16
BITS = 8


@pytest.fixture
def numbered() -> Callable[[int], list[np.ndarray]]:
    """Make frames whose eight blocks, two rows of four, spell the frame's number in binary."""

    def frames(count: int) -> list[np.ndarray]:
        bits = (np.arange(count)[:, None] >> np.arange(BITS)) & 1
        blocks = (bits * 200 + 20).astype(np.uint8).reshape(count, 2, BITS // 2)
        pictures = blocks.repeat(BLOCK_PX, axis=1).repeat(BLOCK_PX, axis=2)
        return list(pictures[..., None].repeat(3, axis=3))

    return frames


@pytest.fixture
def number_of() -> Callable[[np.ndarray], list[int]]:
    """Read the numbers back from the middles of the blocks, whatever the size of the frames."""

    def numbers(frames: np.ndarray) -> list[int]:
        count, height, width, _ = frames.shape
        rows = (np.arange(2) * 2 + 1) * height // 4
        columns = (np.arange(4) * 2 + 1) * width // 8
        bits = frames[:, rows][:, :, columns, 0].reshape(count, BITS) > 120
        return [int(value) for value in (bits << np.arange(BITS)).sum(axis=1)]

    return numbers
