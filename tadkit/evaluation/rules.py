"""The two rules by which detections take actions: ActivityNet's by detection, the THUMOS14 kit's by action.

Both look at one label in one video, a *group*. All groups are gone through at once, one row of each a turn.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from tadkit.evaluation.tables import by_turn, counted_up, in_groups, paired_iou

_MOST_PAIRS = 4_000_000
"""Pairs whose overlap is held at a time."""


def match_by_detection(
    taken: Int64[np.ndarray, "p k"],
    found_s: Float64[np.ndarray, "p 2"],
    rows: Int64[np.ndarray, " r"],
    found_group: Int64[np.ndarray, " p"],
    actions_s: Float64[np.ndarray, "g 2"],
    action_group: Int64[np.ndarray, " g"],
    tiou: Float64[np.ndarray, " k"],
) -> None:
    """ActivityNet's rule: each detection in turn takes the action of highest tIoU that is free at that threshold.

    It is a hit if that tIoU reaches the threshold (>=). Of actions with equal tIoU the one that starts later is taken,
    which is where the official evaluator's reversed sort ends up for annotations in order of time.

    Args:
        taken: filled in place, -1 before.
        found_s: segments of the detections, in each group best score first.
        rows: the detections whose group has actions.
        found_group: group of each detection, which is one label in one video.
        actions_s: segments of the actions, in each group by start.
        action_group: group of each action, ascending; every group has one.
        tiou: thresholds.
    """
    least = float(tiou.min())
    pairs = _near(found_s, rows, found_group, actions_s, action_group, least)
    reaches = pairs.overlap[:, None] >= tiou
    free = np.ones((len(actions_s), len(tiou)), bool)
    for walking in by_turn(found_group[pairs.row[pairs.first]]):
        for step in range(int(pairs.size[walking].max())):
            walking = walking[pairs.size[walking] > step]
            pair = pairs.first[walking] + step
            row, action = pairs.row[pair], pairs.action[pair]
            hit = free[action] & reaches[pair]
            if step:
                hit &= taken[row] < 0
            which, level = hit.nonzero()
            taken[row[which], level] = action[which]
            free[action[which], level] = False


class _Pairs(NamedTuple):
    """Detections and the actions that they may take, by detection and falling tIoU.

    Attributes:
        row: of the detection.
        action: row of the action.
        overlap: their tIoU.
        first: first pair of each detection.
        size: number of pairs of each detection.
    """

    row: Int64[np.ndarray, " pairs"]
    action: Int64[np.ndarray, " pairs"]
    overlap: Float64[np.ndarray, " pairs"]
    first: Int64[np.ndarray, " near"]
    size: Int64[np.ndarray, " near"]


def _near(
    found_s: Float64[np.ndarray, "p 2"],
    rows: Int64[np.ndarray, " r"],
    found_group: Int64[np.ndarray, " p"],
    actions_s: Float64[np.ndarray, "g 2"],
    action_group: Int64[np.ndarray, " g"],
    least: float,
) -> _Pairs:
    """Pairs of one group that overlap by ``least`` or more; of equal ones the later action comes first."""
    ends = np.bincount(action_group).cumsum()
    sizes = np.diff(ends, prepend=0)[found_group[rows]]
    kept = []
    for part in np.array_split(np.arange(len(rows)), int(sizes.sum()) // _MOST_PAIRS + 1):
        row = np.repeat(rows[part], sizes[part])
        action = ends[found_group[row]] - 1 - counted_up(sizes[part])
        overlap = paired_iou(found_s[row], actions_s[action])
        near = np.flatnonzero(overlap >= least)
        kept.append((row[near], action[near], overlap[near]))
    row, action, overlap = (np.concatenate(field) for field in zip(*kept, strict=True))
    order = np.lexsort((-overlap, row))
    row = row[order]
    first = np.flatnonzero(np.diff(row, prepend=-1))
    return _Pairs(row, action[order], overlap[order], first, np.diff(first, append=len(row)))


def match_by_truth(
    taken: Int64[np.ndarray, "p k"],
    found_s: Float64[np.ndarray, "p 2"],
    rows: Int64[np.ndarray, " r"],
    found_group: Int64[np.ndarray, " p"],
    actions_s: Float64[np.ndarray, "g 2"],
    action_group: Int64[np.ndarray, " g"],
    tiou: Float64[np.ndarray, " k"],
) -> None:
    """The THUMOS14 kit's rule: each action in turn takes the free detection of highest tIoU.

    That tIoU must exceed (>) the threshold; the score decides only between equal tIoUs. The kit goes through the
    actions in the order of its files; here they come by start. Arguments are those of :func:`match_by_detection`.
    """
    places = in_groups(found_group[rows], groups=int(action_group.max()) + 1)
    if places.shape[1] == 0:
        return
    for turn in by_turn(action_group):
        for part in np.array_split(turn, turn.size * places.shape[1] * len(tiou) // _MOST_PAIRS + 1):
            place = places[action_group[part]]
            mine = rows[place]
            overlap = paired_iou(actions_s[part, None], found_s[mine])
            overlap[place < 0] = -1.0
            left = np.where(taken[mine] >= 0, -1.0, overlap[..., None])
            best = left.argmax(axis=1)
            hit = np.take_along_axis(left, best[:, None], axis=1)[:, 0] > tiou
            action, threshold = np.nonzero(hit)
            taken[mine[action, best[hit]], threshold] = part[action]
