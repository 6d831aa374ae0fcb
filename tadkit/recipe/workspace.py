"""Where a recipe's run keeps what, and which videos it is about."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import numpy as np
from filelock import FileLock, Timeout

from tadkit.config import (
    ComposeSource,
    DecodeSettings,
    FeaturesSource,
    FilesSource,
    ModelSettings,
    Recipe,
    Source,
    SplitSettings,
    SynthSource,
)
from tadkit.errors import AnnotationError, SettingsError, StoreError, VideoError
from tadkit.extraction.results import source_digest
from tadkit.files import digest_of
from tadkit.progress import Progress
from tadkit.recipe.paths import expanded, whole_decoding
from tadkit.records import VideoRecord, read_dataset
from tadkit.store import read_store
from tadkit.synth import write_dataset as write_synth
from tadkit.synth.compose import compose_streams
from tadkit.video.discovery import VIDEO_SUFFIXES, find_video


@dataclass(frozen=True)
class Item:
    """One annotated video of a recipe; ``path`` is its file, or the feature store that stands in for it."""

    name: str
    path: Path
    record: VideoRecord
    held_out: bool

    @property
    def source_sha256(self) -> str:
        """Digest of the video file."""
        return source_digest(self.path)

    @property
    def truth_digest(self) -> str:
        """Digest of the annotations."""
        return digest_of([self.name, [[a.start_s, a.end_s, a.label] for a in self.record.annotations]])


@dataclass(frozen=True)
class Workspace:
    """A run folder and the recipe that fills it.

    Attributes:
        recipe: as it was written.
        folder: where all is kept.
        items: the videos.
        decoding: the recipe's, with the whole path of the scores of videos.
    """

    recipe: Recipe
    folder: Path
    items: tuple[Item, ...]
    decoding: DecodeSettings

    @property
    def training(self) -> tuple[Item, ...]:
        """Videos that models learn from."""
        return tuple(item for item in self.items if not item.held_out)

    @property
    def held_out(self) -> tuple[Item, ...]:
        """Videos that models are judged on."""
        return tuple(item for item in self.items if item.held_out)

    @property
    def flow(self) -> Path:
        """Flow store."""
        return self.folder / "flow.h5"

    @property
    def teacher(self) -> Path:
        """Teacher checkpoint."""
        return self.folder / "teacher.safetensors"

    @property
    def teacher_tracks(self) -> Path:
        """Store of the teacher's features and predictions."""
        return self.folder / "teacher.h5"

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
    def from_features(self) -> bool:
        """Whether videos come as features, so that a head alone is trained."""
        return isinstance(self.recipe.sources[0], FeaturesSource)

    @property
    def features_source(self) -> Path:
        """Feature store that the videos come in."""
        assert self.from_features
        return self.items[0].path

    @property
    def features_head(self) -> Path:
        """Head trained on the features of a source."""
        return self.folder / "head.safetensors"

    @property
    def rows(self) -> tuple[str, ...]:
        """Rows of the final table."""
        return ("features",) if self.from_features else self.recipe.compare

    def stage(self, name: str) -> Path:
        """Folder where a training stage keeps its log and its state."""
        path = self.folder / "stages" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def model_settings(self) -> ModelSettings:
        """The sections of the recipe that shape models; scores of its videos are none of a model."""
        sections = {name: getattr(self.recipe, name) for name in ModelSettings.model_fields}
        decoding = self.recipe.decode.model_copy(update={"video_scores": None})
        return ModelSettings.model_validate(sections | {"decode": decoding})

    @property
    def methods(self) -> tuple[str, ...]:
        """Distillation methods that the recipe trains: its own first, then those it compares with."""
        others = [row for row in self.recipe.compare if row not in ("teacher", self.recipe.distill.method)]
        return (self.recipe.distill.method, *others)


@contextmanager
def locked(workspace: Workspace) -> Iterator[None]:
    """Keep other runs out of the run folder, and remove what killed ones had begun to write.

    Raises:
        StoreError: another run is at work in it.
    """
    try:
        with FileLock(workspace.folder / ".lock", blocking=False):
            for folder in (workspace.folder, workspace.folder / "detections", *workspace.folder.glob("stages/*")):
                for leftover in folder.glob(".*.????????.*"):
                    leftover.unlink()
            yield
    except Timeout as error:
        raise StoreError(
            f"{workspace.folder}: another run is at work in it; let it end, or use another folder with --set out=FOLDER"
        ) from error


