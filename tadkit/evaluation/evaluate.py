"""``tadkit evaluate``: evaluate a detections file against an annotations file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from tadkit.errors import AnnotationError, UsageError
from tadkit.evaluation import (
    ERRORS,
    Diagnosis,
    Difference,
    MeanAveragePrecision,
    ProposalRecall,
    Protocol,
    diagnose,
    mean_average_precision,
    paired_difference,
    proposal_recall,
    recall_at_multiples,
)
from tadkit.records import Annotation, Dataset, DetectionsByVideo, check_subset, read_dataset, read_detections

AnnotationsByVideo = Mapping[str, Sequence[Annotation]]

MULTIPLES = (1, 5)
"""Recall@kx is reported for these k (Ego4D)."""
PROPOSALS = (1, 5, 10, 50, 100)
"""AR@AN is reported for these numbers of proposals per video."""
RESAMPLES = 1000
"""Default number of bootstrap draws of a comparison."""
_MOST_THRESHOLDS = 1000


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result for one file of detections.

    Attributes:
        precision: average precisions and counts.
        proposals: recall of the detections as proposals, up to 100 per video.
        recall_at: Recall@kx for each of :data:`MULTIPLES`, at each tIoU.
        diagnosis: types of error and sensitivities, if requested.
        comparison: with another file, if requested.
    """

    precision: MeanAveragePrecision
    proposals: ProposalRecall
    recall_at: Float64[np.ndarray, "multiples tious"]
    diagnosis: Diagnosis | None
    comparison: Comparison | None


@dataclass(frozen=True)
class Comparison:
    """Two files evaluated on the same draws of the videos.

    Attributes:
        other: the other file.
        average_map: mean mAP of the other.
        difference: mAP of the first minus that of the other.
        resamples: number of draws.
        seed: of the draws.
    """

    other: Path
    average_map: float
    difference: Difference
    resamples: int
    seed: int


