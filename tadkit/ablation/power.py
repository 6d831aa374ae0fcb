"""How many videos and seeds a difference between two rows would need to show, from how much a pilot's differences vary.

The difference of one video and seed varies by the video (a), by the seed (b) and by both together (c), so that the
variance of a mean difference over n videos and S seeds is

    a / n + b / S + c / (n S),

a two-way layout with random effects (Searle, Casella and McCulloch, Variance Components, 1992). mAP is no mean over
videos, so its parts are taken from the bootstrap (Efron and Tibshirani, An Introduction to the Bootstrap, 1993): V is
the variance of one seed's difference over draws of the videos, mean over seeds, and M that of the mean difference of
all seeds, both times n / (n - 1), which the bootstrap leaves out. Then n V = a + c and n M = a + c / S, and the
variance of the seeds' differences is b + c / n; negative results are 0. A difference d shows in a two-sided test of
level alpha with the given power if the variance is at most (d / (z_(1 - alpha / 2) + z_power))^2, by the normal
approximation (Chow, Shao and Wang, Sample Size Calculations in Clinical Research, 2008, section 3.1; Card et al., With
Little Power Comes Great Responsibility, EMNLP 2020). From few seeds and videos it is an order of magnitude.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Float64

POWER, LEVEL = 0.8, 0.05
"""Probability that a true difference shows, and of one showing that does not exist."""
POINTS = (1.0, 2.0, 5.0)
"""Differences, in percentage points."""


def spread_of(
    differences: Float64[np.ndarray, " seeds"], drawn: Float64[np.ndarray, "draws seeds"], *, videos: int
) -> dict[str, Any]:
    """The three variances of a difference, in squared fractions.

    Args:
        differences: of each seed, on the original videos.
        drawn: of each seed, on draws of the videos.
        videos: number of videos.

    Returns:
        ``of_videos`` (a), ``of_seeds`` (b; None with one seed), ``of_both`` (c; with one seed it is part of
        ``of_videos``), ``videos`` and ``seeds``.
    """
    seeds = len(differences)
    of_one, of_mean = (n_variance * videos for n_variance in _variances(drawn, videos))
    both = max(0.0, (of_one - of_mean) * seeds / (seeds - 1)) if seeds > 1 else 0.0
    of_seeds = max(0.0, float(differences.var(ddof=1)) - both / videos) if seeds > 1 else None
    return {
        "of_videos": max(0.0, of_one - both),
        "of_seeds": of_seeds,
        "of_both": both,
        "videos": videos,
        "seeds": seeds,
    }


def _variances(drawn: Float64[np.ndarray, "draws seeds"], videos: int) -> tuple[float, float]:
    """V and M of the module's formulas."""
    scale = videos / max(videos - 1, 1)
    return float(drawn.var(axis=0).mean()) * scale, float(drawn.mean(axis=1).var()) * scale


def videos_needed(spread: Mapping[str, Any], points: float, *, seeds: int) -> int | None:
    """Videos that a difference of ``points`` percentage points needs with ``seeds``; None if no number is enough."""
    normal = NormalDist()
    largest = (points / 100 / (normal.inv_cdf(1 - LEVEL / 2) + normal.inv_cdf(POWER))) ** 2
    left = largest - (spread["of_seeds"] or 0.0) / seeds
    return max(2, math.ceil((spread["of_videos"] + spread["of_both"] / seeds) / left)) if left > 0 else None


def power_rows(spreads: list[dict[str, Any]], *, seeds: int, instances_per_video: float) -> list[list[str]]:
    """For each pair of rows and numbers of seeds, the videos and instances that each of :data:`POINTS` would need.

    Seeds are those of the ablation, and 5 and 20 for comparison.
    """
    rows: list[list[str]] = []
    for spread in spreads:
        for count in sorted({seeds, 5, 20}):
            cells = [f"{spread['row']} - {spread['other']}", str(count)]
            for points in POINTS:
                videos = videos_needed(spread, points, seeds=count)
                actions = None if videos is None else math.ceil(videos * instances_per_video)
                cells.append("more seeds" if videos is None else f"{videos} videos, {actions} actions")
            rows.append(cells)
    return rows
