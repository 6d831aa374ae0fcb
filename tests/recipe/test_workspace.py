"""Which videos a recipe is about, and which of them are held out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from tadkit.config import SplitSettings
from tadkit.config.loading import load_recipe
from tadkit.errors import AnnotationError, SettingsError, StoreError, VideoError
from tadkit.progress import Quiet
from tadkit.recipe.videos import _held_out
from tadkit.recipe.workspace import Workspace, locked, open_workspace
from tadkit.records import VideoRecord


def opened(recipe: Path, *overrides: str) -> Workspace:
    return open_workspace(load_recipe(recipe, overrides=overrides), base=recipe.parent, progress=Quiet())


def names(items: tuple[object, ...]) -> set[str]:
    return {item.name for item in items}  # type: ignore[attr-defined]


@given(
    count=st.integers(1, 40),
    folds=st.integers(2, 6),
    seed=st.integers(0, 5),
)
def test_folds_hold_out_each_video_exactly_once_and_are_of_one_size(count: int, folds: int, seed: int) -> None:
    records = [VideoRecord(f"v{i}", 1.0, "", ()) for i in range(count)]
    parts = [_held_out(records, SplitSettings(folds=folds, fold=fold, seed=seed)) for fold in range(folds)]
    assert sorted(name for part in parts for name in part) == sorted(record.name for record in records)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert _held_out(records[::-1], SplitSettings(folds=folds, fold=0, seed=seed)) == parts[0]


@pytest.mark.parametrize(
    "overrides", [(), ("split.fold=2",), ("split.kind=subset",), ("split.kind=group", 'split.held_out=["room1"]')]
)
def test_training_and_held_out_videos_are_disjoint_and_cover_all(toy: Path, overrides: tuple[str, ...]) -> None:
    workspace = opened(toy, *overrides)
    assert len(workspace.training) + len(workspace.held_out) == len(workspace.items) == 6
    assert not names(workspace.training) & names(workspace.held_out)
    assert workspace.training
    assert workspace.held_out


def test_a_group_is_what_stands_before_the_first_underscore(toy: Path) -> None:
    workspace = opened(toy, "split.kind=group", 'split.held_out=["room1"]')
    assert names(workspace.held_out) == {"room1_2", "room1_3"}


def test_a_group_that_no_video_is_of_is_refused(toy: Path) -> None:
    with pytest.raises(SettingsError, match=r"split.held_out: no group is named 'room7'; choose from room0, room1"):
        opened(toy, "split.kind=group", 'split.held_out=["room1", "room7"]')


def test_subsets_are_held_out_as_the_annotations_say(toy: Path) -> None:
    workspace = opened(toy, "split.kind=subset", 'split.held_out=["validation"]')
    assert names(workspace.held_out) == {"room0_0", "room1_3"}


def test_all_holds_out_nothing(toy: Path) -> None:
    assert opened(toy, "split.kind=all").held_out == ()


def test_a_split_that_leaves_nothing_to_train_on_is_refused(toy: Path) -> None:
    with pytest.raises(SettingsError, match="holds out all 6 videos"):
        opened(toy, "split.kind=subset", 'split.held_out=["training", "validation"]')


def test_a_variable_that_is_not_set_is_named(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_FOLDER", raising=False)
    with pytest.raises(
        SettingsError, match="the environment variable NO_SUCH_FOLDER is not set; export NO_SUCH_FOLDER="
    ):
        opened(toy, "sources.0.videos=${NO_SUCH_FOLDER}/videos")


def test_a_variable_that_is_set_is_filled_in(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_FOLDER", str(toy.parent / "data"))
    workspace = opened(toy, "sources.0.videos=${TOY_FOLDER}/videos")
    assert all(item.path.is_relative_to(toy.parent / "data") for item in workspace.items)


def test_a_video_that_is_missing_is_named_with_what_was_looked_for(toy: Path) -> None:
    (toy.parent / "data" / "videos" / "room1_2.mp4").unlink()
    with pytest.raises(VideoError, match=r"no file for the annotated video 'room1_2'; expected room1_2\.mp4"):
        opened(toy)


@pytest.mark.parametrize("suffix", [".mkv", ".AVI"])
def test_a_video_may_have_another_suffix(toy: Path, suffix: str) -> None:
    video = toy.parent / "data" / "videos" / "room1_2.mp4"
    video.rename(video.with_suffix(suffix))
    assert video.with_suffix(suffix) in {item.path for item in opened(toy).items}


def test_one_name_in_two_sources_is_refused(toy: Path) -> None:
    source = toy.read_text().split("[[sources]]")[1].split("[video]")[0]
    toy.write_text(toy.read_text().replace("[video]", f"[[sources]]{source}[video]"))
    with pytest.raises(AnnotationError, match="two sources have a video named 'room0_0'; rename one"):
        opened(toy)


def test_annotations_that_are_missing_are_named(toy: Path) -> None:
    (toy.parent / "data" / "annotations.json").unlink()
    with pytest.raises(AnnotationError, match=r"annotations\.json: no such file; .* relative to the recipe"):
        opened(toy)


def test_a_digest_follows_the_bytes_of_a_video(toy: Path, write_squares: Callable[..., Path]) -> None:
    item = opened(toy).items[0]
    before = item.source_key
    assert item.source_key == before
    write_squares(item.path, 20, seed=5)
    assert item.source_key != before


def test_a_second_run_in_the_same_folder_is_refused(toy: Path) -> None:
    workspace = opened(toy)
    with (
        FileLock(workspace.folder / ".lock"),
        pytest.raises(StoreError, match="another run is using this folder"),
        locked(workspace),
    ):
        raise AssertionError("two runs in one folder")


def test_what_a_killed_run_had_begun_to_write_is_removed(toy: Path) -> None:
    workspace = opened(toy)
    leftovers = [
        workspace.folder / ".teacher.abcdefgh.safetensors",
        workspace.stage("x") / ".last.abc_efgh.safetensors",
    ]
    kept = [workspace.teacher, workspace.stage("x") / "last.safetensors"]
    for path in leftovers + kept:
        path.touch()
    with locked(workspace):
        assert not any(path.exists() for path in leftovers)
    assert all(path.exists() for path in kept)


def test_videos_of_subsets_that_the_split_does_not_name_are_neither_read_nor_used(toy: Path) -> None:
    annotations = toy.parent / "data" / "annotations.json"
    content = json.loads(annotations.read_text())
    content["database"]["withheld"] = {"subset": "testing", "duration": 9.0, "annotations": []}
    annotations.write_text(json.dumps(content))
    names = ('split.held_out=["validation"]', 'split.training=["training"]')
    workspace = opened(toy, "split.kind=subset", *names)
    assert "withheld" not in {item.name for item in workspace.items}
    assert {item.record.subset for item in workspace.training} == {"training"}


def test_a_held_out_subset_that_is_not_there_is_refused_with_those_that_are(toy: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"split\.held_out: no subset 'Test'; the annotations have 'training', 'validation'"
    ):
        opened(toy, "split.kind=subset", 'split.held_out=["Test"]')


def test_a_label_without_any_action_is_reported_with_the_nearest_one(toy: Path) -> None:
    progress = Quiet()
    recipe = load_recipe(toy, overrides=['labels=["slide", "rset", "jump"]'])
    open_workspace(recipe, base=toy.parent, progress=progress)
    assert progress.warnings == ["recipe 'toy': no annotation is labelled 'rset' (did you mean 'rest'?), 'jump'"]
    with pytest.raises(
        SettingsError, match=r"no annotation has one of its labels; the annotations have 'rest', 'slide'"
    ):
        opened(toy, 'labels=["run", "jump"]')


def test_actions_past_the_end_of_their_videos_are_counted_before_training(toy: Path) -> None:
    path = toy.parent / "data" / "annotations.json"
    content = json.loads(path.read_text())
    name = next(iter(content["database"]))
    past = content["database"][name]["duration"] + 1
    content["database"][name]["annotations"].append({"segment": [past, past + 2], "label": "slide"})
    path.write_text(json.dumps(content))
    progress = Quiet()
    open_workspace(load_recipe(toy, overrides=()), base=toy.parent, progress=progress)
    assert progress.warnings == [
        f"recipe 'toy': 1 actions lie past the end of their videos: '{name}' (1); tadkit data check lists all"
    ]