def evaluate(
    detections_path: Path,
    annotations_path: Path,
    *,
    protocol: Protocol,
    tiou: Sequence[float],
    subset: str | None,
    labels: Sequence[str] | None = None,
    analysis: bool = False,
    compare: Path | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Evaluate a detections file.

    Args:
        detections_path: detections in ActivityNet-style JSON.
        annotations_path: annotations in ActivityNet-style JSON.
        protocol: evaluation rules, see :mod:`tadkit.evaluation.average_precision`.
        tiou: thresholds.
        subset: subset to evaluate, by its exact name; None means all videos. As in the official evaluator, detections
            in videos outside it are false positives; the number of these videos is reported.
        labels: classes to evaluate; None means all of the subset.
        analysis: also compute types of error and sensitivities.
        compare: another detections file, compared in mAP by a paired bootstrap over the videos.
        resamples: draws of the bootstrap.
        seed: of the draws.

    Raises:
        AnnotationError: a file cannot be read, the subset does not exist or has no action of the labels, or two of the
            files share no video.
    """
    truth, durations_s, _ = judged = _judged(annotations_path, subset)
    found = _detections(detections_path, judged)
    precision = _precision(judged, found, labels=labels, tiou=tiou, protocol=protocol)
    comparison = None
    if compare is not None:
        other = _detections(compare, judged)
        comparison = Comparison(
            compare,
            mean_average_precision(truth, other, labels=labels, tiou=tiou, protocol=protocol).average_map,
            paired_difference(
                truth, found, other, labels=labels, tiou=tiou, protocol=protocol, resamples=resamples, seed=seed
            ),
            resamples,
            seed,
        )
    diagnosis = (
        diagnose(truth, found, durations_s=durations_s, labels=labels, tiou=tiou, protocol=protocol)
        if analysis
        else None
    )
    return Evaluation(
        precision,
        proposal_recall(truth, found, tiou=tiou),
        recall_at_multiples(truth, found, labels=labels, tiou=tiou, multiples=MULTIPLES),
        diagnosis,
        comparison,
    )


def precision_of(
    detections: Path | DetectionsByVideo,
    annotations: Path | Dataset | AnnotationsByVideo,
    *,
    protocol: Protocol,
    tiou: Sequence[float],
    subset: str | None,
    labels: Sequence[str] | None,
) -> MeanAveragePrecision:
    """The precision of :func:`evaluate` alone, of files or of values.

    Raises:
        AnnotationError: see :func:`evaluate`.
        UsageError: ``subset`` is given with annotations that have none.
    """
    judged = _judged(annotations, subset)
    return _precision(judged, _detections(detections, judged), labels=labels, tiou=tiou, protocol=protocol)


class _Judged(NamedTuple):
    """The evaluated videos: their annotations, their durations in seconds if known, and what errors call them."""

    truth: AnnotationsByVideo
    durations_s: Mapping[str, float]
    where: str


def _judged(annotations: Path | Dataset | AnnotationsByVideo, subset: str | None) -> _Judged:
    where = str(annotations) if isinstance(annotations, Path) else "annotations"
    dataset = read_dataset(annotations) if isinstance(annotations, Path) else annotations
    if not isinstance(dataset, Dataset):
        if subset is not None:
            raise UsageError(f"subset '{subset}': a mapping of annotations has no subsets; give a file or a Dataset")
        return _Judged(dataset, {}, where)
    videos = dataset.videos
    if subset is not None:
        check_subset(subset, [video.subset for video in videos.values()], where=where)
    chosen = {name: video for name, video in videos.items() if subset in (None, video.subset)}
    return _Judged(
        {name: video.annotations for name, video in chosen.items()},
        {name: video.duration_s for name, video in chosen.items()},
        where,
    )


def _precision(
    judged: _Judged,
    found: DetectionsByVideo,
    *,
    labels: Sequence[str] | None,
    tiou: Sequence[float],
    protocol: Protocol,
) -> MeanAveragePrecision:
    try:
        return mean_average_precision(judged.truth, found, labels=labels, tiou=tiou, protocol=protocol)
    except AnnotationError as error:
        raise AnnotationError(f"{judged.where}: {error}") from error


def _detections(detections: Path | DetectionsByVideo, judged: _Judged) -> DetectionsByVideo:
    """Detections, refused if none of their videos is annotated: a score of zero would hide it."""
    found = read_detections(detections) if isinstance(detections, Path) else detections
    videos = [video for video, items in found.items() if items]
    if videos and judged.truth and not any(video in judged.truth for video in videos):
        where = detections if isinstance(detections, Path) else "detections"
        raise AnnotationError(
            f"{where}: none of its videos (such as '{videos[0]}') is among those evaluated in {judged.where} (such as "
            f"'{next(iter(judged.truth))}'); check the subset and the names"
        )
    return found


def report_json(result: Evaluation) -> dict[str, Any]:
    """The result as plain JSON values: fractions, keyed by tIoU as text such as ``"0.3"``."""
    precision, tious = result.precision, [f"{tiou:.10g}" for tiou in result.precision.tiou]

    def by_tiou(values: Float64[np.ndarray, " tious"]) -> dict[str, float]:
        return dict(zip(tious, map(float, values), strict=True))

    report = {
        "protocol": precision.protocol,
        "map": by_tiou(precision.map),
        "average_map": precision.average_map,
        "pooled": by_tiou(precision.pooled),
        "average_pooled": precision.average_pooled,
        "per_class": {label: by_tiou(values) for label, values in precision.per_class.items()},
        "proposals": {
            "ar_at": {str(number): result.proposals.average_recall_at(number) for number in PROPOSALS},
            "auc": result.proposals.area,
        },
        "recall_at": {f"{k}x": by_tiou(values) for k, values in zip(MULTIPLES, result.recall_at, strict=True)},
        "counts": {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(precision.counts).items()
        },
    }
    if result.diagnosis is not None:
        report["analysis"] = _analysis_json(result.diagnosis)
    if result.comparison is not None:
        report["comparison"] = _comparison_json(result.comparison, tious)
    return report


def _analysis_json(diagnosis: Diagnosis) -> dict[str, Any]:
    outcomes = ("true positive", *ERRORS)
    return {
        "errors": {
            f"{errors.tiou:.10g}": {
                "shares": {
                    f"{k}G": dict(zip(outcomes, map(float, shares), strict=True))
                    for k, shares in enumerate(errors.shares, start=1)
                },
                "map_cost": dict(errors.costs),
                "missed_actions": errors.missed,
            }
            for errors in diagnosis.errors
        },
        "sensitivities": {
            one.respect: {
                "normalised_map": one.normalised_map,
                "groups": [asdict(group) for group in one.groups],
            }
            for one in diagnosis.sensitivities
        },
    }


def _comparison_json(comparison: Comparison, tious: Sequence[str]) -> dict[str, Any]:
    def plain(difference: Difference) -> dict[str, float]:
        return {name: value for name, value in asdict(difference).items() if name != "by_tiou"}

    return {
        "other": str(comparison.other),
        "other_average_map": comparison.average_map,
        "difference": plain(comparison.difference),
        "difference_at": dict(zip(tious, map(plain, comparison.difference.by_tiou), strict=True)),
        "resamples": comparison.resamples,
        "seed": comparison.seed,
        "confidence": 0.95,
    }


def parse_tiou(text: str) -> tuple[float, ...]:
    """Thresholds from ``start:step:stop`` (stop included), one number, or comma-separated numbers.

    ``0.3:0.1:0.7`` gives 0.3, 0.4, 0.5, 0.6 and 0.7, each rounded to 10 decimals.

    Raises:
        UsageError: anything else, or thresholds that are outside [0, 1] or not distinct.
    """
    try:
        values = _range(text) if ":" in text else tuple(round(float(part), 10) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(0 <= value <= 1 for value in values) or len(set(values)) != len(values):
        raise UsageError(
            f"tIoU '{text}' cannot be read; expected distinct numbers from 0 to 1, such as 0.5, 0.3,0.5 or 0.3:0.1:0.7 "
            "(start:step:stop)"
        )
    return values


def tiou_of(tiou: float | Sequence[float] | str) -> tuple[float, ...]:
    """Thresholds from a number, several numbers, or text for :func:`parse_tiou`.

    Raises:
        UsageError: see :func:`parse_tiou`.
    """
    if isinstance(tiou, str):
        return parse_tiou(tiou)
    return parse_tiou(",".join(map(str, [tiou] if isinstance(tiou, int | float) else tiou)))


def _range(text: str) -> tuple[float, ...]:
    """Values of ``start:step:stop``; ValueError if they are not three valid numbers."""
    start, step, stop = (float(part) for part in text.split(":"))
    if not all(map(math.isfinite, (start, step, stop))) or step <= 0 or stop < start:
        raise ValueError(text)
    count = math.floor((stop - start) / step + 1e-6) + 1
    if count > _MOST_THRESHOLDS:
        raise ValueError(text)
    return tuple(round(start + index * step, 10) for index in range(count))
