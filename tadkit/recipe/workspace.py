"""The run folder of a recipe: which files it holds, and the videos that it uses."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import get_args

from filelock import FileLock, Timeout

from tadkit.config import TEACHER, HeadTrainSettings, Recipe, View
from tadkit.config.recipe import ROWS, RowError, Streams
from tadkit.errors import AnnotationError, SettingsError, StoreError, UsageError
from tadkit.files import canonical_json
from tadkit.keys import TrainingTruth
from tadkit.progress import Progress
from tadkit.recipe.cross_fit import groups_of
from tadkit.recipe.streams import frozen_items, with_streams
from tadkit.recipe.videos import Item, expanded, unlabelled_videos_of, videos_of, with_weights_found
from tadkit.video.digests import digest_ledger
from tadkit.views import views_of

FEATURES = "features"
"""The one row of a recipe of features without streams for teacher and student: its head."""


@dataclass(frozen=True)
class Workspace:
    """A run folder and the recipe that fills it.

    Attributes:
        recipe: as it was written, with absolute paths of weights files.
        folder: the run folder.
        items: the videos with annotations.
        video_scores: file of scores of whole videos, where the recipe names one.
        whole: the run's workspace, if this is that of a group of its training videos.
        group: which group that is, such as ``1 of 3``.
        teacher_name: the teacher that ``flow``, ``teacher`` and ``teacher_outputs`` are those of.
        unlabelled: videos that students are trained on without ground truth; they are in no split.
        ablation: folder of the ablation that the run is one of. It holds what all its runs share: flow, synthetic
            videos and digests. Its rows may change, so only those that are compared are trained, and the names of their
            files do not depend on the other rows.
        given: a detector whose student is taken instead of one that the recipe trains (``tadkit adapt``).
        fine_tuned: the given student is trained further, by each group for itself; otherwise it is frozen.
    """

    recipe: Recipe
    folder: Path
    items: tuple[Item, ...]
    video_scores: Path | None = None
    whole: Workspace | None = None
    group: str = ""
    teacher_name: str = TEACHER
    unlabelled: tuple[Item, ...] = ()
    ablation: Path | None = None
    given: Path | None = None
    fine_tuned: bool = False

    @property
    def frozen(self) -> bool:
        """Whether the student is that of the given detector, as it is."""
        return self.given is not None and not self.fine_tuned

    @property
    def training(self) -> tuple[Item, ...]:
        """Videos that models are trained on."""
        return tuple(item for item in self.items if not item.held_out)

    @property
    def held_out(self) -> tuple[Item, ...]:
        """Videos that models are evaluated on."""
        return tuple(item for item in self.items if item.held_out)

    @property
    def shared(self) -> Workspace:
        """The workspace of the run, whose flow and teacher the groups of its training videos use, too."""
        return self.whole or self

    @cached_property
    def groups(self) -> tuple[Workspace, ...]:
        """With ``train.head.groups``, a workspace for each group of the training videos, which holds out that group."""
        count = self.recipe.train.head.groups
        if not count or self.whole is not None:
            return ()
        parts = groups_of(self.training, count, labels=self.recipe.labels, split=self.recipe.split)
        return tuple(
            replace(
                self,
                folder=self.folder / "groups" / f"{number}-of-{count}",
                items=tuple(replace(item, held_out=item.name in part) for item in self.training),
                video_scores=None,
                whole=self,
                group=f"{number} of {count}",
            )
            for number, part in enumerate(parts, start=1)
        )

    def of_teacher(self, name: str) -> Workspace:
        """The workspace in which the teacher of this name is trained."""
        return next(teacher for teacher in self.teachers if teacher.teacher_name == name)

    @cached_property
    def teachers(self) -> tuple[Workspace, ...]:
        """The workspaces of all teachers, the recipe's own first."""
        names, whole = self.recipe.teacher_names, self.whole
        wholes = [None] * len(names) if whole is None else whole.teachers
        return tuple(replace(self, teacher_name=name, whole=own) for name, own in zip(names, wholes, strict=True))

    @cached_property
    def teacher_recipe(self) -> Recipe:
        """The recipe as if its one teacher were that of this workspace."""
        return self.recipe.of_teacher(self.teacher_name)

    def _teacher_file(self, stem: str, suffix: str) -> Path:
        """A file of a teacher in the run folder, which groups share."""
        return self.shared.folder / f"{_of_teacher(stem, self.teacher_name)}{suffix}"

    @property
    def flow_name(self) -> str:
        """Name of the first teacher that reads the same stored flow."""
        stored = _stored_flow(self.recipe, self.teacher_name)
        return next(name for name in self.recipe.teacher_names if _stored_flow(self.recipe, name) == stored)

    @property
    def flow(self) -> Path:
        """Flow store; with streams of features, the feature store of the source."""
        if self.recipe.features is not None:
            return self.features_source
        return (self.ablation or self.shared.folder) / f"{_of_teacher('flow', self.flow_name)}.h5"

    @property
    def teacher(self) -> Path:
        """Teacher checkpoint."""
        return self._teacher_file("teacher", ".safetensors")

    @property
    def teacher_outputs(self) -> Path:
        """Store of the teacher's features and predictions."""
        return self._teacher_file("teacher", ".h5")

    def teacher_title(self, what: str) -> str:
        """A stage or a result of a teacher as progress and errors show it, with the name of a further teacher."""
        return what if self.teacher_name == TEACHER else f"{what} ({self.teacher_name})"

    def title(self, row: str) -> str:
        """A row as progress and errors show it, with the group that is held out."""
        return f"{row}, group {self.group}" if self.group else row

    def student(self, row: str) -> Path:
        """Student checkpoint of a row; rows whose students are trained alike share one."""
        if self.frozen:
            return self.shared.folder / "student-given.safetensors"
        return self.folder / f"student-{self.student_row(row)}.safetensors"

    def features(self, row: str) -> Path:
        """Store of the branch features of a row's student."""
        if self.frozen:
            return self.shared.folder / "features-given.h5"
        return self.folder / f"features-{self.student_row(row)}.h5"

    def detector(self, row: str) -> Path:
        """Detector checkpoint of a row."""
        return self.folder / f"detector-{row}.safetensors"

    def detections(self, row: str) -> Path:
        """Detections of the held-out videos by one row of the final table."""
        return self.folder / "detections" / f"{row}.json"

    def part_detections(self, row: str, part: str) -> Path:
        """Detections of the held-out videos by a branch of a row's student, or by a further teacher.

        No row's name has a plus.
        """
        return self.folder / "detections" / f"{row}+{part}.json"

    @property
    def held_out_annotations(self) -> Path:
        """Annotations of the held-out videos, beside their detections."""
        return self.folder / "detections" / "annotations.json"

    @property
    def features_source(self) -> Path:
        """Feature store of the source."""
        return self.items[0].path

    @property
    def features_head(self) -> Path:
        """Head trained on the features of the source."""
        return self.folder / "head.safetensors"

    @property
    def digests(self) -> Path:
        """Ledger of the videos' digests."""
        return (self.ablation or self.folder) / "digests.json"

    @property
    def report(self) -> Path:
        """Figures of the final table."""
        return self.folder / "report.json"

    def joint_head(self, row: str) -> Path:
        """Joint head that was trained along with the student, where ``distill.joint`` is set."""
        return self.folder / f"joint-head-{self.student_row(row)}.safetensors"

    @property
    def rows(self) -> tuple[str, ...]:
        """Rows of the final table."""
        return (FEATURES,) if self.recipe.head_alone else self.recipe.compare

    def model(self, row: str) -> Path:
        """Checkpoint that a row of the final table evaluates."""
        if self.recipe.head_alone:
            return self.features_head
        return self.teacher if row == "teacher" else self.detector(row)

    def judged_stores(self, row: str) -> tuple[Path, ...]:
        """Stores of what a row's model reads from, or has predicted for, the held-out videos."""
        if self.recipe.head_alone:
            return (self.features_source,)
        if row == "teacher":
            return (self.teacher_outputs,)
        return (self.features(row), *((self.teacher_outputs,) if self.of_row(row).reads_flow else ()))

    def stage(self, name: str) -> Path:
        """Folder where a training stage keeps its log and its state."""
        path = self.folder / "stages" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    @cached_property
    def _recipes(self) -> Mapping[str, Recipe]:
        rows = dict.fromkeys((TEACHER, *self.detectors, *self._named_after))
        return {row: self.recipe.of_row(row) for row in rows} | {FEATURES: self.recipe}

    def of_row(self, row: str) -> Recipe:
        """The recipe with the settings of a row."""
        return self._recipes[row]

    @property
    def training_truth(self) -> TrainingTruth:
        """The ground truth that every training depends on."""
        return TrainingTruth([item.truth_digest for item in self.training], self.recipe.labels)

    @cached_property
    def detectors(self) -> tuple[str, ...]:
        """Rows whose detectors the recipe trains: its own first, then those that it compares with.

        Rows that read flow follow the RGB rows, whose students and heads they share.
        """
        own = self.recipe.own_row
        rows = tuple(row for row in self.recipe.compare if row not in (TEACHER, own))
        if self.ablation is None or own in self.recipe.compare:
            rows = (own, *rows)
        if "rgb" not in rows and any(
            self.recipe.of_row(row).streams == "two-stream-late" and _rgb_row(self.recipe, row, rows) is None
            for row in rows
        ):
            rows = (*rows, "rgb")
        return tuple(sorted(rows, key=lambda row: get_args(Streams).index(self.recipe.of_row(row).streams)))

    def rgb_row(self, row: str) -> str:
        """The row of the RGB detector whose scores a row of ``two-stream-late`` averages with the teacher's.

        Raises:
            SettingsError: no row has its settings.
        """
        rgb = _rgb_row(self.recipe, row, self.detectors)
        if rgb is None:
            raise SettingsError(
                f"compare: '{row}' averages the scores of an RGB detector with its settings, but no row is that one; "
                "define it under variants, with distill.method = 'rgb', and add it to compare"
            )
        return rgb

    @cached_property
    def students(self) -> tuple[str, ...]:
        """Rows whose students are trained; each stands for all rows whose students are trained alike."""
        return tuple(dict.fromkeys(self._student_rows[row] for row in self.detectors))

    @cached_property
    def _student_rows(self) -> Mapping[str, str]:
        """For the row of every detector, the row whose student it has."""
        first: dict[str, str] = {}
        return {row: first.setdefault(_student_part(self.of_row(row)), row) for row in self._named_after}

    @cached_property
    def _named_after(self) -> tuple[str, ...]:
        """Rows that files of students are named after: those of detectors; in an ablation all, compared or not."""
        if self.ablation is None:
            return self.detectors
        known = (row for row in (*ROWS, *self.recipe.variants) if row not in (TEACHER, *self.detectors))
        possible = {*self.detectors, *(row for row in known if _is_possible(self.recipe, row))}
        return tuple(row for row in (*ROWS, *self.recipe.variants) if row in possible)

    def student_row(self, row: str) -> str:
        """The row whose student a row has: its own, or that of an earlier row whose student is trained alike."""
        return self._student_rows[row]

    def trains_student(self, row: str) -> bool:
        """Whether the row of a detector is the first with its student, which is trained for it."""
        return self._with_student(self.student_row(row))[0] == row

    def groups_of(self, row: str) -> tuple[Workspace, ...]:
        """Groups of the training videos that a row's operating points are chosen on; none for one that reads flow.

        The groups share the teacher of the run, which was trained on all of their videos.
        """
        return () if self.of_row(row).reads_flow else self.groups

    def unlabelled_of(self, row: str) -> tuple[Item, ...]:
        """Videos without labels that the student of a row is trained on: none, if it has no teacher or no windows."""
        recipe = self.of_row(row)
        return self.unlabelled if recipe.is_taught and recipe.train.student.unlabelled_windows != 0 else ()

    @property
    def student_views(self) -> tuple[View, ...]:
        """Views in which the students of all rows are trained."""
        return views_of([view for row in self.detectors for view in self.of_row(row).train.student.views])

    @property
    def teacher_views(self) -> tuple[View, ...]:
        """Views in which the teacher's outputs of the training videos are stored; heads that read flow add theirs."""
        rows = [self.of_row(row) for row in self.detectors]
        reading = [recipe for recipe in rows if recipe.reads_flow and not recipe.distill.joint]
        heads = [view for recipe in reading for view in recipe.train.head.views]
        return views_of([*self.student_views, *heads])

    def views_of_head(self, student: str) -> tuple[View, ...]:
        """Views in which the heads of all rows with this student are trained on its features; none in one stage."""
        recipes = [self.of_row(row) for row in self._with_student(student)]
        views = [view for recipe in recipes if not recipe.distill.joint for view in recipe.train.head.views]
        return views_of(views) if views else ()

    @property
    def leaves_train_head_unused(self) -> bool:
        """Whether the recipe has settings of ``train.head``, but all its heads are trained with their students."""
        given, filled_in = self.recipe.train.head, {"views", "colour_jitter"}  # of features, by the recipe itself
        same = {"groups"} | (set() if self.recipe.stream_source is None else filled_in)
        usual = HeadTrainSettings().model_copy(update={name: getattr(given, name) for name in same})
        return given != usual and all(self.of_row(row).distill.joint for row in self.detectors)

    def cross_fits(self, student: str) -> bool:
        """Whether the head of any row with this student is trained on cross-fitted features."""
        return any(self.of_row(row).train.head.cross_fit for row in self._with_student(student))

    def _with_student(self, student: str) -> list[str]:
        return [row for row in self.detectors if self.student_row(row) == student]


