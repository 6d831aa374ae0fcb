"""Checks that what a stage of a run reads is there, and was made from what the recipe says now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from tadkit.checkpoint import Kind, read_provenance
from tadkit.config import View
from tadkit.errors import StoreError, TadkitError, WeightsError
from tadkit.files import digest_of, digest_of_file
from tadkit.keys import features_key, flow_key, head_key, one_stage_key, student_key, teacher_key, teacher_outputs_key
from tadkit.models.ensemble import EnsembleTracks
from tadkit.recipe.cross_fit import AlignedTracks, CrossFitted
from tadkit.recipe.operating_points import points_key
from tadkit.recipe.streams import FrameTimes, TwoStreams
from tadkit.recipe.videos import Item
from tadkit.recipe.workspace import Workspace
from tadkit.store import TrackReader, VideoTracks, read_store
from tadkit.store.layout import Kind as StoreKind
from tadkit.views import views_of


def is_up_to_date(path: Path, *, kind: Kind, key: str) -> bool:
    """Whether the checkpoint at ``path`` has this key."""
    try:
        return read_provenance(path, kind=kind).get("key") == key
    except WeightsError:
        return False


class Inputs:
    """The checked inputs of one stage; each is opened and checked once, when it is first used.

    Use it in a ``with`` block, which closes the stores. Every input raises StoreError or WeightsError where it is
    missing or stale, and the message names the command that makes it.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._opened = ExitStack()
        self._head_features: dict[str, VideoTracks] = {}
        self._teachers: dict[str, Inputs] = {}

    def __enter__(self) -> Self:
        """The inputs themselves."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the stores."""
        self._opened.close()

    @cached_property
    def flow(self) -> TrackReader:
        """The flow store, with every training video of the run; or the source's feature store, which has them all."""
        recipe = self.workspace.teacher_recipe
        if recipe.features is not None:
            return self._opened.enter_context(read_store(self.workspace.flow, kind="features"))
        what = self.workspace.teacher_title("flow")
        store = self._store(self.workspace.flow, "flow", what=what, command="extract-flow")
        _refuse_stale(store, self._flow_of(self.workspace.shared.training), "extract-flow")
        return store

    @cached_property
    def frames(self) -> VideoTracks:
        """When the frames of every training video are shown: as the flow store says, or without flow the videos."""
        if self.workspace.given is None:
            return self.flow
        return FrameTimes({item.name: item.path for item in self.workspace.training}, self.workspace.recipe.video)

    def _flow_of(self, items: Sequence[Item]) -> dict[str, str]:
        """Keys of up-to-date flow."""
        recipe = self.workspace.teacher_recipe
        return {item.name: flow_key(item.source_key, recipe.flow, recipe.video) for item in items}

    @cached_property
    def teacher_key(self) -> str:
        """The key of an up-to-date teacher."""
        workspace = self.workspace.shared
        return teacher_key(
            [self.flow.key(item.name) for item in workspace.training],
            model=workspace.teacher_recipe.model_settings,
            train=workspace.teacher_recipe.train.teacher,
            truth=workspace.training_truth,
        )

    @cached_property
    def teacher(self) -> Path:
        """The teacher's checkpoint."""
        path, what = self.workspace.teacher, self.workspace.teacher_title("teacher")
        return self._model(path, "teacher", lambda: self.teacher_key, what=what, command="train-teacher")

    @cached_property
    def teacher_outputs(self) -> TrackReader:
        """The store of the teacher's features and predictions, with every training video."""
        expected = self._outputs_of(self.workspace.training)  # a stale teacher is reported before its outputs
        path, what = self.workspace.teacher_outputs, self.workspace.teacher_title("features of the teacher")
        store = self._store(path, "features", what=what, command="extract-flow")
        _refuse_stale(store, expected, "extract-flow")
        return store

    def of_teacher(self, name: str) -> Inputs:
        """The inputs of what reads another of the recipe's teachers."""
        if name == self.workspace.teacher_name:
            return self
        if name not in self._teachers:
            self._teachers[name] = self._opened.enter_context(Inputs(self.workspace.of_teacher(name)))
        return self._teachers[name]

    def taught_by(self, row: str) -> VideoTracks | None:
        """What the student of ``row`` is trained on: the outputs of its teachers as those of one, None without any."""
        stores = [self.of_teacher(name).teacher_outputs for name in self.workspace.of_row(row).taught_by]
        return EnsembleTracks(stores) if len(stores) > 1 else next(iter(stores), None)

    def _outputs_of(self, items: Sequence[Item]) -> dict[str, str]:
        """Keys of up-to-date outputs of the teacher."""
        teacher, views = digest_of_file(self.teacher), self.workspace.teacher_views
        return {
            item.name: teacher_outputs_key(self.flow.key(item.name), teacher=teacher, views=views) for item in items
        }

    def unlabelled(self, row: str) -> tuple[Item, ...]:
        """The videos without labels that the student of ``row`` is trained on, with outputs of every teacher."""
        items = self.workspace.unlabelled_of(row)
        if items:
            for name in self.workspace.of_row(row).taught_by:
                items = self.of_teacher(name)._unlabelled
        return items

    @cached_property
    def _unlabelled(self) -> tuple[Item, ...]:
        """The videos without labels, with flow and outputs of this teacher."""
        items = self.workspace.unlabelled
        if self.workspace.recipe.features is None:
            _refuse_stale(self.flow, self._flow_of(items), "extract-flow")
        _refuse_stale(self.teacher_outputs, self._outputs_of(items), "extract-flow")
        return items

    def student_key(self, row: str) -> str:
        """The key of an up-to-date student of ``row``."""
        workspace = self.workspace
        given = None if workspace.given is None else digest_of_file(workspace.given)
        if workspace.frozen:
            return digest_of(["the student of", given])
        recipe, unlabelled = workspace.of_row(workspace.student_row(row)), self.unlabelled(row)
        settings, train, training = recipe.model_settings, recipe.train.student, workspace.training
        named = [digest_of([item.name, item.source_key]) for item in unlabelled]  # names of others are in the truth
        key = student_key(
            [*(item.source_key for item in training), *named],
            [
                key
                for name in recipe.taught_by
                for key in self.of_teacher(name)._taught_from((*training, *unlabelled), views_of(train.views))
            ],
            model=settings,
            train=train if unlabelled else train.model_copy(update={"unlabelled_windows": None}),
            truth=workspace.training_truth,
        )
        return key if given is None else digest_of([key, "from the student of", given])

    def _taught_from(self, items: Sequence[Item], views: Sequence[View]) -> list[str]:
        """Keys of the teacher's outputs in the views of a student; other rows may add others."""
        store = self.teacher_outputs
        if views == self.workspace.teacher_views:
            return [store.key(item.name) for item in items]
        teacher = digest_of_file(self.teacher)
        return [teacher_outputs_key(self.flow.key(item.name), teacher=teacher, views=views) for item in items]

    def student(self, row: str) -> Path:
        """The checkpoint of the student of ``row``."""
        path, what = self.workspace.student(row), f"student ({self._student_title(row)})"
        return self._model(path, "student", lambda: self.student_key(row), what=what, command="distill")

    def joint_head(self, row: str) -> Path:
        """The checkpoint of the joint head that was trained together with the student of ``row``."""
        path, what = self.workspace.joint_head(row), f"joint head ({self._student_title(row)})"
        return self._model(path, "joint-head", lambda: self.student_key(row), what=what, command="distill")

    def _student_title(self, row: str) -> str:
        return self.workspace.title(self.workspace.student_row(row))

    def head_features(self, row: str) -> VideoTracks:
        """The branch features of every training video, as the joint head is trained on them.

        With cross-fitting, those of a video come from the student that was trained without the video's group, aligned
        with those of the student of all training videos. A two-stream row reads the teacher's feature as motion, and is
        not cross-fitted: its teacher was trained on all training videos.
        """
        if row not in self._head_features:
            self._head_features[row] = self._read_by_head(row)
        return self._head_features[row]

    def _read_by_head(self, row: str) -> VideoTracks:
        workspace = self.workspace
        own = self._features(row, workspace.training)
        if workspace.of_row(row).reads_flow:
            return TwoStreams(self.teacher_outputs, own)
        if not workspace.of_row(row).train.head.cross_fit or workspace.whole is not None:
            return own
        aligned: dict[str, AlignedTracks] = {}
        for group in workspace.groups_of(row):
            store = self._opened.enter_context(Inputs(group))._features(row, group.items)
            tracks = AlignedTracks(store, own, [item.name for item in group.training])
            aligned |= {item.name: tracks for item in group.held_out}
        return CrossFitted(aligned)

    def training_key(self, row: str) -> str:
        """The key of an up-to-date joint head of ``row``."""
        workspace, recipe = self.workspace, self.workspace.of_row(row)
        teacher = digest_of_file(self.teacher) if recipe.reads_flow else None
        if recipe.distill.joint:
            return one_stage_key(digest_of_file(self.student(row)), teacher=teacher, half=recipe.half_precision)
        features = self.head_features(row)
        cross_fitted = bool(workspace.groups_of(row)) and recipe.train.head.cross_fit
        return head_key(
            [features.key(item.name) for item in workspace.training],
            model=recipe.model_settings,
            train=recipe.train.head,
            truth=workspace.training_truth,
            half=recipe.half_precision,
            student=digest_of_file(self.student(row)) if cross_fitted else None,
            teacher=teacher,
        )

    def detector_key(self, row: str) -> str:
        """The key of an up-to-date detector of ``row``: that of its head, and what its operating points depend on."""
        key, workspace = self.training_key(row), self.workspace
        return digest_of([key, points_key(workspace, row)]) if workspace.groups_of(row) else key

    def detector(self, row: str) -> Path:
        """The checkpoint of the detector of ``row``, which is not one of ``two-stream-late``."""
        path, what = self.workspace.detector(row), f"detector ({self.workspace.title(row)})"
        return self._model(path, "detector", lambda: self.detector_key(row), what=what, command="train-head")

    def _features(self, row: str, items: Sequence[Item]) -> TrackReader:
        """The store of the features of the row's student, with those of ``items``."""
        path, recipe = self.workspace.features(row), self.workspace.recipe
        student = digest_of_file(self.student(row))  # a stale student is reported before its features
        store = self._store(path, "features", what=f"features ({self._student_title(row)})", command="extract-features")
        views = self.workspace.views_of_head(self.workspace.student_row(row))
        expected = {
            item.name: features_key(item.source_key, model=student, video=recipe.video, views=views) for item in items
        }
        _refuse_stale(store, expected, "extract-features")
        return store

    def _store(self, path: Path, kind: StoreKind, *, what: str, command: str) -> TrackReader:
        if not path.is_file():
            _refuse_missing(path, what, command, StoreError)
        return self._opened.enter_context(read_store(path, kind=kind))

    def _model(self, path: Path, kind: Kind, key: Callable[[], str], *, what: str, command: str) -> Path:
        if not path.is_file():
            _refuse_missing(path, what, command, WeightsError)
        if read_provenance(path, kind=kind).get("key") != key():
            raise WeightsError(
                f"{path}: made from videos, annotations or settings other than the recipe's; "
                f"run tadkit {command} RECIPE first"
            )
        return path


def _refuse_missing(path: Path, what: str, command: str, error: type[TadkitError]) -> None:
    raise error(f"{path}: no {what} yet; run tadkit {command} RECIPE first")


def _refuse_stale(store: TrackReader, expected: Mapping[str, str], command: str) -> None:
    known = set(store.videos())
    if missing := [name for name in expected if name not in known]:
        raise StoreError(
            f"{store.path}: '{missing[0]}' is missing ({len(missing)} videos in all); run tadkit {command} RECIPE first"
        )
    if stale := [name for name, key in expected.items() if store.key(name) != key]:
        raise StoreError(
            f"{store.path}: '{stale[0]}' ({len(stale)} videos in all) was made from a video, model or settings "
            f"other than the recipe's; run tadkit {command} RECIPE first"
        )
