"""Confidence intervals: the bootstrap over videos (Efron 1979), for one detector and for paired differences.

Videos are resampled, not detections, because the detections of one video are correlated. Matching never looks beyond
one video, so it is done once; a draw only changes the ranking. Detectors that were trained with several seeds are
resampled over videos and seeds, each by itself and crossed: the pigeonhole bootstrap (Owen, Annals of Applied
Statistics 1(2), 2007). All detectors get the same draws, so hard videos and lucky seeds cancel out of differences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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
    rules: dict[str, Any] = {"tiou": tiou, "labels": labels, "protocol": protocol, "figure": figure}
    return resampled(truth, [[detections]], resamples=resamples, seed=seed, **rules).interval(0, confidence=confidence)


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
    rules: dict[str, Any] = {"tiou": tiou, "labels": labels, "protocol": protocol, "figure": figure}
    both = resampled(truth, [[first], [second]], resamples=resamples, seed=seed, **rules)
    return both.difference(0, 1, confidence=confidence)


@dataclass(frozen=True, eq=False)
class Resampled:
    """A figure of each detector, as a fraction.

    Attributes:
        values: of the original videos, for each seed that the detector was trained with.
        of_seeds: of draws of the videos, for each seed.
        drawn: of draws of the videos and seeds, mean over the drawn seeds.
    """

    values: Float64[np.ndarray, "detectors seeds tious"]
    of_seeds: Float64[np.ndarray, "draws detectors seeds tious"]
    drawn: Float64[np.ndarray, "draws detectors tious"]

    def interval(self, detector: int, *, confidence: float = 0.95) -> Interval:
        """Interval of a detector's mean over seeds and thresholds."""
        value = float(self.values[detector].mean())
        return Interval(value, *_percentiles(self.drawn[:, detector].mean(axis=1), confidence))

    def difference(self, first: int, second: int, *, confidence: float = 0.95) -> Difference:
        """One detector minus another, mean over seeds and thresholds; ``by_tiou`` has each threshold."""
        values = (self.values[first] - self.values[second]).mean(axis=0)
        drawn = self.drawn[:, first] - self.drawn[:, second]
        by_tiou = tuple(_difference(value, of, confidence, ()) for value, of in zip(values, drawn.T, strict=True))
        return _difference(values.mean(), drawn.mean(axis=1), confidence, by_tiou)


def resampled(
    truth: Mapping[str, Sequence[Annotation]],
    detectors: Sequence[Sequence[Mapping[str, Sequence[Detection]]]],
    *,
    tiou: Sequence[float],
    labels: Sequence[str] | None,
    protocol: Protocol,
    figure: Figure,
    resamples: int,
    seed: int,
) -> Resampled:
    """Evaluate detectors on the same draws of videos and seeds.

    Args:
        truth: annotations of each video.
        detectors: for each detector, the detections of the model of each seed; of all the same seeds, in order.
        tiou: see :func:`bootstrap_map`, as all below.
        labels: classes to evaluate.
        protocol: evaluation rules.
        figure: ``map`` or ``pooled``.
        resamples: number of draws; with one seed they are draws of videos alone.
        seed: of the draws.

    Raises:
        AnnotationError: no action of the requested classes is annotated.
    """
    judged, _ = judged_labels(truth, labels)
    videos = sorted({*truth, *(video for seeds in detectors for detections in seeds for video in detections)})
    seeds = len(detectors[0])
    rankings: list[Ranking] = []
    for detections in (detections for of_detector in detectors for detections in of_detector):
        matched = match_classes(truth, detections, videos=videos, labels=judged, tiou=tiou, protocol=protocol)
        rankings.append(matched.class_ranking() if figure == "map" else matched.pooled_ranking())

    def scores(draws: Int64[np.ndarray, " videos"]) -> Float64[np.ndarray, "detectors seeds tious"]:
        return np.array([_score(of_one, draws, protocol) for of_one in rankings]).reshape(len(detectors), seeds, -1)

    # Few videos have few different draws, and each is scored once.
    draws, which = np.unique(_draws(rankings[0].truths.sum(axis=0), resamples, seed), axis=0, return_inverse=True)
    of_seeds = np.array([scores(one) for one in draws])[which.reshape(-1)]
    times = np.random.default_rng([seed, seeds]).multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    drawn = (of_seeds * times[:, None, :, None]).sum(axis=2) / seeds
    return Resampled(scores(np.ones(len(videos), np.int64)), of_seeds, drawn)


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
