"""The stages of a run, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from tadkit.checkpoint import load_checkpoint
from tadkit.config import TEACHER, ModelSettings, View
from tadkit.errors import StoreError, WeightsError
from tadkit.extraction.clips import Source, StoredFeatures, VideoFile
from tadkit.extraction.extract_features import extract_features_of
from tadkit.extraction.extract_flow import extract_flow_of
from tadkit.extraction.results import ExtractionResult
from tadkit.extraction.teacher_outputs import extract_teacher_outputs
from tadkit.models.detector import build_student
from tadkit.progress import Progress
from tadkit.recipe.inputs import Inputs
from tadkit.recipe.train import distill, train_head, train_teacher
from tadkit.recipe.train_on_features import train_on_features
from tadkit.recipe.videos import Item
from tadkit.recipe.workspace import Workspace
from tadkit.runtime.devices import torch_device
from tadkit.store import read_store
from tadkit.store.streams import FeatureStream
from tadkit.views import views_of

_MUCH_CLIPPED = 0.01


def _always() -> bool:
    return True


@dataclass(frozen=True)
class Stage:
    """One stage of a run.

    Attributes:
        command: the tadkit command that runs it by itself; several stages may share one.
        name: shown to the user.
        run: does what is out of date, and returns whether there was anything to do.
        ready: whether what the stage reads exists, for a command that covers several stages.
        together: whether processes that train one model run it together; other stages are the first one's.
    """

    command: str
    name: str
    run: Callable[[], bool]
    ready: Callable[[], bool] = _always
    together: bool = False


@dataclass(frozen=True)
class Resources:
    """What the stages may use.

    Attributes:
        device: torch device; of several, separated by commas, only the extraction of flow uses more than the first.
        workers: processes that compute flow.
        retry_failed: retry the flow of videos that failed before.
        progress: reports on every stage.
    """

    device: str
    progress: Progress
    workers: int = 1
    retry_failed: bool = False

    @property
    def first_device(self) -> str:
        """The device of all stages but flow."""
        return self.device.split(",")[0]


def stages_of(workspace: Workspace, resources: Resources) -> list[Stage]:
    """The stages of a recipe, in order; features need no flow, and without streams only a head."""
    device, progress = torch_device(resources.first_device), resources.progress
    if workspace.recipe.head_alone:
        return [
            Stage(
                "train-head",
                "train-head (features)",
                partial(train_on_features, workspace, device=device, progress=progress),
            )
        ]
    teachers = [stage for teacher in workspace.teachers for stage in _stages_of_teacher(teacher, resources)]
    return teachers + [stage for row in workspace.detectors for stage in _stages_of_row(workspace, row, resources)]


def stages_of_shared_flow(workspace: Workspace, resources: Resources) -> list[Stage]:
    """The stages that compute the flow that all runs of an ablation share."""
    return [stage for teacher in workspace.teachers for stage in _stages_of_flow(teacher, resources)]


def _stages_of_flow(workspace: Workspace, resources: Resources) -> list[Stage]:
    """Flow, where no earlier teacher reads the same."""
    if workspace.recipe.features is not None or workspace.flow_name != workspace.teacher_name:
        return []
    return [Stage("extract-flow", workspace.teacher_title("extract-flow"), partial(_flow, workspace, resources))]


def _stages_of_teacher(workspace: Workspace, resources: Resources) -> list[Stage]:
    """Flow, unless the runs of an ablation share it, and if a row reads them teacher and its features."""
    device, progress, title = torch_device(resources.first_device), resources.progress, workspace.teacher_title
    flow = [] if workspace.ablation else _stages_of_flow(workspace, resources)
    if not _is_read(workspace):
        return flow
    return [
        *flow,
        Stage(
            "train-teacher",
            title("train-teacher"),
            partial(train_teacher, workspace, device=device, progress=progress),
            together=True,
        ),
        Stage(
            "extract-flow",
            title("teacher's features"),
            partial(_teacher_outputs, workspace, resources),
            ready=partial(_has_current_teacher, workspace),
        ),
    ]


def _is_read(workspace: Workspace) -> bool:
    """Whether the teacher has a row, or a row's student or detector reads it."""
    name, rows = workspace.teacher_name, [workspace.of_row(row) for row in workspace.detectors]
    return name != TEACHER or TEACHER in workspace.rows or any(row.reads_flow or name in row.taught_by for row in rows)


