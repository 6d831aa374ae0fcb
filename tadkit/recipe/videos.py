"""The files of a recipe: videos, found or synthesised and split into training and held-out ones, and weights."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, assert_never

import numpy as np

from tadkit.config import (
    BackboneKindSettings,
    ComposeSource,
    FeaturesSource,
    FilesSource,
    MadeUpFeaturesSource,
    RaftSettings,
    Recipe,
    Source,
    SplitSettings,
    SynthSource,
    TeacherSettings,
)
from tadkit.errors import AnnotationError, SettingsError, StoreError, VideoError
from tadkit.files import digest_of
from tadkit.progress import Progress
from tadkit.records import VideoRecord, check_subset, read_dataset
from tadkit.store import read_store
from tadkit.synth import write_dataset as write_synth
from tadkit.synth.compose import compose_streams
from tadkit.synth.tracks.rgb_and_flow import write_feature_tracks, write_unlabelled_tracks
from tadkit.video.digests import source_key
from tadkit.video.discovery import find_video, named, videos_in

_GROUPS_TOLD = 8
"""Groups that an error lists."""


@dataclass(frozen=True)
class Item:
    """One video of a recipe; ``path`` is its file, or the feature store that replaces it.

    The record of a video without labels has no annotations. ``stored_key`` is the key of its features in that store,
    where teacher and student read them.
    """

    name: str
    path: Path
    record: VideoRecord
    held_out: bool
    stored_key: str = ""

    @property
    def source_key(self) -> str:
        """What results depend on: digest of the video file, and how it is read; or the key of its features."""
        return self.stored_key or source_key(self.path)

    @property
    def truth_digest(self) -> str:
        """Digest of the annotations."""
        return digest_of([self.name, [[a.start_s, a.end_s, a.label] for a in self.record.annotations]])


def videos_of(recipe: Recipe, *, base: Path, folder: Path, progress: Progress) -> tuple[Item, ...]:
    """The videos of all labelled sources of a recipe, by name.

    Args:
        recipe: its sources and split are used.
        base: folder that relative paths of the recipe start from.
        folder: run folder, where synthetic videos are kept.
        progress: counts synthetic videos.

    Raises:
        SettingsError: an environment variable is not set, or no video is left to train on.
        AnnotationError: annotations are missing, or two sources share a video name.
        VideoError: a video of the annotations is missing.
    """
    found: list[tuple[VideoRecord, Path]] = []
    for number, source in enumerate(recipe.sources):
        if source.labelled:
            made = _made(folder, number, source)
            found += _videos_of(source, recipe.split, base=base, folder=made, progress=progress)
    _refuse_same_names(recipe, [record.name for record, _ in found])
    _check_labels(recipe, [record for record, _ in found], progress)
    _check_ends(recipe, [record for record, _ in found], progress)
    held_out = _held_out([record for record, _ in found], recipe.split)
    if recipe.split.kind == "subset" and not held_out:
        where, known = f"recipe '{recipe.name}': split.held_out", [record.subset for record, _ in found]
        check_subset(", ".join(recipe.split.held_out) or "(none)", known, where=where, error=SettingsError)
    groups = sorted({unit_of(record.name, recipe.split) for record, _ in found})
    if recipe.split.kind == "group" and (unknown := [name for name in recipe.split.held_out if name not in groups]):
        some = ", ".join(groups[:_GROUPS_TOLD]) + (" ..." if len(groups) > _GROUPS_TOLD else "")
        raise SettingsError(
            f"recipe '{recipe.name}': split.held_out: no group is named '{unknown[0]}'; choose from {some}"
        )
    in_order = sorted(found, key=lambda pair: pair[0].name)
    items = tuple(Item(record.name, path, record, record.name in held_out) for record, path in in_order)
    if all(item.held_out for item in items):
        count = len(items)
        what = "videos" if all(source.labelled for source in recipe.sources) else "labelled videos"
        raise SettingsError(f"recipe '{recipe.name}': the split holds out all {count} {what}; none is left to train on")
    return items


def unlabelled_videos_of(
    recipe: Recipe, labelled: Sequence[Item], *, base: Path, folder: Path, progress: Progress
) -> tuple[Item, ...]:
    """The videos of all unlabelled sources of a recipe, by name; videos that any annotations name are none of them.

    Args:
        recipe: its sources are used.
        labelled: what :func:`videos_of` found.
        base: folder that relative paths of the recipe start from.
        folder: run folder, where synthetic videos are kept.
        progress: counts synthetic videos.

    Raises:
        SettingsError: an environment variable is not set, or a source has no video without annotations.
        AnnotationError: two videos have the same name.
        VideoError: a folder has no videos.
    """
    found: list[tuple[str, Path]] = []
    for source in recipe.sources:
        if not source.labelled:
            found += _unlabelled_videos_of(source, recipe, base=base, folder=folder, progress=progress)
    _refuse_same_names(recipe, [name for name, _ in found])
    if twice := sorted({name for name, _ in found} & {item.name for item in labelled}):
        raise AnnotationError(
            f"recipe '{recipe.name}': an annotated video and an unlabelled one are both named '{twice[0]}'; remove the "
            "unlabelled one if it is the same video, or else rename it"
        )
    return tuple(Item(name, path, VideoRecord(name, 0.0, "", ()), held_out=False) for name, path in sorted(found))


def refuse_copies(recipe: Recipe, labelled: Sequence[Item], unlabelled: Sequence[Item]) -> None:
    """Refuse unlabelled videos that are annotated under another name, and may be held out; only equal sizes are read.

    Raises:
        AnnotationError: two videos have the same content.
        VideoError: a file is no longer there.
    """
    sizes = {_size_bytes(item) for item in unlabelled}
    annotated = {item.source_key: item.name for item in labelled if sizes and _size_bytes(item) in sizes}
    for item in unlabelled if annotated else ():
        if (name := annotated.get(item.source_key)) is not None:
            raise AnnotationError(
                f"recipe '{recipe.name}': the unlabelled video '{item.name}' is a copy of '{name}', which is "
                "annotated; remove the copy"
            )


def _size_bytes(item: Item) -> int:
    try:
        return item.path.stat().st_size
    except OSError as error:
        raise VideoError(f"{item.path}: {error.strerror}") from None


def _unlabelled_videos_of(
    source: Source, recipe: Recipe, *, base: Path, folder: Path, progress: Progress
) -> list[tuple[str, Path]]:
    match source:
        case FilesSource():
            place = expanded(source.videos, base=base)
            if not place.is_dir():
                raise VideoError(f"{place}: no such folder; sources.videos names one, relative to the recipe")
            annotated = _annotated_files(recipe, base=base)
            videos = named([path for path in videos_in([place], recursive=True) if path.resolve() not in annotated])
        case FeaturesSource():
            place = expanded(source.features, base=base)
            names = _annotated_names(recipe, base=base)
            with read_store(place, kind="features") as reader:
                videos = {name: place for name in reader.videos() if name not in names}
        case MadeUpFeaturesSource():
            number, first = next((n, other) for n, other in enumerate(recipe.sources) if other.labelled)
            made, place = write_unlabelled_tracks(_made(folder, number, first), source, progress=progress)
            videos = dict.fromkeys(made, place)
        case SynthSource():
            place = _made(folder, recipe.sources.index(source), source)
            made_for = read_dataset(write_synth(place, source, progress=progress))
            videos = {name: _file_of(name, place / "videos") for name in made_for.videos}
        case ComposeSource():
            raise AssertionError("such a source is labelled")
        case _:
            assert_never(source)
    if not videos:
        raise SettingsError(f"{place}: all videos are annotated, so there is none for the source with labelled = false")
    return list(videos.items())


def _annotated_names(recipe: Recipe, *, base: Path) -> set[str]:
    """Names of all videos that the annotations of sources of features name, whichever subsets the split uses."""
    sources = [source for source in recipe.sources if isinstance(source, FeaturesSource) and source.labelled]
    return {name for source in sources for name in read_dataset(_annotations_of(source, base=base)).videos}


def _annotated_files(recipe: Recipe, *, base: Path) -> set[Path]:
    """Files of all videos that the annotations of sources of files name, whichever subsets the split uses."""
    sources = [source for source in recipe.sources if isinstance(source, FilesSource) and source.labelled]
    files = [
        find_video(name, expanded(source.videos, base=base))
        for source in sources
        for name in read_dataset(_annotations_of(source, base=base)).videos
    ]
    return {path.resolve() for path in files if path is not None}


def _made(folder: Path, number: int, source: Source) -> Path:
    """Folder of the synthetic videos of the source with this number in the recipe."""
    return folder / "data" / f"{number}-{source.kind}"


def _refuse_same_names(recipe: Recipe, names: Sequence[str]) -> None:
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise AnnotationError(f"recipe '{recipe.name}': two sources have a video named '{twice[0]}'; rename one")


def _check_labels(recipe: Recipe, records: Sequence[VideoRecord], progress: Progress) -> None:
    """Report labels without any action, which a misspelling would leave untrained.

    Raises:
        SettingsError: no label of the recipe has an action.
    """
    known = sorted({action.label for record in records for action in record.annotations})
    without = [label for label in recipe.labels if label not in known]
    if not without:
        return
    if len(without) == len(recipe.labels):
        has = ", ".join(f"'{label}'" for label in known) or "none"
        raise SettingsError(f"recipe '{recipe.name}': no annotation has one of its labels; the annotations have {has}")
    near = {label: get_close_matches(label, known, n=1) for label in without}
    hints = [f"'{label}'" + (f" (did you mean '{near[label][0]}'?)" if near[label] else "") for label in without]
    progress.warn(f"recipe '{recipe.name}': no annotation is labelled {', '.join(hints)}")


def _check_ends(recipe: Recipe, records: Sequence[VideoRecord], progress: Progress) -> None:
    """Report actions that lie past the end of their videos, where there is nothing to learn from."""
    past = Counter(r.name for r in records for a in r.annotations if 0 < r.duration_s <= a.start_s)
    if past:
        named = ", ".join(f"'{name}' ({count})" for name, count in past.most_common(3))
        said = f"{past.total()} actions lie past the end of their videos: {named}"
        progress.warn(f"recipe '{recipe.name}': {said}; tadkit data check lists all")


def expanded(text: str, *, base: Path) -> Path:
    """A path of a recipe, relative to ``base``, with ``${NAME}`` replaced from the environment.

    Raises:
        SettingsError: a variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise SettingsError(f"'{text}': the environment variable {match[1]} is not set; export {match[1]}=FOLDER")
        return os.environ[match[1]]

    return base / re.sub(r"\$\{(\w+)\}", value, text)