def _of_teacher(stem: str, teacher: str) -> str:
    return stem if teacher == TEACHER else f"{stem}-{teacher}"


def _is_possible(recipe: Recipe, row: str) -> bool:
    """Whether the recipe can have a row."""
    try:
        return bool(recipe.of_row(row))
    except RowError:
        return False


def _rgb_row(recipe: Recipe, row: str, rows: Sequence[str]) -> str | None:
    """The first of ``rows`` that is trained like ``row`` but reads RGB alone."""
    wanted = _head_part(recipe.of_row(row))
    candidates = (other for other in rows if recipe.of_row(other).streams == "rgb")
    return next((other for other in candidates if _head_part(recipe.of_row(other)) == wanted), None)


def _head_part(recipe: Recipe) -> str:
    """What the training of an RGB student's head, which has no fusion, depends on within a recipe, as text."""
    train = recipe.train.head
    own = train.model_dump(mode="json", exclude=set(train.without_effect))
    return canonical_json([_student_part(recipe), own, recipe.detector_head.model_dump(mode="json")])


def _student_part(recipe: Recipe) -> str:
    """What the training of a student depends on within a recipe, as text."""
    train = recipe.train.student
    parts = {
        "train": train.model_dump(mode="json", exclude=set(train.without_effect)),
        "distill": recipe.model_settings.distill.model_dump(mode="json"),
        **recipe.model_dump(mode="json", include={"backbone"}),
        **(recipe.model_dump(mode="json", include={"fusion"}) if recipe.distill.joint else {}),
        **(recipe.model_dump(mode="json", include={"streams"}) if recipe.teacher_beside_student else {}),
    }
    return canonical_json(parts)


