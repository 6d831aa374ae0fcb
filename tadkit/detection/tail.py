"""The one way from features to detections, for ``detect``, ``detect-features`` and the table of a run."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tadkit.config import DecodeSettings
from tadkit.models.decode.decode import named_detections
from tadkit.models.decode.tracks import track_candidates
from tadkit.models.decode.video_scores import VideoScoresFile
from tadkit.models.heads import Candidates, Head
from tadkit.records import Detection
from tadkit.timeline import Timeline

CORE_STEPS = 2048
"""Feature steps that a head reads at a time; the detections do not depend on it."""


class Track(NamedTuple):
    """The video that a feature track belongs to: its name, when each step happens, and its length in seconds."""

    video: str
    timeline: Timeline
    duration_s: float


def reach_s(context_s: float | None, decoding: DecodeSettings) -> float | None:
    """Seconds of video on either side of a detection that it depends on; None: the whole video.

    A candidate depends on ``context_s``; which candidates and which detections are kept, on those within ``stretch_s``.
    Suppression adds the candidates that overlap a detection: at most their length, or a chain of overlapping candidates
    with rising scores.
    """
    return None if context_s is None or decoding.stretch_s == 0 else context_s + 2 * decoding.stretch_s


def video_scores_for(
    head: Head, labels: tuple[str, ...], *, path: Path | None, decoding: DecodeSettings
) -> VideoScoresFile | None:
    """Scores of whole videos that weight this head's detections; None without a file.

    Raises:
        AnnotationError: the file cannot be read or does not fit the head.
    """
    if path is None:
        return None
    class_agnostic = head.settings.class_agnostic
    return VideoScoresFile(path, labels, class_agnostic=class_agnostic, best_labels=decoding.video_labels)


@torch.inference_mode()
def detections_in_features(
    head: Head,
    features: Float[Tensor, "1 channels steps"],
    track: Track,
    *,
    labels: tuple[str, ...],
    decoding: DecodeSettings,
    video_scores: VideoScoresFile | None = None,
    core_steps: int = CORE_STEPS,
) -> list[Detection]:
    """Detections of one video, best score first, by a head that reads its features.

    Raises:
        WeightsError: the head predicts values that are not finite.
        AnnotationError: ``video_scores`` has none for the video.
    """
    mask = torch.ones(1, features.shape[2], dtype=torch.bool, device=features.device)
    least, limit = decoding.min_score, decoding.top_candidates
    found = track_candidates(head, features, mask, core_steps=core_steps, min_score=least, limit=limit)
    return detections_of(found, track, labels=labels, decoding=decoding, video_scores=video_scores)


def detections_of(
    candidates: Candidates,
    track: Track,
    *,
    labels: tuple[str, ...],
    decoding: DecodeSettings,
    video_scores: VideoScoresFile | None = None,
) -> list[Detection]:
    """Detections of one video, best score first, from a head's candidates."""
    return named_detections(
        candidates,
        track.timeline,
        track.duration_s,
        decoding,
        labels=labels,
        video_scores=None if video_scores is None else video_scores.of(track.video),
    )
