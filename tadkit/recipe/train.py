"""The training stages: ``train-teacher``, ``distill`` and ``train-head``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_args

import torch

from tadkit.checkpoint import (
    Checkpoint,
    Kind,
    load_checkpoint,
    load_weights,
    read_provenance,
    restate_decoding,
    save_checkpoint,
)
from tadkit.config import Branch, HeadSettings, ModelSettings, Recipe, TrainSettings
from tadkit.config.loading import recipe_toml
from tadkit.distill import BranchHeadsObjective, JointHeadObjective, StudentObjective, TeacherObjective
from tadkit.files import digest_of_file, write_text
from tadkit.keys import late_key
from tadkit.models.backbones import Backbone
from tadkit.models.detector import (
    DetectorNet,
    build_detector,
    build_student,
    build_teacher,
    load_streams,
    motion_stream_of,
    new_joint_head,
    new_student,
    new_teacher,
    student_align_frames,
    teacher_align_frames,
)
from tadkit.models.ensemble import EnsembleHead
from tadkit.models.fusion import JointHead, LateHead
from tadkit.models.student import Student
from tadkit.models.teacher import Teacher
from tadkit.progress import Progress
from tadkit.recipe.inputs import Inputs, is_up_to_date
from tadkit.recipe.operating_points import operating_points
from tadkit.recipe.streams import median_step_s
from tadkit.recipe.videos import Item
from tadkit.recipe.workspace import Workspace
from tadkit.store import TrackReader, VideoTracks
from tadkit.store.streams import FeatureStream
from tadkit.timeline import Timeline
from tadkit.training import fit
from tadkit.training.batches import (
    FeatureBatches,
    FlowBatches,
    FrameBatches,
    StreamBatches,
    TaughtBatches,
    TeacherHead,
    WindowBatches,
)
from tadkit.training.caches import FrameCache, PrefixCache
from tadkit.training.windows import TrainingVideo, WindowPlan, training_video, unlabelled_video, window_steps

Net = TypeVar("Net", Teacher, Student)


def stage_folder(workspace: Workspace, name: str) -> Path:
    """The folder of a stage, with the recipe that it runs."""
    folder = workspace.stage(name)
    write_text(folder / "run.toml", recipe_toml(workspace.recipe))
    return folder


def frame_plan(
    workspace: Workspace,
    store: VideoTracks,
    train: TrainSettings,
    *,
    stride: int,
    align_frames: int,
    unlabelled: Sequence[Item] = (),
    unlabelled_windows: int | None = None,
) -> WindowPlan:
    """Windows of the frames that ``store`` has stamps of; ``stride`` frames are one feature step.

    A window starts at a multiple of ``align_frames`` and holds whole steps of the head's coarsest level. Each step also
    has ``unlabelled_windows`` of the videos without labels, by default as many as of the others.

    Raises:
        SettingsError: the head's fixed window is no multiple of ``align_frames``.
    """
    videos = training_videos(workspace, store, stride=stride)
    step_s = _step_s(workspace, store, stride=stride)
    steps, align = window_steps(workspace.recipe.head, train, step_s=step_s, align_steps=align_frames // stride)
    window, multiple = steps * stride, align * stride
    added = None
    if unlabelled:
        others = [unlabelled_video(item.name, Timeline(store.stamps_s(item.name))) for item in unlabelled]
        count = train.batch_windows if unlabelled_windows is None else unlabelled_windows
        settings = train.model_copy(update={"batch_windows": count, "validate_every": 0})
        added = WindowPlan(others, settings, window_frames=window, align_frames=multiple)
    return WindowPlan(videos, train, window_frames=window, align_frames=multiple, unlabelled=added)


def _step_s(workspace: Workspace, store: VideoTracks, *, stride: int) -> float:
    """Seconds from one feature step to the next: of videos by the rate of their frames, of features as stored."""
    if workspace.recipe.features is not None:
        return median_step_s(store, [item.name for item in workspace.training])
    return stride / workspace.recipe.video.rate_hz


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
    recipe, settings = workspace.teacher_recipe, workspace.teacher_recipe.model_settings
    train, stride = recipe.train.teacher, recipe.teacher_backbone.stride
    with Inputs(workspace) as inputs:
        flow, key = inputs.flow, inputs.teacher_key
        if is_up_to_date(workspace.teacher, kind="teacher", key=key):
            return False
        plan = frame_plan(workspace, flow, train, stride=stride, align_frames=teacher_align_frames(settings))
        steps = plan.window_frames // stride
        torch.manual_seed(train.seed)
        trained = fit(
            TeacherObjective(
                _reported(new_teacher(settings, num_classes=len(recipe.labels), trained_steps=steps), progress),
                flow_jitter=train.flow_jitter,
                at_once=train.backbone_windows,
            ),
            _motion_batches(plan, flow, settings, cache_bytes=train.cache_mb << 20),
            train,
            folder=stage_folder(workspace, f"train-{workspace.teacher.stem}"),
            key=key,
            device=device,
            progress=progress,
            task=workspace.teacher_title("train-teacher"),
        )
    _save(
        workspace.teacher,
        "teacher",
        settings,
        workspace,
        _below(trained.tensors, "model."),
        key=key,
        trained=trained.provenance,
        steps=steps,
    )
    return True


def _motion_batches(plan: WindowPlan, flow: TrackReader, settings: ModelSettings, *, cache_bytes: int) -> WindowBatches:
    """Windows of what the teacher reads: flow, or its stream of stored features."""
    if settings.features is not None:
        stream = FeatureStream(flow, settings.features.flow)
        return StreamBatches(plan, stream=stream, name="flow", cache_bytes=cache_bytes)
    stride, stack = settings.teacher_backbone.stride, settings.flow.stack
    return FlowBatches(plan, stride=stride, flow=flow, stack=stack)


def distill(workspace: Workspace, row: str, *, device: torch.device, progress: Progress) -> bool:
    """Train the RGB student of ``row``; returns False if it was up to date.

    Raises:
        StoreError: the flow, whose time stamps it uses, or the teacher's outputs are missing or stale.
        WeightsError: the teacher that it is trained on is missing or stale.
    """
    recipe = workspace.of_row(row)
    settings, train = recipe.model_settings, recipe.train.student
    with Inputs(workspace) as inputs:
        frames, key = inputs.frames, inputs.student_key(row)
        has_joint = not settings.distill.joint or is_up_to_date(workspace.joint_head(row), kind="joint-head", key=key)
        if has_joint and is_up_to_date(workspace.student(row), kind="student", key=key):
            return False
        stride, unlabelled = recipe.backbone.stride, inputs.unlabelled(row)
        if workspace.unlabelled and not unlabelled:
            why = "the student has no teacher, so it is trained on the labelled videos alone"
            progress.warn(f"{workspace.title(row)}: {why}")
        plan = frame_plan(
            workspace,
            frames,
            train,
            stride=stride,
            align_frames=student_align_frames(settings),
            unlabelled=unlabelled,
            unlabelled_windows=train.unlabelled_windows,
        )
        steps = plan.window_frames // stride
        torch.manual_seed(train.seed)
        given = None if workspace.given is None else load_checkpoint(workspace.given, kind="detector")
        objective = _student_objective(settings, recipe, given=given, steps=steps, progress=progress)
        trained = fit(
            objective,
            _rgb_batches(inputs, row, plan, objective.model.backbone),
            train,
            folder=stage_folder(workspace, f"distill-{row}"),
            key=key,
            device=device,
            progress=progress,
            task=f"distill ({workspace.title(row)})",
        )
    if settings.distill.joint:
        _save(
            workspace.joint_head(row),
            "joint-head",
            settings,
            workspace,
            _below(trained.tensors, "joint."),
            key=key,
            trained=trained.provenance,
            steps=steps,
            unlabelled=unlabelled,
        )
    _save(
        workspace.student(row),
        "student",
        settings,
        workspace,
        _below(trained.tensors, "model."),
        key=key,
        trained=trained.provenance,
        steps=steps,
        unlabelled=unlabelled,
    )
    return True


def _rgb_batches(inputs: Inputs, row: str, plan: WindowPlan, backbone: Backbone) -> TaughtBatches:
    """Windows of what the student of ``row`` reads: frames, or its stream of the feature store in place of flow."""
    workspace, tracks = inputs.workspace, inputs.taught_by(row)
    recipe = workspace.of_row(row)
    teacher_head = _teacher_head(workspace, recipe.taught_by)
    if recipe.features is not None:
        return StreamBatches(
            plan,
            stream=FeatureStream(inputs.flow, recipe.features.rgb),
            name="frames",
            teacher_outputs=tracks,
            strides=recipe.head.strides,
            teacher_head=teacher_head,
            cache_bytes=recipe.train.student.cache_mb << 20,
        )
    cache = FrameCache(recipe.video, limit_bytes=recipe.train.student.cache_mb << 20)
    return FrameBatches(
        plan,
        stride=recipe.backbone.stride,
        cache=cache,
        paths={item.name: item.path for item in (*workspace.training, *workspace.unlabelled)},
        teacher_outputs=tracks,
        strides=recipe.head.strides,
        teacher_head=teacher_head,
        prefix=PrefixCache.of(backbone, cache),
    )


def _teacher_head(workspace: Workspace, teachers: Sequence[str]) -> TeacherHead | None:
    """The head of a student's teachers, if their predictions are not stored."""
    if workspace.recipe.head.pyramid_levels or not teachers:
        return None
    paths = [workspace.of_teacher(name).teacher for name in teachers]
    heads = [build_teacher(load_checkpoint(path, kind="teacher"))[1].head for path in paths]
    return EnsembleHead(heads) if len(heads) > 1 else heads[0]


