"""The training stages: ``train-teacher``, ``distill`` and ``train-head``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch

from tadkit.checkpoint import Checkpoint, Kind, load_checkpoint, load_weights, save_checkpoint
from tadkit.config import ModelSettings, Recipe, TrainSettings
from tadkit.config.loading import recipe_toml
from tadkit.distill import JointHeadObjective, StudentObjective, TeacherObjective
from tadkit.files import digest_of, digest_of_file, write_text
from tadkit.keys import head_key
from tadkit.models.detector import (
    DetectorNet,
    build_student,
    build_teacher,
    new_joint_head,
    new_student,
    new_teacher,
)
from tadkit.models.fusion import JointHead
from tadkit.models.heads import Head
from tadkit.models.student import Student
from tadkit.models.teacher import Teacher
from tadkit.progress import Progress
from tadkit.recipe.inputs import Inputs, is_up_to_date
from tadkit.recipe.operating_points import operating_points, points_key
from tadkit.recipe.workspace import Workspace
from tadkit.store import TrackReader, VideoTracks
from tadkit.timeline import Timeline
from tadkit.training import TrainedWeights, fit
from tadkit.training.batches import FeatureBatches, FlowBatches, FrameBatches, FrameCache
from tadkit.training.windows import TrainingVideo, WindowPlan, training_video, window_steps

Net = TypeVar("Net", Teacher, Student)


def stage_folder(workspace: Workspace, name: str) -> Path:
    """The folder of a stage, with the recipe that it runs."""
    folder = workspace.stage(name)
    write_text(folder / "run.toml", recipe_toml(workspace.recipe))
    return folder


def _frame_plan(workspace: Workspace, videos: list[TrainingVideo], train: TrainSettings, *, stride: int) -> WindowPlan:
    """Windows of frames; ``stride`` frames are one feature step."""
    recipe = workspace.recipe
    steps, align = window_steps(recipe.head, train, step_s=stride / recipe.video.rate_hz)
    return WindowPlan(videos, train, window_frames=steps * stride, align_frames=align * stride)


def training_videos(workspace: Workspace, store: VideoTracks, *, stride: int) -> list[TrainingVideo]:
    """Training videos with the stamps of ``store`` (frames, or feature steps with ``stride`` 1)."""
    labels = workspace.recipe.labels
    return [
        training_video(item.record, Timeline(store.stamps_s(item.name)), labels=labels, stride=stride)
        for item in workspace.training
    ]


def train_teacher(workspace: Workspace, *, device: torch.device, progress: Progress) -> bool:
    """Train the motion teacher on stored flow; returns False if it was up to date.

    Raises:
        StoreError: the flow is missing or stale.
    """
    recipe, settings = workspace.recipe, workspace.recipe.model_settings
    train, stride = recipe.train.teacher, recipe.teacher_backbone.stride
    with Inputs(workspace) as inputs:
        flow, key = inputs.flow, inputs.teacher_key
        if is_up_to_date(workspace.teacher, kind="teacher", key=key):
            return False
        videos = training_videos(workspace, flow, stride=stride)
        plan = _frame_plan(workspace, videos, train, stride=stride)
        steps = plan.window_frames // stride
        torch.manual_seed(train.seed)
        trained = fit(
            TeacherObjective(
                _reported(new_teacher(settings, num_classes=len(recipe.labels), trained_steps=steps), progress)
            ),
            FlowBatches(plan, stride=stride, flow=flow),
            train,
            folder=stage_folder(workspace, "train-teacher"),
            key=key,
            device=device,
            progress=progress,
            task="train-teacher",
        )
    _save(
        workspace.teacher,
        "teacher",
        settings,
        workspace,
        _below(trained.tensors, "model."),
        key=key,
        trained=trained,
        steps=steps,
    )
    return True


def distill(workspace: Workspace, row: str, *, device: torch.device, progress: Progress) -> bool:
    """Train the RGB student of ``row``; returns False if it was up to date.

    Raises:
        StoreError: the flow, whose time stamps it uses, or the teacher's outputs are missing or stale.
        WeightsError: the teacher that it is trained on is missing or stale.
    """
    recipe = workspace.of_row(row)
    settings, train = recipe.model_settings, recipe.train.student
    with Inputs(workspace) as inputs:
        flow, key = inputs.flow, inputs.student_key(row)
        if is_up_to_date(workspace.student(row), kind="student", key=key):
            return False
        batches = _frame_batches(workspace, recipe, flow, inputs.teacher_outputs if settings.distill.taught else None)
        steps = batches.plan.window_frames // batches.stride
        torch.manual_seed(train.seed)
        trained = fit(
            _student_objective(settings, recipe, steps=steps, progress=progress),
            batches,
            train,
            folder=stage_folder(workspace, f"distill-{row}"),
            key=key,
            device=device,
            progress=progress,
            task=f"distill ({workspace.title(row)})",
        )
    if settings.distill.joint:  # written first: the student's key stands for both
        _save(
            workspace.joint_head(row),
            "joint-head",
            settings,
            workspace,
            _below(trained.tensors, "joint."),
            key=key,
            trained=trained,
            steps=steps,
        )
    _save(
        workspace.student(row),
        "student",
        settings,
        workspace,
        _below(trained.tensors, "model."),
        key=key,
        trained=trained,
        steps=steps,
    )
    return True


def _frame_batches(workspace: Workspace, recipe: Recipe, flow: TrackReader, tracks: TrackReader | None) -> FrameBatches:
    train, stride = recipe.train.student, recipe.backbone.stride
    videos = training_videos(workspace, flow, stride=stride)
    return FrameBatches(
        _frame_plan(workspace, videos, train, stride=stride),
        stride=stride,
        cache=FrameCache(recipe.video, limit_bytes=train.cache_mb << 20),
        paths={item.name: item.path for item in workspace.training},
        teacher_outputs=tracks,
        strides=recipe.head.strides,
        teacher_head=_teacher_head(workspace) if tracks is not None else None,
    )


def _teacher_head(workspace: Workspace) -> Head | None:
    """The teacher's head, if its predictions are not stored."""
    if workspace.recipe.head.pyramid_levels:
        return None
    return build_teacher(load_checkpoint(workspace.teacher, kind="teacher"))[1].head


