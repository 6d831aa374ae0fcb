"""Mean average precision of temporal detections, by ActivityNet's rules or by those of the THUMOS14 kit.

The two differ by up to five points on one file, so a figure is always reported with its protocol:

- ``activitynet``: a detection is matched to the free action of highest tIoU, which must reach the threshold (>=);
  average precision under the monotone envelope of the precision-recall curve. Ambiguous annotations are dropped and
  counted.
- ``thumos14``: an action is matched to the free detection of highest tIoU, which must exceed the threshold (>); an
  unmatched detection that overlaps an ambiguous segment is ignored; average precision without interpolation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from tadkit.config import Protocol
from tadkit.errors import AnnotationError
from tadkit.evaluation.matching import Ranking, match_classes
from tadkit.evaluation.tables import in_groups
from tadkit.records import AMBIGUOUS, Annotation, Detection


@dataclass(frozen=True)
class Counts:
    """What was evaluated, and what was left out.

    Attributes:
        videos: annotated videos, including those without actions.
        truths: actions of the evaluated classes.
        truths_without_length: those of zero length; nothing overlaps them, so they count as missed.
        detections: detections of the evaluated classes, in all videos.
        ambiguous: annotations labelled Ambiguous: dropped by activitynet, ignored segments in thumos14.
        unknown_labels: detections, in all videos, with labels that no annotation has; left out.
        unknown_label_names: those labels.
        unknown_videos: videos with detections but not annotated; their detections are false positives.
        missing_videos: annotated videos without an entry in the detections; their actions count as missed.
        labels_without_truth: requested labels that no annotation has; they have no AP and are left out of the mean.
    """

    videos: int
    truths: int
    truths_without_length: int
    detections: int
    ambiguous: int
    unknown_labels: int
    unknown_label_names: tuple[str, ...]
    unknown_videos: int
    missing_videos: int
    labels_without_truth: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class MeanAveragePrecision:
    """Average precisions as fractions.

    Attributes:
        protocol: evaluation rules.
        tiou: thresholds.
        per_class: AP of each annotated class, at each tIoU.
        map: unweighted mean over the classes, at each tIoU.
        pooled: AP of one ranking of all detections of all classes, at each tIoU (see :func:`mean_average_precision`).
        counts: what was evaluated and what was left out.
    """

    protocol: Protocol
    tiou: tuple[float, ...]
    per_class: Mapping[str, Float64[np.ndarray, " tious"]]
    map: Float64[np.ndarray, " tious"]
    pooled: Float64[np.ndarray, " tious"]
    counts: Counts

    @property
    def average_map(self) -> float:
        """Mean of :attr:`map` over the thresholds."""
        return float(self.map.mean())

    @property
    def average_pooled(self) -> float:
        """Mean of :attr:`pooled` over the thresholds."""
        return float(self.pooled.mean())


def mean_average_precision(
    truth: Mapping[str, Sequence[Annotation]],
    detections: Mapping[str, Sequence[Detection]],
    *,
    labels: Sequence[str] | None,
    tiou: Sequence[float],
    protocol: Protocol = "activitynet",
) -> MeanAveragePrecision:
    """Evaluate detections against annotated actions.

    Besides the mean over classes there is AP *pooled over instances*, a micro average: the detections of all classes
    are in one ranking by score, a true positive still needs the same label, and recall counts all instances of all
    classes. The mean over classes gives a class of three instances the same weight as one of fifty, so a single
    detection can move it by points; in the pooled AP each instance has the same weight. Use it when classes have few
    instances. It requires that scores are comparable between classes.

    Args:
        truth: annotations of each video; give videos without actions an empty sequence.
        detections: detections of each video; a detection in a video that has none of its class is a false positive.
        labels: classes to evaluate; None means all annotated ones.
        tiou: thresholds of temporal intersection over union.
        protocol: evaluation rules, see the module.

    Returns:
        Fractions. An annotated class without detections has AP 0.

    Raises:
        AnnotationError: no action of the requested classes is annotated.
    """
    judged, without_truth = judged_labels(truth, labels)
    videos = sorted({*truth, *detections})
    matched = match_classes(truth, detections, videos=videos, labels=judged, tiou=tiou, protocol=protocol)
    of_class, pooled = average_precision(matched.class_ranking(), protocol=protocol), matched.pooled_ranking()
    return MeanAveragePrecision(
        protocol=protocol,
        tiou=tuple(float(threshold) for threshold in tiou),
        per_class=dict(zip(judged, of_class, strict=True)),
        map=of_class.mean(axis=0),
        pooled=average_precision(pooled, protocol=protocol)[0],
        counts=_counts(truth, detections, judged, pooled, without_truth),
    )


def judged_labels(
    truth: Mapping[str, Sequence[Annotation]], labels: Sequence[str] | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The requested classes that are annotated, sorted, and those that are not.

    Raises:
        AnnotationError: none of them is annotated.
    """
    present = _labels_of(truth)
    asked = sorted(present if labels is None else set(labels))
    judged = tuple(label for label in asked if label in present)
    if not judged:
        wanted = "" if labels is None else f" of {', '.join(asked) or 'no class at all'}"
        raise AnnotationError(
            f"the {len(truth)} annotated videos have no action{wanted} to evaluate against; "
            f"their labels: {', '.join(sorted(present)) or 'none'}; choose the subset or labels that have some"
        )
    return judged, tuple(label for label in asked if label not in present)