def _student_objective(
    settings: ModelSettings, recipe: Recipe, *, given: Checkpoint | None, steps: int, progress: Progress
) -> StudentObjective:
    """The student, and with ``distill.joint`` the joint head, to be trained on windows of ``steps`` feature steps.

    It starts from the student of a ``given`` detector, if there is one.
    """
    classes = len(recipe.labels)
    student = new_student(settings, num_classes=classes, pretrained=None if given is None else False)
    if given is not None:
        load_streams(student, given)
    joint = new_joint_head(settings, num_classes=classes, trained_steps=steps) if settings.distill.joint else None
    return StudentObjective(
        _reported(student, progress),
        distill=settings.distill,
        joint=joint,
        teacher_beside=settings.teacher_beside_student,
        colour_jitter=recipe.train.student.colour_jitter,
        at_once=recipe.train.student.backbone_windows,
    )


def _reported(model: Net, progress: Progress) -> Net:
    """The model, after saying how the weights file of its backbone fitted, if it started from one."""
    if (report := model.backbone.weights_report) is not None:
        progress.warn(f"weights file {report}")
    return model


def train_head(workspace: Workspace, row: str, *, device: torch.device, progress: Progress) -> bool:
    """Train fusion and joint head on cached features and write the detector; returns False if it was up to date.

    With ``distill.joint``, both were trained together with the student and are taken as they are. A row of
    ``two-stream-late`` has the heads of its teacher and of an RGB row, so nothing is trained either. The detectors of
    groups of the training videos, which are trained before, give the operating points.

    Raises:
        StoreError: the features are missing or stale.
        WeightsError: the student, or a two-stream row's teacher or RGB detector, is missing or stale.
    """
    recipe, groups = workspace.of_row(row), workspace.groups_of(row)
    settings = recipe.model_settings
    if settings.streams == "two-stream-late":
        return _join_late(workspace, row)
    with Inputs(workspace) as inputs:
        student_path, key = inputs.student(row), inputs.detector_key(row)
        if _is_current_detector(workspace, row, key=key):
            return False
        if settings.distill.joint:
            joint, window, trained = _head_of_one_stage(inputs, row)
        else:
            joint, window, trained = _trained_head(inputs, row, device=device, progress=progress)
    student = _student_of(workspace, row, student_path, window=window, device=device, progress=progress)
    stream = None
    if settings.reads_flow:
        stream = motion_stream_of(build_teacher(load_checkpoint(workspace.teacher, kind="teacher"))[1], settings)
    _save(
        workspace.detector(row),
        "detector",
        settings,
        workspace,
        DetectorNet(settings, labels=recipe.labels, student=student, joint=joint, teacher=stream).state_dict(),
        key=key,
        trained=trained,
        steps=window,
        half=recipe.half_precision,
        groups=groups,
        points=operating_points(workspace, row, device=str(device)) if groups else {},
    )
    return True