def with_weights_found(recipe: Recipe, *, base: Path) -> Recipe:
    """The recipe with absolute paths of the weights files of its backbones, variants', further teachers', and RAFT.

    Absolute, since a detector that computes flow reads RAFT's file again, from any folder.

    Raises:
        SettingsError: an environment variable is not set.
    """

    def found(path: object) -> Path:
        return expanded(str(path), base=base).absolute()

    nets = {name: getattr(recipe, name) for name in ("backbone", "teacher_backbone")}
    nets |= {"flow": recipe.flow} if isinstance(recipe.flow, RaftSettings) else {}
    changed = _found_weights(nets, found)
    variants = dict(recipe.variants)
    for row, changes in recipe.variants.items():
        net = changes.get("backbone")
        if isinstance(net, Mapping) and net.get("weights") is not None:
            variants[row] = {**changes, "backbone": {**net, "weights": str(found(net["weights"]))}}
    if variants != recipe.variants:
        changed["variants"] = variants
    if recipe.teachers:
        changed["teachers"] = tuple(_with_weights_found(teacher, found) for teacher in recipe.teachers)
    return recipe.model_copy(update=changed) if changed else recipe


def _with_weights_found(teacher: TeacherSettings, found: Callable[[object], Path]) -> TeacherSettings:
    nets = {"backbone": teacher.backbone} | ({"flow": teacher.flow} if isinstance(teacher.flow, RaftSettings) else {})
    return teacher.model_copy(update=_found_weights(nets, found))


