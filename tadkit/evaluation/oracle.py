"""ActivityNet's evaluation and soft-NMS as their descriptions go, one detection after another.

Slow on purpose: these loops are what the tests hold the fast forms to, and what ``tadkit bench evaluate`` sets beside
them. Written from the rules (docs/method.md; Caba Heilbron et al., CVPR 2015; Bodla et al., ICCV 2017), not from code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64

from tadkit.records import Annotation, Detection


def looped_average_precision(
    truth: Mapping[str, Sequence[Annotation]], detections: Mapping[str, Sequence[Detection]], *, tiou: Sequence[float]
) -> dict[str, Float64[np.ndarray, " tious"]]:
    """Average precision of each class that the truth has, at each tIoU, under the ``activitynet`` protocol.

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
    actions = {video: [action for action in items if action.label == label] for video, items in truth.items()}
    ranked = [(video, one) for video, items in detections.items() for one in items if one.label == label]
    ranked.sort(key=lambda pair: (-pair[1].score, pair[0], pair[1].start_s, pair[1].end_s))
    hits = np.zeros((len(tiou), len(ranked)))
    taken: set[tuple[int, str, int]] = set()
    for rank, (video, detection) in enumerate(ranked):
        of_video = actions.get(video, [])
        overlap = np.array([_tiou(detection, action) for action in of_video])
        walk = sorted(range(len(of_video)), key=lambda n: (-overlap[n], -of_video[n].start_s, -of_video[n].end_s))
        for level, threshold in enumerate(tiou):
            for number in walk:
                if overlap[number] < threshold:
                    break
                if (level, video, number) not in taken:
                    taken.add((level, video, number))
                    hits[level, rank] = 1
                    break
    count = sum(map(len, actions.values()))
    return np.array([_interpolated(of_level, count) for of_level in hits])


def _tiou(detection: Detection, action: Annotation) -> float:
    shared_s = min(detection.end_s, action.end_s) - max(detection.start_s, action.start_s)
    if shared_s <= 0:
        return 0.0
    return shared_s / ((detection.end_s - detection.start_s) + (action.end_s - action.start_s) - shared_s)


def _interpolated(hits: Float64[np.ndarray, " n"], count: int) -> float:
    """Area under the monotone envelope of precision over recall."""
    found = np.cumsum(hits)
    precision = np.concatenate(([0.0], found / np.arange(1, len(hits) + 1), [0.0]))
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
    """Gaussian soft-NMS class by class: (index, lowered score) of what is kept, best first, ties by index.

    Args:
        segments: starts and ends, in any one unit.
        scores: of the segments.
        labels: of the segments.
        sigma: width.
        min_score: the best is taken until it falls below this.
        keep: most that are taken.
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
