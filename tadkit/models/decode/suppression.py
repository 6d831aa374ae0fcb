"""Suppression of overlapping segments in NumPy: hard NMS, linear and Gaussian soft-NMS.

Hard (Neubeck, Van Gool, ICPR 2006); soft (Bodla et al., ICCV 2017). Ties go to the lower index, and a segment of zero
length overlaps nothing.

All classes are processed at once, one row each, and long videos in blocks of time, one row each. A segment lowers only
those that it overlaps, so one that scores higher than all that it overlaps can be selected whatever remains elsewhere:
blocks take their turns independently of each other, the result is that of one selection after another up to rounding,
and the time that it takes grows with the length of the video, not with its square.

IoUs are computed in the precision of the segments. The compiled routines of ActionFormer, TriDet and OpenTAD use
float32 and add :data:`REFERENCE_MARGIN` to every length, which matters when an IoU equals the threshold. By default we
add nothing, so that results do not depend on the unit of time.
"""

from __future__ import annotations

from typing import Any, NamedTuple, assert_never

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int64
from numpy.typing import NDArray

from tadkit.segments import Spans, spans_iou

REFERENCE_MARGIN = 1e-6
"""Constant that ActionFormer, TriDet and OpenTAD add to the length of every segment in suppression."""


_Floats = NDArray[Any]  # float32 or float64, as the segments


_Suppressed = tuple[Int64[np.ndarray, " kept"], Float64[np.ndarray, " kept"]]


_FEWEST_STEPS, _MOST_STEPS = 8, 64


_TINY = 1e-30


_BLOCK_SEGMENTS = 128
"""Segments of one label in a block of time, on average and at least; shorter videos are one block."""


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
    keep: int | None,
    labels: Int[np.ndarray, " n"] | None = None,
    margin: float = 0.0,
) -> _Suppressed:
    """Repeatedly select the best segment and lower the scores of the segments that it overlaps.

    Args:
        segments: starts and ends, in any unit.
        scores: scores of the segments, not negative.
        rule: which scores are lowered, and by how much.
        min_score: selection stops below this score; not negative.
        keep: maximum number of selected segments; None: all.
        labels: if given, segments suppress only others of their own label.
        margin: added to every length, in the unit of the segments; see :data:`REFERENCE_MARGIN`.

    Returns:
        Selected indices, by descending lowered score, and these scores.
    """
    # Rounds of increasing length; between them, segments that can no longer reach the ``keep`` best are dropped.
    kind = np.dtype(np.float32 if segments.dtype == np.float32 else np.float64)
    start, end = segments.astype(kind).T
    length = end - start + margin
    left: _Floats = scores.astype(kind)
    labels = np.zeros(len(scores), np.int64) if labels is None else labels
    taken, taken_scores = np.zeros(0, np.int64), np.zeros(0, kind)
    floor, steps = max(min_score, 0.0), _FEWEST_STEPS
    alive = np.flatnonzero(left >= floor) if keep != 0 else taken
    while len(alive):
        table, real, follows = _rows(alive, labels, start, end)
        rows = np.where(real, left[table], -np.inf)
        found, found_scores = _steps(
            rows,
            Spans(start[table], end[table], length[table]),
            _Neighbours(table, follows) if follows.any() else None,
            rule,
            floor=floor,
            steps=steps,
        )
        taken = np.concatenate((taken, table.ravel()[found]))
        taken_scores = np.concatenate((taken_scores, found_scores))
        left[table[real]] = rows[real]
        if keep is not None and len(taken) >= keep:
            floor = max(floor, float(np.partition(taken_scores, -keep)[-keep]))
        alive = alive[left[alive] >= floor]
        steps = min(2 * steps, _MOST_STEPS)
    order = np.lexsort((taken, -taken_scores))[:keep]
    return taken[order], taken_scores[order].astype(np.float64)


class _Neighbours(NamedTuple):
    """Blocks of time that may overlap: rows of segments, and whether each row follows the one before it in time."""

    table: Int64[np.ndarray, "rows width"]
    follows: Bool[np.ndarray, " rows"]


