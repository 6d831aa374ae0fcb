"""From a head's predictions to detections in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, Int64

from tadkit.config import DecodeSettings
from tadkit.errors import WeightsError
from tadkit.heads.anchor_free import HeadPredictions
from tadkit.heads.suppression import soft_nms
from tadkit.timeline import Timeline


class Decoded(NamedTuple):
    """Detections of one video by falling score.

    Attributes:
        segments_s: (detections, 2), start and end in seconds from the first shown frame, start before end.
        scores: (detections,), in (0, 1).
        labels: (detections,), class indices.
    """

    segments_s: Float64[np.ndarray, "detections 2"]
    scores: Float64[np.ndarray, " detections"]
    labels: Int64[np.ndarray, " detections"]


def decode(
    predictions: HeadPredictions,
    timeline: Timeline,
    duration_s: float,
    settings: DecodeSettings,
    *,
    strides: Sequence[int],
) -> Decoded:
    """Detections of one video: threshold, best candidates, seconds, soft-NMS class by class.

    Args:
        predictions: of one video (batch 1).
        timeline: when each step of the feature track happens.
        duration_s: segments are clipped to ``[0, duration_s]``; those that have no length left are dropped.
        settings: thresholds and counts.
        strides: of the head's levels; step ``j`` of a level sits at position ``j * stride``.

    Raises:
        WeightsError: a prediction is not a finite number.
    """
    positions, scores, labels = _candidates(predictions, settings, strides)
    segments_s = np.clip(timeline.seconds(positions), 0.0, duration_s)
    lasting = segments_s[:, 1] > segments_s[:, 0]
    segments_s, scores, labels = segments_s[lasting], scores[lasting], labels[lasting]
    kept, lowered = soft_nms(
        segments_s, scores, sigma=settings.sigma, min_score=settings.min_score, keep=settings.keep, labels=labels
    )
    return Decoded(segments_s[kept], lowered, labels[kept])


def _candidates(
    predictions: HeadPredictions, settings: DecodeSettings, strides: Sequence[int]
) -> tuple[Float64[np.ndarray, "n 2"], Float64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Fractional positions of start and end, scores and labels of the best candidates, by falling score."""
    assert all(len(mask) == 1 for mask in predictions.masks), "decode takes one video"
    logits, offsets, real = (torch.cat(field, dim=1)[0].detach().cpu() for field in predictions)
    points = np.concatenate(
        [np.arange(mask.shape[1]) * stride for mask, stride in zip(predictions.masks, strides, strict=True)]
    )[real.numpy()]
    stride = np.repeat(np.asarray(strides), [mask.shape[1] for mask in predictions.masks])[real.numpy()]
    probabilities = logits[real].double().sigmoid().numpy()
    reach = offsets[real].double().numpy() * stride[:, None]
    if not (np.isfinite(probabilities).all() and np.isfinite(reach).all()):
        raise WeightsError(
            "the head predicts values that are not finite numbers: its weights or the features hold NaN or infinity; "
            "use an earlier checkpoint, or train again with a lower learning rate or without mixed precision"
        )
    scores = probabilities.ravel()
    best = np.argsort(-scores, kind="stable")[: settings.top_candidates]
    best = best[scores[best] >= settings.min_score]
    point, label = np.divmod(best, max(probabilities.shape[1], 1))
    positions = np.stack((points[point] - reach[point, 0], points[point] + reach[point, 1]), axis=1)
    return positions.astype(np.float64), scores[best], label.astype(np.int64)
