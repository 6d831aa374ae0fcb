"""From a head's predictions to detections in seconds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from tadkit.config import DecodeSettings
from tadkit.heads.head import Candidates
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


def decode(candidates: Candidates, timeline: Timeline, duration_s: float, settings: DecodeSettings) -> Decoded:
    """Detections of one video: from a head's best candidates to seconds, soft-NMS class by class.

    Args:
        candidates: of one video, as :func:`tadkit.heads.candidates` gives them.
        timeline: when each step of the feature track happens.
        duration_s: segments are clipped to ``[0, duration_s]``; those that have no length left are dropped.
        settings: thresholds and counts.
    """
    positions, scores, labels = candidates
    segments_s = np.clip(timeline.seconds(positions), 0.0, duration_s)
    lasting = segments_s[:, 1] > segments_s[:, 0]
    segments_s, scores, labels = segments_s[lasting], scores[lasting], labels[lasting]
    kept, lowered = soft_nms(
        segments_s, scores, sigma=settings.sigma, min_score=settings.min_score, keep=settings.keep, labels=labels
    )
    return Decoded(segments_s[kept], lowered, labels[kept])
