"""The two rules that match detections with actions: ActivityNet's by detection, the THUMOS14 kit's by action.

Both work on one label in one video, a *group*. All groups are processed at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from tadkit.evaluation.tables import by_turn, counted_up, in_groups, picked
from tadkit.segments import temporal_iou

_MOST_PAIRS = 4_000_000
"""Pairs whose overlap is in memory at a time."""


class Groups(NamedTuple):
    """Detections and actions by group.

    Attributes:
        found_s: segments of the detections, in each group best score first.
        found_group: group of each detection, -1 if that has no actions.
        actions_s: segments of the actions, in each group by start.
        action_group: group of each action, ascending; every group has one.
    """

    found_s: Float64[np.ndarray, "p 2"]
    found_group: Int64[np.ndarray, " p"]
    actions_s: Float64[np.ndarray, "g 2"]
    action_group: Int64[np.ndarray, " g"]


def match_by_detection(groups: Groups, tiou: Float64[np.ndarray, " k"]) -> Int32[np.ndarray, "p k"]:
    """ActivityNet's rule: each detection in turn gets the action of highest tIoU that is still free.

    It is a hit if that tIoU reaches the threshold (>=). Among actions with equal tIoU the one that starts later is
    taken, as the official evaluator's reversed sort does for annotations in order of time.

    Computed without turns: all detections propose at once to the action that they overlap most; the action keeps the
    best-ranked one, and those that are rejected propose to their next. The result is the same as with turns, because
    all actions rank the detections alike (deferred acceptance; Gale, Shapley, American Mathematical Monthly 1962).

    Args:
        groups: what to match.
        tiou: thresholds, at least one.

    Returns:
        Row of the action that each detection is matched to at each threshold, -1 for none.
    """
    pairs = _near(groups, float(tiou.min()))
    taken = np.full((len(groups.found_s), len(tiou)), -1, np.int32)
    for level, threshold in enumerate(tiou):
        pair = _accepted(pairs, pairs.overlap >= threshold)
        taken[pairs.row[pair], level] = pairs.action[pair]
    return taken


class _Pairs(NamedTuple):
    """Candidate pairs, sorted by detection and decreasing tIoU.

    Attributes:
        row: of the detection.
        action: row of the action.
        overlap: their tIoU.
        first: whether the pair is the first of its detection.
    """

    row: Int64[np.ndarray, " pairs"]
    action: Int64[np.ndarray, " pairs"]
    overlap: Float64[np.ndarray, " pairs"]
    first: Bool[np.ndarray, " pairs"]


def _near(groups: Groups, least: float) -> _Pairs:
    """Pairs of one group that overlap by ``least`` or more; among equals the later action comes first."""
    rows = np.flatnonzero(groups.found_group >= 0)
    ends = np.bincount(groups.action_group).cumsum()
    group = groups.found_group[rows]
    sizes = np.diff(ends, prepend=0)[group]
    kept = []
    for part in np.array_split(np.arange(len(rows)), int(sizes.sum()) // _MOST_PAIRS + 1):
        row = np.repeat(rows[part], sizes[part])
        action = np.repeat(ends[group[part]] - 1, sizes[part]) - counted_up(sizes[part])
        overlap = temporal_iou(picked(groups.found_s, row), picked(groups.actions_s, action))
        near = np.flatnonzero(overlap >= least)
        kept.append((row[near], action[near], overlap[near]))
    row, action, overlap = (np.concatenate(field) for field in zip(*kept, strict=True))
    several = np.flatnonzero(np.bincount(row)[row] > 1)
    order = np.arange(len(row))
    order[several] = several[np.lexsort((-overlap[several], row[several]))]
    return _Pairs(row, action[order], overlap[order], np.diff(row, prepend=-1) > 0)


def _accepted(pairs: _Pairs, reaches: Bool[np.ndarray, " pairs"]) -> Int64[np.ndarray, " hits"]:
    """The matched pairs at a threshold; ``reaches`` marks the pairs that reach it."""
    more = np.append(~pairs.first[1:], [False, False])
    nobody = len(pairs.row)
    holder = np.full(int(pairs.action.max(initial=-1)) + 1, nobody)
    asking = np.flatnonzero(pairs.first & reaches)
    while len(asking):
        wanted = pairs.action[asking]
        held = holder[wanted]
        # If several propose to one action, the last value written stays: the best, since pairs are sorted by rank.
        holder[wanted[::-1]] = np.minimum(asking, held)[::-1]
        loser = np.where(holder[wanted] == asking, held, asking)
        following = loser[more[loser]] + 1
        asking = np.sort(following[reaches[following]])
    return holder[holder < nobody]


def match_by_truth(groups: Groups, tiou: Float64[np.ndarray, " k"]) -> Int32[np.ndarray, "p k"]:
    """The THUMOS14 kit's rule: each action in turn gets the free detection of highest tIoU.

    That tIoU must exceed (>) the threshold; the score decides only between equal tIoUs. The kit processes the actions
    in the order of its files; here they are sorted by start. Arguments and result are those of
    :func:`match_by_detection`.
    """
    taken = np.full((len(groups.found_s), len(tiou)), -1, np.int32)
    rows = np.flatnonzero(groups.found_group >= 0)
    places = in_groups(groups.found_group[rows], groups=int(groups.action_group.max()) + 1)
    if places.shape[1] == 0:
        return taken
    for turn in by_turn(groups.action_group):
        for part in np.array_split(turn, turn.size * places.shape[1] * len(tiou) // _MOST_PAIRS + 1):
            place = places[groups.action_group[part]]
            mine = rows[place]
            overlap = temporal_iou(groups.actions_s[part, None], groups.found_s[mine])
            overlap[place < 0] = -1.0
            left = np.where(taken[mine] >= 0, -1.0, overlap[..., None])
            best = left.argmax(axis=1)
            hit = np.take_along_axis(left, best[:, None], axis=1)[:, 0] > tiou
            action, threshold = np.nonzero(hit)
            taken[mine[action, best[hit]], threshold] = part[action]
    return taken
