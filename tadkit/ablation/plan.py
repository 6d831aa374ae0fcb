"""What an ablation runs: rows, seeds and folds of a recipe, each seed and fold in a run folder of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from tadkit.config import TEACHER, MadeUpFeaturesSource, Recipe, TrainSettings, View
from tadkit.config.recipe import ROWS, RowError
from tadkit.config.training import StageTraining
from tadkit.errors import SettingsError, UsageError
from tadkit.files import digest_of
from tadkit.progress import Progress
from tadkit.recipe.cross_fit import groups_of
from tadkit.recipe.videos import refuse_copies, unit_of
from tadkit.recipe.workspace import Workspace, open_workspace, run_folder

QUICK_ROWS = (TEACHER, "rgb", "direct", "decomposed", "two-stream")
"""Rows of a quick ablation."""
QUICK_SHARE = 0.25
"""Share of the recipe's epochs in a quick ablation, at least one."""
QUICK_VIEWS = 2
"""Views that a quick ablation keeps of those that a stage is trained in: the first ones."""
BASELINES = ("rgb",)
"""The first of these rows is what others are compared with; else the first row is."""


@dataclass(frozen=True, eq=False)
class Part:
    """One seed and one fold: a run with all rows.

    Attributes:
        seed: which seed, from 0; it is added to the seeds in the recipe.
        fold: which fold, from 0.
        workspace: its run folder, videos and recipe.
    """

    seed: int
    fold: int
    workspace: Workspace

    @property
    def title(self) -> str:
        """Such as ``seed 0, fold 2``."""
        return f"seed {self.seed}, fold {self.fold + 1}"


@dataclass(frozen=True, eq=False)
class Plan:
    """An ablation.

    Attributes:
        whole: the workspace whose videos, flow and synthetic videos all parts share.
        rows: rows that are compared, in the order of the tables.
        seeds: number of seeds.
        folds: names of the held-out videos of each fold.
        baseline: row that every other one is compared with.
        pairs: further pairs of rows that are compared.
    """

    whole: Workspace
    rows: tuple[str, ...]
    seeds: int
    folds: tuple[frozenset[str], ...]
    baseline: str
    pairs: tuple[tuple[str, str], ...]

    @property
    def folder(self) -> Path:
        """Folder of the ablation."""
        return self.whole.folder

    @property
    def recipe_digest(self) -> str:
        """Digest of all settings but names of folders and rows."""
        return digest_of(self.whole.recipe.model_dump(mode="json", exclude={"name", "out", "compare"}))

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """All seeds and folds; a seed's folds follow one another."""
        return tuple(self._part(seed, fold) for seed in range(self.seeds) for fold in range(len(self.folds)))

    def _part(self, seed: int, fold: int) -> Part:
        held_out, count = self.folds[fold], len(self.folds)
        workspace = replace(
            self.whole,
            recipe=with_seed(self.whole.recipe, seed),
            folder=self.folder / "runs" / f"seed-{seed}" / f"fold-{fold + 1}-of-{count}",
            items=tuple(replace(item, held_out=item.name in held_out) for item in self.whole.items),
        )
        return Part(seed, fold, workspace)


def planned(
    recipe: Recipe,
    *,
    base: Path,
    out: Path | None,
    rows: Sequence[str],
    seeds: int | None,
    folds: int | None,
    against: str | None,
    compare: Sequence[tuple[str, str]],
    quick: bool,
    device: str,
    progress: Progress,
) -> Plan:
    """Check what is asked for, and find or make the videos.

    Args:
        recipe: what to run.
        base: folder that relative paths of the recipe start from.
        out: folder of the ablation; None: ``NAME-ablation`` where the recipe's run folder is.
        rows: by default those that the recipe compares, or :data:`QUICK_ROWS`.
        seeds: number of seeds, by default 3, or 1 if quick.
        folds: number of folds, by default 1, which holds out what the recipe does; 0 makes one fold of each video, or
            of each group of the split.
        against: row that every other is compared with.
        compare: further pairs of rows to compare.
        quick: with a quarter of the epochs and two views.
        device: computes frozen features; of several, separated by commas, the first.
        progress: counts synthetic videos, and those of frozen features.

    Raises:
        UsageError: a row is unknown or named twice, or the split has no folds.
        SettingsError: a row does not fit the recipe; or see :func:`tadkit.recipe.workspace.open_workspace`.
    """
    if recipe.head_alone:
        raise UsageError(f"recipe '{recipe.name}': features without rgb and flow have one row, so nothing is compared")
    chosen = tuple(rows) or (QUICK_ROWS if quick else recipe.compare)
    _check_rows(recipe, chosen)
    baseline = against or next((row for row in BASELINES if row in chosen), chosen[0])
    for option, row in (("--against", baseline), *(("--compare", row) for pair in compare for row in pair)):
        if row not in chosen:
            raise UsageError(f"{option} {row}: is none of the rows {', '.join(chosen)}")
    _check_split(recipe, folds)
    recipe = (quick_recipe(recipe) if quick else recipe).model_copy(update={"compare": chosen})
    if folds not in (None, 1):  # the folds replace what the recipe holds out, which need not be there
        recipe = recipe.model_copy(update={"split": recipe.split.model_copy(update={"held_out": ()})})
    folder = out or run_folder(recipe, base=base).with_name(f"{recipe.name}-{'quick' if quick else 'ablation'}")
    whole = open_workspace(recipe, base=base, device=device, progress=progress, ablation=folder.absolute())
    refuse_copies(recipe, whole.items, whole.unlabelled)
    pairs = tuple(dict.fromkeys(pair for pair in compare if pair[1] != baseline))
    return Plan(whole, chosen, seeds or (1 if quick else 3), _folds(whole, folds), baseline, pairs)


