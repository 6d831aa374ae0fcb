"""The three training stages: ``train-teacher``, ``distill`` and ``train-head``."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from tadkit.checkpoint import Checkpoint, Kind, load_checkpoint, save_checkpoint
from tadkit.config import TrainSettings
from tadkit.data.batches import FeatureBatches, FlowBatches, FrameBatches
from tadkit.data.frames import FrameCache
from tadkit.data.windows import TrainingVideo, WindowPlan, training_video
from tadkit.detector import (
    Detector,
    ModelSettings,
    build_student,
    new_joint_head,
    new_student,
    new_teacher,
)
from tadkit.distill import TWO_BRANCHES, JointHeadObjective, StudentObjective, TeacherObjective
from tadkit.errors import StoreError, WeightsError
from tadkit.files import digest_of, write_text
from tadkit.pipelines.workspace import CODE, Workspace
from tadkit.progress import Progress
from tadkit.recipes import recipe_toml
from tadkit.store import TrackReader, read_store
from tadkit.timeline import Timeline
from tadkit.training import fit

_TAUGHT = frozenset({"decomposed", "direct"})


def is_up_to_date(path: Path, *, kind: Kind, key: str) -> bool:
    """Whether the checkpoint at ``path`` was made from what ``key`` stands for."""
    try:
        return load_checkpoint(path, kind=kind).provenance.get("key") == key
    except WeightsError:
        return False


def method_settings(workspace: Workspace, method: str) -> ModelSettings:
    """The recipe's model settings with ``distill.method`` set to ``method``."""
    settings = workspace.model_settings
    return settings.model_copy(update={"distill": settings.distill.model_copy(update={"method": method})})


def _key(workspace: Workspace, parts: dict[str, object], settings: ModelSettings, train: TrainSettings) -> str:
    shape = settings.model_dump(mode="json", exclude={"decode": True, "video": {"reader"}})
    schedule = train.model_dump(mode="json", exclude={"checkpoint_s", "cache_mb"})
    truth = [item.truth_digest for item in workspace.training]
    return digest_of(parts | {"model": shape, "train": schedule, "truth": truth, "labels": list(workspace.recipe.labels), "code": CODE})


def _stage_folder(workspace: Workspace, name: str) -> Path:
    folder = workspace.stage(name)
    write_text(folder / "run.toml", recipe_toml(workspace.recipe))
    return folder


def _window_frames(workspace: Workspace, train: TrainSettings, *, stride: int) -> tuple[int, int]:
    """Frames of a window and their alignment: whole steps of the coarsest pyramid level."""
    align = stride * 2 ** (workspace.recipe.head.levels - 1)
    return max(1, math.ceil(train.window_s * workspace.recipe.video.rate_hz / align - 1e-9)) * align, align


def _training_videos(workspace: Workspace, store: TrackReader, *, stride: int) -> list[TrainingVideo]:
    """Training videos whose stamps are in ``store`` (frames, or feature steps with ``stride`` 1)."""
    known = set(store.videos())
    if missing := [item.name for item in workspace.training if item.name not in known]:
        raise StoreError(f"{store.path}: lacks '{missing[0]}' ({len(missing)} videos in all); run the extraction again")
    labels = workspace.recipe.labels
    return [
        training_video(item.record, Timeline(store.stamps_s(item.name)), labels=labels, stride=stride)
        for item in workspace.training
    ]


def train_teacher(workspace: Workspace, *, device: torch.device, progress: Progress) -> bool:
    """Train the motion teacher on stored flow; returns False where it was up to date.

    Raises:
        StoreError: the flow store is missing or lacks a training video.
    """
    recipe, settings = workspace.recipe, workspace.model_settings
    train, stride = recipe.train.teacher, recipe.teacher_backbone.stride
    with read_store(workspace.flow, kind="flow") as flow:
        videos = _training_videos(workspace, flow, stride=stride)
        key = _key(workspace, {"flow": [flow.key(video.name) for video in videos]}, settings, train)
        if is_up_to_date(workspace.teacher, kind="teacher", key=key):
            return False
        window, align = _window_frames(workspace, train, stride=stride)
        batches = FlowBatches(WindowPlan(videos, train, window_frames=window, align_frames=align), stride=stride, flow=flow)
        torch.manual_seed(train.seed)
        objective = TeacherObjective(new_teacher(settings, num_classes=len(recipe.labels)), recipe.head)
        folder = _stage_folder(workspace, "train-teacher")
        weights = fit(
            objective, batches, train, folder=folder, key=key, device=device, progress=progress, task="train-teacher"
        )
    _save(workspace.teacher, "teacher", settings, workspace, _below(weights, "model."), key=key)
    return True


