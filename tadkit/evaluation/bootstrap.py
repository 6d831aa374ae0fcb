"""How far a figure would move with other videos: the bootstrap over videos (Efron 1979), alone and paired.

Videos are drawn, not detections, because the detections of one video stand or fall together. Matching never looks
beyond one video, so it is done once and a draw only ranks anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

from tadkit.evaluation.average_precision import judged_labels, resampled_average_precision
from tadkit.evaluation.matching import Protocol, Ranking, rank_classes
from tadkit.records import Annotation, Detection

Figure = Literal["map", "pooled"]
_Score = Callable[[Int64[np.ndarray, " videos"]], float]


@dataclass(frozen=True)
class Interval:
    """Percentile interval of a figure, as fractions; ``value`` is the figure of the videos as they are."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """First minus second over the draws, as fractions.

    Attributes:
        mean: mean of the drawn differences.
        low: lower end of the percentile interval.
        high: upper end.
        share_above_zero: share of the draws in which the first is better; draws where both are equal count half.
    """

    mean: float
    low: float
    high: float
    share_above_zero: float

    @property
    def covers_zero(self) -> bool:
        """Whether the interval leaves open which of the two is better."""
        return self.low <= 0.0 <= self.high


def bootstrap_map(
    truth: Mapping[str, Sequence[Annotation]],
    detections: Mapping[str, Sequence[Detection]],
    *,
    tiou: Sequence[float],
    labels: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int,
    protocol: Protocol = "activitynet",
    figure: Figure = "map",
    confidence: float = 0.95,
) -> Interval:
    """Interval of mAP averaged over the thresholds, over draws of the videos with replacement.

    Args:
        truth: annotations of each video.
        detections: detections of each video.
        tiou: thresholds, averaged over.
        labels: classes to judge; None judges all that the truth has. A class without an action in a draw is left out of
            that draw's mean; a draw without any action is drawn again.
        resamples: number of draws.
        seed: of the draws; the same seed gives the same interval.
        protocol: whose rules.
        figure: ``map`` averages over classes, ``pooled`` over instances; there the detections of a class without an
            action in a draw stay, as false positives.
        confidence: share of the draws that the interval holds.

    Raises:
        AnnotationError: the truth has no action of the classes asked for.
    """
    videos = sorted({*truth, *detections})
    score, truths = _scorer(truth, detections, videos, tiou, labels, protocol, figure)
    drawn = np.array([score(draws) for draws in _draws(truths, resamples, seed)])
    low, high = _percentiles(drawn, confidence)
    return Interval(score(np.ones(len(videos), np.int64)), low, high)


def paired_difference(
    truth: Mapping[str, Sequence[Annotation]],
    first: Mapping[str, Sequence[Detection]],
    second: Mapping[str, Sequence[Detection]],
    *,
    tiou: Sequence[float],
    labels: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int,
    protocol: Protocol = "activitynet",
    figure: Figure = "map",
    confidence: float = 0.95,
) -> Difference:
    """First minus second, both judged on the same draws of the videos, so that hard videos cancel out.

    Arguments and errors are those of :func:`bootstrap_map`.
    """
    videos = sorted({*truth, *first, *second})
    score_first, truths = _scorer(truth, first, videos, tiou, labels, protocol, figure)
    score_second, _ = _scorer(truth, second, videos, tiou, labels, protocol, figure)
    drawn = np.array([score_first(draws) - score_second(draws) for draws in _draws(truths, resamples, seed)])
    low, high = _percentiles(drawn, confidence)
    above = float((drawn > 0).mean() + 0.5 * (drawn == 0).mean())
    return Difference(float(drawn.mean()), low, high, above)


def _scorer(
    truth: Mapping[str, Sequence[Annotation]],
    detections: Mapping[str, Sequence[Detection]],
    videos: Sequence[str],
    tiou: Sequence[float],
    labels: Sequence[str] | None,
    protocol: Protocol,
    figure: Figure,
) -> tuple[_Score, Int64[np.ndarray, " videos"]]:
    """A function from draws of each video to the figure, and the number of actions in each video."""
    judged, _ = judged_labels(truth, labels)
    per_class, pooled = rank_classes(truth, detections, videos=videos, labels=judged, tiou=tiou, protocol=protocol)
    rankings: list[Ranking] = list(per_class.values()) if figure == "map" else [pooled]

    def score(draws: Int64[np.ndarray, " videos"]) -> float:
        present = [ranking for ranking in rankings if draws @ ranking.truths > 0]
        return float(np.mean([resampled_average_precision(one, draws, protocol=protocol) for one in present]))

    return score, pooled.truths


def _draws(truths: Int64[np.ndarray, " videos"], resamples: int, seed: int) -> list[Int64[np.ndarray, " videos"]]:
    """How often each video is drawn, ``resamples`` times; every draw holds at least one action."""
    assert resamples > 0, resamples
    rng = np.random.default_rng(seed)
    draws: list[Int64[np.ndarray, " videos"]] = []
    while len(draws) < resamples:
        drawn = np.bincount(rng.integers(len(truths), size=len(truths)), minlength=len(truths))
        if drawn @ truths > 0:
            draws.append(drawn)
    return draws


def _percentiles(drawn: Float64[np.ndarray, " draws"], confidence: float) -> tuple[float, float]:
    assert 0 < confidence < 1, confidence
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
