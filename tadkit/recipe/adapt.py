"""``tadkit adapt``: a detector of other labels from few videos, with the student of a detector that exists.

The stages are those of ``tadkit run``, of a recipe that is made from the detector's own settings: features, heads of
groups of the videos, and the head of all. There is no flow and no teacher.
"""

from __future__ import annotations

import math
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tadkit.checkpoint import Checkpoint, load_checkpoint, read_provenance, save_checkpoint
from tadkit.config import ModelSettings, Recipe
from tadkit.config.base import merged
from tadkit.config.distill import ADDED_TERMS
from tadkit.config.loading import check_settings, parse_overrides
from tadkit.config.recipe import A_ROW
from tadkit.errors import AnnotationError, SettingsError, TadkitError, UsageError, VideoError, WeightsError
from tadkit.evaluation.operating_points import Shown, shown_detections
from tadkit.files import whole_file
from tadkit.models.detector import model_settings, refuse_features
from tadkit.progress import Progress
from tadkit.recipe.inputs import Inputs, is_up_to_date
from tadkit.recipe.judge import Row, row_of
from tadkit.recipe.stages import Resources, extract_features_of_row
from tadkit.recipe.train import distill, train_head
from tadkit.recipe.videos import Item, unit_of
from tadkit.recipe.workspace import Workspace, locked
from tadkit.records import AMBIGUOUS, Detection, VideoRecord, read_dataset, read_detections
from tadkit.runtime.devices import torch_device
from tadkit.video.digests import digest_ledger, source_digest
from tadkit.video.discovery import find_video, named, videos_in
from tadkit.zoo import model_path

MOST_GROUPS = 5
"""Groups of videos of the cross-fit, unless ``train.head.groups`` gives their number; few videos are a group each."""
HEAD_STEPS, STUDENT_STEPS = 400, 200
"""Least steps of training, from which the default numbers of epochs follow: few videos have few windows."""
_SECTIONS = ("decode", "evaluation", "fusion", "joint_head", "split", "train")
"""Sections that may be changed; the others are the student's own."""
_NAMED = 4


@dataclass(frozen=True)
class AdaptedLabel:
    """One label and how well it is found in videos that were held out.

    Attributes:
        name: the label.
        actions: number of annotated actions.
        videos: number of videos that have any.
        average_precision: mean over the thresholds, as a fraction; None if the label is not evaluated.
        shown: what is shown of it from its operating point, likewise, or from 0.3 if it has none.
        has_operating_point: whether its actions were enough to choose one.
    """

    name: str
    actions: int
    videos: int
    average_precision: float | None = None
    shown: Shown | None = None
    has_operating_point: bool = False


@dataclass(frozen=True)
class AdaptResult:
    """What ``tadkit adapt`` made.

    Attributes:
        out: the detector.
        cache: folder of the features and of the training.
        labels: the labels, in the order of the detector's outputs.
        videos: number of videos that it was trained on.
        row: cross-fitted figures of the labels that have actions in two groups or more; None without any.
        groups: names of the videos that are held out together.
        fine_tuned: whether the student was trained further.
        model: file of the detector whose student it is.
        seen: videos on which that student was trained before, by name.
        failed: error of each video that could not be read.
    """

    out: Path
    cache: Path
    labels: tuple[AdaptedLabel, ...]
    videos: int
    row: Row | None
    groups: tuple[tuple[str, ...], ...]
    fine_tuned: bool
    model: str
    seen: tuple[str, ...]
    failed: Mapping[str, TadkitError]