def _student_of(
    workspace: Workspace, row: str, path: Path, *, window: int, device: torch.device, progress: Progress
) -> Student:
    """The student that a detector embeds; a given one that is frozen has a new head, for the recipe's labels.

    The joint head does not read that head. It is trained for the scores of two branches, so not for groups.
    """
    checkpoint = load_checkpoint(path, kind="student")
    if not workspace.frozen:
        return build_student(checkpoint)[1]
    settings, labels = workspace.of_row(row).model_settings, workspace.recipe.labels
    torch.manual_seed(workspace.of_row(row).train.head.seed)
    student = new_student(settings, num_classes=len(labels), pretrained=False, trained_steps=window)
    load_streams(student, checkpoint)
    if workspace.whole is None and settings.distill.two_branches:
        _train_branches(workspace, row, student, device=device, progress=progress)
    return student.eval()


def _train_branches(
    workspace: Workspace, row: str, student: Student, *, device: torch.device, progress: Progress
) -> None:
    """Train the head, or heads, of a student's branches on cached features."""
    recipe, branches = workspace.of_row(row), get_args(Branch)
    objective = BranchHeadsObjective({branch: student.branch_head(branch) for branch in branches})
    with Inputs(workspace) as inputs:
        plan = _head_plan(inputs, row, head=recipe.head)
        trained = fit(
            objective,
            FeatureBatches(plan, features=inputs.head_features(row), tracks=branches),
            recipe.train.head,
            folder=stage_folder(workspace, f"train-branches-{row}"),
            key=inputs.training_key(row),
            device=device,
            progress=progress,
            task=f"train-head (branches of {workspace.title(row)})",
        )
    objective.load_state_dict(trained.tensors)


