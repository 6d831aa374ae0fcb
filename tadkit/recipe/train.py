"""The three training stages: ``train-teacher``, ``distill`` and ``train-head``."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path

import torch

from tadkit.checkpoint import Checkpoint, Kind, load_checkpoint, load_weights, save_checkpoint
from tadkit.config import HeadSettings, ModelSettings, TrainSettings
from tadkit.config.loading import recipe_toml
from tadkit.distill import JointHeadObjective, StudentObjective, TeacherObjective
from tadkit.files import write_text
from tadkit.models.detector import (
    Detector,
    build_student,
    build_teacher,
    new_joint_head,
    new_student,
    new_teacher,
)
from tadkit.models.fusion import JointHead
from tadkit.models.heads import Head, pyramid_levels, whole_window_steps
from tadkit.models.student import TWO_BRANCHES
from tadkit.progress import Progress
from tadkit.recipe.freshness import (
    TAUGHT,
    current_student,
    head_key,
    is_up_to_date,
    method_settings,
    open_features,
    open_flow,
    open_teacher_tracks,
    student_key,
    teacher_key,
)
from tadkit.recipe.workspace import Workspace
from tadkit.store import TrackReader
from tadkit.timeline import Timeline
from tadkit.training import TrainedWeights, fit
from tadkit.training.batches import FeatureBatches, FlowBatches, FrameBatches, FrameCache
from tadkit.training.windows import TrainingVideo, WindowPlan, training_video


def _stage_folder(workspace: Workspace, name: str) -> Path:
    folder = workspace.stage(name)
    write_text(folder / "run.toml", recipe_toml(workspace.recipe))
    return folder


def _window_frames(rate_hz: float, train: TrainSettings, head: HeadSettings, *, stride: int) -> tuple[int, int]:
    """Frames of a window and their alignment: whole steps of the coarsest pyramid level, or the head's own window."""
    steps = whole_window_steps(head)
    if steps is not None:
        return steps * stride, stride
    align = stride * 2 ** (pyramid_levels(head) - 1)
    return max(1, math.ceil(train.window_s * rate_hz / align - 1e-9)) * align, align


def _training_videos(workspace: Workspace, store: TrackReader, *, stride: int) -> list[TrainingVideo]:
    """Training videos with the stamps of ``store`` (frames, or feature steps with ``stride`` 1)."""
    labels = workspace.recipe.labels
    return [
        training_video(item.record, Timeline(store.stamps_s(item.name)), labels=labels, stride=stride)
        for item in workspace.training
    ]


def train_teacher(workspace: Workspace, *, device: torch.device, progress: Progress) -> bool:
    """Train the motion teacher on stored flow; returns False where it was up to date.

    Raises:
        StoreError: the flow is missing or stale.
    """
    recipe, settings = workspace.recipe, workspace.model_settings
    train, stride = recipe.train.teacher, recipe.teacher_backbone.stride
    with open_flow(workspace) as flow:
        key = teacher_key(workspace, flow)
        if is_up_to_date(workspace.teacher, kind="teacher", key=key):
            return False
        videos = _training_videos(workspace, flow, stride=stride)
        window, align = _window_frames(recipe.video.rate_hz, train, recipe.head, stride=stride)
        plan = WindowPlan(videos, train, window_frames=window, align_frames=align)
        torch.manual_seed(train.seed)
        trained = fit(
            TeacherObjective(new_teacher(settings, num_classes=len(recipe.labels))),
            FlowBatches(plan, stride=stride, flow=flow),
            train,
            folder=_stage_folder(workspace, "train-teacher"),
            key=key,
            device=device,
            progress=progress,
            task="train-teacher",
        )
    _save(
        workspace.teacher, "teacher", settings, workspace, _below(trained.tensors, "model."), key=key, trained=trained
    )
    return True


def distill(workspace: Workspace, method: str, *, device: torch.device, progress: Progress) -> bool:
    """Train the RGB student by ``method``; returns False where it was up to date.

    Raises:
        StoreError: the flow, whose stamps it goes by, or what it hears of the teacher is missing or stale.
        WeightsError: the teacher that it hears is missing or stale.
    """
    settings, train = method_settings(workspace, method), workspace.recipe.train.student
    with (
        open_flow(workspace) as flow,
        open_teacher_tracks(workspace) if method in TAUGHT else nullcontext() as tracks,
    ):
        key = student_key(workspace, method, tracks)
        if is_up_to_date(workspace.student(method), kind="student", key=key):
            return False
        batches = _frame_batches(workspace, flow, tracks)
        torch.manual_seed(train.seed)
        trained = fit(
            _student_objective(settings, train, num_classes=len(workspace.recipe.labels)),
            batches,
            train,
            folder=_stage_folder(workspace, f"distill-{method}"),
            key=key,
            device=device,
            progress=progress,
            task=f"distill ({method})",
        )
    if settings.distill.joint:  # before the student, whose key vouches for both
        _save(
            _joint_path(workspace, method),
            "joint-head",
            settings,
            workspace,
            _below(trained.tensors, "joint."),
            key=key,
            trained=trained,
        )
    _save(
        workspace.student(method),
        "student",
        settings,
        workspace,
        _below(trained.tensors, "model."),
        key=key,
        trained=trained,
    )
    return True


