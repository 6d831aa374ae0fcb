"""A synthetic texture that can be seen under any affine motion, exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

Scene = Callable[..., tuple[np.ndarray, np.ndarray]]


def _texture(points_xy: np.ndarray, seed: int) -> np.ndarray:
    """Grey levels 0..255 at any real points: waves of 7 to 40 px in random directions."""
    rng = np.random.default_rng(seed)
    count = 24
    angles, waves_px = rng.uniform(0, 2 * np.pi, count), np.geomspace(7, 40, count)
    frequencies = np.stack([np.cos(angles), np.sin(angles)]) / waves_px
    total = np.sin(2 * np.pi * (points_xy @ frequencies) + rng.uniform(0, 2 * np.pi, count)).sum(axis=-1)
    grey: np.ndarray = np.clip(127.5 + 20 * total, 0, 255)
    return grey


def _points(size_hw: tuple[int, int]) -> np.ndarray:
    """(height, width, 2): x and y of each pixel from the centre."""
    rows, columns = (np.arange(side) - (side - 1) / 2 for side in size_hw)
    return np.stack(np.meshgrid(columns, rows, indexing="xy"), axis=-1)


def _frames(grey: Sequence[np.ndarray]) -> np.ndarray:
    return np.repeat(np.round(np.stack(grey)).astype(np.uint8)[..., None], 3, axis=-1)


@pytest.fixture(scope="session")
def moving_texture() -> Scene:
    """``moving_texture(linear, shift_xy, seed, size_hw, coarseness)``: two frames, and flow (2, height, width).

    A point at x px, from the centre, goes to ``linear @ x + shift_xy``.
    """

    def scene(
        linear: np.ndarray,
        shift_xy: tuple[float, float],
        seed: int = 0,
        size_hw: tuple[int, int] = (64, 64),
        coarseness: float = 1.0,
    ) -> tuple[np.ndarray, np.ndarray]:
        points = _points(size_hw)
        sources = (points - shift_xy) @ np.linalg.inv(linear).T
        frames = _frames([_texture(points / coarseness, seed), _texture(sources / coarseness, seed)])
        return frames, np.moveaxis(points @ linear.T + shift_xy - points, -1, 0)

    return scene


@pytest.fixture(scope="session")
def travelling_texture() -> Callable[..., np.ndarray]:
    """``travelling_texture(shifts_xy, seed, size_hw)``: a frame more than shifts; shift k leads on from frame k."""

    def scene(
        shifts_xy: Sequence[tuple[float, float]], seed: int = 0, size_hw: tuple[int, int] = (64, 64)
    ) -> np.ndarray:
        places = np.concatenate([np.zeros((1, 2)), np.cumsum(shifts_xy, axis=0)])
        return _frames([_texture(_points(size_hw) - place, seed) for place in places])

    return scene
