"""Decode a head's candidates into detections in seconds."""

from __future__ import annotations

import math
from typing import NamedTuple, assert_never

import numpy as np
from jaxtyping import Float64, Int64

from tadkit.config import DecodeSettings
from tadkit.models.decode.limits import best_nearby
from tadkit.models.decode.suppression import Hard, SoftGaussian, SoftLinear, SuppressionRule, suppress
from tadkit.models.decode.video_scores import VideoScores, weighed
from tadkit.models.decode.voting import voted
from tadkit.models.heads.head import Candidates
from tadkit.records import Detection
from tadkit.timeline import Timeline


class Decoded(NamedTuple):
    """Detections of one video, by descending score.

    Attributes:
        segments_s: (detections, 2), start and end in seconds from the first displayed frame; start < end.
        scores: (detections,), in (0, 1).
        labels: (detections,), class indices.
    """

    segments_s: Float64[np.ndarray, "detections 2"]
    scores: Float64[np.ndarray, " detections"]
    labels: Int64[np.ndarray, " detections"]


def decode(
    candidates: Candidates,
    timeline: Timeline,
    duration_s: float,
    settings: DecodeSettings,
    *,
    video_scores: Float64[np.ndarray, " classes"] | None = None,
) -> Decoded:
    """Detections of one video: candidates converted to seconds, limited, then suppression and voting.

    The limits ``top_candidates`` and ``keep`` count within ``stretch_s`` of each candidate and detection
    (:func:`tadkit.models.decode.limits.best_nearby`), so that decoding is local.

    Args:
        candidates: candidates of one video, from :meth:`tadkit.models.heads.head.HeadOf.candidates`.
        timeline: time of each step of the feature track.
        duration_s: segments are clipped to ``[0, duration_s]``; empty ones are dropped.
        settings: thresholds, limits and suppression method.
        video_scores: external scores of the whole video for each class, to combine with those of the candidates.
    """
    positions, scores, labels = candidates
    found = Decoded(timeline.seconds(positions), scores, labels)
    inside = found._replace(segments_s=np.clip(found.segments_s, 0.0, duration_s))
    best = _best(inside, limit=settings.top_candidates, settings=settings)
    if settings.min_steps > 0:
        best = best[positions[best, 1] - positions[best, 0] > settings.min_steps]
    found = Decoded(*(field[best] for field in found))
    if settings.clip_first:
        found = _clipped(found, duration_s)
    if video_scores is not None:
        segments_s, scores, labels = weighed(
            *found, video_scores, rule=settings.video_rule, best_labels=settings.video_labels
        )
        found = Decoded(segments_s, scores, labels)
    kept = suppressed(found, settings)
    return kept if settings.clip_first else _clipped(kept, duration_s)


def named_detections(
    candidates: Candidates,
    timeline: Timeline,
    duration_s: float,
    settings: DecodeSettings,
    *,
    labels: tuple[str, ...],
    video_scores: VideoScores | None,
) -> list[Detection]:
    """Labelled detections of one video: :func:`decode`, with ``labels`` or those of the video's scores."""
    names, values = (labels, None) if video_scores is None else video_scores
    found = decode(candidates, timeline, duration_s, settings, video_scores=values)
    return [
        Detection(float(start_s), float(end_s), names[label], float(score))
        for (start_s, end_s), score, label in zip(*found, strict=True)
    ]


def suppressed(found: Decoded, settings: DecodeSettings) -> Decoded:
    """Detections left after suppression, best first, moved by voting if the settings enable it.

    Other projects vote only in class-agnostic suppression; if suppression is per class, so is our voting.
    """
    labels = None if settings.class_agnostic else found.labels
    segments_s, scores = found.segments_s, found.scores
    if (rule := _rule_of(settings)) is not None:
        keep = settings.keep if _within_stretch(found, settings) else None
        kept, left = suppress(segments_s, scores, rule, labels=labels, min_score=settings.min_score, keep=keep)
    else:
        kept = np.argsort(-scores, kind="stable")
        kept = kept[scores[kept] >= settings.min_score]
        left = scores[kept]
    result = Decoded(segments_s[kept], left, found.labels[kept])
    best = _best(result, limit=settings.keep, settings=settings)
    result = Decoded(*(field[best] for field in result))
    if settings.voting == "none":
        return result
    moved = voted(
        result.segments_s,
        segments_s,
        scores,
        iou=settings.voting_iou,
        rule=settings.voting,
        kept_labels=result.labels if labels is not None else None,
        labels=labels,
    )
    return result._replace(segments_s=moved)


def _best(found: Decoded, *, limit: int, settings: DecodeSettings) -> Int64[np.ndarray, " kept"]:
    """Indices of the best of every stretch, by descending score."""
    reach_s = settings.stretch_s or math.inf
    return best_nearby(found.segments_s.mean(axis=1), found.scores, limit=limit, reach=reach_s)


def _within_stretch(found: Decoded, settings: DecodeSettings) -> bool:
    """Whether a limit of a stretch is one of the whole video."""
    centres_s = found.segments_s.mean(axis=1)
    return settings.stretch_s == 0 or len(centres_s) == 0 or bool(np.ptp(centres_s) <= settings.stretch_s)


def _rule_of(settings: DecodeSettings) -> SuppressionRule | None:
    """The suppression rule in the settings; None for no suppression."""
    match settings.method:
        case "soft-gaussian":
            return SoftGaussian(settings.sigma)
        case "soft-linear":
            return SoftLinear(settings.iou)
        case "hard":
            return Hard(settings.iou)
        case "none":
            return None
        case _:
            assert_never(settings.method)


def _clipped(found: Decoded, duration_s: float) -> Decoded:
    """Segments clipped to the video, without empty ones."""
    segments_s = np.clip(found.segments_s, 0.0, duration_s)
    lasting = segments_s[:, 1] > segments_s[:, 0]
    return Decoded(segments_s[lasting], found.scores[lasting], found.labels[lasting])
