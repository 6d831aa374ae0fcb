"""Which videos, seeds and epochs an ablation runs with."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from toy_recipe import FEATURES_RECIPE as FEATURES

from tadkit.ablation.plan import Plan, planned, quick_recipe, with_seed
from tadkit.config import Recipe
from tadkit.config.loading import load_recipe, parse_recipe
from tadkit.errors import SettingsError, TadkitError, UsageError
from tadkit.progress import Quiet


def plan_of(recipe: Recipe, base: Path, **chosen: Any) -> Plan:
    usual = {"out": None, "rows": (), "seeds": None, "folds": None, "against": None, "compare": (), "quick": False}
    return planned(recipe, base=base, device="cpu", progress=Quiet(), **(usual | chosen))


def features(tmp_path: Path, *overrides: str, **chosen: Any) -> Plan:
    return plan_of(parse_recipe(FEATURES, name="mine", overrides=overrides), tmp_path, **chosen)


@pytest.mark.parametrize(("split", "folds"), [('split.kind="folds"', 3), ('split.kind="group"', 2), ("", 0)])
def test_each_video_is_held_out_once_and_groups_stay_together(toy: Path, split: str, folds: int) -> None:
    recipe = load_recipe(toy, overrides=[split] if split else [])
    plan = plan_of(recipe, toy.parent, folds=folds)
    names = [item.name for item in plan.whole.items]
    assert Counter(name for fold in plan.folds for name in fold) == Counter(names)
    assert len(plan.folds) == (folds or len(names))
    for part in plan.parts:
        assert {item.name for item in part.workspace.held_out} == plan.folds[part.fold]
        assert {item.name for item in part.workspace.training} == set(names) - plan.folds[part.fold]
        if "group" in split:
            rooms = {item.name.split("_")[0] for item in part.workspace.training}
            assert len(rooms) < 3
            assert not rooms & {name.split("_")[0] for name in plan.folds[part.fold]}
    again = plan_of(recipe, toy.parent, folds=folds)
    assert again.folds == plan.folds


def test_one_fold_holds_out_what_the_recipe_does_and_parts_share_flow(toy: Path) -> None:
    plan = plan_of(load_recipe(toy), toy.parent, seeds=2)
    assert plan.folds == (frozenset(item.name for item in plan.whole.held_out),)
    assert plan.folder == toy.parent / "runs" / "toy-ablation"
    first, second = (part.workspace for part in plan.parts)
    assert first.flow == second.flow == plan.folder / "flow.h5"
    assert first.teacher.parent != second.teacher.parent
    seeds = [[getattr(w.recipe.train, stage).seed for stage in ("teacher", "student", "head")] for w in (first, second)]
    assert seeds == [[0, 0, 0], [1, 1, 1]]
    assert second.recipe.of_row("rgb").train.student.seed == 1


def test_seeds_and_epochs_of_variants_and_further_teachers_change_too() -> None:
    text = FEATURES + "[variants.long]\ntrain.student.epochs = 8\ntrain.student.seed = 5\n"
    recipe = parse_recipe(text, name="mine")
    assert with_seed(recipe, 2).of_row("long").train.student.seed == 7
    assert with_seed(recipe, 2).of_row("long").train.head.seed == 2
    assert quick_recipe(recipe).of_row("long").train.student.epochs == 2
    assert quick_recipe(recipe).train.teacher.epochs == 1


def test_quick_has_a_quarter_of_the_epochs_two_views_one_seed_and_five_rows(toy: Path) -> None:
    views = 'train.student.views=["original", "mirror", "flip"]'
    plan = plan_of(load_recipe(toy, overrides=(views, "train.head.epochs=10")), toy.parent, quick=True)
    assert plan.rows == ("teacher", "rgb", "direct", "decomposed", "two-stream")
    assert (plan.seeds, len(plan.folds), plan.folder.name) == (1, 1, "toy-quick")
    train = plan.whole.recipe.train
    assert (train.head.epochs, train.teacher.epochs, train.student.views) == (3, 1, ("original", "mirror"))
    assert plan.whole.recipe.flow == load_recipe(toy).flow
    assert plan_of(load_recipe(toy), toy.parent, quick=True, rows=("rgb",), seeds=4).seeds == 4


def test_the_recipes_own_row_is_trained_only_if_it_is_compared_and_files_keep_their_names(tmp_path: Path) -> None:
    one = features(tmp_path, rows=("teacher", "two-stream")).parts[0].workspace
    more = features(tmp_path, rows=("teacher", "rgb", "two-stream")).parts[0].workspace
    assert one.detectors == ("two-stream",)
    assert one.student("two-stream") == more.student("two-stream") == more.student("rgb")
    assert one.trains_student("two-stream")
    assert not more.trains_student("two-stream")
    assert features(tmp_path, rows=("teacher",)).parts[0].workspace.detectors == ()


def test_the_baseline_is_rgb_or_the_first_row(tmp_path: Path) -> None:
    assert features(tmp_path).baseline == "rgb"
    assert features(tmp_path, rows=("decomposed", "direct")).baseline == "decomposed"
    plan = features(tmp_path, against="teacher", compare=[("decomposed", "rgb"), ("rgb", "teacher")])
    assert (plan.baseline, plan.pairs) == ("teacher", (("decomposed", "rgb"),))


@pytest.mark.parametrize(
    ("chosen", "error", "message"),
    [
        ({"rows": ("rbg",)}, UsageError, "--rows rbg: no row has this name; choose from teacher"),
        ({"rows": ("rgb", "rgb")}, UsageError, "--rows rgb: is there twice"),
        ({"against": "direct"}, UsageError, "--against direct: is none of the rows teacher, rgb, decomposed"),
        ({"compare": [("rgb", "mars")]}, UsageError, "--compare mars: is none of the rows"),
        ({"folds": 2}, UsageError, "--folds: only 1 is possible"),
        ({"folds": 0}, UsageError, "--folds: only 1 is possible"),
    ],
)
def test_what_cannot_be_run_is_refused(
    tmp_path: Path, chosen: dict[str, Any], error: type[TadkitError], message: str
) -> None:
    with pytest.raises(error, match=message):
        features(tmp_path, **chosen)


def test_too_many_folds_rows_that_do_not_fit_and_splits_without_held_out_videos_are_refused(toy: Path) -> None:
    with pytest.raises(UsageError, match="--folds 7: there are only 6 videos; lower it"):
        plan_of(load_recipe(toy), toy.parent, folds=7)
    everything = load_recipe(toy, overrides=('split.kind="all"',))
    with pytest.raises(UsageError, match=r"split\.kind = 'all' holds out no video; add --folds 3"):
        plan_of(everything, toy.parent)
    assert len(plan_of(everything, toy.parent, folds=2).folds) == 2
    joint = load_recipe(toy, overrides=("joint_head.kind=tridet", "joint_head.dim=16"))
    with pytest.raises(SettingsError, match=r"--rows two-stream-late: .*two equal heads"):
        plan_of(joint, toy.parent, rows=("two-stream-late",))
