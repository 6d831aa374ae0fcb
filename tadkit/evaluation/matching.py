"""Matching of detections with actions in every video, and the ranking of all detections of a class.

Sources: ActivityNet's official ``eval_detection`` (Caba Heilbron et al., CVPR 2015) and the evaluation kit of the
THUMOS Challenge 2014 (Jiang et al.). Both match within one video only, so a match never depends on which other videos
are evaluated; the bootstrap relies on that, and all videos are processed at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import assert_never

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from tadkit.config import Protocol
from tadkit.evaluation.rules import Groups, match_by_detection, match_by_truth
from tadkit.evaluation.tables import Table, action_table, detection_table, in_groups, small
from tadkit.records import AMBIGUOUS, Annotation, Detection
from tadkit.segments import temporal_iou


@dataclass(frozen=True, eq=False)
class Ranking:
    """Ranked detections of one or more groups, and whether each one is a hit.

    Ties are broken by rule, never by the sort algorithm. activitynet sorts by (-score, video, start, end); thumos14 by
    (-score, video, position in the video's list), as its kit does: there the order in a file can move AP by points.

    Attributes:
        group: of each detection, ascending; a group is a class, or all of them together.
        video: index of each detection's video.
        hit: whether each detection is matched to an action, at each tIoU.
        excused: whether it is ignored if unmatched (thumos14: it overlaps an ambiguous segment).
        truths: number of actions of each group in each video.
    """

    group: Int64[np.ndarray, " detections"]
    video: Int64[np.ndarray, " detections"]
    hit: Bool[np.ndarray, "detections tious"]
    excused: Bool[np.ndarray, " detections"]
    truths: Int64[np.ndarray, "groups videos"]

    @cached_property
    def near(self) -> Int64[np.ndarray, " m"]:
        """Detections that hit at one tIoU or more."""
        row = np.flatnonzero(self.hit) // self.hit.shape[1]
        return np.asarray(row[np.diff(row, prepend=-1) > 0])

    @cached_property
    def counted(self) -> Bool[np.ndarray, "detections one_or_tious"]:
        """Whether each detection is a hit or a false positive; one column if all are."""
        return self.hit | ~self.excused[:, None] if self.excused.any() else np.ones((len(self.video), 1), bool)


@dataclass(frozen=True, eq=False)
class Matched:
    """Every detection of the evaluated classes and the action that it is matched to.

    Attributes:
        labels: the classes.
        actions: of all classes, by (label, video, start, end).
        found: detections by class, each class as ranked.
        pooled: rows of ``found`` ranked over all classes; ties in the order of the classes.
        taken: row of the action that each detection is matched to at each tIoU, -1 for none.
        excused: see :class:`Ranking`.
        videos: number of videos.
    """

    labels: Sequence[str]
    actions: Table
    found: Table
    pooled: Int64[np.ndarray, " detections"]
    taken: Int32[np.ndarray, "detections tious"]
    excused: Bool[np.ndarray, " detections"]
    videos: int

    @cached_property
    def hit(self) -> Bool[np.ndarray, "detections tious"]:
        """Whether each detection is matched to an action, at each tIoU."""
        return self.taken >= 0

    def class_ranking(self) -> Ranking:
        """One ranking per class, in the order of the labels."""
        return Ranking(self.found.label, self.found.video, self.hit, self.excused, self._truths())

    def pooled_ranking(self) -> Ranking:
        """One ranking over all classes."""
        video, hit = self.found.video[self.pooled], self.hit.take(self.pooled, axis=0)
        truths = self._truths().sum(axis=0, keepdims=True)
        return Ranking(np.zeros(len(video), np.int64), video, hit, self.excused[self.pooled], truths)

    def _truths(self) -> Int64[np.ndarray, "labels videos"]:
        place = self.actions.label * self.videos + self.actions.video
        return np.bincount(place, minlength=len(self.labels) * self.videos).reshape(len(self.labels), self.videos)


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
        videos: videos to evaluate, sorted; a detection in one without annotations is a false positive.
        labels: classes to evaluate, at least one; other labels are ignored.
        tiou: thresholds, at least one.
        protocol: evaluation rules.
    """
    assert len(tiou) > 0, "no thresholds"
    actions = action_table(truth, videos=videos, labels=labels)
    found = detection_table(detections, videos=videos, labels=labels)
    order = ranked(found, protocol)
    by_class = np.argsort(small(found.label[order]), kind="stable")
    found = found.rows(order[by_class])
    rank = np.empty(len(found), np.int64)
    rank[by_class] = np.arange(len(found))
    taken = _match(found, actions, np.asarray(tiou, np.float64), len(videos), protocol)
    excused = np.zeros(len(found), bool)
    if protocol == "thumos14":
        excused = _touches(found, action_table(truth, videos=videos, labels=(AMBIGUOUS,)), len(videos))
    return Matched(labels, actions, found, rank, taken, excused, len(videos))


def ranked(found: Table, protocol: Protocol) -> Int64[np.ndarray, " n"]:
    """Rows of detections (given in file order) by decreasing score; ties as in :class:`Ranking`."""
    order = np.argsort(-found.score)
    score = found.score[order]
    if (score[1:] < score[:-1]).all():
        return order
    match protocol:
        case "activitynet":
            end_s, start_s = found.segment_s[:, 1], found.segment_s[:, 0]
            return np.lexsort((found.label, end_s, start_s, found.video, -found.score))
        case "thumos14":
            return np.argsort(-found.score, kind="stable")
        case _:
            assert_never(protocol)


def _touches(found: Table, stretches: Table, videos: int) -> Bool[np.ndarray, " n"]:
    """Whether each detection overlaps one of the ambiguous segments of its video."""
    slots = in_groups(stretches.video, groups=videos)[found.video]
    if slots.shape[1] == 0:
        return np.zeros(len(found), bool)
    overlap = temporal_iou(found.segment_s[:, None], stretches.segment_s[slots])
    return np.asarray(((overlap > 0) & (slots >= 0)).any(axis=1))


def _match(
    found: Table, actions: Table, tiou: Float64[np.ndarray, " k"], videos: int, protocol: Protocol
) -> Int32[np.ndarray, "p k"]:
    """Row of the action that each detection is matched to, -1 for none; within one label and video."""
    if len(actions) == 0:
        return np.full((len(found), len(tiou)), -1, np.int32)
    own, group = np.unique(actions.label * videos + actions.video, return_inverse=True)
    group_of = np.full(max(int(found.label.max(initial=0)) + 1, int(actions.label[-1]) + 1) * videos, -1)
    group_of[own] = np.arange(len(own))
    groups = Groups(found.segment_s, group_of[found.label * videos + found.video], actions.segment_s, group)
    match protocol:
        case "activitynet":
            return match_by_detection(groups, tiou)
        case "thumos14":
            return match_by_truth(groups, tiou)
        case _:
            assert_never(protocol)
