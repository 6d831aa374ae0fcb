"""Sensitivity of a detector to the actions' coverage of the video, length, and number of instances.

DETAD (Alwassel et al., ECCV 2018, section 3.3) with its bounds for ActivityNet or THUMOS14. Average precision is
normalised (Hoiem et al., ECCV 2012): groups of different size are compared as if each had the mean number of actions
of a class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from jaxtyping import Float64, Int32

from tadkit.config import Protocol
from tadkit.evaluation.matching import Matched

GROUPS = ("XS", "S", "M", "L", "XL")
ACTIVITYNET_BOUNDS = {"coverage": (0.2, 0.4, 0.6, 0.8), "length_s": (30, 60, 120, 180), "instances": (1, 4, 8)}
THUMOS14_BOUNDS = {"coverage": (0.02, 0.04, 0.06, 0.08), "length_s": (3, 6, 12, 18), "instances": (1, 40, 80)}
"""The largest value of each group except the last, by characteristic."""


@dataclass(frozen=True)
class Group:
    """Actions with similar values of one characteristic.

    Attributes:
        name: XS to XL.
        upper: largest value in the group; None for the last one.
        actions: number of actions.
        missed: fraction that no detection is matched to, mean over thresholds; None without actions.
        normalised_map: normalised mAP against the actions of this group, mean over thresholds; None without actions.
    """

    name: str
    upper: float | None
    actions: int
    missed: float | None
    normalised_map: float | None


@dataclass(frozen=True)
class Sensitivity:
    """Results by one characteristic of the actions.

    Attributes:
        respect: ``coverage`` (fraction of the video that the action covers), ``length_s``, or ``instances`` (actions of
            the same class in the video).
        groups: from small to large.
        normalised_map: normalised mAP against all actions, for comparison.
    """

    respect: str
    groups: tuple[Group, ...]
    normalised_map: float


def sensitivities(
    matched: Matched, lengths_s: Float64[np.ndarray, " videos"], *, tiou: Sequence[float], protocol: Protocol
) -> tuple[Sensitivity, ...]:
    """Sensitivity to coverage, length and number of instances.

    Args:
        matched: detections and the actions that they are matched to.
        lengths_s: of the videos; actions in a video without a length are in no group of coverage.
        tiou: thresholds, averaged over.
        protocol: selects the bounds.
    """
    actions = matched.actions
    length_s = actions.segment_s[:, 1] - actions.segment_s[:, 0]
    key = actions.label * matched.videos + actions.video
    _, place, count = np.unique(key, return_inverse=True, return_counts=True)
    coverage = np.minimum(length_s / np.where(lengths_s > 0, lengths_s, np.nan)[actions.video], 1.0)
    values = {"coverage": coverage, "length_s": length_s, "instances": count[place].astype(np.float64)}
    match protocol:
        case "activitynet":
            bounds = ACTIVITYNET_BOUNDS
        case "thumos14":
            bounds = THUMOS14_BOUNDS
        case _:
            assert_never(protocol)
    everything = normalised_map(matched, np.ones(len(actions), bool))
    return tuple(
        Sensitivity(respect, _groups(matched, value, bounds[respect], len(tiou)), everything)
        for respect, value in values.items()
    )


def _groups(
    matched: Matched, value: Float64[np.ndarray, " actions"], bounds: Sequence[float], tious: int
) -> tuple[Group, ...]:
    number = np.where(np.isnan(value), -1, np.searchsorted(bounds, value, side="left"))
    groups = []
    for index, name in enumerate(GROUPS[: len(bounds) + 1]):
        inside = number == index
        some = bool(inside.any())
        taken = [np.isin(np.flatnonzero(inside), matched.taken[:, level]).mean() for level in range(tious) if some]
        groups.append(
            Group(
                name,
                float(bounds[index]) if index < len(bounds) else None,
                int(inside.sum()),
                1.0 - float(np.mean(taken)) if some else None,
                normalised_map(matched, inside) if some else None,
            )
        )
    return tuple(groups)


def normalised_map(matched: Matched, inside: np.ndarray) -> float:
    """Normalised mAP against some of the actions, mean over thresholds.

    Precision after each detection is ``R N / (R N + F)`` with recall R, false positives F, and N the mean number of
    actions of a class; detections matched to other actions are left out. Classes without such an action do not count.

    Args:
        matched: detections and the actions that they are matched to.
        inside: mask of these actions.
    """
    actions, found = matched.actions, matched.found
    classes = np.unique(actions.label)
    usual = len(actions) / len(classes)
    scores = []
    for label in np.unique(actions.label[inside]):
        mine = found.label == label
        truths = int((inside & (actions.label == label)).sum())
        scores.append(_normalised_ap(matched.taken[mine], matched.excused[mine], inside, truths, usual))
    return float(np.mean(scores))


def _normalised_ap(
    taken: Int32[np.ndarray, "n tious"], excused: np.ndarray, inside: np.ndarray, truths: int, usual: float
) -> float:
    """Normalised AP of one class, mean over thresholds."""
    if len(taken) == 0:
        return 0.0
    hit = (taken >= 0) & inside[taken]
    false = (taken < 0) & ~excused[:, None]
    found = hit.cumsum(axis=0) / truths * usual
    precision = found / np.maximum(found + false.cumsum(axis=0), 1e-12)
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    return float(((precision * hit).sum(axis=0) / truths).mean())
