"""Confidence intervals: the bootstrap over videos (Efron 1979), for one detector and for paired differences.

Videos are resampled, not detections, because the detections of one video are correlated. Matching never looks beyond
one video, so it is done once; a draw only changes the ranking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

from tadkit.config import Protocol
from tadkit.evaluation.average_precision import judged_labels, resampled_average_precision
from tadkit.evaluation.matching import Ranking, match_classes
from tadkit.records import Annotation, Detection

Figure = Literal["map", "pooled"]


@dataclass(frozen=True)
class Interval:
    """Percentile interval of a figure, as fractions; ``value`` is the figure of the original videos."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """First minus second over the draws, in fractions.

    Attributes:
        value: of the original videos.
        mean: mean of the drawn differences.
        low: lower end of the percentile interval.
        high: upper end.
        share_above_zero: fraction of draws in which the first is better; ties count half. Near 0 or 1 the difference is
            unlikely to be chance; it is not a p-value.
        by_tiou: the same for each single threshold, where this field is empty.
    """

    value: float
    mean: float
    low: float
    high: float
    share_above_zero: float
    by_tiou: tuple[Difference, ...] = ()

    @property
    def covers_zero(self) -> bool:
        """Whether the interval contains zero, so that either of the two may be better."""
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
    """Interval of mAP (mean over the thresholds) over draws of the videos with replacement.

    Args:
        truth: annotations of each video.
        detections: detections of each video.
        tiou: thresholds, averaged over.
        labels: classes to evaluate; None means all annotated ones. A class without an action in a draw is left out of
            that draw's mean; a draw without any action is redrawn.
        resamples: number of draws.
        seed: of the draws; the same seed gives the same interval.
        protocol: evaluation rules.
        figure: ``map`` averages over classes, ``pooled`` over instances, where the detections of a class without an
            action in a draw remain as false positives.
        confidence: fraction of draws inside the interval.

    Raises:
        AnnotationError: no action of the requested classes is annotated.
    """
    alone = _resampled(truth, (detections,), tiou, labels, protocol, figure, resamples=resamples, seed=seed)
    return Interval(float(alone.values.mean()), *_percentiles(alone.drawn.mean(axis=(1, 2)), confidence))


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
    """First minus second, both evaluated on the same draws of the videos, so that hard videos cancel out.

    :attr:`Difference.by_tiou` has each threshold. Arguments and errors are those of :func:`bootstrap_map`.
    """
    results = _resampled(truth, (first, second), tiou, labels, protocol, figure, resamples=resamples, seed=seed)
    values, drawn = results.values[0] - results.values[1], results.drawn[:, 0] - results.drawn[:, 1]
    by_tiou = tuple(_difference(value, of_tiou, confidence, ()) for value, of_tiou in zip(values, drawn.T, strict=True))
    return _difference(values.mean(), drawn.mean(axis=1), confidence, by_tiou)


@dataclass(frozen=True, eq=False)
class _Resampled:
    """A figure of each detector: of the original videos, and over draws of them."""

    values: Float64[np.ndarray, "results tious"]
    drawn: Float64[np.ndarray, "draws results tious"]


def _resampled(
    truth: Mapping[str, Sequence[Annotation]],
    results: Sequence[Mapping[str, Sequence[Detection]]],
    tiou: Sequence[float],
    labels: Sequence[str] | None,
    protocol: Protocol,
    figure: Figure,
    *,
    resamples: int,
    seed: int,
) -> _Resampled:
    """Match once, then rank again for every draw; all detectors get the same draws."""
    judged, _ = judged_labels(truth, labels)
    videos = sorted({*truth, *(video for detections in results for video in detections)})
    rankings: list[Ranking] = []
    for detections in results:
        matched = match_classes(truth, detections, videos=videos, labels=judged, tiou=tiou, protocol=protocol)
        rankings.append(matched.class_ranking() if figure == "map" else matched.pooled_ranking())

    def scores(draws: Int64[np.ndarray, " videos"]) -> Float64[np.ndarray, "results tious"]:
        return np.array([_score(of_rival, draws, protocol) for of_rival in rankings])

    # Few videos have few different draws, and each is scored once.
    draws, which = np.unique(_draws(rankings[0].truths.sum(axis=0), resamples, seed), axis=0, return_inverse=True)
    drawn = np.array([scores(one) for one in draws])[which.reshape(-1)]
    return _Resampled(scores(np.ones(len(videos), np.int64)), drawn)


def _score(ranking: Ranking, draws: Int64[np.ndarray, " videos"], protocol: Protocol) -> Float64[np.ndarray, " tious"]:
    """Mean over the groups with an action in the draw."""
    of_group = resampled_average_precision(ranking, draws, protocol=protocol)
    return np.asarray(of_group[ranking.truths @ draws > 0].mean(axis=0))


def _draws(truths: Int64[np.ndarray, " videos"], resamples: int, seed: int) -> list[Int64[np.ndarray, " videos"]]:
    """How often each video is drawn, ``resamples`` times; every draw has at least one action."""
    assert resamples > 0, resamples
    rng = np.random.default_rng(seed)
    draws: list[Int64[np.ndarray, " videos"]] = []
    while len(draws) < resamples:
        drawn = np.bincount(rng.integers(len(truths), size=len(truths)), minlength=len(truths))
        if drawn @ truths > 0:
            draws.append(drawn)
    return draws


def _difference(
    value: float, drawn: Float64[np.ndarray, " draws"], confidence: float, by_tiou: tuple[Difference, ...]
) -> Difference:
    above = float((drawn > 0).mean() + 0.5 * (drawn == 0).mean())
    return Difference(float(value), float(drawn.mean()), *_percentiles(drawn, confidence), above, by_tiou)


def _percentiles(drawn: Float64[np.ndarray, " draws"], confidence: float) -> tuple[float, float]:
    assert 0 < confidence < 1, confidence
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
