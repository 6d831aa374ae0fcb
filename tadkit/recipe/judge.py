"""The table at the end of a run: every row's detections of the held-out videos, written and scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float64

from tadkit.checkpoint import load_checkpoint
from tadkit.config import HeadSettings, Recipe
from tadkit.detection.detect import decoded_features
from tadkit.evaluation import Interval, bootstrap_map, mean_average_precision
from tadkit.extraction.branch_features import BranchFeatures
from tadkit.extraction.results import torch_device
from tadkit.models.decode.decode import named_detections
from tadkit.models.decode.video_scores import video_scores_of
from tadkit.models.decode.windows import track_candidates
from tadkit.models.detector import build_detector, build_teacher
from tadkit.models.heads import (
    UNNAMED,
    Candidates,
    Head,
    HeadPredictions,
    candidates,
    head_labels,
    is_nameless,
    pyramid_levels,
)
from tadkit.recipe.features_head import detections_of_held_out
from tadkit.recipe.workspace import Workspace
from tadkit.records import Annotation, Detection, write_detections
from tadkit.store import TrackReader, read_store
from tadkit.timeline import Timeline


@dataclass(frozen=True)
class Row:
    """One line of the final table: a model's figures on the held-out videos, as fractions.

    Attributes:
        name: ``teacher`` or a distillation method.
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


def judged(workspace: Workspace, device: str) -> list[Row]:
    """Detections of the held-out videos by every row, written and scored."""
    rows = []
    for row in workspace.rows:
        found = _found(workspace, row, device)
        write_detections(workspace.detections(row), found, external={"recipe": workspace.recipe.name, "row": row})
        rows.append(_row(workspace, row, found))
    return rows


def _found(workspace: Workspace, row: str, device: str) -> dict[str, list[Detection]]:
    if workspace.from_features:
        return detections_of_held_out(workspace, device)
    return _teacher_detections(workspace) if row == "teacher" else _detections(workspace, row, device)


def _teacher_detections(workspace: Workspace) -> dict[str, list[Detection]]:
    recipe = workspace.recipe
    labels = head_labels(recipe.head, recipe.labels)
    found: dict[str, list[Detection]] = {}
    head = build_teacher(load_checkpoint(workspace.teacher, kind="teacher"), where=str(workspace.teacher))[1].head
    with read_store(workspace.teacher_tracks, kind="features") as tracks:
        for item in workspace.held_out:
            best = _teacher_candidates(tracks, item.name, recipe, head)
            timeline = Timeline(tracks.stamps_s(item.name))
            duration_s = float(tracks.attributes(item.name)["duration_s"])
            scores = video_scores_of(item.name, workspace.decoding, labels, nameless=is_nameless(recipe.head))
            found[item.name] = named_detections(
                best, timeline, duration_s, workspace.decoding, labels=labels, video_scores=scores
            )
    return found


def _teacher_candidates(tracks: TrackReader, name: str, recipe: Recipe, head: Head) -> Candidates:
    """Of one video, from the teacher's stored predictions, or from its stored feature where there are none."""
    least, limit, levels = recipe.decode.min_score, recipe.decode.top_candidates, pyramid_levels(recipe.head)

    def read(track: str) -> torch.Tensor:
        return torch.from_numpy(tracks.read(name, f"original/{track}")).float()[None]

    if not levels:
        feature = read("feature").transpose(1, 2)
        mask = torch.ones(1, feature.shape[2], dtype=torch.bool)
        return track_candidates(head, feature, mask, core_steps=feature.shape[2], min_score=least, limit=limit)
    logits, offsets = (tuple(read(f"{field}_{n}") for n in range(levels)) for field in ("logits", "offsets"))
    masks = tuple(torch.ones(level.shape[:2], dtype=torch.bool) for level in logits)
    return candidates(head, HeadPredictions(logits, offsets, masks), min_score=least, limit=limit)


def _detections(workspace: Workspace, method: str, device: str) -> dict[str, list[Detection]]:
    path = workspace.detector(method)
    detector = build_detector(load_checkpoint(path, kind="detector"), where=str(path)).to(torch_device(device))
    found: dict[str, list[Detection]] = {}
    with read_store(workspace.features(method), kind="features") as store:
        for item in workspace.held_out:
            has_motion = "original/motion" in store.tracks(item.name)
            features = BranchFeatures(
                motion=store.read(item.name, "original/motion") if has_motion else None,
                appearance=store.read(item.name, "original/appearance"),
            )
            found[item.name] = decoded_features(
                detector,
                features,
                timeline=Timeline(store.stamps_s(item.name)),
                duration_s=float(store.attributes(item.name)["duration_s"]),
                decoding=workspace.decoding,
                video_scores=video_scores_of(
                    item.name, workspace.decoding, detector.labels, nameless=detector.nameless
                ),
            )
    return found


def _row(workspace: Workspace, name: str, found: Mapping[str, list[Detection]]) -> Row:
    recipe = workspace.recipe
    truth = _truth(workspace, recipe.head if name == "teacher" else recipe.detector_head)
    tiou, protocol = recipe.evaluation.tiou, recipe.evaluation.protocol
    there = {action.label for actions in truth.values() for action in actions}
    labels = [label for label in dict.fromkeys((*recipe.labels, UNNAMED)) if label in there]
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


def _truth(workspace: Workspace, head: HeadSettings) -> dict[str, list[Annotation]]:
    """Actions of the held-out videos; all of one class where neither the head nor scores of the videos name any."""
    known, decoding = workspace.recipe.labels, workspace.decoding
    truth = {item.name: [a for a in item.record.annotations if a.label in known] for item in workspace.held_out}
    if not is_nameless(head) or (decoding.video_scores is not None and decoding.video_labels):
        return truth
    (label,) = head_labels(head, known)
    return {video: [replace(action, label=label) for action in actions] for video, actions in truth.items()}


def _by_threshold(tiou: tuple[float, ...], values: Float64[np.ndarray, " tious"]) -> dict[float, float]:
    return {threshold: float(value) for threshold, value in zip(tiou, values, strict=True)}


def _ends(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high
