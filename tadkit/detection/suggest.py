"""``tadkit suggest``: which stretches of which videos to label next, because a detector is unsure of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Float64

from tadkit.config import Branch
from tadkit.detection.detect import Detector, detections_in_branches, features_in_video, load_detector
from tadkit.detection.tail import Track, detections_in_features
from tadkit.errors import TadkitError, UsageError, VideoError
from tadkit.models.heads import head_labels
from tadkit.progress import Progress, VideoProgress
from tadkit.records import HIGH_CONFIDENCE, Detection, read_dataset, read_detections_file, write_detections
from tadkit.runtime.engines import EngineChoice
from tadkit.segments import temporal_iou
from tadkit.video import open_sampled

STRETCH_S = 20.0
"""Length of a stretch."""
COUNT = 10
"""Stretches that are suggested."""
SAME_VIDEO, SAME_LABEL = 0.5, 0.8
"""Priorities are multiplied by these for each stretch of the same video, or with the same label, chosen before."""
_SPREAD = 1.0
"""A score this far from the operating point, in log odds, counts exp(-1/2) as much as one at it."""
_SAME_TIOU = 0.3
"""Of detections of one label that overlap this much only the best counts."""
_STEP_S = 0.5
"""Seconds between the times at which the branches are compared."""


@dataclass(frozen=True)
class Suggestion:
    """A stretch to label.

    Attributes:
        video: name of the video.
        start_s: where it starts.
        end_s: where it ends.
        label: label of its detection nearest the operating point; empty without detections.
        uncertainty: from 0 to 1; near 1 if detections score as much as the operating point.
        disagreement: mean distance of the scores of motion and appearance branch; None if it is not known.
    """

    video: str
    start_s: float
    end_s: float
    label: str
    uncertainty: float
    disagreement: float | None


class _Found(NamedTuple):
    """What is known of one video; ``branches`` is empty if its detections come from a file, or from one branch."""

    duration_s: float
    detections: Sequence[Detection]
    branches: Mapping[Branch, Sequence[Detection]]


@dataclass(frozen=True)
class Suggested:
    """What ``tadkit suggest`` found: stretches, the most useful first, and the error of each video that failed."""

    stretches: tuple[Suggestion, ...]
    failed: Mapping[str, TadkitError]


def suggest(
    videos: Mapping[str, Path],
    *,
    detections: Path | None = None,
    model: str | Path | None = None,
    labelled: Path | None = None,
    stretch_s: float = STRETCH_S,
    count: int = COUNT,
    out: Path | None = None,
    device: str = "auto",
    engine: EngineChoice = "auto",
    progress: Progress,
) -> Suggested:
    """Suggest stretches to label.

    A stretch is useful where scores are near the operating points, and where the motion and the appearance branch
    disagree: the mean of its ranks by both. A stretch that is chosen makes others of its video and label less useful.

    Args:
        videos: file of each video by name; may be empty with ``detections``, which has names of its own.
        detections: detections of the videos, in place of ``model``. Branches are not compared.
        model: name or file of the detector that looks for them; None is the bundled one.
        labelled: annotations whose videos are left out.
        stretch_s: length of a stretch; a video has a whole number of equal ones.
        count: most stretches to suggest.
        out: detections file of the suggested videos, at whose stretches ``tadkit report --edit`` opens them.
        device: ``auto``, ``cpu``, ``cuda`` ...
        engine: runs the backbone.
        progress: reports videos.

    Raises:
        UsageError: all videos are labelled.
        AnnotationError: a file cannot be read.
        WeightsError: the model cannot be loaded.
    """
    known = frozenset() if labelled is None else frozenset(read_dataset(labelled).videos)
    wanted = {name: path for name, path in videos.items() if name not in known}
    failed: dict[str, TadkitError] = {}
    if detections is not None:
        found, points, external = _from_file(detections, wanted if videos else None, known, progress)
    else:
        detector = load_detector(model, device=device, engine=engine)
        found, failed = _from_model(detector, wanted, progress)
        points, external = detector.operating_points, {"model": detector.origin["model"]}
    if not found and not failed:
        raise UsageError("no video to suggest: all are labelled" if known else "no video to suggest")
    chosen = _chosen([one for name, of in found.items() for one in _stretches(name, of, points, stretch_s)], count)
    if out is not None:
        names = dict.fromkeys(one.video for one in chosen)
        stretches = {name: [[one.start_s, one.end_s] for one in chosen if one.video == name] for name in names}
        durations = {name: found[name].duration_s for name in names}
        external = {**external, "operating_points": dict(points), "durations_s": durations, "stretches": stretches}
        write_detections(out, {name: found[name].detections for name in names}, external=external)
    return Suggested(tuple(chosen), failed)


def _from_file(
    path: Path, wanted: Mapping[str, Path] | None, known: frozenset[str], progress: Progress
) -> tuple[dict[str, _Found], Mapping[str, float], dict[str, Any]]:
    """Detections of a file, its operating points, and what it states of its model."""
    file = read_detections_file(path)
    names = [name for name in file.videos if name not in known and (wanted is None or name in wanted)]
    for name in wanted or ():
        if name not in file.videos:
            progress.warn(f"{path}: has no detections of '{name}', which is left out")
    ends_s = {name: max((one.end_s for one in file.videos[name]), default=0.0) for name in names}
    found = {name: _Found(file.durations_s.get(name, ends_s[name]), file.videos[name], {}) for name in names}
    return found, file.operating_points, {} if file.model is None else {"model": {"file": file.model}}


def _from_model(
    detector: Detector, videos: Mapping[str, Path], progress: Progress
) -> tuple[dict[str, _Found], dict[str, TadkitError]]:
    """Detections of videos by a detector and by each branch of its student, and the errors of those that fail."""
    found: dict[str, _Found] = {}
    failed: dict[str, TadkitError] = {}
    advances = VideoProgress(progress, "suggest", videos=len(videos))
    for name, path in videos.items():
        try:
            found[name] = _detected(detector, name, path, advances)
        except VideoError as error:
            failed[name] = error
        advances.end(name)
    return found, failed


def _detected(detector: Detector, name: str, path: Path, progress: VideoProgress) -> _Found:
    net = detector.net
    with open_sampled(path, detector.video) as sampled:
        progress.begin(name, frames=len(sampled) * (1 if detector.flow is None else 2))
        features = features_in_video(net, sampled, flow=detector.flow, engine=detector.engine, advance=progress.advance)
        track = Track(name, sampled.timeline.strided(net.student.backbone.stride), sampled.duration_s)
    detections = detections_in_branches(net, features, track, decoding=detector.decoding)
    branches: dict[Branch, Sequence[Detection]] = {}
    if net.settings.distill.two_branches and not net.settings.reads_flow:
        labels = head_labels(net.settings.head, detector.labels)
        for branch in get_args(Branch):
            feature = torch.from_numpy(getattr(features, branch)).T[None].to(detector.device)
            head = net.student.branch_head(branch)
            branches[branch] = detections_in_features(head, feature, track, labels=labels, decoding=detector.decoding)
    return _Found(track.duration_s, detections, branches)


def _stretches(name: str, found: _Found, points: Mapping[str, float], stretch_s: float) -> list[Suggestion]:
    """The equal stretches of one video."""
    count = max(1, round(found.duration_s / stretch_s))
    ends_s = [found.duration_s * number / count for number in range(count + 1)]
    unsure = [(one, _unsure(one, points)) for one in _distinct(found.detections)]
    times_s, distance = _disagreement(found)
    stretches = []
    for start_s, end_s in pairwise(ends_s):
        inside = [(one, weight) for one, weight in unsure if start_s <= (one.start_s + one.end_s) / 2 < end_s]
        nearest = max(inside, key=lambda pair: pair[1], default=None)
        during = (times_s >= start_s) & (times_s < end_s)
        stretches.append(
            Suggestion(
                name,
                start_s,
                end_s,
                label="" if nearest is None else nearest[0].label,
                uncertainty=1 - math.prod(1 - weight for _, weight in inside),
                disagreement=float(distance[during].mean()) if found.branches and during.any() else None,
            )
        )
    return stretches


def _distinct(detections: Sequence[Detection]) -> list[Detection]:
    """The detections without those that overlap a better one of their label: that one says how sure the model is."""
    kept: dict[str, list[Detection]] = {}
    for one in sorted(detections, key=lambda detection: -detection.score):
        of_label = kept.setdefault(one.label, [])
        others = np.array([(other.start_s, other.end_s) for other in of_label]).reshape(-1, 2)
        if not (temporal_iou(np.array([[one.start_s, one.end_s]]), others) >= _SAME_TIOU).any():
            of_label.append(one)
    return [one for of_label in kept.values() for one in of_label]


def _unsure(detection: Detection, points: Mapping[str, float]) -> float:
    """How near the score is to the operating point, from 0 to 1."""
    distance = _log_odds(detection.score) - _log_odds(points.get(detection.label, HIGH_CONFIDENCE))
    return math.exp(-0.5 * (distance / _SPREAD) ** 2)


def _log_odds(score: float) -> float:
    inside = min(max(score, 1e-6), 1 - 1e-6)
    return math.log(inside / (1 - inside))


def _disagreement(found: _Found) -> tuple[Float64[np.ndarray, " times"], Float64[np.ndarray, " times"]]:
    """Times in seconds, and there the largest distance, over labels, of the best scores of the two branches."""
    times_s = np.arange(0, max(found.duration_s, _STEP_S), _STEP_S)
    labels = sorted({one.label for of_branch in found.branches.values() for one in of_branch})
    if not labels:
        return times_s, np.zeros(len(times_s))
    curves = np.zeros((len(found.branches), len(labels), len(times_s)))
    for number, of_branch in enumerate(found.branches.values()):
        for one in of_branch:
            curve = curves[number, labels.index(one.label)]
            during = (times_s >= one.start_s) & (times_s < one.end_s)
            curve[during] = np.maximum(curve[during], one.score)
    return times_s, (curves.max(axis=0) - curves.min(axis=0)).max(axis=0)


def _chosen(stretches: Sequence[Suggestion], count: int) -> list[Suggestion]:
    """The most useful stretches, one after the other."""
    useful = _ranks([one.uncertainty for one in stretches])
    if all(one.disagreement is not None for one in stretches):
        useful = (useful + _ranks([one.disagreement or 0.0 for one in stretches])) / 2
    left = dict(enumerate(useful.tolist()))
    videos, labels = Counter[str](), Counter[str]()
    chosen: list[Suggestion] = []
    while left and len(chosen) < count:
        best = max(
            left,
            key=lambda place: (
                left[place]
                * SAME_VIDEO ** videos[stretches[place].video]
                * SAME_LABEL ** labels[stretches[place].label]
            ),
        )
        del left[best]
        one = stretches[best]
        videos[one.video] += 1
        labels[one.label] += 1
        chosen.append(one)
    return chosen


def _ranks(values: Sequence[float]) -> Float64[np.ndarray, " values"]:
    """Share of the values that are not larger, from above 0 to 1."""
    ordered = np.sort(values)
    return np.searchsorted(ordered, values, side="right") / max(1, len(ordered))
