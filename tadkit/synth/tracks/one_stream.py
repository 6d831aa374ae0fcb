"""Synthetic feature tracks with exactly known actions, for training and comparing heads."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64

_CODES_SEED = 20230
_NOISE = 0.4
_SHORTEST_STEPS, _LONGEST_STEPS = 5.0, 40.0
_EDGE_STEPS = 1.5


class Track(NamedTuple):
    """A feature track and its actions.

    Attributes:
        features: (steps, channels).
        segments: (actions, 2), start and end as fractional positions, in order; they do not overlap.
        labels: (actions,), class of each.
    """

    features: Float32[np.ndarray, "steps channels"]
    segments: Float64[np.ndarray, "actions 2"]
    labels: Int64[np.ndarray, " actions"]


def make_track(seed: int, steps: int, channels: int, classes: int) -> Track:
    """Make a track.

    Each class has a code, a random direction that is the same for every seed. An action adds its class's code to the
    steps it covers, in proportion to the coverage, and two codes shared by all classes as bumps of 1.5 steps at its
    start and end. Gaussian noise of 0.4 a channel is added to everything.

    Args:
        seed: seed of actions and noise.
        steps: length.
        channels: width.
        classes: number of classes.

    Returns:
        Features and exact ground truth; actions take 5 to 40 steps, at most a third of the track, mostly short ones.
    """
    random = np.random.default_rng(seed)
    codes = np.random.default_rng((_CODES_SEED, channels)).normal(size=(classes + 2, channels))
    codes *= np.sqrt(channels) / np.linalg.norm(codes, axis=1, keepdims=True)
    segments = draw_segments(random, steps)
    labels = random.integers(0, classes, len(segments))
    step = np.arange(steps)
    features = random.normal(0, _NOISE, (steps, channels))
    for (start, end), label in zip(segments, labels, strict=True):
        covered = np.clip(np.minimum(end, step + 0.5) - np.maximum(start, step - 0.5), 0, 1)
        bumps = [np.exp(-0.5 * ((step - edge) / _EDGE_STEPS) ** 2) for edge in (start, end)]
        features += np.stack([covered, *bumps], axis=1) @ codes[[label, classes, classes + 1]]
    return Track(features.astype(np.float32), segments, labels.astype(np.int64))


def draw_segments(random: np.random.Generator, steps: int) -> Float64[np.ndarray, "actions 2"]:
    """Actions from left to right with gaps of 2 to 12 steps, as many as fit."""
    longest = max(_SHORTEST_STEPS + 1, min(_LONGEST_STEPS, steps / 3))
    found: list[tuple[float, float]] = []
    at = random.uniform(1, 6)
    while True:
        length = np.exp(random.uniform(np.log(_SHORTEST_STEPS), np.log(longest)))
        if at + length > steps - 2:
            return np.array(found, dtype=np.float64).reshape(-1, 2)
        found.append((at, at + length))
        at += length + random.uniform(2, 12)
