"""The final table of a run: every row's detections in the held-out videos, written and evaluated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from tadkit.checkpoint import load_checkpoint
from tadkit.config import HeadSettings, Recipe
from tadkit.detection.detect import detections_in_branches
from tadkit.detection.detect_features import HeadFile, track_of
from tadkit.detection.tail import detections_of, video_scores_for
from tadkit.evaluation import Interval, bootstrap_map, mean_average_precision
from tadkit.extraction.branch_features import BranchFeatures
from tadkit.files import digest_of, digest_of_file, write_text
from tadkit.models.decode.tracks import track_candidates
from tadkit.models.detector import build_detector, build_teacher
from tadkit.models.head_file import load_head
from tadkit.models.heads import AGNOSTIC_LABEL, Candidates, Head, HeadPredictions, head_labels
from tadkit.recipe.workspace import Workspace
from tadkit.records import Annotation, Dataset, Detection, write_dataset, write_detections
from tadkit.runtime.devices import torch_device
from tadkit.store import TrackReader, read_store

JUDGED_BY = 2
"""Raised when a change of decoding or evaluation changes the figures of the same models."""


@dataclass(frozen=True)
class Row:
    """One row of the final table: a model's figures on the held-out videos, as fractions.

    Attributes:
        name: ``teacher``, or the row of a detector.
        average_map: mean over classes and thresholds, with its interval over videos.
        map: class mean by threshold.
        average_pooled: all instances pooled into one ranking, mean over thresholds, with its interval.
        pooled: the same by threshold.
        per_class: average over thresholds of each class.
    """

    name: str
    average_map: float
    map: Mapping[float, float]
    average_pooled: float
    pooled: Mapping[float, float]
    map_interval: tuple[float, float]
    pooled_interval: tuple[float, float]
    per_class: Mapping[str, float]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Row:
        """The row that a report holds; JSON has text for thresholds, and lists for intervals."""
        by_threshold = {name: {float(at): value for at, value in values[name].items()} for name in ("map", "pooled")}
        intervals = {name: tuple(values[name]) for name in ("map_interval", "pooled_interval")}
        return cls(**{**values, **by_threshold, **intervals})


def judged(workspace: Workspace, device: str) -> list[Row]:
    """Figures of every row on the held-out videos; read from the last run's report if nothing has changed."""
    key = _key(workspace)
    rows = _rows_of_report(workspace.report, key)
    if rows is None:
        rows = []
        for row in workspace.rows:
            found = _found(workspace, row, device)
            write_detections(workspace.detections(row), found, external=_external(workspace, row))
            rows.append(_row(workspace, row, found))
        truth = Dataset({item.name: item.record for item in workspace.held_out})
        write_dataset(workspace.held_out_annotations, truth)
        write_text(workspace.report, json.dumps({"key": key, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
    return rows


def _key(workspace: Workspace) -> str:
    """What the figures depend on: model files, held-out features and ground truth, decoding and evaluation."""
    recipe, held_out = workspace.recipe, workspace.held_out
    models = {row: digest_of_file(workspace.model(row)) for row in workspace.rows}
    stores = {row: workspace.judged_store(row) for row in workspace.rows}
    tracks = {}
    for row, path in stores.items():
        with read_store(path, kind="features") as store:
            tracks[row] = [store.key(item.name) for item in held_out]
    scores = None if workspace.video_scores is None else digest_of_file(workspace.video_scores)
    settings = recipe.model_dump(mode="json", include={"labels", "evaluation"})
    decoding = {row: workspace.of_row(row).decode.model_dump(mode="json") for row in workspace.rows}
    truth = [item.truth_digest for item in held_out]
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
    return _by_teacher(workspace) if row == "teacher" else found_by_detector(workspace, row, device)


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
    """Detections of the held-out videos by a row's detector, from its stored features."""
    decoding = workspace.of_row(row).decode
    detector = build_detector(load_checkpoint(workspace.detector(row), kind="detector")).to(torch_device(device))
    head, labels = detector.joint.head, detector.labels
    scores = video_scores_for(head, labels, path=workspace.video_scores, decoding=decoding)
    found: dict[str, list[Detection]] = {}
    with read_store(workspace.features(row), kind="features") as store:
        for item in workspace.held_out:
            has_motion = "original/motion" in store.tracks(item.name)
            features = BranchFeatures(
                motion=store.read(item.name, "original/motion") if has_motion else None,
                appearance=store.read(item.name, "original/appearance"),
            )
            found[item.name] = detections_in_branches(
                detector, features, track_of(store, item.name), decoding=decoding, video_scores=scores
            )
    return found


def _row(workspace: Workspace, name: str, found: Mapping[str, list[Detection]]) -> Row:
    recipe = workspace.recipe
    truth = held_out_truth(workspace, recipe.head if name == "teacher" else workspace.of_row(name).detector_head)
    tiou, protocol = recipe.evaluation.tiou, recipe.evaluation.protocol
    there = {action.label for actions in truth.values() for action in actions}
    labels = [label for label in dict.fromkeys((*recipe.labels, AGNOSTIC_LABEL)) if label in there]
    judged = mean_average_precision(truth, found, labels=labels, tiou=tiou, protocol=protocol)
    by_class, pooled = (
        bootstrap_map(truth, found, tiou=tiou, labels=labels, seed=0, protocol=protocol, figure=figure)
        for figure in ("map", "pooled")
    )
    return Row(
        name=name,
        average_map=judged.average_map,
        map=_by_threshold(tiou, judged.map),
        average_pooled=judged.average_pooled,
        pooled=_by_threshold(tiou, judged.pooled),
        map_interval=_ends(by_class),
        pooled_interval=_ends(pooled),
        per_class={label: float(np.mean(values)) for label, values in judged.per_class.items()},
    )


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
