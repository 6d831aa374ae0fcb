"""A made-up texture that can be seen under any affine motion, exactly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

SIZE_PX = 64

Scene = Callable[..., tuple[np.ndarray, np.ndarray]]


def _texture(points_xy: np.ndarray, seed: int) -> np.ndarray:
    """Grey levels 0..255 at any real points: waves of 7 to 40 px in random directions."""
    rng = np.random.default_rng(seed)
    count = 24
    angles, waves_px = rng.uniform(0, 2 * np.pi, count), np.geomspace(7, 40, count)
    frequencies = np.stack([np.cos(angles), np.sin(angles)]) / waves_px
    total = np.sin(2 * np.pi * (points_xy @ frequencies) + rng.uniform(0, 2 * np.pi, count)).sum(axis=-1)
    return np.clip(127.5 + 20 * total, 0, 255)


@pytest.fixture(scope="session")
def moving_texture() -> Scene:
    """``moving_texture(linear, shift_xy, seed)`` gives two frames and the true flow, (2, 64, 64) px.

    A point at x, from the centre, goes to ``linear @ x + shift_xy``.
    """

    def scene(linear: np.ndarray, shift_xy: tuple[float, float], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        steps = np.arange(SIZE_PX) - (SIZE_PX - 1) / 2
        points = np.stack(np.meshgrid(steps, steps, indexing="xy"), axis=-1)
        sources = (points - shift_xy) @ np.linalg.inv(linear).T
        grey = np.stack([_texture(points, seed), _texture(sources, seed)])
        frames = np.repeat(np.round(grey).astype(np.uint8)[..., None], 3, axis=-1)
        return frames, np.moveaxis(points @ linear.T + shift_xy - points, -1, 0)

    return scene