def _found_weights(
    nets: Mapping[str, BackboneKindSettings | RaftSettings], found: Callable[[object], Path]
) -> dict[str, Any]:
    """The nets that start from weights files, with the files' paths as ``found`` gives them."""
    return {
        name: net.model_copy(update={"weights": found(net.weights)})
        for name, net in nets.items()
        if net.weights is not None
    }


def _videos_of(
    source: Source, split: SplitSettings, *, base: Path, folder: Path, progress: Progress
) -> list[tuple[VideoRecord, Path]]:
    match source:
        case FilesSource():
            annotations, videos = _annotations_of(source, base=base), expanded(source.videos, base=base)
        case FeaturesSource():
            annotations, store = _annotations_of(source, base=base), expanded(source.features, base=base)
            records = _of_split(annotations, split, progress)
            return [(record, store) for record in _with_features(records, annotations, store, progress)]
        case MadeUpFeaturesSource():
            annotations, store = write_feature_tracks(folder, source, progress=progress)
            return [(record, store) for record in _of_split(annotations, split, progress)]
        case SynthSource():
            annotations, videos = write_synth(folder, source, progress=progress), folder / "videos"
        case ComposeSource():
            clips = expanded(source.clips, base=base)
            annotations, videos = compose_streams(source, clips, folder, progress=progress), folder / "videos"
        case _:
            assert_never(source)
    return [(record, _file_of(record.name, videos)) for record in _of_split(annotations, split, progress)]