def _frame_batches(workspace: Workspace, flow: TrackReader, tracks: TrackReader | None) -> FrameBatches:
    recipe = workspace.recipe
    train, stride = recipe.train.student, recipe.backbone.stride
    window, align = _window_frames(recipe.video.rate_hz, train, recipe.head, stride=stride)
    videos = _training_videos(workspace, flow, stride=stride)
    return FrameBatches(
        WindowPlan(videos, train, window_frames=window, align_frames=align),
        stride=stride,
        cache=FrameCache(recipe.video, limit_bytes=train.cache_mb << 20),
        paths={item.name: item.path for item in workspace.training},
        teacher_tracks=tracks,
        levels=pyramid_levels(recipe.head),
        teacher_head=_teacher_head(workspace) if tracks is not None else None,
    )


def _teacher_head(workspace: Workspace) -> Head | None:
    """The trained teacher's head, where its predictions are not stored."""
    if pyramid_levels(workspace.recipe.head):
        return None
    where = str(workspace.teacher)
    return build_teacher(load_checkpoint(workspace.teacher, kind="teacher"), where=where)[1].head


def _joint_path(workspace: Workspace, method: str) -> Path:
    return workspace.folder / f"joint-head-{method}.safetensors"


def _student_objective(settings: ModelSettings, train: TrainSettings, *, num_classes: int) -> StudentObjective:
    return StudentObjective(
        new_student(settings, num_classes=num_classes),
        distill=settings.distill,
        joint=new_joint_head(settings, num_classes=num_classes) if settings.distill.joint else None,
        colour_jitter=train.colour_jitter,
    )


def train_head(workspace: Workspace, method: str, *, device: torch.device, progress: Progress) -> bool:
    """Train fusion and joint head on cached features and write the detector; False where it was up to date.

    Raises:
        StoreError: the features are missing or stale.
        WeightsError: the student is missing or stale.
    """
    recipe, settings = workspace.recipe, method_settings(workspace, method)
    train, stride, path = recipe.train.head, recipe.backbone.stride, workspace.detector(method)
    checkpoint = current_student(workspace, method)
    with open_features(workspace, method, student=checkpoint) as features:
        key = head_key(workspace, method, features)
        if is_up_to_date(path, kind="detector", key=key):
            return False
        videos = _training_videos(workspace, features, stride=1)
        window, align = _window_frames(recipe.video.rate_hz, train, recipe.detector_head, stride=stride)
        plan = WindowPlan(videos, train, window_frames=window // stride, align_frames=align // stride)
        tracks = ("motion", "appearance") if method in TWO_BRANCHES else ("appearance",)
        joint = _joint_to_train(workspace, method, settings)
        trained = fit(
            JointHeadObjective(joint),
            FeatureBatches(plan, features=features, tracks=tracks),
            train,
            folder=_stage_folder(workspace, f"train-head-{method}"),
            key=key,
            device=device,
            progress=progress,
            task=f"train-head ({method})",
        )
    _, student = build_student(checkpoint, where=str(workspace.student(method)))
    joint.load_state_dict(_below(trained.tensors, "model."))
    detector = Detector(settings, labels=recipe.labels, student=student, joint=joint)
    _save(
        path,
        "detector",
        settings,
        workspace,
        detector.state_dict(),
        key=key,
        trained=trained,
        half=recipe.half_precision,
    )
    return True


def _joint_to_train(workspace: Workspace, method: str, settings: ModelSettings) -> JointHead:
    """A fresh joint head, or the one trained along with the student."""
    torch.manual_seed(workspace.recipe.train.head.seed)
    joint = new_joint_head(settings, num_classes=len(workspace.recipe.labels))
    if settings.distill.joint:
        path = _joint_path(workspace, method)
        load_weights(joint, load_checkpoint(path, kind="joint-head").tensors, where=str(path))
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
    half: bool = False,
) -> None:
    provenance = {
        "key": key,
        "recipe": workspace.recipe.name,
        "training_videos": [item.name for item in workspace.training],
        "held_out_videos": [item.name for item in workspace.held_out],
        "trained": trained.provenance,
    }
    save_checkpoint(
        path,
        Checkpoint(
            kind=kind,
            settings=settings.model_dump(mode="json"),
            labels=workspace.recipe.labels,
            tensors=tensors,
            provenance=provenance,
        ),
        half=half,
    )