def _stored_flow(recipe: Recipe, teacher: str) -> str:
    """What the stored flow that a teacher reads depends on within a recipe, as text."""
    return canonical_json(recipe.flow_of(teacher).model_dump(mode="json", exclude={"stack"}))


@contextmanager
def locked(workspace: Workspace) -> Iterator[None]:
    """Keep other runs out of the run folder, and remove the unfinished files of killed ones.

    Raises:
        StoreError: another run uses it.
    """
    with _alone(workspace.folder):
        for run in (workspace, *workspace.groups):
            for folder in (run.folder, run.folder / "detections", *run.folder.glob("stages/*")):
                for leftover in folder.glob(".*.????????.*"):
                    leftover.unlink()
        yield


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        with FileLock(folder / ".lock", blocking=False):
            yield
    except Timeout as error:
        raise StoreError(
            f"{folder}: another run is using this folder; wait for it to finish, or choose another folder"
        ) from error


def run_folder(recipe: Recipe, *, base: Path) -> Path:
    """The run folder of a recipe whose relative paths start from ``base``."""
    return Path(os.path.normpath(base / recipe.out / recipe.name))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: this folder cannot be made ({error.strerror}); choose another place") from error


def open_workspace(
    recipe: Recipe, *, base: Path, progress: Progress, device: str = "auto", ablation: Path | None = None
) -> Workspace:
    """Make the run folder of a recipe, find or make its videos, and compute the features of ``[frozen]``.

    Args:
        recipe: what to run.
        base: folder that relative paths of the recipe start from.
        progress: counts synthetic videos, and those of frozen features.
        device: computes frozen features: ``auto``, ``cpu``, ``cuda`` ...; of several, the first.
        ablation: folder of an ablation, in place of the run folder.

    Raises:
        SettingsError: an environment variable is not set, or no video is left to train on.
        StoreError: a feature store lacks the streams that the recipe names, or another run fills that of frozen ones.
        AnnotationError: annotations or scores of videos are missing, or two sources share a video name.
        VideoError: a video of the annotations is missing.
        UsageError: the run folder cannot be made.
    """
    recipe = with_weights_found(recipe, base=base)
    folder = ablation or run_folder(recipe, base=base)
    _make(folder)
    items = videos_of(recipe, base=base, folder=folder, progress=progress)
    unlabelled = unlabelled_videos_of(recipe, items, base=base, folder=folder, progress=progress)
    scores = None if recipe.video_scores is None else expanded(recipe.video_scores, base=base)
    if scores is not None and not scores.is_file():
        raise AnnotationError(f"{scores}: no such file; video_scores names it, relative to the recipe")
    if recipe.stream_source is not None:
        stored = (*items, *unlabelled)
        if recipe.frozen is not None:
            with _alone(folder), digest_ledger(folder / "digests.json"):
                stored = frozen_items(recipe, stored, folder=folder, device=device, progress=progress)
        recipe, stored = with_streams(recipe, stored)
        items, unlabelled = stored[: len(items)], stored[len(items) :]
    elif recipe.features is not None:
        raise SettingsError("features: a run fills this section in; give sources.rgb and sources.flow instead")
    workspace = Workspace(recipe, folder, items, scores, unlabelled=unlabelled, ablation=ablation)
    if unlabelled and not any(workspace.unlabelled_of(row) for row in workspace.detectors):
        raise SettingsError(
            f"recipe '{recipe.name}': no row has a student with a teacher, which unlabelled videos train; "
            "leave out the sources with labelled = false, or compare decomposed"
        )
    return workspace
