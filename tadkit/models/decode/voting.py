"""Segment voting: kept segments move to the weighted mean of the candidates around them.

After Gidaris, Komodakis, ICCV 2015, with the weights of ActionFormer (Zhang et al., ECCV 2022) or of TriDet (Shi et
al., CVPR 2023) and OpenTAD.
"""

from __future__ import annotations

from typing import Literal, assert_never

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from tadkit.segments import Spans, spans_iou, spans_of

VotingRule = Literal["score-iou", "score"]


_VOTED_AT_ONCE = 256
"""Neighbouring segments that are moved together."""


def voted(
    kept: Float[np.ndarray, "kept 2"],
    segments: Float[np.ndarray, "n 2"],
    scores: Float[np.ndarray, " n"],
    *,
    iou: float,
    rule: VotingRule,
    kept_labels: Int[np.ndarray, " kept"] | None = None,
    labels: Int[np.ndarray, " n"] | None = None,
) -> Float64[np.ndarray, "kept 2"]:
    """Move segments kept by suppression to the weighted mean of all candidates with an IoU of ``iou`` or more.

    Args:
        kept: segments after suppression.
        segments: all candidates before suppression, in the same unit.
        scores: scores of the candidates before suppression.
        iou: IoU from which a candidate votes.
        rule: weight of a vote: ``score-iou`` (score times IoU, as in ActionFormer) or ``score`` (TriDet and OpenTAD).
        kept_labels: labels of ``kept``; with ``labels``, only candidates of the same label vote.
        labels: labels of the candidates.

    Returns:
        The moved segments; one without votes, such as one of zero length, stays where it is (ActionFormer, TriDet and
        OpenTAD return NaN there).
    """
    kept, segments, scores = (x.astype(np.float64) for x in (kept, segments, scores))
    moved = kept.copy()
    if not len(segments):
        return moved
    by_start = np.argsort(segments[:, 0], kind="stable")
    starts, longest = segments[by_start, 0], float((segments[:, 1] - segments[:, 0]).max())
    in_time = np.argsort(kept[:, 0], kind="stable")
    for rows in np.array_split(in_time, len(kept) // _VOTED_AT_ONCE + 1):
        if not len(rows):
            continue
        first = np.searchsorted(starts, kept[rows, 0].min() - longest, side="left")
        last = np.searchsorted(starts, kept[rows, 1].max(), side="right")
        near = np.sort(by_start[first:last])  # all that overlap these rows, and others
        moved[rows] = _means(
            kept[rows],
            segments[near],
            scores[near],
            iou=iou,
            rule=rule,
            same=None if kept_labels is None or labels is None else kept_labels[rows, None] == labels[None, near],
        )
    return moved


def _means(
    kept: Float64[np.ndarray, "kept 2"],
    segments: Float64[np.ndarray, "n 2"],
    scores: Float64[np.ndarray, " n"],
    *,
    iou: float,
    rule: VotingRule,
    same: Bool[np.ndarray, "kept n"] | None,
) -> Float64[np.ndarray, "kept 2"]:
    """Weighted means of the segments that vote for each kept one; ``same`` says which may."""
    start, end = kept[:, :1], kept[:, 1:]
    overlap = spans_iou(Spans(start, end, end - start), spans_of(segments[None]))
    votes = overlap >= iou
    if same is not None:
        votes &= same
    match rule:
        case "score-iou":
            weights = votes * scores * overlap
        case "score":
            weights = votes * scores
        case _:
            assert_never(rule)
    total = weights.sum(axis=1, keepdims=True)
    moved: Float64[np.ndarray, "kept 2"] = np.divide(weights @ segments, total, out=kept.copy(), where=total > 0)
    return moved
