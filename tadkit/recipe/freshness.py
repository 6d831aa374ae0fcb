"""What each stage of a recipe depends on, and whether what it reads is there and made from just that."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tadkit.checkpoint import Checkpoint, Kind, load_checkpoint
from tadkit.config import ModelSettings, TrainSettings
from tadkit.errors import StoreError, TadkitError, WeightsError
from tadkit.extraction.extract_features import features_key
from tadkit.extraction.extract_flow import flow_key
from tadkit.extraction.results import views_of
from tadkit.extraction.teacher_tracks import tracks_key
from tadkit.files import digest_of
from tadkit.keys import CODE
from tadkit.recipe.workspace import Workspace
from tadkit.store import TrackReader, read_store

TAUGHT = frozenset({"decomposed", "direct"})
"""Methods that hear the teacher."""


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


def teacher_key(workspace: Workspace, flow: TrackReader) -> str:
    """What the teacher depends on."""
    parts = {"flow": [flow.key(item.name) for item in workspace.training]}
    shape = _shape(workspace.model_settings, "video", "flow", "teacher_backbone", "head")
    shape["dim"] = workspace.recipe.distill.dim
    return _key(workspace, parts, shape, workspace.recipe.train.teacher)


def student_key(workspace: Workspace, method: str, tracks: TrackReader | None) -> str:
    """What the student of ``method`` depends on; ``tracks`` are the teacher's, None where it hears none."""
    heard = [] if tracks is None else [tracks.key(item.name) for item in workspace.training]
    parts = {"teacher": heard, "sources": [item.source_sha256 for item in workspace.training]}
    settings = method_settings(workspace, method)
    fusion = ("fusion",) if settings.distill.joint else ()
    shape = _shape(settings, "video", "backbone", "head", "distill", *fusion)
    return _key(workspace, parts, shape, workspace.recipe.train.student)


def head_key(workspace: Workspace, method: str, features: TrackReader) -> str:
    """What the joint head of ``method`` depends on."""
    parts: dict[str, object] = {"features": [features.key(item.name) for item in workspace.training]}
    if workspace.recipe.half_precision:
        parts["half_precision"] = True
    shape = _shape(method_settings(workspace, method), "head", "joint_head", "distill", "fusion")
    return _key(workspace, parts, shape, workspace.recipe.train.head)


def features_head_key(workspace: Workspace, features: TrackReader) -> str:
    """What a head trained on the features of a source depends on."""
    parts = {"features": [features.key(item.name) for item in workspace.training]}
    return _key(workspace, parts, _shape(workspace.model_settings, "head", "joint_head"), workspace.recipe.train.head)


def _shape(settings: ModelSettings, *sections: str) -> dict[str, Any]:
    """The sections that a stage's model depends on; who decodes the frames is none of them."""
    return settings.model_dump(mode="json", include=set(sections), exclude={"video": {"reader"}})


def _key(workspace: Workspace, parts: Mapping[str, object], shape: Mapping[str, Any], train: TrainSettings) -> str:
    rest = {
        "model": dict(shape),
        "train": train.model_dump(mode="json", exclude=set(train.without_effect)),
        "truth": [item.truth_digest for item in workspace.training],
        "labels": list(workspace.recipe.labels),
        "code": CODE,
    }
    return digest_of({**parts, **rest})


def open_flow(workspace: Workspace) -> TrackReader:
    """The flow store, which holds every training video as the recipe wants it.

    Raises:
        StoreError: it does not; the message names the command that mends it.
    """
    recipe = workspace.recipe
    _require(workspace.flow, "flow", "extract-flow", StoreError)
    store = read_store(workspace.flow, kind="flow")
    expected = {item.name: flow_key(item.source_sha256, recipe.flow, recipe.video) for item in workspace.training}
    _refuse_stale(store, expected, "extract-flow")
    return store


def current_teacher(workspace: Workspace) -> Checkpoint:
    """The teacher, trained as the recipe wants it.

    Raises:
        StoreError: the flow that it was trained on is missing or stale.
        WeightsError: it is missing or stale.
    """
    _require(workspace.teacher, "teacher", "train-teacher", WeightsError)
    with open_flow(workspace) as flow:
        return _current(workspace.teacher, "teacher", teacher_key(workspace, flow), "train-teacher")


def open_teacher_tracks(workspace: Workspace) -> TrackReader:
    """The teacher's features and predictions of every training video.

    Raises:
        StoreError: they are missing or stale.
        WeightsError: the teacher is.
    """
    teacher = current_teacher(workspace)
    _require(workspace.teacher_tracks, "features of the teacher", "extract-flow", StoreError)
    store = read_store(workspace.teacher_tracks, kind="features")
    views = views_of(workspace.recipe.train.student.views)
    with read_store(workspace.flow, kind="flow") as flow:
        expected = {
            item.name: tracks_key(flow.key(item.name), teacher=teacher.digest, views=views)
            for item in workspace.training
        }
    _refuse_stale(store, expected, "extract-flow")
    return store


def current_student(workspace: Workspace, method: str) -> Checkpoint:
    """The student of ``method``, trained as the recipe wants it.

    Raises:
        StoreError: what it hears of the teacher is missing or stale.
        WeightsError: the student, or its teacher, is.
    """
    path = workspace.student(method)
    _require(path, f"student ({method})", "distill", WeightsError)
    if method not in TAUGHT:
        return _current(path, "student", student_key(workspace, method, None), "distill")
    with open_teacher_tracks(workspace) as tracks:
        return _current(path, "student", student_key(workspace, method, tracks), "distill")


def open_features(workspace: Workspace, method: str, *, student: Checkpoint) -> TrackReader:
    """The store of what ``student`` makes of every training video.

    Raises:
        StoreError: it is missing or stale.
    """
    path, recipe = workspace.features(method), workspace.recipe
    _require(path, f"features ({method})", "extract-features", StoreError)
    store = read_store(path, kind="features")
    views = views_of(recipe.train.head.views)
    expected = {
        item.name: features_key(item.source_sha256, model=student.digest, video=recipe.video, views=views)
        for item in workspace.training
    }
    _refuse_stale(store, expected, "extract-features")
    return store


def _require(path: Path, what: str, command: str, error: type[TadkitError]) -> None:
    if not path.is_file():
        raise error(f"{path}: no {what} yet; run tadkit {command} RECIPE first")


def _current(path: Path, kind: Kind, key: str, command: str) -> Checkpoint:
    checkpoint = load_checkpoint(path, kind=kind)
    if checkpoint.provenance.get("key") != key:
        raise WeightsError(
            f"{path}: made from other videos, annotations or settings than the recipe's; "
            f"run tadkit {command} RECIPE first"
        )
    return checkpoint


def _refuse_stale(store: TrackReader, expected: Mapping[str, str], command: str) -> None:
    known = set(store.videos())
    if missing := [name for name in expected if name not in known]:
        raise StoreError(
            f"{store.path}: lacks '{missing[0]}' ({len(missing)} videos in all); run tadkit {command} RECIPE first"
        )
    if stale := [name for name, key in expected.items() if store.key(name) != key]:
        raise StoreError(
            f"{store.path}: '{stale[0]}' ({len(stale)} videos in all) was made from another video, model or settings "
            f"than the recipe's; run tadkit {command} RECIPE first"
        )
