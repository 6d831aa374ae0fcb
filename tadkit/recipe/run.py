"""``tadkit run``: every stage of a recipe that is out of date, in order, and the final table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tadkit.config import Recipe
from tadkit.errors import UsageError
from tadkit.progress import Progress
from tadkit.recipe.judge import Row, judged
from tadkit.recipe.stages import Resources, stages_of
from tadkit.recipe.videos import refuse_copies
from tadkit.recipe.workspace import locked, open_workspace
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
    """

    folder: Path
    stages: list[tuple[str, str]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    detector: Path | None = None
    features: Path | None = None


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
    """Run the stages of ``recipe`` that are out of date.

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
    workspace = open_workspace(recipe, base=base, device=device, progress=progress)
    result = RunResult(workspace.folder)
    resources = Resources(device, progress, workers, retry_failed)
    stages = stages_of(workspace, resources)
    commands = list(dict.fromkeys(stage.command for stage in stages))
    if only is not None and only not in commands:
        raise UsageError(f"no stage '{only}'; choose one of {', '.join(commands)}")
    if only in (None, "train-head") and workspace.leaves_train_head_unused:
        progress.warn("train.head is not used: with distill.joint, the joint head is trained with the student")
    with locked(workspace), digest_ledger(workspace.digests):
        refuse_copies(recipe, workspace.items, workspace.unlabelled)
        for stage in stages:
            if only is None or (stage.command == only and stage.ready()):
                result.stages.append((stage.name, DONE if stage.run() else UP_TO_DATE))
        if only is None and workspace.held_out:
            result.rows = judged(workspace, resources.first_device)
    if only is None:
        alone = workspace.recipe.head_alone
        result.features = workspace.features_source if alone or workspace.recipe.features is not None else None
        result.detector = workspace.features_head if alone else workspace.detector(recipe.own_row)
    return result
