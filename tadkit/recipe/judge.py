"""The final table of a run: every row's detections in the held-out videos, written and evaluated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from jaxtyping import Float64

from tadkit.checkpoint import load_checkpoint
from tadkit.config import TEACHER, Branch, HeadSettings, Recipe
from tadkit.detection.detect import detections_in_branches
from tadkit.detection.detect_features import HeadFile, track_of
from tadkit.detection.tail import detections_in_features, detections_of, video_scores_for
from tadkit.evaluation import Interval, bootstrap_map, mean_average_precision, paired_difference
from tadkit.evaluation.bootstrap import Figure
from tadkit.extraction.branch_features import BranchFeatures
from tadkit.files import digest_of, digest_of_file, write_text
from tadkit.models.decode.tracks import track_candidates
from tadkit.models.detector import build_detector, build_student, build_teacher
from tadkit.models.head_file import load_head
from tadkit.models.heads import AGNOSTIC_LABEL, Candidates, Head, HeadPredictions, head_labels
from tadkit.recipe.streams import TwoStreams
from tadkit.recipe.workspace import Workspace
from tadkit.records import Annotation, Dataset, Detection, write_dataset, write_detections
from tadkit.runtime.devices import torch_device
from tadkit.store import TrackReader, VideoTracks, read_store

JUDGED_BY = 3
"""Raised when a change of decoding or evaluation changes the figures of the same models."""
_FIGURES: tuple[Figure, Figure] = ("map", "pooled")


BASELINE = "rgb"
"""The row that every other row is compared with, if the recipe compares it."""


@dataclass(frozen=True)
class PairedDifference:
    """A row's mean mAP and mean pooled AP minus those of another row, over the same draws of the held-out videos.

    Attributes:
        baseline: name of the other row.
        average_map: difference of the mean mAP.
        map_interval: its 95 % interval.
        average_pooled: difference of the mean pooled AP.
        pooled_interval: its 95 % interval.
        covers_zero: whether the interval of the mean mAP contains zero, so that either row may be the better one.
    """

    baseline: str
    average_map: float
    map_interval: tuple[float, float]
    average_pooled: float
    pooled_interval: tuple[float, float]
    covers_zero: bool


@dataclass(frozen=True)
class Row:
    """One row of the final table: a model's figures on the held-out videos, as fractions.

    Attributes:
        name: ``teacher``, the row of a detector, ``ROW: BRANCH``, a branch of its student alone, or ``teacher: NAME``,
            a further teacher.
        average_map: mean over classes and thresholds, with its interval over videos.
        map: class mean by threshold.
        average_pooled: all instances pooled into one ranking, mean over thresholds, with its interval.
        pooled: the same by threshold.
        per_class: average over thresholds of each class.
        difference: to :data:`BASELINE`; None for that row itself, if it is not compared, or if it is judged otherwise.
    """

    name: str
    average_map: float
    map: Mapping[float, float]
    average_pooled: float
    pooled: Mapping[float, float]
    map_interval: tuple[float, float]
    pooled_interval: tuple[float, float]
    per_class: Mapping[str, float]
    difference: PairedDifference | None = None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Row:
        """The row that a report holds; JSON has text for thresholds, and lists for intervals."""
        by_threshold = {name: {float(at): value for at, value in values[name].items()} for name in ("map", "pooled")}
        difference = None if values["difference"] is None else PairedDifference(**_with_intervals(values["difference"]))
        return cls(**{**_with_intervals(values), **by_threshold, "difference": difference})


def _with_intervals(values: Mapping[str, Any]) -> dict[str, Any]:
    return {**values, **{name: tuple(values[name]) for name in ("map_interval", "pooled_interval")}}


def judged(workspace: Workspace, device: str) -> list[Row]:
    """Figures of every row on the held-out videos; read from the last run's report if nothing has changed."""
    key = _key(workspace)
    rows = _rows_of_report(workspace.report, key)
    if rows is None:
        found: dict[str, dict[str, list[Detection]]] = {}
        for row in workspace.rows:
            found |= detected(workspace, row, device)
        rows = [row_of(workspace, name, found) for name in found]
        _write_truth(workspace)
        write_text(workspace.report, json.dumps({"key": key, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    return rows


def detected(workspace: Workspace, row: str, device: str) -> dict[str, dict[str, list[Detection]]]:
    """Detections of the held-out videos by a row, and by what is judged below it; they are written, too."""
    found = {row: _found(workspace, row, device)}
    write_detections(workspace.detections(row), found[row], external=_external(workspace, row))
    kind, parts = _found_by_parts(workspace, row, device)
    for part, alone in parts.items():
        found[f"{row}: {part}"] = alone
        external = {"recipe": workspace.recipe.name, "row": row, kind: part}
        write_detections(workspace.part_detections(row, part), alone, external=external)
    return found


def detected_in_turn(workspace: Workspace, device: str) -> list[str]:
    """Write the detections of every row whose model or features have changed; names of all that are written.

    Rows are added without detecting again by the others, and nothing is evaluated.
    """
    path = workspace.folder / "detections" / "keys.json"
    known, kept = _known_detections(path), dict[str, list[Any]]()
    for row in workspace.rows:
        below = [] if row == TEACHER else _with_branches_of(workspace, row)[:1]
        key = digest_of([_found_key(workspace, row), below])
        if known.get(row, [""])[0] != key:
            known[row] = [key, list(detected(workspace, row, device))]
            write_text(path, json.dumps(known, indent=1) + "\n")
        kept[row] = known[row]
    _write_truth(workspace)
    return [name for _, names in kept.values() for name in names]


def _known_detections(path: Path) -> dict[str, list[Any]]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _write_truth(workspace: Workspace) -> None:
    """Write the actions that the held-out videos are judged by: those of the recipe's labels."""
    known = workspace.recipe.labels
    records = {
        item.name: replace(item.record, annotations=tuple(a for a in item.record.annotations if a.label in known))
        for item in workspace.held_out
    }
    write_dataset(workspace.held_out_annotations, Dataset(records))


def _found_key(workspace: Workspace, row: str) -> str:
    """What the detections of a row, and of what is judged below it, depend on."""
    scores = None if workspace.video_scores is None else digest_of_file(workspace.video_scores)
    decoding = workspace.of_row(row).decode.model_dump(mode="json")
    return digest_of([JUDGED_BY, _models_and_tracks(workspace, row), decoding, scores])


def _models_and_tracks(workspace: Workspace, row: str) -> dict[str, tuple[str, list[str]]]:
    """Digest of the model of a row, and keys of what it reads of the held-out videos; of further teachers, too."""
    places = {row: workspace}
    if row == TEACHER:
        places |= {f"{TEACHER}: {further.teacher_name}": further for further in workspace.teachers[1:]}
    found: dict[str, tuple[str, list[str]]] = {}
    for name, place in places.items():
        keys: list[str] = []
        for path in place.judged_stores(row):
            with read_store(path, kind="features") as store:
                keys += [store.key(item.name) for item in workspace.held_out]
        found[name] = digest_of_file(place.model(row)), keys
    return found


def _key(workspace: Workspace) -> str:
    """What the figures depend on: model files, held-out features and ground truth, decoding and evaluation."""
    recipe = workspace.recipe
    of_rows = [_models_and_tracks(workspace, row) for row in workspace.rows]
    models = {name: model for of_row in of_rows for name, (model, _) in of_row.items()}
    tracks = {name: keys for of_row in of_rows for name, (_, keys) in of_row.items()}
    scores = None if workspace.video_scores is None else digest_of_file(workspace.video_scores)
    settings = recipe.model_dump(mode="json", include={"labels", "evaluation"})
    decoding = {row: workspace.of_row(row).decode.model_dump(mode="json") for row in workspace.rows}
    truth = [item.truth_digest for item in workspace.held_out]
    return digest_of([JUDGED_BY, models, tracks, truth, settings, decoding, scores])


def _external(workspace: Workspace, row: str) -> dict[str, Any]:
    """What a file of the held-out videos' detections states beside them."""
    external: dict[str, Any] = {"recipe": workspace.recipe.name, "row": row}
    if row != "teacher" and not workspace.recipe.head_alone and workspace.video_scores is None:
        points = load_checkpoint(workspace.detector(row), kind="detector").operating_points
        external |= {"operating_points": dict(points)} if points else {}
    return external


def _rows_of_report(path: Path, key: str) -> list[Row] | None:
    """Rows of a report with this key; None if it is missing, damaged or has another key."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        return [Row.from_json(row) for row in report["rows"]] if report["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _found(workspace: Workspace, row: str, device: str) -> dict[str, list[Detection]]:
    if workspace.recipe.head_alone:
        return _by_head(workspace, device)
    return _by_teacher(workspace) if row == TEACHER else found_by_detector(workspace, row, device)


def _by_head(workspace: Workspace, device: str) -> dict[str, list[Detection]]:
    """Detections by the head that was trained on the features of a source."""
    head, labels = load_head(workspace.features_head)
    model, decoding = HeadFile(workspace.features_head, head.to(torch_device(device)), labels), workspace.recipe.decode
    scores = video_scores_for(head, labels, path=workspace.video_scores, decoding=decoding)
    with read_store(workspace.features_source, kind="features") as store:
        return {
            item.name: model.detections(store, track_of(store, item.name), decoding=decoding, video_scores=scores)
            for item in workspace.held_out
        }


def _by_teacher(workspace: Workspace) -> dict[str, list[Detection]]:
    """Detections by the teacher, from its stored outputs."""
    recipe, decoding = workspace.recipe, workspace.recipe.decode
    labels = head_labels(recipe.head, recipe.labels)
    head = build_teacher(load_checkpoint(workspace.teacher, kind="teacher"))[1].head
    scores = video_scores_for(head, labels, path=workspace.video_scores, decoding=decoding)
    with read_store(workspace.teacher_outputs, kind="features") as store:
        return {
            item.name: detections_of(
                _teacher_candidates(store, item.name, recipe, head),
                track_of(store, item.name),
                labels=labels,
                decoding=decoding,
                video_scores=scores,
            )
            for item in workspace.held_out
        }


def _teacher_candidates(tracks: TrackReader, name: str, recipe: Recipe, head: Head) -> Candidates:
    """Candidates of one video, from the teacher's stored predictions, or from its stored feature if there are none."""
    least, limit, levels = recipe.decode.min_score, recipe.decode.top_candidates, recipe.head.pyramid_levels

    def read(track: str) -> torch.Tensor:
        return torch.from_numpy(tracks.read(name, f"original/{track}")).float()[None]

    if not levels:
        feature = read("feature").transpose(1, 2)
        mask = torch.ones(1, feature.shape[2], dtype=torch.bool)
        return track_candidates(head, feature, mask, core_steps=feature.shape[2], min_score=least, limit=limit)
    logits, offsets = (tuple(read(f"{field}_{n}") for n in range(levels)) for field in ("logits", "offsets"))
    masks = tuple(torch.ones(level.shape[:2], dtype=torch.bool) for level in logits)
    return head.candidates(HeadPredictions(logits, offsets, masks), min_score=least)


def found_by_detector(workspace: Workspace, row: str, device: str) -> dict[str, list[Detection]]:
    """Detections of the held-out videos by a row's detector, from stored features."""
    recipe, decoding = workspace.of_row(row), workspace.of_row(row).decode
    detector = build_detector(load_checkpoint(workspace.detector(row), kind="detector")).to(torch_device(device))
    head, labels = detector.joint.head, detector.labels
    scores = video_scores_for(head, labels, path=workspace.video_scores, decoding=decoding)
    found: dict[str, list[Detection]] = {}
    with ExitStack() as opened:
        store = opened.enter_context(read_store(workspace.features(row), kind="features"))
        tracks: VideoTracks = store
        if recipe.reads_flow:
            teacher = opened.enter_context(read_store(workspace.teacher_outputs, kind="features"))
            tracks = TwoStreams(teacher, store)
        for item in workspace.held_out:
            motion = tracks.read(item.name, "original/motion").astype(np.float32) if recipe.two_tracks else None
            features = BranchFeatures(motion=motion, appearance=tracks.read(item.name, "original/appearance"))
            found[item.name] = detections_in_branches(
                detector, features, track_of(store, item.name), decoding=decoding, video_scores=scores
            )
    return found


def _found_by_parts(
    workspace: Workspace, row: str, device: str
) -> tuple[str, Mapping[str, dict[str, list[Detection]]]]:
    """What the rows below a row have found, by name: the further teachers, or the branches of its student."""
    if row == TEACHER:
        return "teacher", {further.teacher_name: _by_teacher(further) for further in workspace.teachers[1:]}
    return "branch", _found_by_branches(workspace, row, device)


def _found_by_branches(workspace: Workspace, row: str, device: str) -> dict[str, dict[str, list[Detection]]]:
    """Detections by each branch of a row's student alone, by the branch's head, from the stored features.

    The one stream of a method without a motion branch is its appearance branch. None for students that an earlier row
    has, too, and for rows that read flow.
    """
    if workspace.recipe.head_alone or row != next(iter(_with_branches_of(workspace, row)), None):
        return {}
    recipe, decoding = workspace.of_row(row), workspace.of_row(row).decode
    student = build_student(load_checkpoint(workspace.student(row), kind="student"))[1].to(torch_device(device))
    labels = head_labels(recipe.head, recipe.labels)
    scores = video_scores_for(student.head, labels, path=workspace.video_scores, decoding=decoding)
    found: dict[str, dict[str, list[Detection]]] = {}
    with read_store(workspace.features(row), kind="features") as store:
        for branch in get_args(Branch) if recipe.distill.two_branches else ("appearance",):
            of_branch = found.setdefault(branch, {})
            for item in workspace.held_out:
                feature = torch.from_numpy(store.read(item.name, f"original/{branch}")).T[None].to(torch_device(device))
                of_branch[item.name] = detections_in_features(
                    student.branch_head(branch),
                    feature,
                    track_of(store, item.name),
                    labels=labels,
                    decoding=decoding,
                    video_scores=scores,
                )
    return found


def _with_branches_of(workspace: Workspace, row: str) -> list[str]:
    """Rows of the table that read RGB with the student of ``row``; the first is judged with the student's branches."""
    rows = (other for other in workspace.rows if other != TEACHER and not workspace.of_row(other).reads_flow)
    return [other for other in rows if workspace.student_row(other) == workspace.student_row(row)]


def row_of(workspace: Workspace, name: str, of_rows: Mapping[str, Mapping[str, list[Detection]]]) -> Row:
    """Figures of one row, whose detections in the held-out videos are among those of ``of_rows``."""
    recipe, found = workspace.recipe, of_rows[name]
    truth = truth_of(workspace, name)
    tiou = recipe.evaluation.tiou
    rules = rules_of(recipe, truth)
    judged = mean_average_precision(truth, found, **rules)
    by_class, pooled = (bootstrap_map(truth, found, seed=0, figure=figure, **rules) for figure in _FIGURES)
    difference = None
    if name != BASELINE and BASELINE in of_rows and truth_of(workspace, BASELINE) == truth:
        difference = _difference(truth, found, of_rows[BASELINE], **rules)
    return Row(
        name=name,
        average_map=judged.average_map,
        map=_by_threshold(tiou, judged.map),
        average_pooled=judged.average_pooled,
        pooled=_by_threshold(tiou, judged.pooled),
        map_interval=_ends(by_class),
        pooled_interval=_ends(pooled),
        per_class={label: float(np.mean(values)) for label, values in judged.per_class.items()},
        difference=difference,
    )


def truth_of(workspace: Workspace, name: str) -> dict[str, list[Annotation]]:
    """Actions of the held-out videos as a row of the table is judged by them."""
    return held_out_truth(workspace, _head_of(workspace, name))


def rules_of(recipe: Recipe, truth: Mapping[str, list[Annotation]]) -> dict[str, Any]:
    """Arguments of evaluation: thresholds, protocol, and those of the recipe's labels that have actions."""
    there = {action.label for actions in truth.values() for action in actions}
    labels = [label for label in dict.fromkeys((*recipe.labels, AGNOSTIC_LABEL)) if label in there]
    return {"tiou": recipe.evaluation.tiou, "labels": labels, "protocol": recipe.evaluation.protocol}


def _difference(
    truth: Mapping[str, list[Annotation]],
    found: Mapping[str, list[Detection]],
    baseline: Mapping[str, list[Detection]],
    **rules: Any,
) -> PairedDifference:
    by_class, pooled = (
        paired_difference(truth, found, baseline, seed=0, figure=figure, **rules) for figure in _FIGURES
    )
    return PairedDifference(
        baseline=BASELINE,
        average_map=by_class.value,
        map_interval=(by_class.low, by_class.high),
        average_pooled=pooled.value,
        pooled_interval=(pooled.low, pooled.high),
        covers_zero=by_class.covers_zero,
    )


def _head_of(workspace: Workspace, name: str) -> HeadSettings:
    """Settings of the head that a row of the table detects with: the teacher's, a student's or a detector's."""
    return workspace.recipe.head if name == "teacher" or ": " in name else workspace.of_row(name).detector_head


def held_out_truth(workspace: Workspace, head: HeadSettings) -> dict[str, list[Annotation]]:
    """Actions of the held-out videos; all of one class if neither the head nor video scores name classes."""
    known = workspace.recipe.labels
    named_by_scores = workspace.video_scores is not None and workspace.recipe.decode.video_labels > 0
    truth = {item.name: [a for a in item.record.annotations if a.label in known] for item in workspace.held_out}
    if not head.class_agnostic or named_by_scores:
        return truth
    (label,) = head_labels(head, known)
    return {video: [replace(action, label=label) for action in actions] for video, actions in truth.items()}


def _by_threshold(tiou: tuple[float, ...], values: Float64[np.ndarray, " tious"]) -> dict[float, float]:
    return {threshold: float(value) for threshold, value in zip(tiou, values, strict=True)}


def _ends(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high
