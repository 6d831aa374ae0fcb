"""Error analysis (DETAD): types of false positives, what each costs, and what kinds of actions are missed.

Alwassel et al., "Diagnosing Error in Temporal Action Detectors", ECCV 2018. Deviation: the
action that decides the type of a false positive is the one of highest tIoU with any label; ties go to its own label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64

from tadkit.config import Protocol
from tadkit.evaluation.average_precision import average_precision, judged_labels
from tadkit.evaluation.matching import Matched, match_classes
from tadkit.evaluation.sensitivity import Sensitivity, sensitivities
from tadkit.evaluation.tables import Table, pairs_in_groups, picked, turns
from tadkit.records import Annotation, Detection
from tadkit.segments import temporal_iou

ERRORS = ("double detection", "wrong label", "localisation", "confusion", "background")
"""Types of false positives, in DETAD's order."""
TOP = 10
"""The analysis uses the best TOP * G detections of a class with G actions."""
BACKGROUND_TIOU = 0.1
"""A false positive that overlaps every action by less is background."""
_HIT, _EXCUSED = -1, -2


@dataclass(frozen=True, eq=False)
class Errors:
    """False positives at one tIoU.

    Attributes:
        tiou: the threshold.
        shares: among the best G, 2G ... 10G detections per class, the fraction of true positives and of each type of
            error (:data:`ERRORS`), over all classes.
        costs: gain of mAP without the false positives of each type.
        missed: fraction of actions that no detection is matched to.
    """

    tiou: float
    shares: Float64[np.ndarray, "multiples outcomes"]
    costs: Mapping[str, float]
    missed: float


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The analysis of one set of detections.

    Attributes:
        errors: at each threshold.
        sensitivities: to the coverage, length and number of actions.
    """

    errors: tuple[Errors, ...]
    sensitivities: tuple[Sensitivity, ...]


def diagnose(
    truth: Mapping[str, Sequence[Annotation]],
    detections: Mapping[str, Sequence[Detection]],
    *,
    durations_s: Mapping[str, float],
    labels: Sequence[str] | None,
    tiou: Sequence[float],
    protocol: Protocol = "activitynet",
) -> Diagnosis:
    """Analyse detections.

    Args:
        truth: annotations of each video.
        detections: detections of each video.
        durations_s: length of each annotated video.
        labels: classes to evaluate; None means all annotated ones.
        tiou: thresholds.
        protocol: evaluation rules; DETAD uses activitynet's.

    Raises:
        AnnotationError: no action of the requested classes is annotated.
    """
    judged, _ = judged_labels(truth, labels)
    videos = sorted({*truth, *detections})
    matched = match_classes(truth, detections, videos=videos, labels=judged, tiou=tiou, protocol=protocol)
    lengths_s = np.array([durations_s.get(video, np.nan) for video in videos])
    overlap, nearest = nearest_actions(matched)
    same_label = (nearest >= 0) & (matched.actions.label[nearest] == matched.found.label)
    errors = tuple(
        _errors(matched, level, float(threshold), overlap, same_label, protocol) for level, threshold in enumerate(tiou)
    )
    return Diagnosis(errors, sensitivities(matched, lengths_s, tiou=tiou, protocol=protocol))


def nearest_actions(matched: Matched) -> tuple[Float64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Largest tIoU of each detection with an action of any label, and the row of that action; -1 where there is none.

    Among actions with equal tIoU, one of the detection's own label is taken.
    """
    found, actions = matched.found, matched.actions
    overlap, nearest = np.zeros(len(found)), np.full(len(found), -1, np.int64)
    for row, action in pairs_in_groups(found.video, actions.video, groups=matched.videos):
        every = temporal_iou(picked(found.segment_s, row), picked(actions.segment_s, action))
        first = np.flatnonzero(np.diff(row, prepend=-1))
        overlap[row[first]] = np.maximum.reduceat(every, first)
        largest = np.flatnonzero(every == overlap[row])
        nearest[row[largest]] = action[largest]
        own = largest[actions.label[action[largest]] == found.label[row[largest]]]
        nearest[row[own]] = action[own]
    return overlap, nearest


def _errors(
    matched: Matched,
    level: int,
    tiou: float,
    overlap: Float64[np.ndarray, " n"],
    same_label: Bool[np.ndarray, " n"],
    protocol: Protocol,
) -> Errors:
    reaches = overlap > tiou if protocol == "thumos14" else overlap >= tiou
    kind = np.select(
        [reaches, overlap >= min(BACKGROUND_TIOU, tiou)],
        [np.where(same_label, 0, 1), np.where(same_label, 2, 3)],
        default=4,
    )
    kind[matched.excused] = _EXCUSED
    kind[matched.taken[:, level] >= 0] = _HIT
    truths = np.bincount(matched.actions.label, minlength=len(matched.labels))
    shares = _shares(matched.found, kind, truths)
    as_is = _mean_ap(matched, level, np.ones(len(kind), bool), protocol)
    costs = {name: _mean_ap(matched, level, kind != number, protocol) - as_is for number, name in enumerate(ERRORS)}
    taken = np.unique(matched.taken[:, level])
    return Errors(tiou, shares, costs, 1.0 - float((taken >= 0).sum()) / len(matched.actions))


def _shares(
    found: Table, kind: Int64[np.ndarray, " n"], truths: Int64[np.ndarray, " labels"]
) -> Float64[np.ndarray, "multiples outcomes"]:
    """Fractions of hits and of each error among the best G, 2G ... of every class; 0 if there are none."""
    judged = kind != _EXCUSED
    rank = turns(found.label[judged]) // truths[found.label[judged]]
    outcome = kind[judged] + 1
    counts = np.stack([np.bincount(outcome[rank <= k], minlength=len(ERRORS) + 1) for k in range(TOP)])
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), np.float64)


def _mean_ap(matched: Matched, level: int, kept: Bool[np.ndarray, " n"], protocol: Protocol) -> float:
    """Mean AP of some of the detections at one tIoU."""
    some = replace(
        matched,
        found=matched.found.rows(kept),
        taken=matched.taken[kept, level : level + 1],
        excused=matched.excused[kept],
    )
    return float(average_precision(some.class_ranking(), protocol=protocol).mean())
