"""Suppression of overlapping detections in one dimension, in NumPy.

Hard (Neubeck, Van Gool, ICPR 2006) and Gaussian soft (Bodla et al., ICCV 2017). Ties go to the lower index, and a
segment of no length overlaps nothing.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int, Int64


def soft_nms(
    segments: Float[np.ndarray, "n 2"],
    scores: Float[np.ndarray, " n"],
    *,
    sigma: float,
    min_score: float,
    keep: int,
    labels: Int[np.ndarray, " n"] | None = None,
) -> tuple[Int64[np.ndarray, " kept"], Float64[np.ndarray, " kept"]]:
    """Gaussian soft-NMS: what is taken lowers the rest by ``exp(-IoU**2 / sigma)``.

    Args:
        segments: starts and ends, in any one unit.
        scores: of the segments.
        sigma: width; larger suppresses less.
        min_score: the best is taken until it falls below this.
        keep: most that are taken.
        labels: if given, segments lower only those of their own label.

    Returns:
        Indices in the order taken, which is by falling score, and the lowered scores.
    """
    segments, left = segments.astype(np.float64), scores.astype(np.float64)
    taken: list[int] = []
    taken_scores: list[float] = []
    for _ in range(min(keep, len(left))):
        best = int(left.argmax())
        if not left[best] >= min_score or left[best] == -np.inf:
            break
        taken.append(best)
        taken_scores.append(float(left[best]))
        overlap = _iou(segments[best], segments)
        if labels is not None:
            overlap *= labels == labels[best]
        left[best] = -np.inf
        left *= np.exp(-(overlap**2) / sigma)
    return np.asarray(taken, dtype=np.int64), np.asarray(taken_scores, dtype=np.float64)


def hard_nms(
    segments: Float[np.ndarray, "n 2"],
    scores: Float[np.ndarray, " n"],
    *,
    iou: float,
    min_score: float,
    keep: int,
    labels: Int[np.ndarray, " n"] | None = None,
) -> tuple[Int64[np.ndarray, " kept"], Float64[np.ndarray, " kept"]]:
    """Hard NMS: what is taken removes the rest that overlap it by more than ``iou``.

    Args:
        segments: starts and ends, in any one unit.
        scores: of the segments.
        iou: intersection over union beyond which the weaker one goes.
        min_score: segments below it are left out.
        keep: most that are taken.
        labels: if given, segments remove only those of their own label.

    Returns:
        Indices by falling score, and their scores.
    """
    segments, scores = segments.astype(np.float64), scores.astype(np.float64)
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= min_score]
    taken: list[int] = []
    while len(order) and len(taken) < keep:
        best = order[0]
        taken.append(int(best))
        overlap = _iou(segments[best], segments[order])
        if labels is not None:
            overlap *= labels[order] == labels[best]
        survives = overlap <= iou
        survives[0] = False
        order = order[survives]
    indices = np.asarray(taken, dtype=np.int64)
    return indices, scores[indices]


def _iou(one: Float64[np.ndarray, " 2"], many: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, " n"]:
    """Intersection over union; 0 where the union has no length."""
    intersection = np.maximum(np.minimum(one[1], many[:, 1]) - np.maximum(one[0], many[:, 0]), 0.0)
    union = (one[1] - one[0]) + (many[:, 1] - many[:, 0]) - intersection
    iou: Float64[np.ndarray, " n"] = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return iou
