"""Which detections find an action: matching in every video, and the ranking of all detections of a class.

Sources: ActivityNet's official ``eval_detection`` (Caba Heilbron et al., CVPR 2015) and the evaluation kit of the
THUMOS Challenge 2014 (Jiang et al.). Both match inside one video only, so a match never depends on which other videos
are judged; the bootstrap rests on that, and all videos are gone through at once, one row of each a turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal, assert_never

import numpy as np
from jaxtyping import Bool, Float64, Int64

from tadkit.evaluation.rules import match_by_detection, match_by_truth
from tadkit.evaluation.tables import (
    Table,
    action_table,
    detection_table,
    in_groups,
    paired_iou,
    small,
)
from tadkit.records import Annotation, Detection

Protocol = Literal["activitynet", "thumos14"]
AMBIGUOUS = "Ambiguous"
"""THUMOS14's label of stretches that annotators could not decide on; no protocol counts it as a class."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """Detections in the order in which they are judged, and what each one is worth.

    Equal scores never leave the result to a sort algorithm. activitynet goes by (-score, video, start, end); thumos14
    by (-score, video, place in the video's list), as its kit does: there the order in a file can move AP by points.

    Attributes:
        video: index of each detection's video.
        hit: whether each detection takes an action, at each tIoU.
        counted: false where a detection is neither hit nor false positive (thumos14: it overlaps an ambiguous stretch).
        truths: number of actions in each video.
    """

    video: Int64[np.ndarray, " detections"]
    hit: Bool[np.ndarray, "detections tious"]
    counted: Bool[np.ndarray, "detections tious"]
    truths: Int64[np.ndarray, " videos"]

    @cached_property
    def near(self) -> Int64[np.ndarray, " m"]:
        """Detections that hit at one tIoU at least."""
        return np.flatnonzero(self.hit.any(axis=1))

    @cached_property
    def all_counted(self) -> bool:
        """Whether every detection counts at every tIoU."""
        return bool(self.counted.all())


@dataclass(frozen=True, eq=False)
class Matched:
    """Every detection of the classes judged and the action that it takes.

    Attributes:
        actions: of all classes, by (label, video, start, end).
        found: detections by class, each class as ranked.
        pooled: rows of ``found`` as all classes together are ranked.
        taken: row of the action that each detection takes at each tIoU, -1 for none.
        counted: see :class:`Ranking`.
        videos: number of videos.
    """

    actions: Table
    found: Table
    pooled: Int64[np.ndarray, " detections"]
    taken: Int64[np.ndarray, "detections tious"]
    counted: Bool[np.ndarray, "detections tious"]
    videos: int

    def ranking(self, rows: Int64[np.ndarray, " n"] | slice, actions: slice = slice(None)) -> Ranking:
        """The ranking of some detections, against the actions in ``actions``."""
        truths = np.bincount(self.actions.video[actions], minlength=self.videos)
        return Ranking(self.found.video[rows], self.taken[rows] >= 0, self.counted[rows], truths)


def match_classes(
    truth: Mapping[str, Sequence[Annotation]],
    detections: Mapping[str, Sequence[Detection]],
    *,
    videos: Sequence[str],
    labels: Sequence[str],
    tiou: Sequence[float],
    protocol: Protocol,
) -> Matched:
    """Match the detections of each class with its actions.

    Args:
        truth: actions of each video, in seconds.
        detections: detections of each video, in seconds.
        videos: the videos judged, sorted; a detection in one without truth is a false positive.
        labels: the classes judged, at least one; other labels are passed over.
        tiou: thresholds.
        protocol: whose rules.
    """
    actions = action_table(truth, videos=videos, labels=labels)
    found = detection_table(detections, videos=videos, labels=labels)
    found = found.rows(ranked(found, protocol))
    by_class = np.argsort(small(found.label), kind="stable")
    rank = np.empty(len(found), np.int64)
    rank[by_class] = np.arange(len(found))
    found = found.rows(by_class)
    taken = _match(found, actions, np.asarray(tiou, np.float64), len(videos), protocol)
    counted = np.ones(taken.shape, bool)
    if protocol == "thumos14":
        ambiguous = action_table(truth, videos=videos, labels=(AMBIGUOUS,))
        counted = (taken >= 0) | ~_touches(found, ambiguous, len(videos))[:, None]
    return Matched(actions, found, rank, taken, counted, len(videos))


def rank_classes(
    truth: Mapping[str, Sequence[Annotation]],
    detections: Mapping[str, Sequence[Detection]],
    *,
    videos: Sequence[str],
    labels: Sequence[str],
    tiou: Sequence[float],
    protocol: Protocol,
) -> tuple[dict[str, Ranking], Ranking]:
    """Match and rank the detections of each class, and those of all classes in one ranking.

    Arguments are those of :func:`match_classes`.

    Returns:
        The ranking of each label, and the one of all of them pooled; there equal keys stay in the order of the classes.
    """
    matched = match_classes(truth, detections, videos=videos, labels=labels, tiou=tiou, protocol=protocol)
    return class_rankings(matched, labels), matched.ranking(matched.pooled)


def class_rankings(matched: Matched, labels: Sequence[str]) -> dict[str, Ranking]:
    """The ranking of each class; ``labels`` are those that were matched."""
    parts = zip(labels, _parts(matched.found, labels), _parts(matched.actions, labels), strict=True)
    return {label: matched.ranking(of_found, of_actions) for label, of_found, of_actions in parts}


def ranked(found: Table, protocol: Protocol) -> Int64[np.ndarray, " n"]:
    """Rows of detections by falling score, ties as :class:`Ranking` says, equal keys by label."""
    order = np.argsort(-found.score)
    score = found.score[order]
    if (score[1:] < score[:-1]).all():
        return order
    match protocol:
        case "activitynet":
            end_s, start_s = found.segment_s[:, 1], found.segment_s[:, 0]
            return np.lexsort((found.label, end_s, start_s, found.video, -found.score))
        case "thumos14":
            return np.lexsort((found.label, found.place, found.video, -found.score))
        case _:
            assert_never(protocol)


def _parts(table: Table, labels: Sequence[str]) -> list[slice]:
    """Where the rows of each label stand in a table that is sorted by label."""
    ends = np.searchsorted(table.label, np.arange(len(labels) + 1))
    return [slice(int(start), int(stop)) for start, stop in pairwise(ends)]


def _touches(found: Table, stretches: Table, videos: int) -> Bool[np.ndarray, " n"]:
    """Whether each detection overlaps one of the stretches of its video."""
    slots = in_groups(stretches.video, groups=videos)[found.video]
    if slots.shape[1] == 0:
        return np.zeros(len(found), bool)
    overlap = paired_iou(found.segment_s[:, None], stretches.segment_s[slots])
    return np.asarray(((overlap > 0) & (slots >= 0)).any(axis=1))


def _match(
    found: Table, actions: Table, tiou: Float64[np.ndarray, " k"], videos: int, protocol: Protocol
) -> Int64[np.ndarray, "p k"]:
    """Row of the action that each detection takes, -1 for none; matching is inside one label and video."""
    taken = np.full((len(found), len(tiou)), -1)
    if len(actions) == 0 or len(tiou) == 0:
        return taken
    own, group = np.unique(actions.label * videos + actions.video, return_inverse=True)
    places = np.full(max(int(found.label.max(initial=0)) + 1, int(actions.label[-1]) + 1) * videos, -1)
    places[own] = np.arange(len(own))
    place = places[found.label * videos + found.video]
    with_actions = np.flatnonzero(place >= 0)
    match protocol:
        case "activitynet":
            match_by_detection(taken, found.segment_s, with_actions, place, actions.segment_s, group, tiou)
        case "thumos14":
            match_by_truth(taken, found.segment_s, with_actions, place, actions.segment_s, group, tiou)
        case _:
            assert_never(protocol)
    return taken