def _rows(
    alive: Int64[np.ndarray, " n"], labels: Int[np.ndarray, " all"], start: _Floats, end: _Floats
) -> tuple[Int64[np.ndarray, "rows width"], Bool[np.ndarray, "rows width"], Bool[np.ndarray, " rows"]]:
    """The indices in ``alive`` in ascending order, one row per label and block of time.

    Blocks are as long as the longest segment or longer, so that a segment overlaps others of its own block and of the
    two beside it only.

    Returns:
        The indices; False marks padding; and whether a row is the block after that of the row before it.
    """
    _, label = np.unique(labels[alive], return_inverse=True)
    block = _blocks(alive, start, end, rows=label.max() + 1)
    codes, row, counts = np.unique(label * (block.max() + 2) + block, return_inverse=True, return_counts=True)
    order = np.argsort(row, kind="stable")
    column = np.arange(len(alive)) - np.repeat(counts.cumsum() - counts, counts)
    table = np.full((len(counts), int(counts.max())), alive[0])
    table[row[order], column] = alive[order]
    follows = np.concatenate(([False], np.diff(codes) == 1))
    return table, np.arange(table.shape[1]) < counts[:, None], follows


def _blocks(alive: Int64[np.ndarray, " n"], start: _Floats, end: _Floats, *, rows: int) -> Int64[np.ndarray, " n"]:
    """Number of the block of time that each segment starts in."""
    begins = start[alive].astype(np.float64)
    begins -= begins.min()
    longest, whole = float((end[alive] - start[alive]).max()) * (1 + 1e-5), float(begins.max())
    block = max(longest, whole * _BLOCK_SEGMENTS * rows / len(alive))
    if not 0 < block < whole:
        return np.zeros(len(alive), np.int64)
    return np.asarray(np.floor(begins / block), dtype=np.int64)


def _steps(
    left: _Floats,
    segments: Spans,
    neighbours: _Neighbours | None,
    rule: SuppressionRule,
    *,
    floor: float,
    steps: int,
) -> tuple[Int64[np.ndarray, " taken"], _Floats]:
    """Select the best of every row up to ``steps`` times, lowering ``left`` in place; flat indices and scores.

    A row with neighbours waits while one of them has a better segment.
    """
    first = np.arange(len(left)) * left.shape[1]
    found: list[Int64[np.ndarray, " rows"]] = []
    scores: list[_Floats] = []
    for _ in range(steps):
        best = left.argmax(axis=1) + first
        top: _Floats = left.ravel()[best]
        selected = top >= floor
        if not selected.any():
            break
        one = Spans(*(field.ravel()[best][:, None] for field in segments))
        if neighbours is None:
            _lower(left, spans_iou(one, segments), rule)
        else:
            selected &= _best_around(top, neighbours.table.ravel()[best], neighbours.follows)
            for shift in (-1, 0, 1):
                _lower_beside(left, segments, one, selected, neighbours.follows, rule, shift=shift)
        found.append(best[selected])
        scores.append(top[selected])
        left.ravel()[best[selected]] = -np.inf
    if not found:
        return np.zeros(0, np.int64), np.zeros(0)
    return np.concatenate(found), np.concatenate(scores)


def _best_around(
    top: _Floats, index: Int64[np.ndarray, " rows"], follows: Bool[np.ndarray, " rows"]
) -> Bool[np.ndarray, " rows"]:
    """Whether the best segment of a row is better than those of the blocks before and after it."""
    earlier_wins = (top[:-1] > top[1:]) | ((top[:-1] == top[1:]) & (index[:-1] < index[1:]))
    wins = np.ones(len(top), dtype=bool)
    wins[:-1] &= earlier_wins | ~follows[1:]
    wins[1:] &= ~(earlier_wins & follows[1:])
    return wins


def _lower_beside(
    left: _Floats,
    segments: Spans,
    one: Spans,
    selected: Bool[np.ndarray, " rows"],
    follows: Bool[np.ndarray, " rows"],
    rule: SuppressionRule,
    *,
    shift: int,
) -> None:
    """Lower the scores in the rows ``shift`` beyond those with a selected segment, in place."""
    by = np.flatnonzero(selected)
    if shift == 1:
        by = by[by + 1 < len(left)]
        by = by[follows[by + 1]]
    elif shift == -1:
        by = by[follows[by]]
    rows = by + shift
    lowered = left[rows]
    _lower(lowered, spans_iou(Spans(*(x[by] for x in one)), Spans(*(x[rows] for x in segments))), rule)
    left[rows] = lowered


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