def distill(workspace: Workspace, method: str, *, device: torch.device, progress: Progress) -> bool:
    """Train the RGB student by ``method``; returns False where it was up to date.

    Raises:
        StoreError: a store is missing or lacks a training video.
    """
    recipe, settings = workspace.recipe, method_settings(workspace, method)
    train, stride = recipe.train.student, recipe.backbone.stride
    taught = method in _TAUGHT
    with read_store(workspace.flow, kind="flow") as flow, read_store(workspace.teacher_tracks, kind="features") as tracks:
        videos = _training_videos(workspace, flow, stride=stride)
        heard = [tracks.key(video.name) for video in videos] if taught else []
        sources = [item.source_sha256 for item in workspace.training]
        key = _key(workspace, {"teacher": heard, "sources": sources}, settings, train)
        if is_up_to_date(workspace.student(method), kind="student", key=key):
            return False
        window, align = _window_frames(workspace, train, stride=stride)
        batches = FrameBatches(
            WindowPlan(videos, train, window_frames=window, align_frames=align),
            stride=stride,
            cache=FrameCache(recipe.video, limit_bytes=train.cache_mb << 20),
            paths={item.name: item.path for item in workspace.training},
            teacher_tracks=tracks if taught else None,
            levels=recipe.head.levels,
        )
        torch.manual_seed(train.seed)
        objective = _student_objective(settings, train, num_classes=len(recipe.labels))
        folder = _stage_folder(workspace, f"distill-{method}")
        weights = fit(
            objective, batches, train, folder=folder, key=key, device=device, progress=progress, task=f"distill ({method})"
        )
    _save(workspace.student(method), "student", settings, workspace, _below(weights, "model."), key=key)
    if settings.distill.joint:
        _save(_joint_path(workspace, method), "joint-head", settings, workspace, _below(weights, "joint."), key=key)
    return True


def _joint_path(workspace: Workspace, method: str) -> Path:
    return workspace.folder / f"joint-head-{method}.safetensors"


def _student_objective(settings: ModelSettings, train: TrainSettings, *, num_classes: int) -> StudentObjective:
    return StudentObjective(
        new_student(settings, num_classes=num_classes),
        head=settings.head,
        distill=settings.distill,
        joint=new_joint_head(settings, num_classes=num_classes) if settings.distill.joint else None,
        colour_jitter=train.colour_jitter,
    )


def train_head(workspace: Workspace, method: str, *, device: torch.device, progress: Progress) -> bool:
    """Train fusion and joint head on cached features and write the detector; False where it was up to date.

    Raises:
        StoreError: the feature store is missing or lacks a training video.
        WeightsError: the student is missing.
    """
    recipe, settings = workspace.recipe, method_settings(workspace, method)
    train, stride = recipe.train.head, recipe.backbone.stride
    checkpoint = load_checkpoint(workspace.student(method), kind="student")
    with read_store(workspace.features(method), kind="features") as features:
        videos = _training_videos(workspace, features, stride=1)
        key = _key(workspace, {"features": [features.key(video.name) for video in videos]}, settings, train)
        if is_up_to_date(workspace.detector(method), kind="detector", key=key):
            return False
        window, align = _window_frames(workspace, train, stride=stride)
        plan = WindowPlan(videos, train, window_frames=window // stride, align_frames=align // stride)
        tracks = ("motion", "appearance") if method in TWO_BRANCHES else ("appearance",)
        torch.manual_seed(train.seed)
        joint = new_joint_head(settings, num_classes=len(recipe.labels))
        if settings.distill.joint:
            trained = load_checkpoint(_joint_path(workspace, method), kind="joint-head")
            joint.load_state_dict(dict(trained.tensors))
        weights = fit(
            JointHeadObjective(joint, recipe.head),
            FeatureBatches(plan, features=features, tracks=tracks),
            train,
            folder=_stage_folder(workspace, f"train-head-{method}"),
            key=key,
            device=device,
            progress=progress,
            task=f"train-head ({method})",
        )
    _, student = build_student(checkpoint, where=str(workspace.student(method)))
    joint.load_state_dict(_below(weights, "model."))
    detector = Detector(settings, labels=recipe.labels, student=student, joint=joint)
    _save(workspace.detector(method), "detector", settings, workspace, detector.state_dict(), key=key)
    return True


def _below(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _save(
    path: Path, kind: Kind, settings: ModelSettings, workspace: Workspace, tensors: dict[str, torch.Tensor], *, key: str
) -> None:
    provenance = {
        "key": key,
        "recipe": workspace.recipe.name,
        "training_videos": [item.name for item in workspace.training],
        "held_out_videos": [item.name for item in workspace.held_out],
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
    )