def _stages_of_row(workspace: Workspace, row: str, resources: Resources) -> list[Stage]:
    """Student and features, where no earlier row has trained them, and joint head.

    Those of every group of training videos come before the head of the run.
    """
    device, progress = torch_device(resources.first_device), resources.progress

    def stages(part: Workspace) -> list[Stage]:
        runs: dict[str, Callable[[], bool]] = {}
        if part.trains_student(row):
            runs["distill"] = partial(distill, part, row, device=device, progress=progress)
            runs["extract-features"] = partial(_features, part, row, resources)
        runs["train-head"] = partial(train_head, part, row, device=device, progress=progress)
        return [
            Stage(command, f"{command} ({part.title(row)})", run, together=command == "distill")
            for command, run in runs.items()
        ]

    *first, head = stages(workspace)
    return [*first, *(stage for group in workspace.groups_of(row) for stage in stages(group)), head]


def _has_current_teacher(workspace: Workspace) -> bool:
    try:
        with Inputs(workspace) as inputs:
            return bool(inputs.teacher)
    except (StoreError, WeightsError):
        return False


def _did_something(result: ExtractionResult) -> bool:
    result.raise_if_failed()
    return bool(result.done)


def _flow(workspace: Workspace, resources: Resources) -> bool:
    recipe = workspace.teacher_recipe
    result = extract_flow_of(
        {item.name: item.path for item in (*workspace.items, *workspace.unlabelled)},
        workspace.flow,
        flow=recipe.flow,
        video=recipe.video,
        device=resources.device,
        progress=resources.progress,
        workers=resources.workers,
        retry_failed=resources.retry_failed,
    )
    name, share = max(result.clipped.items(), key=lambda pair: pair[1], default=("", 0.0))
    if share > _MUCH_CLIPPED:
        resources.progress.warn(
            f"'{name}': {share:.1%} of the flow exceeds flow.bound_px and was clipped; raise the bound"
        )
    return _did_something(result)


def _teacher_outputs(workspace: Workspace, resources: Resources) -> bool:
    did = False
    needed = _needed(workspace, workspace.teacher_views)
    if workspace.unlabelled:
        needed.append((workspace.unlabelled, views_of(workspace.teacher_views)))
    for items, views in needed:
        did |= _did_something(
            extract_teacher_outputs(
                [item.name for item in items],
                workspace.flow,
                workspace.teacher_outputs,
                teacher=workspace.teacher,
                views=views,
                device=resources.first_device,
                progress=resources.progress,
            )
        )
    return did


def _features(workspace: Workspace, row: str, resources: Resources) -> bool:
    did = False
    for result in extract_features_of_row(workspace, row, resources):
        did |= _did_something(result)
    return did


def extract_features_of_row(workspace: Workspace, row: str, resources: Resources) -> Iterator[ExtractionResult]:
    """Store what a row's heads read, of training and held-out videos in turn."""
    with Inputs(workspace) as inputs:
        checkpoint = load_checkpoint(inputs.student(row), kind="student")
    settings, student = build_student(checkpoint)
    with _sources(workspace, settings) as source_of:
        for items, views in _needed_by_heads(workspace, row):
            yield extract_features_of(
                {item.name: source_of(item) for item in items},
                workspace.features(row),
                student=student,
                video=settings.video,
                checkpoint=checkpoint,
                views=views,
                device=resources.first_device,
                progress=resources.progress,
            )


@contextmanager
def _sources(workspace: Workspace, settings: ModelSettings) -> Iterator[Callable[[Item], Source]]:
    """What a student reads of a video: the file, or its stream of the feature store."""
    if settings.features is None:
        yield lambda item: VideoFile(item.path, settings.video)
        return
    with read_store(workspace.features_source, kind="features") as store:
        stream = FeatureStream(store, settings.features.rgb)
        yield lambda item: StoredFeatures(stream, item.name)


def _needed(workspace: Workspace, views: Sequence[View]) -> list[tuple[tuple[Item, ...], tuple[View, ...]]]:
    """Videos and the views they are needed in: training draws from all views, judging reads the original."""
    return [(workspace.training, views_of(views)), (workspace.held_out, views_of(()))]


def _needed_by_heads(workspace: Workspace, student: str) -> list[tuple[tuple[Item, ...], tuple[View, ...]]]:
    """Videos of a student's features and their views; with cross-fitting, heads are trained on groups held out, too."""
    views = workspace.views_of_head(student)
    if not views:
        return [(workspace.held_out, views_of(()))]
    if workspace.whole is not None and workspace.cross_fits(student):
        return [(workspace.items, views)]
    return _needed(workspace, views)