def _head_plan(inputs: Inputs, row: str, *, head: HeadSettings) -> WindowPlan:
    """Windows of cached features, for a head."""
    workspace, features = inputs.workspace, inputs.head_features(row)
    recipe = workspace.of_row(row)
    step_s = _step_s(workspace, features, stride=recipe.backbone.stride)
    window, align = window_steps(head, recipe.train.head, step_s=step_s)
    videos = training_videos(workspace, features, stride=1)
    return WindowPlan(videos, recipe.train.head, window_frames=window, align_frames=align)


def _is_current_detector(workspace: Workspace, row: str, *, key: str) -> bool:
    """Whether a row's detector has this key; decoding, which needs no training, is then stated as the recipe has it."""
    path = workspace.detector(row)
    current = is_up_to_date(path, kind="detector", key=key)
    if current:
        restate_decoding(path, workspace.of_row(row).decode.model_dump(mode="json"))
    return current


def _join_late(workspace: Workspace, row: str) -> bool:
    """Write the detector that averages the scores of the teacher and of an RGB row; False if it was up to date."""
    recipe, rgb_row = workspace.of_row(row), workspace.rgb_row(row)
    settings, path = recipe.model_settings, workspace.detector(row)
    with Inputs(workspace) as inputs:
        teacher_path, rgb_path = inputs.teacher, inputs.detector(rgb_row)
    files = {"detector": digest_of_file(rgb_path), "teacher": digest_of_file(teacher_path)}
    key = late_key(**files, half=recipe.half_precision)
    if _is_current_detector(workspace, row, key=key):
        return False
    checkpoint = load_checkpoint(rgb_path, kind="detector")
    rgb, (_, teacher) = build_detector(checkpoint), build_teacher(load_checkpoint(teacher_path, kind="teacher"))
    joint = new_joint_head(settings, num_classes=len(recipe.labels))
    joint.head = LateHead(teacher.head, rgb.joint.head)
    stream = motion_stream_of(teacher, settings)
    _save(
        path,
        "detector",
        settings,
        workspace,
        DetectorNet(settings, labels=recipe.labels, student=rgb.student, joint=joint, teacher=stream).state_dict(),
        key=key,
        trained=checkpoint.provenance["trained"],
        steps=checkpoint.trained_steps,
        teacher_steps=teacher.head.trained_steps,
        half=recipe.half_precision,
    )
    return True