def open_workspace(recipe: Recipe, *, base: Path, progress: Progress) -> Workspace:
    """Find or make a recipe's videos and deal them into training and held-out ones.

    Args:
        recipe: what to run.
        base: folder that relative paths of the recipe start from.
        progress: told of videos that have to be made first.

    Raises:
        SettingsError: an environment variable is not set, or no video trains.
        AnnotationError: annotations or scores of videos are missing, or two sources share a video name.
        VideoError: a video of the annotations is missing.
    """
    folder = Path(os.path.normpath(base / recipe.out / recipe.name))
    folder.mkdir(parents=True, exist_ok=True)
    found: list[tuple[VideoRecord, Path]] = []
    for number, source in enumerate(recipe.sources):
        made = folder / "data" / f"{number}-{source.kind}"
        found += _videos_of(source, recipe.split, base=base, folder=made, progress=progress)
    counts = Counter(record.name for record, _ in found)
    if twice := sorted(name for name, count in counts.items() if count > 1):
        raise AnnotationError(f"recipe '{recipe.name}': two sources hold a video named '{twice[0]}'; rename one")
    held_out = _held_out([record for record, _ in found], recipe.split)
    if recipe.split.kind == "subset" and not held_out:
        there = ", ".join(sorted({f"'{record.subset}'" for record, _ in found})) or "none"
        raise SettingsError(
            f"recipe '{recipe.name}': split.held_out names no subset of the annotations, which have {there}; "
            "name one of them, or have them translated by tadkit data convert"
        )
    in_order = sorted(found, key=lambda pair: pair[0].name)
    items = tuple(Item(record.name, path, record, record.name in held_out) for record, path in in_order)
    if all(item.held_out for item in items):
        count = len(items)
        raise SettingsError(f"recipe '{recipe.name}': split holds out all {count} videos; none is left to train on")
    return Workspace(recipe, folder, items, whole_decoding(recipe.decode, base=base))


def _videos_of(
    source: Source, split: SplitSettings, *, base: Path, folder: Path, progress: Progress
) -> list[tuple[VideoRecord, Path]]:
    match source:
        case FilesSource():
            annotations, videos = expanded(source.annotations, base=base), expanded(source.videos, base=base)
        case FeaturesSource():
            annotations, store = expanded(source.annotations, base=base), expanded(source.features, base=base)
            records = _of_split(annotations, split, progress)
            return [(record, store) for record in _with_features(records, annotations, store, progress)]
        case SynthSource():
            annotations, videos = write_synth(folder, source, progress=progress), folder / "videos"
        case ComposeSource():
            clips = expanded(source.clips, base=base)
            annotations, videos = compose_streams(source, clips, folder, progress=progress), folder / "videos"
        case _:
            assert_never(source)
    return [(record, _file_of(record.name, videos)) for record in _of_split(annotations, split, progress)]


def _of_split(annotations: Path, split: SplitSettings, progress: Progress) -> list[VideoRecord]:
    """Annotated videos, but for those of subsets that the split does not name."""
    records = list(read_dataset(annotations).videos.values())
    if split.kind != "subset" or not split.training:
        return records
    wanted = {*split.training, *split.held_out}
    kept = [record for record in records if record.subset in wanted]
    if len(kept) < len(records):
        others = ", ".join(sorted({f"'{record.subset}'" for record in records if record.subset not in wanted}))
        progress.warn(f"{annotations}: {len(records) - len(kept)} videos of other subsets ({others}) are not used")
    return kept


def _with_features(
    records: Sequence[VideoRecord], annotations: Path, store: Path, progress: Progress
) -> list[VideoRecord]:
    """Annotated videos that have features; the others are counted, for nothing can be said of them."""
    with read_store(store, kind="features") as reader:
        there = set(reader.videos())
    missing = [record.name for record in records if record.name not in there]
    if len(missing) == len(records):
        raise StoreError(f"{store}: has features of none of the videos of {annotations}; tadkit import features them")
    if missing:
        progress.warn(f"{store}: lacks {len(missing)} of {len(records)} annotated videos, such as '{missing[0]}'")
    return [record for record in records if record.name in there]


def _file_of(name: str, folder: Path) -> Path:
    path = find_video(name, folder)
    if path is None:
        others = " ".join(VIDEO_SUFFIXES[1:])
        raise VideoError(f"{folder}: no video for '{name}' of the annotations; expected {name}.mp4 (or {others})")
    return path


def _held_out(records: Sequence[VideoRecord], split: SplitSettings) -> frozenset[str]:
    """Names of the videos held out; a video is never in both parts."""
    match split.kind:
        case "all":
            return frozenset()
        case "subset":
            return frozenset(r.name for r in records if r.subset in split.held_out)
        case "group":
            return frozenset(r.name for r in records if r.name.split("_")[0] in split.held_out)
        case "folds":
            names = sorted(r.name for r in records)
            order = np.random.default_rng(split.seed).permutation(len(names))
            return frozenset(names[i] for place, i in enumerate(order) if place % split.folds == split.fold)
        case kind:
            assert_never(kind)
