"""ActivityNet's evaluation and soft-NMS as plain loops, one detection after another.

Slow on purpose: tests compare the fast implementations with these loops, and ``tadkit bench evaluate`` times both. The
evaluator follows the official one (Caba Heilbron et al., CVPR 2015): one detection, one threshold, one action after
another, only with dictionaries as tables. Suppression: Bodla et al., ICCV 2017.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64

from tadkit.records import Annotation, Detection


def looped_average_precision(
    truth: Mapping[str, Sequence[Annotation]], detections: Mapping[str, Sequence[Detection]], *, tiou: Sequence[float]
) -> dict[str, Float64[np.ndarray, " tious"]]:
    """Average precision of each annotated class at each tIoU under the ``activitynet`` protocol.

    Args:
        truth: annotations of each video.
        detections: detections of each video.
        tiou: thresholds.
    """
    labels = sorted({action.label for actions in truth.values() for action in actions})
    return {label: _of_class(truth, detections, label, tiou) for label in labels}


def _of_class(
    truth: Mapping[str, Sequence[Annotation]],
    detections: Mapping[str, Sequence[Detection]],
    label: str,
    tiou: Sequence[float],
) -> Float64[np.ndarray, " tious"]:
    segments_s = {
        video: np.array(sorted((a.start_s, a.end_s) for a in actions if a.label == label)).reshape(-1, 2)
        for video, actions in truth.items()
    }
    ranked = [(video, one) for video, items in detections.items() for one in items if one.label == label]
    ranked.sort(key=lambda pair: (-pair[1].score, pair[0], pair[1].start_s, pair[1].end_s))
    true, false = np.zeros((len(tiou), len(ranked))), np.zeros((len(tiou), len(ranked)))
    taken_by = {video: np.full((len(tiou), len(actions)), -1) for video, actions in segments_s.items()}
    for rank, (video, detection) in enumerate(ranked):
        if len(segments_s.get(video, ())) == 0:
            false[:, rank] = 1
            continue
        overlap = _tiou(detection, segments_s[video])
        walk = overlap.argsort(kind="stable")[::-1]
        for level, threshold in enumerate(tiou):
            for number in walk:
                if overlap[number] < threshold:
                    false[level, rank] = 1
                    break
                if taken_by[video][level, number] >= 0:
                    continue
                true[level, rank] = 1
                taken_by[video][level, number] = rank
                break
            if true[level, rank] == 0 and false[level, rank] == 0:
                false[level, rank] = 1
    count = sum(map(len, segments_s.values()))
    return np.array([_interpolated(hits, misses, count) for hits, misses in zip(true, false, strict=True)])


def _tiou(detection: Detection, actions_s: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, " n"]:
    start_s = np.maximum(detection.start_s, actions_s[:, 0])
    shared_s = np.maximum(np.minimum(detection.end_s, actions_s[:, 1]) - start_s, 0.0)
    union_s = (detection.end_s - detection.start_s) + (actions_s[:, 1] - actions_s[:, 0]) - shared_s
    return np.asarray(np.divide(shared_s, union_s, out=np.zeros_like(union_s), where=union_s > 0))


def _interpolated(true: Float64[np.ndarray, " n"], false: Float64[np.ndarray, " n"], count: int) -> float:
    """Area under the monotone envelope of precision over recall."""
    found = np.cumsum(true)
    precision = np.concatenate(([0.0], found / (found + np.cumsum(false)), [0.0]))
    recall = np.concatenate(([0.0], found / count, [1.0]))
    for place in range(len(precision) - 2, -1, -1):
        precision[place] = max(precision[place], precision[place + 1])
    steps = [n for n in range(1, len(recall)) if recall[n] != recall[n - 1]]
    return float(sum((recall[n] - recall[n - 1]) * precision[n] for n in steps))


def looped_soft_nms(
    segments: Float64[np.ndarray, "n 2"],
    scores: Float64[np.ndarray, " n"],
    labels: Sequence[int],
    *,
    sigma: float,
    min_score: float,
    keep: int,
) -> list[tuple[int, float]]:
    """Gaussian soft-NMS per class: (index, lowered score) of the kept segments, best first, ties by index.

    Args:
        segments: starts and ends, all in one unit.
        scores: of the segments.
        labels: of the segments.
        sigma: width.
        min_score: stop when the best remaining score is below this.
        keep: maximum number of segments to keep.
    """
    kept: list[tuple[int, float]] = []
    for label in sorted(set(labels)):
        left = {index: float(scores[index]) for index, own in enumerate(labels) if own == label}
        while left:
            best = max(left, key=lambda index: (left[index], -index))
            if left[best] < min_score:
                break
            kept.append((best, left.pop(best)))
            start, end = segments[best]
            for index in left:
                shared = min(end, segments[index, 1]) - max(start, segments[index, 0])
                if shared > 0:
                    union = (end - start) + (segments[index, 1] - segments[index, 0]) - shared
                    left[index] *= float(np.exp(-((shared / union) ** 2) / sigma))
    kept.sort(key=lambda pair: (-pair[1], pair[0]))
    return kept[:keep]
