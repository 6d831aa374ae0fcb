"""The run folder of a recipe: which files it holds, and the videos that it uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from filelock import FileLock, Timeout

from tadkit.config import FeaturesSource, ModelSettings, Recipe
from tadkit.errors import AnnotationError, StoreError
from tadkit.keys import TrainingTruth
from tadkit.progress import Progress
from tadkit.recipe.cross_fit import groups_of
from tadkit.recipe.videos import Item, expanded, videos_of


@dataclass(frozen=True)
class Workspace:
    """A run folder and the recipe that fills it.

    Attributes:
        recipe: as it was written.
        folder: the run folder.
        items: the videos.
        video_scores: file of scores of whole videos, where the recipe names one.
        whole: the run's workspace, if this is that of a group of its training videos.
        group: which group that is, such as ``1 of 3``.
    """

    recipe: Recipe
    folder: Path
    items: tuple[Item, ...]
    video_scores: Path | None = None
    whole: Workspace | None = None
    group: str = ""

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

    @property
    def flow(self) -> Path:
        """Flow store."""
        return self.shared.folder / "flow.h5"

    @property
    def teacher(self) -> Path:
        """Teacher checkpoint."""
        return self.shared.folder / "teacher.safetensors"

    @property
    def teacher_outputs(self) -> Path:
        """Store of the teacher's features and predictions."""
        return self.shared.folder / "teacher.h5"

    def title(self, method: str) -> str:
        """A distillation method as progress and errors show it, with the group that is held out."""
        return f"{method}, group {self.group}" if self.group else method

    def student(self, method: str) -> Path:
        """Student checkpoint of a distillation method."""
        return self.folder / f"student-{method}.safetensors"

    def features(self, method: str) -> Path:
        """Store of a student's branch features."""
        return self.folder / f"features-{method}.h5"

    def detector(self, method: str) -> Path:
        """Detector checkpoint of a distillation method."""
        return self.folder / f"detector-{method}.safetensors"

    def detections(self, row: str) -> Path:
        """Detections of the held-out videos by one row of the final table."""
        return self.folder / "detections" / f"{row}.json"

    @property
    def held_out_annotations(self) -> Path:
        """Annotations of the held-out videos, beside their detections."""
        return self.folder / "detections" / "annotations.json"

    @property
    def from_features(self) -> bool:
        """Whether the source has features instead of videos, so that only a head is trained."""
        return isinstance(self.recipe.sources[0], FeaturesSource)

    @property
    def features_source(self) -> Path:
        """Feature store of the source."""
        assert self.from_features
        return self.items[0].path

    @property
    def features_head(self) -> Path:
        """Head trained on the features of the source."""
        return self.folder / "head.safetensors"

    @property
    def digests(self) -> Path:
        """Ledger of the videos' digests."""
        return self.folder / "digests.json"

    @property
    def report(self) -> Path:
        """Figures of the final table."""
        return self.folder / "report.json"

    def joint_head(self, method: str) -> Path:
        """Joint head that was trained along with the student, where ``distill.joint`` is set."""
        return self.folder / f"joint-head-{method}.safetensors"

    @property
    def rows(self) -> tuple[str, ...]:
        """Rows of the final table."""
        return ("features",) if self.from_features else self.recipe.compare

    def model(self, row: str) -> Path:
        """Checkpoint that a row of the final table evaluates."""
        if self.from_features:
            return self.features_head
        return self.teacher if row == "teacher" else self.detector(row)

    def judged_store(self, row: str) -> Path:
        """Store of what a row's model reads from, or has predicted for, the held-out videos."""
        if self.from_features:
            return self.features_source
        return self.teacher_outputs if row == "teacher" else self.features(row)

    def stage(self, name: str) -> Path:
        """Folder where a training stage keeps its log and its state."""
        path = self.folder / "stages" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def model_settings(self) -> ModelSettings:
        """The sections of the recipe that shape models."""
        return ModelSettings.model_validate({name: getattr(self.recipe, name) for name in ModelSettings.model_fields})

    def settings_of(self, method: str) -> ModelSettings:
        """The model settings with ``distill.method`` set to ``method``, and the values of its terms stated."""
        settings = self.model_settings
        distill = settings.distill.model_copy(update={"method": method}).stated
        return settings.model_copy(update={"distill": distill})

    @property
    def training_truth(self) -> TrainingTruth:
        """The ground truth that every training depends on."""
        return TrainingTruth([item.truth_digest for item in self.training], self.recipe.labels)

    @property
    def methods(self) -> tuple[str, ...]:
        """Distillation methods that the recipe trains: its own first, then those that it compares with."""
        others = [row for row in self.recipe.compare if row not in ("teacher", self.recipe.distill.method)]
        return (self.recipe.distill.method, *others)


@contextmanager
def locked(workspace: Workspace) -> Iterator[None]:
    """Keep other runs out of the run folder, and remove the unfinished files of killed ones.

    Raises:
        StoreError: another run uses it.
    """
    try:
        with FileLock(workspace.folder / ".lock", blocking=False):
            for run in (workspace, *workspace.groups):
                for folder in (run.folder, run.folder / "detections", *run.folder.glob("stages/*")):
                    for leftover in folder.glob(".*.????????.*"):
                        leftover.unlink()
            yield
    except Timeout as error:
        raise StoreError(
            f"{workspace.folder}: another run is using this folder; wait for it to finish, "
            "or choose another folder with --set out=FOLDER"
        ) from error


def open_workspace(recipe: Recipe, *, base: Path, progress: Progress) -> Workspace:
    """Make the run folder of a recipe, and find or make its videos.

    Args:
        recipe: what to run.
        base: folder that relative paths of the recipe start from.
        progress: counts made-up videos.

    Raises:
        SettingsError: an environment variable is not set, or no video is left to train on.
        AnnotationError: annotations or scores of videos are missing, or two sources share a video name.
        VideoError: a video of the annotations is missing.
    """
    folder = Path(os.path.normpath(base / recipe.out / recipe.name))
    folder.mkdir(parents=True, exist_ok=True)
    items = videos_of(recipe, base=base, folder=folder, progress=progress)
    scores = None if recipe.video_scores is None else expanded(recipe.video_scores, base=base)
    if scores is not None and not scores.is_file():
        raise AnnotationError(f"{scores}: no such file; video_scores names it, relative to the recipe")
    return Workspace(recipe, folder, items, scores)
