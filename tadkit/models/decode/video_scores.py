"""Scores of whole videos from an external classifier, and their combination with the scores of candidates.

This is the usual protocol on ActivityNet: a proposal takes the best labels of its video (BMN and ActionFormer: the two
best), and its score is the product of its own and that of the label, or their geometric mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, assert_never

import numpy as np
from jaxtyping import Float64, Int64

from tadkit.errors import AnnotationError
from tadkit.files import read_json

CombinationRule = Literal["product", "geometric-mean"]


class VideoScores(NamedTuple):
    """Scores of one video.

    Attributes:
        labels: class labels.
        values: (classes,), not negative.
    """

    labels: tuple[str, ...]
    values: Float64[np.ndarray, " classes"]


class VideoScoresFile:
    """Scores of many videos from a JSON file, checked against one model.

    Args:
        path: JSON file.
        labels: labels of the model; unless the model is class-agnostic, the file may contain no others.
        class_agnostic: whether the model has no classifier; its candidates then take the file's labels.
        best_labels: number of best labels of its video that a candidate takes (``decode.video_labels``).

    Raises:
        AnnotationError: the file is invalid (:func:`read_video_scores`), or contains class labels although the model is
            class-agnostic and ``best_labels`` is 0.
    """

    def __init__(self, path: Path, labels: tuple[str, ...], *, class_agnostic: bool, best_labels: int) -> None:
        self.path = path
        self._scores = read_video_scores(path, None if class_agnostic else labels)
        unknown = sorted({label for scores in self._scores.values() for label in scores.labels} - set(labels))
        if class_agnostic and unknown and not best_labels:
            raise AnnotationError(
                f"{path}: contains classes such as '{unknown[0]}', but the model is class-agnostic; to give its "
                "proposals the best labels of their video, add --set decode.video_labels=2"
            )

    def of(self, video: str) -> VideoScores:
        """Scores of one video.

        Raises:
            AnnotationError: the file has no scores for it.
        """
        if video not in self._scores:
            raise AnnotationError(f"{self.path}: no scores for '{video}'; add them, or do not use this file")
        return self._scores[video]


def read_video_scores(path: Path, labels: tuple[str, ...] | None = None) -> dict[str, VideoScores]:
    """Scores of each video; 0 for labels that are missing for a video.

    Args:
        path: JSON file.
        labels: class labels in order; by default all labels in the file, sorted.

    Raises:
        AnnotationError: the file is not ``{video: {label: score}}``, a score is negative or not a number, or a label is
            not in ``labels``.
    """
    content = read_json(path, error=AnnotationError)
    if not isinstance(content, Mapping):
        raise AnnotationError(f"{path}: not a JSON object; expected video scores as {{video: {{label: score}}}}")
    if labels is None:
        labels = tuple(sorted({label for named in content.values() if isinstance(named, Mapping) for label in named}))
    return {
        str(video): VideoScores(labels, _scores(f"{path}: '{video}'", named, labels))
        for video, named in content.items()
    }


def _scores(where: str, named: object, labels: Sequence[str]) -> Float64[np.ndarray, " classes"]:
    if not isinstance(named, Mapping):
        raise AnnotationError(f"{where} is not a JSON object; expected {{label: score}}")
    unknown = [label for label in named if label not in labels]
    if unknown:
        raise AnnotationError(
            f"{where} has '{unknown[0]}', which is not a label of the model; its labels: {', '.join(labels)}"
        )
    scores = [named.get(label, 0.0) for label in labels]
    for label, score in zip(labels, scores, strict=True):
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score < float("inf"):
            raise AnnotationError(f"{where} has {score!r} for '{label}'; expected a number >= 0")
    return np.asarray(scores, dtype=np.float64)


def weighed(
    segments_s: Float64[np.ndarray, "n 2"],
    scores: Float64[np.ndarray, " n"],
    labels: Int64[np.ndarray, " n"],
    video_scores: Float64[np.ndarray, " classes"],
    *,
    rule: CombinationRule,
    best_labels: int = 0,
) -> tuple[Float64[np.ndarray, "m 2"], Float64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
    """Combine the scores of candidates with those of their video.

    Args:
        segments_s: segments of the candidates, in any unit.
        scores: scores of the candidates.
        labels: labels of the candidates.
        video_scores: scores of the video, by class.
        rule: ``product``, or its square root, ``geometric-mean``.
        best_labels: replace the label of every candidate by this many best labels of the video, candidate by candidate
            (a segment proposed for several classes counts once, with its best score); 0 keeps each candidate's label.
    """
    if best_labels:
        segments_s, scores = _once(segments_s, scores)
        best = np.argsort(-video_scores, kind="stable")[:best_labels]
        labels = np.tile(best, len(scores))
        segments_s, scores = segments_s.repeat(len(best), axis=0), scores.repeat(len(best))
    product = scores * video_scores[labels]
    match rule:
        case "product":
            return segments_s, product, labels
        case "geometric-mean":
            return segments_s, np.sqrt(product), labels
        case _:
            assert_never(rule)


def _once(
    segments_s: Float64[np.ndarray, "n 2"], scores: Float64[np.ndarray, " n"]
) -> tuple[Float64[np.ndarray, "m 2"], Float64[np.ndarray, " m"]]:
    """Each distinct segment once with its best score, by descending score."""
    order = np.argsort(-scores, kind="stable")
    _, first = np.unique(segments_s[order], axis=0, return_index=True)
    chosen = order[np.sort(first)]
    return segments_s[chosen], scores[chosen]