def adapt(
    annotations: Path,
    videos: Path,
    out: Path,
    *,
    model: str | Path | None = None,
    labels: Sequence[str] = (),
    recursive: bool = False,
    unfreeze: bool = False,
    cache: Path | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
    progress: Progress,
) -> AdaptResult:
    """Train a new fusion and joint head for the labels of some videos, and write the detector to one file.

    Args:
        annotations: of the videos, all of which are used.
        videos: folder of the videos.
        out: the detector.
        model: name or file of the detector whose student is used; None is the bundled one.
        labels: those to train, in order; by default all that the annotations have.
        recursive: search the folder's sub-folders, too.
        unfreeze: train the student further, too, as far as its backbone is not frozen.
        cache: folder of features and training, from which a killed run resumes; by default beside ``out``.
        overrides: changed settings, each ``a.b=TOML``.
        device: ``auto``, ``cpu``, ``cuda`` ...
        progress: reports on every stage.

    Raises:
        AnnotationError: the annotations cannot be read, or name videos that are not in the folder.
        UsageError: a label has no action, or the device is not available.
        WeightsError: the model cannot be loaded, or does not read videos as RGB alone.
        VideoError: no video can be read.
    """
    torch_device(device)
    given = model_path(model)
    settings = _settings_of(given)
    records = read_dataset(annotations).videos
    chosen = _labels(annotations, records, labels)
    items = _items(annotations, records, videos, recursive=recursive)
    folder = cache or out.with_name(f"{out.stem}.adapt")
    recipe = _recipe(
        settings, annotations, videos, chosen, items, unfreeze=unfreeze, overrides=overrides, name=out.stem
    )
    workspace = Workspace(recipe, folder, items, given=given)
    _make(folder)
    resources = Resources(device, progress)
    row = recipe.own_row
    with locked(workspace), digest_ledger(workspace.digests):
        _refuse_copies(items)
        _take_student(workspace, row)
        failed = {
            name: e for part in extract_features_of_row(workspace, row, resources) for name, e in part.failed.items()
        }
        if len(failed) == len(items):
            raise VideoError(f"no video could be read; the first, '{items[0].name}': {failed[items[0].name]}")
        items = tuple(item for item in items if item.name not in failed)
        recipe = _recipe(
            settings, annotations, videos, chosen, items, unfreeze=unfreeze, overrides=overrides, name=out.stem
        )
        workspace = replace(workspace, recipe=recipe, items=items, fine_tuned=unfreeze)
        for part in (*workspace.groups_of(row), workspace):
            if unfreeze:
                distill(part, row, device=torch_device(device), progress=progress)
                for result in extract_features_of_row(part, row, resources):
                    result.raise_if_failed()
            train_head(part, row, device=torch_device(device), progress=progress)
        with whole_file(out) as temporary:
            shutil.copyfile(workspace.detector(row), temporary)
        figures, judged = _figures(workspace, row)
    return AdaptResult(
        out=out,
        cache=folder,
        labels=judged,
        videos=len(items),
        row=figures,
        groups=tuple(tuple(item.name for item in group.held_out) for group in workspace.groups_of(row)),
        fine_tuned=unfreeze,
        model=given.name,
        seen=_seen(given, items),
        failed=failed,
    )


def _settings_of(path: Path) -> ModelSettings:
    """Settings of a detector whose student can be used.

    Raises:
        WeightsError: it reads features, or flow, or has no classes.
    """
    settings = model_settings(load_checkpoint(path, kind="detector"))
    refuse_features(settings, path=path)
    if settings.reads_flow:
        raise WeightsError(f"{path}: computes flow ({settings.streams}); adapt needs a detector that reads RGB alone")
    if settings.detector_head.class_agnostic:
        raise WeightsError(f"{path}: its head names no classes; adapt needs a detector that does")
    return settings