def _student_objective(settings: ModelSettings, recipe: Recipe, *, steps: int, progress: Progress) -> StudentObjective:
    """The student, and with ``distill.joint`` the joint head, to be trained on windows of ``steps`` feature steps."""
    classes = len(recipe.labels)
    joint = new_joint_head(settings, num_classes=classes, trained_steps=steps) if settings.distill.joint else None
    return StudentObjective(
        _reported(new_student(settings, num_classes=classes), progress),
        distill=settings.distill,
        joint=joint,
        colour_jitter=recipe.train.student.colour_jitter,
    )


def _reported(model: Net, progress: Progress) -> Net:
    """The model, after saying how the weights file of its backbone fitted, if it started from one."""
    if (report := model.backbone.weights_report) is not None:
        progress.warn(f"weights file {report}")
    return model


def train_head(workspace: Workspace, row: str, *, device: torch.device, progress: Progress) -> bool:
    """Train fusion and joint head on cached features and write the detector; returns False if it was up to date.

    The detectors of groups of the training videos, which are trained before, give the operating points.

    Raises:
        StoreError: the features are missing or stale.
        WeightsError: the student is missing or stale.
    """
    recipe, groups = workspace.of_row(row), workspace.groups_of(row)
    settings = recipe.model_settings
    with Inputs(workspace) as inputs:
        student_path, features = inputs.student(row), inputs.head_features(row)
        training_key = head_key(
            [features.key(item.name) for item in workspace.training],
            model=settings,
            train=recipe.train.head,
            truth=workspace.training_truth,
            half=recipe.half_precision,
            student=digest_of_file(student_path) if groups and recipe.train.head.cross_fit else None,
        )
        key = digest_of([training_key, points_key(workspace, row)]) if groups else training_key
        if is_up_to_date(workspace.detector(row), kind="detector", key=key):
            return False
        joint, window, trained = _trained_head(
            workspace, row, features, key=training_key, device=device, progress=progress
        )
    _, student = build_student(load_checkpoint(student_path, kind="student"))
    _save(
        workspace.detector(row),
        "detector",
        settings,
        workspace,
        DetectorNet(settings, labels=recipe.labels, student=student, joint=joint).state_dict(),
        key=key,
        trained=trained,
        steps=window,
        half=recipe.half_precision,
        groups=groups,
        points=operating_points(workspace, row, device=str(device)) if groups else {},
    )
    return True


def _trained_head(
    workspace: Workspace,
    row: str,
    features: VideoTracks,
    *,
    key: str,
    device: torch.device,
    progress: Progress,
) -> tuple[JointHead, int, TrainedWeights]:
    """Fusion and joint head trained on the features, and the steps of their windows."""
    recipe = workspace.of_row(row)
    settings, train = recipe.model_settings, recipe.train.head
    window, align = window_steps(recipe.detector_head, train, step_s=recipe.backbone.stride / recipe.video.rate_hz)
    videos = training_videos(workspace, features, stride=1)
    plan = WindowPlan(videos, train, window_frames=window, align_frames=align)
    tracks = ("motion", "appearance") if settings.distill.two_branches else ("appearance",)
    joint = _joint_to_train(workspace, row, settings, steps=window)
    trained = fit(
        JointHeadObjective(joint),
        FeatureBatches(plan, features=features, tracks=tracks),
        train,
        folder=stage_folder(workspace, f"train-head-{row}"),
        key=key,
        device=device,
        progress=progress,
        task=f"train-head ({workspace.title(row)})",
    )
    joint.load_state_dict(_below(trained.tensors, "model."))
    return joint, window, trained


def _joint_to_train(workspace: Workspace, row: str, settings: ModelSettings, *, steps: int) -> JointHead:
    """A new joint head, or the one trained together with the student."""
    torch.manual_seed(workspace.of_row(row).train.head.seed)
    joint = new_joint_head(settings, num_classes=len(workspace.recipe.labels), trained_steps=steps)
    if settings.distill.joint:
        load_weights(joint, load_checkpoint(workspace.joint_head(row), kind="joint-head"))
    return joint


def _below(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _save(
    path: Path,
    kind: Kind,
    settings: ModelSettings,
    workspace: Workspace,
    tensors: dict[str, torch.Tensor],
    *,
    key: str,
    trained: TrainedWeights,
    steps: int,
    half: bool = False,
    groups: Sequence[Workspace] = (),
    points: Mapping[str, float] = MappingProxyType({}),
) -> None:
    provenance: dict[str, Any] = {
        "key": key,
        "recipe": workspace.recipe.name,
        "training_videos": [item.name for item in workspace.training],
        "held_out_videos": [item.name for item in workspace.held_out],
        "trained": trained.provenance,
    }
    if groups:
        provenance["groups"] = [[item.name for item in group.held_out] for group in groups]
    save_checkpoint(
        path,
        Checkpoint(
            kind=kind,
            settings=settings.model_dump(mode="json"),
            labels=workspace.recipe.labels,
            tensors=tensors,
            provenance=provenance,
            operating_points=points,
            trained_steps=steps,
        ),
        half=half,
    )