def _check_rows(recipe: Recipe, rows: Sequence[str]) -> None:
    known = (*ROWS, *recipe.variants)
    for row in rows:
        if row not in known:
            raise UsageError(f"--rows {row}: no row has this name; choose from {', '.join(known)}")
        if rows.count(row) > 1:
            raise UsageError(f"--rows {row}: is there twice; name each row once")
        try:
            recipe.of_row(row)
        except RowError as error:
            raise SettingsError(f"--rows {row}: {error}") from None


def _check_split(recipe: Recipe, folds: int | None) -> None:
    """Refuse folds where the videos that are held out are given, and an ablation without any.

    Raises:
        UsageError: the split does not fit.
    """
    one = folds in (None, 1)
    if one and recipe.split.kind == "all":
        raise UsageError("split.kind = 'all' holds out no video; add --folds 3, or choose another kind")
    if one:
        return
    made_up = any(isinstance(source, MadeUpFeaturesSource) for source in recipe.sources)
    if made_up or recipe.split.kind == "subset":
        why = (
            "a source of synthetic features has its own test videos" if made_up else "split.kind = 'subset' names them"
        )
        raise UsageError(f"--folds: only 1 is possible, because the held-out videos are given: {why}")


def _folds(whole: Workspace, count: int | None) -> tuple[frozenset[str], ...]:
    """Held-out videos of each fold: each video is held out once, or with one fold those of the recipe are.

    Raises:
        UsageError: there are fewer videos, or groups of the split, than folds.
    """
    recipe, items = whole.recipe, whole.items
    if count in (None, 1):
        return (frozenset(item.name for item in whole.held_out),)
    units = sorted({unit_of(item.name, recipe.split) for item in items})
    if not count:
        of_unit = {unit: [item.name for item in items if unit_of(item.name, recipe.split) == unit] for unit in units}
        return tuple(frozenset(names) for names in of_unit.values())
    if len(units) < count:
        what = "groups of videos" if recipe.split.kind == "group" else "videos"
        raise UsageError(f"--folds {count}: there are only {len(units)} {what}; lower it")
    return tuple(groups_of(items, count, labels=recipe.labels, split=recipe.split))


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """The recipe with ``seed`` added to the seed of every training: weights, windows and views are others."""
    return _with_stages(recipe, lambda stage: {"seed": stage["seed"] + seed} if "seed" in stage else {})


def quick_recipe(recipe: Recipe) -> Recipe:
    """The recipe with a share of its epochs, and fewer views to train in."""

    def shorter(stage: Mapping[str, Any]) -> dict[str, Any]:
        views: Sequence[View] = stage.get("views", ())
        epochs = {"epochs": math.ceil(stage["epochs"] * QUICK_SHARE)} if "epochs" in stage else {}
        return epochs | ({"views": tuple(views[:QUICK_VIEWS])} if views else {})

    return _with_stages(recipe, shorter)


def _with_stages(recipe: Recipe, change: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Recipe:
    """The recipe with changes of each stage of training, of further teachers and variants, too."""

    def changed(stage: TrainSettings) -> TrainSettings:
        return stage.model_copy(update=change(stage.model_dump()))

    stages = {name: changed(getattr(recipe.train, name)) for name in StageTraining.model_fields}
    teachers = tuple(own.model_copy(update={"train": changed(own.train)}) for own in recipe.teachers)
    variants = {
        row: {
            **changes,
            "train": {name: {**stage, **change(stage)} for name, stage in changes["train"].items()},
        }
        if "train" in changes
        else changes
        for row, changes in recipe.variants.items()
    }
    update = {"train": recipe.train.model_copy(update=stages), "variants": variants}
    return recipe.model_copy(update=update | ({"teachers": teachers} if teachers else {}))