def _trained_head(
    inputs: Inputs, row: str, *, device: torch.device, progress: Progress
) -> tuple[JointHead, int, Mapping[str, Any]]:
    """Fusion and joint head trained on cached features, the steps of their windows, and how they were trained."""
    workspace, features = inputs.workspace, inputs.head_features(row)
    recipe = workspace.of_row(row)
    settings, train = recipe.model_settings, recipe.train.head
    plan = _head_plan(inputs, row, head=recipe.detector_head)
    window = plan.window_frames
    tracks = ("motion", "appearance") if settings.two_tracks else ("appearance",)
    torch.manual_seed(train.seed)
    joint = new_joint_head(settings, num_classes=len(workspace.recipe.labels), trained_steps=window)
    trained = fit(
        JointHeadObjective(joint),
        FeatureBatches(plan, features=features, tracks=tracks),
        train,
        folder=stage_folder(workspace, f"train-head-{row}"),
        key=inputs.training_key(row),
        device=device,
        progress=progress,
        task=f"train-head ({workspace.title(row)})",
    )
    joint.load_state_dict(_below(trained.tensors, "model."))
    return joint, window, trained.provenance


def _head_of_one_stage(inputs: Inputs, row: str) -> tuple[JointHead, int, Mapping[str, Any]]:
    """Fusion and joint head that were trained together with the student, the steps of their windows, and how."""
    checkpoint, recipe = load_checkpoint(inputs.joint_head(row), kind="joint-head"), inputs.workspace.of_row(row)
    steps = checkpoint.trained_steps
    assert steps is not None, "a joint head trained with a student states its windows"
    joint = new_joint_head(recipe.model_settings, num_classes=len(recipe.labels), trained_steps=steps)
    load_weights(joint, checkpoint)
    return joint, steps, checkpoint.provenance["trained"]


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
    trained: Mapping[str, Any],
    steps: int | None,
    teacher_steps: int | None = None,
    half: bool = False,
    unlabelled: Sequence[Item] = (),
    groups: Sequence[Workspace] = (),
    points: Mapping[str, float] = MappingProxyType({}),
) -> None:
    provenance: dict[str, Any] = {
        "key": key,
        "recipe": workspace.recipe.name,
        "training_videos": [item.name for item in workspace.training],
        "held_out_videos": [item.name for item in workspace.held_out],
        "trained": dict(trained),
    }
    if unlabelled:
        provenance["unlabelled_videos"] = [item.name for item in unlabelled]
    if groups:
        provenance["groups"] = [[item.name for item in group.held_out] for group in groups]
    if workspace.given is not None:
        of_student = read_provenance(workspace.given, kind="detector").get("training_videos", [])
        origin = {"sha256": digest_of_file(workspace.given), "training_videos": of_student}
        provenance["adapted_from"] = {"file": workspace.given.name, "fine_tuned": workspace.fine_tuned, **origin}
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
            teacher_steps=teacher_steps,
        ),
        half=half,
    )
