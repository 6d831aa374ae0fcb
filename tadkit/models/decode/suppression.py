"""Suppression of overlapping segments in NumPy (hard NMS, linear and Gaussian soft-NMS), and segment voting.

Hard (Neubeck, Van Gool, ICPR 2006); soft (Bodla et al., ICCV 2017); voting (Gidaris, Komodakis, ICCV 2015), with the
weights of ActionFormer (Zhang et al., ECCV 2022) or of TriDet (Shi et al., CVPR 2023) and OpenTAD. All classes are
processed at once, one row each. Ties go to the lower index, and a segment of zero length overlaps nothing.

IoUs are computed in the precision of the segments. The compiled routines of ActionFormer, TriDet and OpenTAD use
float32 and add :data:`REFERENCE_MARGIN` to every length, which matters when an IoU equals the threshold. By default we
add nothing, so that results do not depend on the unit of time.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, assert_never

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int64
from numpy.typing import NDArray

from tadkit.segments import Spans, spans_iou, spans_of

REFERENCE_MARGIN = 1e-6
"""Constant that ActionFormer, TriDet and OpenTAD add to the length of every segment in suppression."""


VotingRule = Literal["score-iou", "score"]


_Floats = NDArray[Any]  # float32 or float64, as the segments


_Suppressed = tuple[Int64[np.ndarray, " kept"], Float64[np.ndarray, " kept"]]


_FEWEST_STEPS, _MOST_STEPS = 8, 64


_TINY = 1e-30


_VOTED_AT_ONCE = 256


class SoftGaussian(NamedTuple):
    """Soft-NMS: other scores are multiplied by ``exp(-IoU**2 / sigma)``; larger ``sigma`` suppresses less."""

    sigma: float


class SoftLinear(NamedTuple):
    """Soft-NMS: scores of segments with an IoU of ``iou`` or more are multiplied by ``1 - IoU``."""

    iou: float


class Hard(NamedTuple):
    """Hard NMS: segments with an IoU of ``iou`` or more are removed."""

    iou: float


SuppressionRule = SoftGaussian | SoftLinear | Hard


def suppress(
    segments: Float[np.ndarray, "n 2"],
    scores: Float[np.ndarray, " n"],
    rule: SuppressionRule,
    *,
    min_score: float,
    keep: int,
    labels: Int[np.ndarray, " n"] | None = None,
    margin: float = 0.0,
) -> _Suppressed:
    """Repeatedly select the best segment and lower the scores of the segments that it overlaps.

    Args:
        segments: starts and ends, in any unit.
        scores: scores of the segments, not negative.
        rule: which scores are lowered, and by how much.
        min_score: selection stops below this score; not negative.
        keep: maximum number of selected segments.
        labels: if given, segments suppress only others of their own label.
        margin: added to every length, in the unit of the segments; see :data:`REFERENCE_MARGIN`.

    Returns:
        Selected indices, by descending lowered score, and these scores.
    """
    return _take(segments, scores, labels, rule, min_score=min_score, keep=keep, margin=margin)


def _take(
    segments: Float[np.ndarray, "n 2"],
    scores: Float[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"] | None,
    rule: SuppressionRule,
    *,
    min_score: float,
    keep: int,
    margin: float,
) -> _Suppressed:
    """Repeatedly select the best segment of every label and lower the others of that label.

    Works in rounds of increasing length, dropping between them the segments that can no longer reach the ``keep`` best.
    """
    kind = np.dtype(np.float32 if segments.dtype == np.float32 else np.float64)
    start, end = segments.astype(kind).T
    length = end - start + margin
    left: _Floats = scores.astype(kind)
    labels = np.zeros(len(scores), np.int64) if labels is None else labels
    taken, taken_scores = np.zeros(0, np.int64), np.zeros(0, kind)
    floor, steps = max(min_score, 0.0), _FEWEST_STEPS
    alive = np.flatnonzero(left >= floor) if keep > 0 else taken
    while len(alive):
        index, real = _rows(alive, labels)
        rows = np.where(real, left[index], -np.inf)
        found, found_scores = _steps(
            rows, Spans(start[index], end[index], length[index]), rule, floor=floor, steps=steps
        )
        taken = np.concatenate((taken, index.ravel()[found]))
        taken_scores = np.concatenate((taken_scores, found_scores))
        left[index[real]] = rows[real]
        if len(taken) >= keep:
            floor = max(floor, float(np.partition(taken_scores, -keep)[-keep]))
        alive = alive[left[alive] >= floor]
        steps = min(2 * steps, _MOST_STEPS)
    order = np.lexsort((taken, -taken_scores))[:keep]
    return taken[order], taken_scores[order].astype(np.float64)


def _rows(
    alive: Int64[np.ndarray, " n"], labels: Int[np.ndarray, " all"]
) -> tuple[Int64[np.ndarray, "rows width"], Bool[np.ndarray, "rows width"]]:
    """The indices in ``alive`` in ascending order, one row per label; False marks padding."""
    _, row, counts = np.unique(labels[alive], return_inverse=True, return_counts=True)
    order = np.argsort(row, kind="stable")
    column = np.arange(len(alive)) - np.repeat(counts.cumsum() - counts, counts)
    index = np.full((len(counts), int(counts.max())), alive[0])
    index[row[order], column] = alive[order]
    return index, np.arange(index.shape[1]) < counts[:, None]


def _steps(
    left: _Floats, segments: Spans, rule: SuppressionRule, *, floor: float, steps: int
) -> tuple[Int64[np.ndarray, " taken"], _Floats]:
    """Select the best of every row up to ``steps`` times, lowering ``left`` in place; flat indices and scores."""
    first = np.arange(len(left)) * left.shape[1]
    found: list[Int64[np.ndarray, " rows"]] = []
    scores: list[_Floats] = []
    for _ in range(min(steps, left.shape[1])):
        best = left.argmax(axis=1) + first
        top: _Floats = left.ravel()[best]
        selected = top >= floor
        if not selected.any():
            break
        found.append(best[selected])
        scores.append(top[selected])
        one = Spans(*(field.ravel()[best][:, None] for field in segments))
        _lower(left, spans_iou(one, segments), rule)
        left.ravel()[best[selected]] = -np.inf
    if not found:
        return np.zeros(0, np.int64), np.zeros(0)
    return np.concatenate(found), np.concatenate(scores)


def _lower(left: _Floats, overlap: _Floats, rule: SuppressionRule) -> None:
    """Lower scores in place by ``overlap`` with the selected segment; ``overlap`` is overwritten."""
    match rule:
        case SoftGaussian(sigma):
            np.square(overlap, out=overlap)
            np.divide(overlap, -sigma, out=overlap)
            np.multiply(left, np.exp(overlap, out=overlap), out=left, where=left >= 0)  # selected ones are -inf
        case SoftLinear(iou):
            left *= np.where(overlap >= iou, np.maximum(1.0 - overlap, _TINY), 1.0)
        case Hard(iou):
            left[overlap >= iou] = -np.inf
        case _:
            assert_never(rule)


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
    every = spans_of(segments[None])
    moved = kept.copy()
    for rows in np.array_split(np.arange(len(kept)), len(kept) // _VOTED_AT_ONCE + 1):
        start, end = kept[rows, :1], kept[rows, 1:]
        overlap = spans_iou(Spans(start, end, end - start), every)
        votes = overlap >= iou
        if kept_labels is not None and labels is not None:
            votes &= kept_labels[rows, None] == labels[None, :]
        match rule:
            case "score-iou":
                weights = votes * scores * overlap
            case "score":
                weights = votes * scores
            case _:
                assert_never(rule)
        total = weights.sum(axis=1, keepdims=True)
        moved[rows] = np.divide(weights @ segments, total, out=kept[rows], where=total > 0)
    return moved
