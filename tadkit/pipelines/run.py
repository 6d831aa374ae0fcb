"""``tadkit run``: every stage of a recipe that is stale, in order, and the table at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from tadkit.checkpoint import load_checkpoint
from tadkit.config import Recipe
from tadkit.detector import build_detector, build_student
from tadkit.errors import UsageError
from tadkit.evaluation import Interval, bootstrap_map, mean_average_precision
from tadkit.files import write_text
from tadkit.heads import HeadPredictions, decode
from tadkit.pipelines.branch_features import BranchFeatures
from tadkit.pipelines.detect import decoded_features
from tadkit.pipelines.extract_features import extract_features_of
from tadkit.pipelines.extract_flow import extract_flow_of, extract_teacher_tracks
from tadkit.pipelines.extraction import ExtractionResult, torch_device, views_of
from tadkit.pipelines.train import distill, train_head, train_teacher
from tadkit.pipelines.workspace import Workspace, open_workspace
from tadkit.progress import Progress
from tadkit.records import Detection, write_detections
from tadkit.store import read_store
from tadkit.timeline import Timeline

DONE, UP_TO_DATE = "done", "up to date"


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


@dataclass
class RunResult:
    """What a run did.

    Attributes:
        folder: the run folder.
        stages: name of each stage and ``done`` or ``up to date``.
        rows: figures on the held-out videos, where all stages ran and videos are held out.
    """

    folder: Path
    stages: list[tuple[str, str]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)


def run(recipe: Recipe, *, base: Path, device: str, progress: Progress, only: str | None = None) -> RunResult:
    """Run the stages of ``recipe`` that are stale.

    Args:
        recipe: what to run.
        base: folder that relative paths of the recipe start from.
        device: ``auto``, ``cpu``, ``cuda`` ...
        progress: told of everything.
        only: one stage by its command's name; what it reads must be there already.

    Raises:
        UsageError: ``only`` names no stage.
        TadkitError: a stage failed; what was done before stays, and the next run goes on from it.
    """
    workspace = open_workspace(recipe, base=base, progress=progress)
    result = RunResult(workspace.folder)
    stages = _stages(workspace, device, progress)
    if only is not None and only not in {command for command, _, _ in stages}:
        raise UsageError(f"no stage '{only}'; choose one of {', '.join(dict.fromkeys(c for c, _, _ in stages))}")
    for command, name, stage in stages:
        if only in (None, command) and not (name == "teacher's features" and only and not workspace.teacher.exists()):
            result.stages.append((name, DONE if stage() else UP_TO_DATE))
    if only is None and workspace.held_out:
        result.rows = _judged(workspace, device)
        write_text(workspace.folder / "report.json", json.dumps([asdict(row) for row in result.rows], indent=1) + "\n")
    return result


def _stages(
    workspace: Workspace, device: str, progress: Progress
) -> list[tuple[str, str, Callable[[], bool]]]:
    """Command, name and action of each stage, in order; an action returns whether there was anything to do."""
    on = torch_device(device)
    stages: list[tuple[str, str, Callable[[], bool]]] = [
        ("extract-flow", "extract-flow", lambda: _flow(workspace, device, progress)),
        ("train-teacher", "train-teacher", lambda: train_teacher(workspace, device=on, progress=progress)),
        ("extract-flow", "teacher's features", lambda: _teacher_tracks(workspace, device, progress)),
    ]
    for method in workspace.methods:
        stages += [
            (
                "distill",
                f"distill ({method})",
                lambda method=method: distill(workspace, method, device=on, progress=progress),
            ),
            (
                "extract-features",
                f"extract-features ({method})",
                lambda method=method: _features(workspace, method, device, progress),
            ),
            (
                "train-head",
                f"train-head ({method})",
                lambda method=method: train_head(workspace, method, device=on, progress=progress),
            ),
        ]
    return stages


def _did_something(result: ExtractionResult) -> bool:
    result.raise_if_failed()
    return bool(result.done)


def _flow(workspace: Workspace, device: str, progress: Progress) -> bool:
    items = {item.name: item.path for item in workspace.items}
    recipe = workspace.recipe
    result = extract_flow_of(
        items, workspace.flow, flow=recipe.flow, video=recipe.video, device=device, progress=progress
    )
    most = max(result.clipped.items(), key=lambda pair: pair[1], default=("", 0.0))
    if most[1] > 0.01:
        progress.warn(f"'{most[0]}': {most[1]:.1%} of the flow lies beyond flow.bound_px and was clipped; raise the bound")
    return _did_something(result)


def _teacher_tracks(workspace: Workspace, device: str, progress: Progress) -> bool:
    views = views_of(workspace.recipe.train.student.views)
    return _did_something(
        extract_teacher_tracks(
            [item.name for item in workspace.items],
            workspace.flow,
            workspace.teacher_tracks,
            teacher=workspace.teacher,
            views=views,
            device=device,
            progress=progress,
        )
    )


def _features(workspace: Workspace, method: str, device: str, progress: Progress) -> bool:
    checkpoint = load_checkpoint(workspace.student(method), kind="student")
    settings, student = build_student(checkpoint, where=str(workspace.student(method)))
    return _did_something(
        extract_features_of(
            {item.name: item.path for item in workspace.items},
            workspace.features(method),
            student=student,
            video=settings.video,
            checkpoint=checkpoint,
            views=views_of(workspace.recipe.train.head.views),
            device=device,
            progress=progress,
        )
    )


def _judged(workspace: Workspace, device: str) -> list[Row]:
    """Detections of the held-out videos by every row, written and scored."""
    rows = []
    for row in workspace.recipe.compare:
        found = _teacher_detections(workspace) if row == "teacher" else _detections(workspace, row, device)
        write_detections(workspace.detections(row), found, external={"recipe": workspace.recipe.name, "row": row})
        rows.append(_row(workspace, row, found))
    return rows


def _teacher_detections(workspace: Workspace) -> dict[str, list[Detection]]:
    recipe = workspace.recipe
    strides = tuple(2**level for level in range(recipe.head.levels))
    found: dict[str, list[Detection]] = {}
    with read_store(workspace.teacher_tracks, kind="features") as tracks:
        for item in workspace.held_out:
            per_level: list[tuple[torch.Tensor, ...]] = [
                tuple(
                    torch.from_numpy(tracks.read(item.name, f"original/{field}_{level}")).float()[None]
                    for level in range(recipe.head.levels)
                )
                for field in ("logits", "offsets")
            ]
            masks = tuple(torch.ones(level.shape[:2], dtype=torch.bool) for level in per_level[0])
            predictions = HeadPredictions(per_level[0], per_level[1], masks)
            timeline = Timeline(tracks.stamps_s(item.name))
            duration_s = float(tracks.attributes(item.name)["duration_s"])
            decoded = decode(predictions, timeline, duration_s, recipe.decode, strides=strides)
            found[item.name] = [
                Detection(float(segment[0]), float(segment[1]), recipe.labels[label], float(score))
                for segment, score, label in zip(*decoded, strict=True)
            ]
    return found


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
                decoding=workspace.recipe.decode,
            )
    return found


def _row(workspace: Workspace, name: str, found: Mapping[str, list[Detection]]) -> Row:
    recipe = workspace.recipe
    known = set(recipe.labels)
    truth = {item.name: [a for a in item.record.annotations if a.label in known] for item in workspace.held_out}
    tiou, protocol = recipe.evaluation.tiou, recipe.evaluation.protocol
    labels = [label for label in recipe.labels if any(a.label == label for actions in truth.values() for a in actions)]
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


def _by_threshold(tiou: tuple[float, ...], values: np.ndarray) -> dict[float, float]:
    return {threshold: float(value) for threshold, value in zip(tiou, values, strict=True)}


def _ends(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high
