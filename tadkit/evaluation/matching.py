"""Which detections find an action: matching in one video, and the ranking of all detections of a class.

Sources: ActivityNet's official ``eval_detection`` (Caba Heilbron et al., CVPR 2015) and the evaluation kit of the
THUMOS Challenge 2014 (Jiang et al.). Both match inside one video only, so a match never depends on which other videos
are judged; the bootstrap rests on that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np
from jaxtyping import Bool, Float64, Int64

from tadkit.records import Annotation, Detection

Protocol = Literal["activitynet", "thumos14"]
AMBIGUOUS = "Ambiguous"
"""THUMOS14's label of stretches that annotators could not decide on; no protocol counts it as a class."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """Detections in the order in which they are judged, and what each one is worth.

    Equal scores never leave the result to a sort algorithm. activitynet goes by (-score, video, start, end); thumos14
    by (-score, video, place in the video's list), as its kit does: there the order in a file can move AP by points.

    Attributes:
        video: index of each detection's video.
        hit: whether each detection takes an action, at each tIoU.
        counted: false where a detection is neither hit nor false positive (thumos14: it overlaps an ambiguous stretch).
        truths: number of actions in each video.
    """

    video: Int64[np.ndarray, " detections"]
    hit: Bool[np.ndarray, "detections tious"]
    counted: Bool[np.ndarray, "detections tious"]
    truths: Int64[np.ndarray, " videos"]


@dataclass(frozen=True, eq=False)
class _Judged:
    """Ranking of one class and the four sort keys of each detection, which pooling needs again."""

    ranking: Ranking
    keys: Float64[np.ndarray, "detections 4"]


def temporal_iou(
    first_s: Float64[np.ndarray, "n 2"], second_s: Float64[np.ndarray, "m 2"]
) -> Float64[np.ndarray, "n m"]:
    """Intersection over union of every pair of segments [start, end]; 0 where both have no length, never NaN."""
    start_s = np.maximum(first_s[:, None, 0], second_s[None, :, 0])
    end_s = np.minimum(first_s[:, None, 1], second_s[None, :, 1])
    intersection_s = np.maximum(end_s - start_s, 0.0)
    length_s = (first_s[:, 1] - first_s[:, 0])[:, None] + (second_s[:, 1] - second_s[:, 0])[None, :]
    union_s = length_s - intersection_s
    overlap: Float64[np.ndarray, "n m"] = np.divide(
        intersection_s, union_s, out=np.zeros_like(union_s), where=union_s > 0
    )
    return overlap


def rank_classes(
    truth: Mapping[str, Sequence[Annotation]],
    detections: Mapping[str, Sequence[Detection]],
    *,
    videos: Sequence[str],
    labels: Sequence[str],
    tiou: Sequence[float],
    protocol: Protocol,
) -> tuple[dict[str, Ranking], Ranking]:
    """Match and rank the detections of each class, and those of all classes in one ranking.

    Args:
        truth: actions of each video, in seconds.
        detections: detections of each video, in seconds.
        videos: the videos judged, sorted; a detection in one without truth is a false positive.
        labels: the classes judged, at least one; other labels are passed over.
        tiou: thresholds.
        protocol: whose rules.

    Returns:
        The ranking of each label, and the one of all of them pooled.
    """
    actions = _segments_by_label(truth, videos)
    found = _rows_by_label(detections, videos, protocol)
    ambiguous = actions.get(AMBIGUOUS, {})
    thresholds = np.asarray(tiou, np.float64)
    judged = {
        label: _judge(actions.get(label, {}), found.get(label, {}), ambiguous, len(videos), thresholds, protocol)
        for label in labels
    }
    return {label: one.ranking for label, one in judged.items()}, _pool(list(judged.values()))


def _segments_by_label(
    truth: Mapping[str, Sequence[Annotation]], videos: Sequence[str]
) -> dict[str, dict[int, Float64[np.ndarray, "g 2"]]]:
    """Segments of each label and video, by start, so that the order in a file does not matter."""
    grouped: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for index, video in enumerate(videos):
        for action in truth.get(video, ()):
            grouped.setdefault(action.label, {}).setdefault(index, []).append((action.start_s, action.end_s))
    return {
        label: {index: np.array(sorted(segments), np.float64) for index, segments in by_video.items()}
        for label, by_video in grouped.items()
    }


def _rows_by_label(
    detections: Mapping[str, Sequence[Detection]], videos: Sequence[str], protocol: Protocol
) -> dict[str, dict[int, Float64[np.ndarray, "p 6"]]]:
    """Detections of each label and video in order: four sort keys, start, end."""
    grouped: dict[str, dict[int, list[tuple[float, ...]]]] = {}
    for index, video in enumerate(videos):
        for place, d in enumerate(detections.get(video, ())):
            row = (-d.score, float(index), *_tie_break(d, place, protocol), d.start_s, d.end_s)
            grouped.setdefault(d.label, {}).setdefault(index, []).append(row)
    return {
        label: {index: np.array(sorted(rows), np.float64) for index, rows in by_video.items()}
        for label, by_video in grouped.items()
    }


def _judge(
    actions: Mapping[int, Float64[np.ndarray, "g 2"]],
    found: Mapping[int, Float64[np.ndarray, "p 6"]],
    ambiguous: Mapping[int, Float64[np.ndarray, "a 2"]],
    videos: int,
    tiou: Float64[np.ndarray, " k"],
    protocol: Protocol,
) -> _Judged:
    """Match the detections of one class video by video, then rank them all."""
    truths = np.zeros(videos, np.int64)
    for index, segments in actions.items():
        truths[index] = len(segments)
    none = np.zeros((0, 2))
    keys, hits, counts = [np.zeros((0, 4))], [np.zeros((0, len(tiou)), bool)], [np.zeros((0, len(tiou)), bool)]
    for index, rows in found.items():
        hit, counted = _match(rows[:, 4:], actions.get(index, none), ambiguous.get(index, none), tiou, protocol)
        keys.append(rows[:, :4])
        hits.append(hit)
        counts.append(counted)
    key, hit, counted = np.concatenate(keys), np.concatenate(hits), np.concatenate(counts)
    assert np.isfinite(key).all(), "detections must have finite scores and times"
    order = np.lexsort(key.T[::-1])
    key = key[order]
    return _Judged(Ranking(key[:, 1].astype(np.int64), hit[order], counted[order], truths), key)


def _tie_break(detection: Detection, place: int, protocol: Protocol) -> tuple[float, float]:
    """What orders detections of one video with equal scores; ``place`` is the index in the video's list."""
    match protocol:
        case "activitynet":
            return detection.start_s, detection.end_s
        case "thumos14":
            return place, 0.0
        case _:
            assert_never(protocol)


def _pool(judged: Sequence[_Judged]) -> Ranking:
    """One ranking of the detections of all classes; equal keys stay in the order of the classes."""
    order = np.lexsort(np.concatenate([one.keys for one in judged]).T[::-1])
    return Ranking(
        np.concatenate([one.ranking.video for one in judged])[order],
        np.concatenate([one.ranking.hit for one in judged])[order],
        np.concatenate([one.ranking.counted for one in judged])[order],
        np.stack([one.ranking.truths for one in judged]).sum(axis=0),
    )


def _match(
    found_s: Float64[np.ndarray, "p 2"],
    actions_s: Float64[np.ndarray, "g 2"],
    ambiguous_s: Float64[np.ndarray, "a 2"],
    tiou: Float64[np.ndarray, " k"],
    protocol: Protocol,
) -> tuple[Bool[np.ndarray, "p k"], Bool[np.ndarray, "p k"]]:
    """(hit, counted) of one video's detections of one class, best score first."""
    match protocol:
        case "activitynet":
            hit = match_by_detection(found_s, actions_s, tiou)
            return hit, np.ones_like(hit)
        case "thumos14":
            hit = match_by_truth(found_s, actions_s, tiou)
            undecided = np.asarray(temporal_iou(found_s, ambiguous_s) > 0).any(axis=1, keepdims=True)
            return hit, hit | ~undecided
        case _:
            assert_never(protocol)


def match_by_detection(
    found_s: Float64[np.ndarray, "p 2"], actions_s: Float64[np.ndarray, "g 2"], tiou: Float64[np.ndarray, " k"]
) -> Bool[np.ndarray, "p k"]:
    """ActivityNet's rule: each detection in turn takes the action of highest tIoU that is free at that threshold.

    It is a hit if that tIoU reaches the threshold (>=). Of actions with equal tIoU the one that starts later is taken,
    which is where the official evaluator's reversed sort ends up for annotations in order of time.

    Args:
        found_s: segments of the detections, best score first.
        actions_s: segments of the actions, by start.
        tiou: thresholds.
    """
    hit = np.zeros((len(found_s), len(tiou)), bool)
    if len(actions_s) == 0 or len(tiou) == 0:
        return hit
    overlap = temporal_iou(found_s, actions_s[::-1])
    free = np.ones((len(tiou), len(actions_s)), bool)
    every = np.arange(len(tiou))
    for row in np.flatnonzero(overlap.max(axis=1) >= tiou.min()):
        left = np.where(free, overlap[row], -1.0)
        best = left.argmax(axis=1)
        hit[row] = left[every, best] >= tiou
        free[every[hit[row]], best[hit[row]]] = False
    return hit


def match_by_truth(
    found_s: Float64[np.ndarray, "p 2"], actions_s: Float64[np.ndarray, "g 2"], tiou: Float64[np.ndarray, " k"]
) -> Bool[np.ndarray, "p k"]:
    """The THUMOS14 kit's rule: each action in turn takes the free detection of highest tIoU.

    That tIoU must exceed (>) the threshold; the score decides only between equal tIoUs. The kit goes through the
    actions in the order of its files; here they come by start.

    Args:
        found_s: segments of the detections, best score first.
        actions_s: segments of the actions, by start.
        tiou: thresholds.
    """
    hit = np.zeros((len(found_s), len(tiou)), bool)
    every = np.arange(len(tiou))
    for column in temporal_iou(found_s, actions_s).T if len(found_s) else ():
        left = np.where(hit, -1.0, column[:, None])
        best = left.argmax(axis=0)
        taken = left[best, every] > tiou
        hit[best[taken], every[taken]] = True
    return hit
