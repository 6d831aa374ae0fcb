"""``tadkit run``: every stage of a recipe that is out of date, in order, and the final table."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tadkit.config import Recipe
from tadkit.errors import UsageError
from tadkit.progress import Progress, Quiet
from tadkit.recipe.judge import Row, judged
from tadkit.recipe.stages import Resources, Stage, stages_of
from tadkit.recipe.videos import refuse_copies
from tadkit.recipe.workspace import Workspace, locked, open_workspace
from tadkit.runtime.world import ReleasedError, World, joined, own_device, together
from tadkit.video.digests import digest_ledger

__all__ = ["DONE", "UP_TO_DATE", "Row", "RunResult", "run"]

DONE, UP_TO_DATE = "done", "up to date"


@dataclass
class RunResult:
    """The outcome of a run.

    Attributes:
        folder: the run folder.
        stages: name of each stage and ``done`` or ``up to date``.
        rows: figures on the held-out videos, if all stages ran and videos are held out.
        detector: the recipe's own detector, which every run trains, or its head on features without rgb and flow, if
            all stages ran.
        features: the feature store that the detector or head reads; None if it reads videos.
        first: whether this process is the one that evaluates and writes; of those of ``torchrun``, one is.
    """

    folder: Path
    stages: list[tuple[str, str]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    detector: Path | None = None
    features: Path | None = None
    first: bool = True


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
    """Run the stages of ``recipe`` that are out of date; under ``torchrun``, teacher and students in all its processes.

    Args:
        recipe: what to run.
        base: folder that relative paths of the recipe start from.
        device: ``auto``, ``cpu``, ``cuda`` ...; of several, separated by commas, all stages but flow use the first.
        progress: reports on every stage.
        only: run only the stages of this command; what they read must exist.
        workers: processes that compute flow.
        retry_failed: retry the flow of videos that failed before.

    Raises:
        UsageError: ``only`` names no stage of this recipe.
        StoreError: another run is using the folder.
        TadkitError: a stage failed; finished stages are kept, and the next run resumes from there.
    """
    with joined() as processes:
        device = own_device(device, processes)
        workspace = _opened(recipe, processes, base=base, device=device, progress=progress)
        resources = Resources(device, progress if processes.first else Quiet(), workers, retry_failed)
        stages = stages_of(workspace, resources)
        commands = list(dict.fromkeys(stage.command for stage in stages))
        if only is not None and only not in commands:
            raise UsageError(f"no stage '{only}'; choose one of {', '.join(commands)}")
        result = RunResult(workspace.folder, first=processes.first)
        if processes.first:
            _lead(result, workspace, stages, processes, resources=resources, only=only)
        else:
            _follow(stages, processes)
    return result


def _opened(recipe: Recipe, processes: World, *, base: Path, device: str, progress: Progress) -> Workspace:
    """The workspace, opened by one process after the other: the first one makes what is missing."""
    workspace = None
    for rank in range(processes.size):
        if rank == processes.rank:
            told = progress if processes.first else Quiet()
            workspace = open_workspace(recipe, base=base, device=device, progress=told)
        processes.wait()
    assert workspace is not None
    return workspace


def _lead(
    result: RunResult,
    workspace: Workspace,
    stages: Sequence[Stage],
    processes: World,
    *,
    resources: Resources,
    only: str | None,
) -> None:
    """Run the stages, call the other processes to those that are trained together, and evaluate."""
    recipe = workspace.recipe
    if only in (None, "train-head") and workspace.leaves_train_head_unused:
        resources.progress.warn(
            "train.head is not used: with distill.joint, the joint head is trained with the student"
        )
    with locked(workspace), digest_ledger(workspace.digests):
        refuse_copies(recipe, workspace.items, workspace.unlabelled)
        for number, stage in enumerate(stages):
            if only is None or (stage.command == only and stage.ready()):
                did = _together(stage, number, processes) if stage.together else stage.run()
                result.stages.append((stage.name, DONE if did else UP_TO_DATE))
        processes.from_first(None)
        if only is None and workspace.held_out:
            result.rows = judged(workspace, resources.first_device)
    if only is None:
        alone = recipe.head_alone
        result.features = workspace.features_source if alone or recipe.features is not None else None
        result.detector = workspace.features_head if alone else workspace.detector(recipe.own_row)


def _together(stage: Stage, number: int, processes: World) -> bool:
    """Run a stage with the other processes, which close their files before this one goes on."""
    processes.from_first(number)
    with together(processes):
        did = stage.run()
    processes.wait()
    return did


def _follow(stages: Sequence[Stage], processes: World) -> None:
    """Train what the first process calls to, until there is no more."""
    while (number := processes.from_first(0)) is not None:
        with together(processes), suppress(ReleasedError):
            stages[number].run()
        processes.wait()
