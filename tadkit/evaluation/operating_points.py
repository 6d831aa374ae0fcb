"""Operating points, for each class the score from which its detections are shown to a person; and calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from tadkit.evaluation.matching import match_classes
from tadkit.records import HIGH_CONFIDENCE, Annotation, Detection

OPERATING_TIOU = 0.5
"""A detection counts as right if it has the label of an action and at least this tIoU with it."""
LOWEST, HIGHEST = 0.05, 0.6
"""Operating points lie between these scores."""
SCORE_BINS = 10
"""Ranges of score in which calibration is measured."""
FEWEST_ACTIONS = 5
"""A class with fewer actions gets no operating point: so few cannot show which score is best."""


class Shown(NamedTuple):
    """The detections of one class that score ``score`` or more, beside its actions.

    Attributes:
        score: the lowest score.
        actions: number of annotated actions.
        detections: number of those detections.
        hits: number of them that are right.
    """

    score: float
    actions: int
    detections: int
    hits: int

    @property
    def precision(self) -> float:
        """Share of the shown detections that are right; 0 without any."""
        return self.hits / max(self.detections, 1)

    @property
    def recall(self) -> float:
        """Share of the actions that are found; 0 without any."""
        return self.hits / max(self.actions, 1)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.hits / max(self.detections + self.actions, 1)


class _Class(NamedTuple):
    """Detections of a class, best score first, whether each is right, and the number of actions."""

    scores: Float64[np.ndarray, " n"]
    hits: Bool[np.ndarray, " n"]
    actions: int

    def shown_from(self, score: float) -> Shown:
        count = int((self.scores >= score).sum())
        return Shown(score, self.actions, count, int(self.hits[:count].sum()))


def calibration_error(
    truth: Mapping[str, Sequence[Annotation]],
    detections: Mapping[str, Sequence[Detection]],
    *,
    labels: Sequence[str],
    tiou: float = OPERATING_TIOU,
) -> float:
    """Expected calibration error of the scores of detections, a fraction; 0 without detections.

    Source: Naeini, Cooper and Hauskrecht, AAAI 2015, with precision in place of accuracy, as for detectors (Kueppers et
    al., CVPR workshops 2020): the mean over :data:`SCORE_BINS` equal ranges of score of the distance between mean score
    and share of right detections, weighted by the number of detections. Most detections have low scores, and so count
    most.
    """
    found = _by_class(truth, detections, labels=labels, tiou=tiou).values()
    scores, hits = (np.concatenate([getattr(one, name) for one in found]) for name in ("scores", "hits"))
    place = np.minimum((scores * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)
    surplus = np.bincount(place, weights=scores - hits, minlength=SCORE_BINS)
    return float(np.abs(surplus).sum() / max(len(scores), 1))


def choose_operating_points(
    truth: Mapping[str, Sequence[Annotation]],
    detections: Mapping[str, Sequence[Detection]],
    *,
    labels: Sequence[str],
    tiou: float = OPERATING_TIOU,
) -> dict[str, float]:
    """The score of the best F1 of each class, between :data:`LOWEST` and :data:`HIGHEST`.

    The detections must come from a model that did not see these videos: one that did scores higher on them than on any
    other. Classes with fewer than :data:`FEWEST_ACTIONS` actions, or without a hit, are left out.
    """
    points: dict[str, float] = {}
    for label, found in _by_class(truth, detections, labels=labels, tiou=tiou).items():
        distinct = np.unique(np.append(found.scores, 0.0))
        between = (distinct[1:] + distinct[:-1]) / 2
        scores = np.unique(np.round(np.clip(between, LOWEST, HIGHEST), 4))[::-1]
        best = max((found.shown_from(float(score)) for score in scores), key=lambda shown: shown.f1, default=None)
        if best is not None and best.hits and best.actions >= FEWEST_ACTIONS:
            points[label] = best.score
    return points


def shown_detections(
    truth: Mapping[str, Sequence[Annotation]],
    detections: Mapping[str, Sequence[Detection]],
    *,
    labels: Sequence[str],
    points: Mapping[str, float],
    tiou: float = OPERATING_TIOU,
) -> dict[str, Shown]:
    """What is shown of each class from its operating point, or from 0.3 where it has none."""
    by_class = _by_class(truth, detections, labels=labels, tiou=tiou)
    return {label: found.shown_from(points.get(label, HIGH_CONFIDENCE)) for label, found in by_class.items()}


def _by_class(
    truth: Mapping[str, Sequence[Annotation]],
    detections: Mapping[str, Sequence[Detection]],
    *,
    labels: Sequence[str],
    tiou: float,
) -> dict[str, _Class]:
    videos = sorted({*truth, *detections})
    matched = match_classes(truth, detections, videos=videos, labels=labels, tiou=[tiou], protocol="activitynet")
    found: dict[str, _Class] = {}
    for number, label in enumerate(labels):
        rows, actions = matched.found.label == number, int((matched.actions.label == number).sum())
        found[label] = _Class(matched.found.score[rows], matched.hit[rows, 0], actions)
    return found