def _labels(path: Path, records: Mapping[str, VideoRecord], wanted: Sequence[str]) -> tuple[str, ...]:
    """The labels to train.

    Raises:
        AnnotationError: there is no action.
        UsageError: a wanted label has none, or is given twice.
    """
    known = Counter(action.label for record in records.values() for action in record.annotations)
    known.pop(AMBIGUOUS, None)
    if not known:
        raise AnnotationError(f"{path}: has no action; label some, for example with: tadkit report --videos DIR --edit")
    for label in wanted:
        if label not in known:
            near = get_close_matches(label, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"the annotations have {', '.join(sorted(known))}"
            raise UsageError(f"--labels: no action in {path} is labelled '{label}'; {hint}")
        if wanted.count(label) > 1:
            raise UsageError(f"--labels: '{label}' is given twice")
    return tuple(wanted) or tuple(sorted(known))


def _items(path: Path, records: Mapping[str, VideoRecord], folder: Path, *, recursive: bool) -> tuple[Item, ...]:
    """The annotated videos with their files.

    Raises:
        AnnotationError: some have none; nearest names are suggested.
        VideoError: there is no such folder, or no video in it.
    """
    if not folder.is_dir():
        raise VideoError(f"{folder}: no such folder; --videos is the folder of the videos")
    files = named(videos_in([folder], recursive=recursive))
    found = {name: find_video(name, folder) or files.get(name) for name in records}
    if missing := [name for name, file in found.items() if file is None]:
        known = sorted(files)
        near = {name: get_close_matches(name, known, n=1) for name in missing}
        said = [
            f"'{name}'" + (f" (did you mean '{near[name][0]}'?)" if near[name] else "") for name in missing[:_NAMED]
        ]
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise AnnotationError(
            f"{path}: {len(missing)} of {len(records)} videos have no file in {folder}: {', '.join(said)}{more}; "
            "rename the files or the videos in the annotations, or leave these out"
        )
    kept = ((name, file) for name, file in sorted(found.items()) if file is not None)
    return tuple(Item(name, file, records[name], held_out=False) for name, file in kept)


def _refuse_copies(items: Sequence[Item]) -> None:
    """Refuse videos of the same content: a copy that is held out would be one that was trained on."""
    known: dict[str, str] = {}
    for item in items:
        try:
            digest = source_digest(item.path)
        except VideoError:
            continue  # reported when it is read
        if (other := known.setdefault(digest, item.name)) != item.name:
            raise AnnotationError(f"the videos '{other}' and '{item.name}' have the same content; keep one of them")


def _recipe(
    settings: ModelSettings,
    annotations: Path,
    videos: Path,
    labels: Sequence[str],
    items: Sequence[Item],
    *,
    unfreeze: bool,
    overrides: Sequence[str],
    name: str,
) -> Recipe:
    """The recipe of a detector's settings, with other labels and videos.

    Raises:
        SettingsError: a changed setting is wrong, or the student's own.
    """
    changes = parse_overrides(overrides)
    of_train = changes.get("train", {})
    strange = [key for key in changes if key not in _SECTIONS]
    strange += [f"train.{key}" for key in of_train if key != "head" and (key != "student" or not unfreeze)]
    if strange:
        if strange[0] == "train.student":
            raise SettingsError("--set train.student: the student is frozen; add --unfreeze to train it further")
        others = ", ".join((*(part for part in _SECTIONS if part != "train"), "train.head"))
        raise SettingsError(
            f"--set {strange[0]}: cannot be changed here; adapt takes {others}, and with --unfreeze train.student"
        )
    views = ["original", "mirror"]
    values: dict[str, Any] = {
        **settings.model_dump(mode="json", exclude={"teachers", "streams", "features"}),
        "distill": _distill(settings, unfreeze=unfreeze),
        "name": re.sub(r"[^A-Za-z0-9._-]+", "-", name) or "adapted",
        "labels": list(labels),
        "sources": [{"kind": "files", "annotations": str(annotations), "videos": str(videos)}],
        "split": {"kind": "all"},
        "half_precision": True,
        "train": {"head": {"views": views}, "student": {"views": views}},
    }
    values["compare"] = [values["distill"]["method"]]
    recipe = _checked(merged(values, changes))
    groups = len({unit_of(item.name, recipe.split) for item in items})
    defaults = {
        "head": {"epochs": _epochs(items, recipe, "head"), "groups": min(groups, MOST_GROUPS) if groups > 1 else 0},
        "student": {"epochs": _epochs(items, recipe, "student")},
    }
    recipe = _checked(merged(merged(values, {"train": defaults}), changes))
    backbone = recipe.backbone  # the weights that it once started from are not read again
    given = {"weights": None, "pretrained": True} if backbone.weights is not None else {}
    return recipe.model_copy(update={"backbone": backbone.model_copy(update=given)})


def _checked(values: Mapping[str, Any]) -> Recipe:
    recipe = check_settings(Recipe, values, name="--set", context=A_ROW)
    if recipe.train.head.cross_fit:
        raise SettingsError(
            "--set train.head.cross_fit: features of a frozen student are the same in all groups; leave it out"
        )
    if recipe.split.kind not in ("all", "group"):
        raise SettingsError(
            "--set split.kind: adapt takes 'all', or 'group' to hold out videos of one name before _ together"
        )
    return recipe.model_copy(update={"split": recipe.split.model_copy(update={"held_out": ()})})


def _distill(settings: ModelSettings, *, unfreeze: bool) -> dict[str, Any]:
    """How the student was trained; or how it is trained further: on the labels alone, with as many branches."""
    own = {**settings.distill.model_dump(mode="json"), "joint": False, "joint_prediction_weight": 0.0, "teachers": []}
    if not unfreeze:
        return own
    method = "rgb-matched" if settings.distill.two_branches else "rgb"
    return own | {"method": method, **dict.fromkeys(ADDED_TERMS, 0.0)}


def _epochs(items: Sequence[Item], recipe: Recipe, stage: str) -> int:
    """Epochs in which the windows of the videos give the least number of steps."""
    train = recipe.train.head if stage == "head" else recipe.train.student
    windows = sum(max(1, math.ceil(item.record.duration_s / train.window_s)) for item in items)
    steps = HEAD_STEPS if stage == "head" else STUDENT_STEPS
    return math.ceil(steps / max(1, math.ceil(windows / train.batch_windows)))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: this folder cannot be made ({error.strerror}); choose one with --cache") from error


def _take_student(workspace: Workspace, row: str) -> None:
    """Write the student of the given detector, for other labels than its own, to a file of its own."""
    path, given = workspace.student(row), workspace.given
    assert given is not None
    with Inputs(workspace) as inputs:
        key = inputs.student_key(row)
    if is_up_to_date(path, kind="student", key=key):
        return
    whole = load_checkpoint(given, kind="detector")
    prefix = "student."
    tensors = {name.removeprefix(prefix): one for name, one in whole.tensors.items() if name.startswith(prefix)}
    parts: dict[str, Any] = {"settings": whole.settings, "labels": whole.labels, "trained_steps": whole.trained_steps}
    save_checkpoint(path, Checkpoint("student", tensors=tensors, provenance={"key": key}, **parts))


def _seen(given: Path, items: Sequence[Item]) -> tuple[str, ...]:
    """Videos that the given detector states as its training videos; it knows them by name only."""
    before = read_provenance(given, kind="detector").get("training_videos", [])
    return tuple(item.name for item in items if item.name in before)


def _figures(workspace: Workspace, row: str) -> tuple[Row | None, tuple[AdaptedLabel, ...]]:
    """Figures of the detections that every group's detector has found in its group, and all labels.

    A label whose actions are all in one group is not evaluated: no detector has both learned and met it.
    """
    recipe = workspace.recipe
    counts = Counter(action.label for item in workspace.items for action in item.record.annotations)
    videos = Counter(label for item in workspace.items for label in {a.label for a in item.record.annotations})
    labels = {name: AdaptedLabel(name, counts[name], videos[name]) for name in recipe.labels}
    groups = workspace.groups_of(row)
    there = Counter(
        label for group in groups for label in {a.label for item in group.held_out for a in item.record.annotations}
    )
    judged = tuple(label for label in recipe.labels if there[label] > 1)
    if not judged:
        return None, tuple(labels.values())
    found: dict[str, list[Detection]] = {}
    for group in groups:
        found |= read_detections(group.detections(row))
    every = tuple(replace(item, held_out=True) for item in workspace.items)
    figures = row_of(
        replace(workspace, items=every, recipe=recipe.model_copy(update={"labels": judged})), row, {row: found}
    )
    points = load_checkpoint(workspace.detector(row), kind="detector").operating_points
    truth = {item.name: item.record.annotations for item in workspace.items}
    shown = shown_detections(truth, found, labels=judged, points=points)
    for name in judged:
        labels[name] = replace(
            labels[name],
            average_precision=figures.per_class.get(name),
            shown=shown[name],
            has_operating_point=name in points,
        )
    return figures, tuple(labels.values())