def average_precision(ranking: Ranking, *, protocol: Protocol) -> Float64[np.ndarray, "groups tious"]:
    """AP of each group at each tIoU; 0 for a group without detections or without actions.

    activitynet interpolates at all points (monotone envelope, summed over the changes of recall); thumos14 averages
    the precision at each hit over all actions.
    """
    once = np.ones(ranking.truths.shape[1], np.int64)
    return resampled_average_precision(ranking, once, protocol=protocol)


def resampled_average_precision(
    ranking: Ranking, draws: Int64[np.ndarray, " videos"], *, protocol: Protocol
) -> Float64[np.ndarray, "groups tious"]:
    """AP with video ``v`` repeated ``draws[v]`` times; the copies of a detection are adjacent in the ranking."""
    hit, position, group = _hits(ranking, draws[ranking.video])
    places = in_groups(group, groups=len(ranking.truths))
    real = (places >= 0)[..., None]
    hit = hit[places] & real
    precision = np.where(real, hit.cumsum(axis=1) / np.maximum(position[places], 1), 0.0)
    if protocol == "activitynet":
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    truths = np.maximum(ranking.truths @ draws, 1)
    return np.asarray((precision * hit).sum(axis=1) / truths[:, None], np.float64)


def _hits(
    ranking: Ranking, copies: Int64[np.ndarray, " n"]
) -> tuple[Bool[np.ndarray, "m tious"], Int64[np.ndarray, "m one_or_tious"], Int64[np.ndarray, " m"]]:
    """Rows that hit at some tIoU, repeated per copy; their ranks in their group, from 1; the group.

    Precision peaks at hits, so no other row is needed, neither for the sum nor for the envelope.
    """
    near, counted = ranking.near, ranking.counted
    so_far = np.zeros((len(counted) + 1, counted.shape[1]), np.int64)
    np.cumsum(copies[:, None] * counted, axis=0, out=so_far[1:])
    group, copies = ranking.group[near], copies[near]
    last = so_far[near + 1] - so_far[np.searchsorted(ranking.group, group)]
    row = np.repeat(np.arange(len(near)), copies)
    behind = copies.cumsum()[row] - np.arange(1, len(row) + 1)
    return ranking.hit[near][row], last[row] - behind[:, None] * counted[near][row], group[row]


def _labels_of(truth: Mapping[str, Sequence[Annotation]]) -> set[str]:
    return {annotation.label for actions in truth.values() for annotation in actions} - {AMBIGUOUS}


def _counts(
    truth: Mapping[str, Sequence[Annotation]],
    detections: Mapping[str, Sequence[Detection]],
    judged: tuple[str, ...],
    pooled: Ranking,
    without_truth: tuple[str, ...],
) -> Counts:
    present = _labels_of(truth)
    actions = [action for in_video in truth.values() for action in in_video]
    every, judged_detections = sum(map(len, detections.values())), len(pooled.video)
    unknown = (
        [d.label for found in detections.values() for d in found if d.label not in present]
        if judged_detections < every
        else []
    )
    return Counts(
        videos=len(truth),
        truths=int(pooled.truths.sum()),
        truths_without_length=sum(a.start_s == a.end_s and a.label in judged for a in actions),
        detections=judged_detections,
        ambiguous=sum(a.label == AMBIGUOUS for a in actions),
        unknown_labels=len(unknown),
        unknown_label_names=tuple(sorted(set(unknown))),
        unknown_videos=sum(len(found) > 0 and video not in truth for video, found in detections.items()),
        missing_videos=sum(video not in detections for video in truth),
        labels_without_truth=without_truth,
    )
