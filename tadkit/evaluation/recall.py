"""Recall of class-agnostic proposals over their number (AR@AN, AUC), and of detections at k per action (Recall@kx).

AR@AN and the area under its curve are those of ActivityNet's ``eval_proposal``; Recall@kx is that of Ego4D's Moment
Queries (Grauman et al., CVPR 2022, Appendix F). Several proposals may find one action, so nothing is matched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from tadkit.evaluation.average_precision import judged_labels
from tadkit.evaluation.tables import Table, action_table, detection_table, pairs_in_groups, picked, turns
from tadkit.records import AMBIGUOUS, Annotation, Detection
from tadkit.segments import temporal_iou

CURVE_POINTS = 100
"""Number of points of the recall curve."""
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class ProposalRecall:
    """Recall of proposals, labels ignored.

    Attributes:
        tiou: thresholds.
        proposals_per_video: average number of proposals at each point of the curve.
        recall: fraction of actions found, at each threshold and point.
    """

    tiou: tuple[float, ...]
    proposals_per_video: Float64[np.ndarray, " points"]
    recall: Float64[np.ndarray, "tious points"]

    @property
    def average_recall(self) -> Float64[np.ndarray, " points"]:
        """AR: mean over the thresholds at each point."""
        return np.asarray(self.recall.mean(axis=0))

    @property
    def area(self) -> float:
        """AUC: area under :attr:`average_recall`, as a fraction of the largest number of proposals."""
        area = np.trapezoid(self.average_recall, self.proposals_per_video)
        return float(area / self.proposals_per_video[-1])

    def average_recall_at(self, number: float) -> float:
        """AR@AN, linearly interpolated between the points, constant after the last one."""
        return float(np.interp(number, self.proposals_per_video, self.average_recall))


def proposal_recall(
    truth: Mapping[str, Sequence[Annotation]],
    detections: Mapping[str, Sequence[Detection]],
    *,
    tiou: Sequence[float],
    proposals: float | None = 100,
) -> ProposalRecall:
    """Recall over the number of proposals; every video contributes the same fraction of its proposals, best first.

    As in the official evaluator, videos without actions are left out, but their proposals count when the fraction is
    computed. Unlike there, ties are broken by rule: (-score, start, end).

    Args:
        truth: annotations of each video.
        detections: detections of each video; their labels are ignored.
        tiou: thresholds.
        proposals: average number per video at the end of the curve; None uses all.

    Raises:
        AnnotationError: no action is annotated.
    """
    judged_labels(truth, None)
    videos = sorted(video for video, actions in truth.items() if any(a.label != AMBIGUOUS for a in actions))
    actions = action_table(truth, videos=videos, labels=_labels(truth))
    found = detection_table(detections, videos=videos, labels=_labels(detections))
    found = found.rows(np.lexsort((found.segment_s[:, 1], found.segment_s[:, 0], -found.score, found.video)))
    count = np.bincount(found.video, minlength=len(videos))
    every = sum(len(items) for items in detections.values())
    if count.sum() == 0:
        points = np.arange(1, CURVE_POINTS + 1) / CURVE_POINTS * (proposals or 1.0)
        return ProposalRecall(tuple(tiou), points, np.zeros((len(tiou), CURVE_POINTS)))
    average = every / len(videos) if proposals is None else proposals
    retrieved = np.minimum((count * (average * len(videos) / every)).astype(np.int64), count)
    share = np.arange(1, CURVE_POINTS + 1) / 100.0 * (average * len(videos) / max(int(retrieved.sum()), 1))
    first = _first_hit(actions, found, retrieved, tiou, len(videos))
    shown = np.minimum((retrieved[:, None] * share).astype(np.int64), retrieved[:, None])
    recall = (first[:, :, None] < shown[actions.video, None]).mean(axis=0)
    return ProposalRecall(tuple(tiou), share * (retrieved.sum() / len(videos)), recall)


def recall_at_multiples(
    truth: Mapping[str, Sequence[Annotation]],
    detections: Mapping[str, Sequence[Detection]],
    *,
    labels: Sequence[str] | None,
    tiou: Sequence[float],
    multiples: Sequence[int] = (1, 5),
) -> Float64[np.ndarray, "multiples tious"]:
    """Recall@kx: fraction of actions found by the ``k * x`` best detections of a class in a video with ``x`` actions.

    Args:
        truth: annotations of each video.
        detections: detections of each video.
        labels: classes to evaluate; None means all annotated ones.
        tiou: thresholds, reached from below (>=).
        multiples: the values of k.

    Returns:
        Unweighted mean over the classes.

    Raises:
        AnnotationError: no action of the requested classes is annotated.
    """
    judged, _ = judged_labels(truth, labels)
    videos = sorted(truth)
    actions = action_table(truth, videos=videos, labels=judged)
    found = detection_table(detections, videos=videos, labels=judged)
    found = found.rows(np.lexsort((found.segment_s[:, 1], found.segment_s[:, 0], -found.score)))
    pairs = [table.label * len(videos) + table.video for table in (actions, found)]
    known, group, truths = np.unique(pairs[0], return_inverse=True, return_counts=True)
    mine = np.searchsorted(known, pairs[1])
    near = known[np.minimum(mine, len(known) - 1)] == pairs[1]
    mine, segment_s = mine[near], found.segment_s[near]
    near = turns(mine) < max(multiples) * truths[mine]
    first = _first_rank(actions.segment_s, group, segment_s[near], mine[near], tiou, len(known))
    hit = np.stack([first < (k * truths[group])[:, None] for k in multiples])
    of_class = [hit[:, actions.label == label].mean(axis=1) for label in range(len(judged))]
    return np.asarray(np.mean(of_class, axis=0))


def _labels(records: Mapping[str, Sequence[Annotation | Detection]]) -> list[str]:
    """All labels except that of ambiguous segments."""
    return sorted({one.label for items in records.values() for one in items} - {AMBIGUOUS})


def _first_hit(
    actions: Table,
    found: Table,
    retrieved: Int64[np.ndarray, " videos"],
    tiou: Sequence[float],
    videos: int,
) -> Int64[np.ndarray, "actions tious"]:
    """Rank of the first proposal that reaches each threshold on each action, among those retrieved."""
    near = turns(found.video) < retrieved[found.video]
    return _first_rank(actions.segment_s, actions.video, found.segment_s[near], found.video[near], tiou, videos)


def _first_rank(
    actions_s: Float64[np.ndarray, "g 2"],
    group: Int64[np.ndarray, " g"],
    found_s: Float64[np.ndarray, "n 2"],
    found_group: Int64[np.ndarray, " n"],
    tiou: Sequence[float],
    groups: int,
) -> Int64[np.ndarray, "g tious"]:
    """Rank in its group of the first row found that reaches each threshold on each action; _NEVER if none does."""
    first = np.full((len(actions_s), len(tiou)), _NEVER)
    rank = turns(found_group)
    for action, row in pairs_in_groups(group, found_group, groups=groups):
        overlap = temporal_iou(picked(actions_s, action), picked(found_s, row))
        for level, threshold in enumerate(tiou):
            reached = np.flatnonzero(overlap >= threshold)[::-1]
            # If several reach it, the last one written stays: the best, since pairs are sorted by decreasing rank.
            first[action[reached], level] = rank[row[reached]]
    return first