def _annotations_of(source: FilesSource | FeaturesSource, *, base: Path) -> Path:
    assert source.annotations is not None, "labelled sources have annotations"
    path = expanded(source.annotations, base=base)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise AnnotationError(f"{path}: {what}; sources.annotations names a JSON file, relative to the recipe")
    return path


def _of_split(annotations: Path, split: SplitSettings, progress: Progress) -> list[VideoRecord]:
    """Annotated videos, without those of subsets that the split does not name."""
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
    """Annotated videos that have features; the others are reported."""
    with read_store(store, kind="features") as reader:
        there = set(reader.videos())
    missing = [record.name for record in records if record.name not in there]
    if len(missing) == len(records):
        raise StoreError(
            f"{store}: has no features of the videos in {annotations}; import them with tadkit import features"
        )
    if missing:
        progress.warn(f"{store}: lacks {len(missing)} of {len(records)} annotated videos, such as '{missing[0]}'")
    return [record for record in records if record.name in there]


def _file_of(name: str, folder: Path) -> Path:
    path = find_video(name, folder)
    if path is None:
        raise VideoError(
            f"{folder}: no file for the annotated video '{name}'; expected {name}.mp4 (or .mov, .mkv, .avi ...)"
        )
    return path


def _held_out(records: Sequence[VideoRecord], split: SplitSettings) -> frozenset[str]:
    """Names of the held-out videos; no video is in both parts."""
    match split.kind:
        case "all":
            return frozenset()
        case "subset":
            return frozenset(r.name for r in records if r.subset in split.held_out)
        case "group":
            return frozenset(r.name for r in records if unit_of(r.name, split) in split.held_out)
        case "folds":
            names = sorted(r.name for r in records)
            order = np.random.default_rng(split.seed).permutation(len(names))
            return frozenset(names[i] for place, i in enumerate(order) if place % split.folds == split.fold)
        case kind:
            assert_never(kind)


def unit_of(video: str, split: SplitSettings) -> str:
    """What a split keeps together: with ``group`` the videos whose name before ``_`` is the same, else each video."""
    return video.split("_")[0] if split.kind == "group" else video
