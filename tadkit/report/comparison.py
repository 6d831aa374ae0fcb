"""Matches of detections with annotations, as the page of ``tadkit report`` shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tadkit.evaluation.diagnosis import nearest_actions
from tadkit.evaluation.matching import Matched, match_classes
from tadkit.evaluation.tables import Table
from tadkit.records import AMBIGUOUS, Annotation, Detection

TIOUS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Thresholds that the page offers."""


@dataclass(frozen=True)
class Comparison:
    """The detections and actions of one video, and how they match; rows are positions in the two lists.

    The matches hold at every score: detections are matched best first within their label, so leaving out those below a
    score changes no match of the others (ActivityNet's rule, :func:`tadkit.evaluation.rules.match_by_detection`).

    Attributes:
        detections: by label, best score first.
        actions: by label and start; ambiguous ones, which nothing is matched to, come last.
        taken: for each of :data:`TIOUS`, the action that each detection is matched to; -1 for none.
        nearest: the action of any label that each detection overlaps most; -1 where the video has none.
        overlap: the tIoU with it.
    """

    detections: Sequence[Detection]
    actions: Sequence[Annotation]
    taken: Sequence[Sequence[int]]
    nearest: Sequence[int]
    overlap: Sequence[float]


def compare(
    detections: Mapping[str, Sequence[Detection]], truth: Mapping[str, Sequence[Annotation]], *, labels: Sequence[str]
) -> dict[str, Comparison]:
    """Match the detections of each video in ``truth``.

    Args:
        detections: of each video; a video may be absent.
        truth: actions of each video.
        labels: all labels of both.
    """
    videos = sorted(truth)
    judged = [label for label in labels if label != AMBIGUOUS]
    if not judged:
        return {}
    matched = match_classes(truth, detections, videos=videos, labels=judged, tiou=TIOUS, protocol="activitynet")
    overlap, nearest = nearest_actions(matched)
    return {
        video: _of_video(matched, number, nearest, overlap, [a for a in truth[video] if a.label == AMBIGUOUS])
        for number, video in enumerate(videos)
    }


def _of_video(
    matched: Matched, number: int, nearest: np.ndarray, overlap: np.ndarray, ambiguous: Sequence[Annotation]
) -> Comparison:
    found = np.flatnonzero(matched.found.video == number)
    actions = np.flatnonzero(matched.actions.video == number)
    place = np.full(len(matched.actions) + 1, -1)  # the last one is that of -1
    place[actions] = np.arange(len(actions))
    segments = [(*segment, label) for segment, label in _rows(matched.actions, actions, matched.labels)]
    return Comparison(
        detections=[
            Detection(*segment, label, score)
            for (segment, label), score in zip(
                _rows(matched.found, found, matched.labels), matched.found.score[found].tolist(), strict=True
            )
        ],
        actions=[*(Annotation(*one) for one in segments), *ambiguous],
        taken=place[matched.taken[found]].T.tolist(),
        nearest=place[nearest[found]].tolist(),
        overlap=overlap[found].tolist(),
    )


def _rows(table: Table, rows: np.ndarray, labels: Sequence[str]) -> list[tuple[tuple[float, float], str]]:
    segments = table.segment_s[rows].tolist()
    return [((start, end), labels[n]) for (start, end), n in zip(segments, table.label[rows].tolist(), strict=True)]
