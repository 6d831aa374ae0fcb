"""``tadkit run``: every stage of a recipe that is stale, in order, and the table at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from tadkit.config import Recipe, View
from tadkit.errors import StoreError, UsageError, WeightsError
from tadkit.extraction.extract_features import extract_features_of
from tadkit.extraction.extract_flow import extract_flow_of
from tadkit.extraction.results import ExtractionResult, torch_device, views_of
from tadkit.extraction.teacher_tracks import extract_teacher_tracks
from tadkit.files import write_text
from tadkit.models.detector import build_student
from tadkit.progress import Progress
from tadkit.recipe.features_head import train_on_features
from tadkit.recipe.freshness import current_student, current_teacher
from tadkit.recipe.judge import Row, judged
from tadkit.recipe.train import distill, train_head, train_teacher
from tadkit.recipe.workspace import Item, Workspace, locked, open_workspace

__all__ = ["DONE", "UP_TO_DATE", "Row", "RunResult", "run"]

DONE, UP_TO_DATE = "done", "up to date"
_TRACKS = "teacher's features"
_MUCH_CLIPPED = 0.01
Stage = tuple[str, str, Callable[[], bool]]
"""Command, name and action of a stage; the action returns whether there was anything to do."""


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


def run(
    recipe: Recipe,
    *,
    base: Path,
    device: str,
    progress: Progress,
    only: str | None = None,
    workers: int = 1,
    retry_failed: bool = False,
) -> RunResult:
    """Run the stages of ``recipe`` that are stale.

    Args:
        recipe: what to run.
        base: folder that relative paths of the recipe start from.
        device: ``auto``, ``cpu``, ``cuda`` ...; of several with commas between, all but flow takes the first.
        progress: told of everything.
        only: one stage by its command's name; what it reads must be there already.
        workers: processes that compute flow.
        retry_failed: compute the flow of videos that failed before.

    Raises:
        UsageError: ``only`` names no stage.
        StoreError: another run is at work in the folder.
        TadkitError: a stage failed; what was done before stays, and the next run goes on from it.
    """
    workspace = open_workspace(recipe, base=base, progress=progress)
    result = RunResult(workspace.folder)
    flow = partial(_flow, workspace, device, progress, workers, retry_failed)
    device = device.split(",")[0]
    first: list[Stage] = [] if workspace.from_features else [("extract-flow", "extract-flow", flow)]
    stages = [*first, *_stages(workspace, device, progress)]
    if only is not None and only not in {command for command, _, _ in stages}:
        raise UsageError(f"no stage '{only}'; choose one of {', '.join(dict.fromkeys(c for c, _, _ in stages))}")
    with locked(workspace):
        for command, name, stage in stages:
            if only in (None, command) and not (name == _TRACKS and only and not _has_current_teacher(workspace)):
                result.stages.append((name, DONE if stage() else UP_TO_DATE))
        if only is None and workspace.held_out:
            result.rows = judged(workspace, device)
            report = json.dumps([asdict(row) for row in result.rows], indent=1)
            write_text(workspace.folder / "report.json", report + "\n")
    return result


def _stages(workspace: Workspace, device: str, progress: Progress) -> list[Stage]:
    """The stages after flow, in order; features need but a head."""
    on = torch_device(device)
    if workspace.from_features:
        head = partial(train_on_features, workspace, device=on, progress=progress)
        return [("train-head", "train-head (features)", head)]
    stages: list[Stage] = [
        ("train-teacher", "train-teacher", partial(train_teacher, workspace, device=on, progress=progress)),
        ("extract-flow", _TRACKS, partial(_teacher_tracks, workspace, device, progress)),
    ]
    for method in workspace.methods:
        student = partial(distill, workspace, method, device=on, progress=progress)
        head = partial(train_head, workspace, method, device=on, progress=progress)
        stages += [
            ("distill", f"distill ({method})", student),
            (
                "extract-features",
                f"extract-features ({method})",
                partial(_features, workspace, method, device, progress),
            ),
            ("train-head", f"train-head ({method})", head),
        ]
    return stages


def _has_current_teacher(workspace: Workspace) -> bool:
    try:
        current_teacher(workspace)
    except (StoreError, WeightsError):
        return False
    return True


def _did_something(result: ExtractionResult) -> bool:
    result.raise_if_failed()
    return bool(result.done)


def _flow(workspace: Workspace, device: str, progress: Progress, workers: int, retry_failed: bool) -> bool:
    items = {item.name: item.path for item in workspace.items}
    recipe = workspace.recipe
    result = extract_flow_of(
        items,
        workspace.flow,
        flow=recipe.flow,
        video=recipe.video,
        device=device,
        progress=progress,
        workers=workers,
        retry_failed=retry_failed,
    )
    name, share = max(result.clipped.items(), key=lambda pair: pair[1], default=("", 0.0))
    if share > _MUCH_CLIPPED:
        progress.warn(f"'{name}': {share:.1%} of the flow lies beyond flow.bound_px and was clipped; raise the bound")
    return _did_something(result)


def _teacher_tracks(workspace: Workspace, device: str, progress: Progress) -> bool:
    did = False
    for items, views in _seen(workspace, workspace.recipe.train.student.views):
        did |= _did_something(
            extract_teacher_tracks(
                [item.name for item in items],
                workspace.flow,
                workspace.teacher_tracks,
                teacher=workspace.teacher,
                views=views,
                device=device,
                progress=progress,
            )
        )
    return did


def _seen(workspace: Workspace, views: Sequence[View]) -> list[tuple[tuple[Item, ...], tuple[View, ...]]]:
    """Videos and the views they are needed in: training draws from all, judging reads the original."""
    return [(workspace.training, views_of(views)), (workspace.held_out, views_of(()))]


def _features(workspace: Workspace, method: str, device: str, progress: Progress) -> bool:
    checkpoint = current_student(workspace, method)
    settings, student = build_student(checkpoint, where=str(workspace.student(method)))
    did = False
    for items, views in _seen(workspace, workspace.recipe.train.head.views):
        did |= _did_something(
            extract_features_of(
                {item.name: item.path for item in items},
                workspace.features(method),
                student=student,
                video=settings.video,
                checkpoint=checkpoint,
                views=views,
                device=device,
                progress=progress,
            )
        )
    return did
