"""With cross-fitting, the joint head is trained on features of students that did not see the videos."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tadkit.checkpoint import load_checkpoint
from tadkit.config import Recipe, SplitSettings
from tadkit.config.loading import load_recipe
from tadkit.errors import SettingsError, StoreError
from tadkit.progress import Quiet
from tadkit.recipe.cross_fit import AlignedTracks, groups_of
from tadkit.recipe.inputs import Inputs
from tadkit.recipe.videos import Item
from tadkit.recipe.workspace import Workspace, open_workspace
from tadkit.records import Annotation, Dataset, VideoRecord, read_dataset, read_detections, write_dataset
from tadkit.store import open_store, read_store

RGB = ('compare=["rgb"]', 'distill.method="rgb"')
GROUPED = (*RGB, "train.head.groups=2")
CROSS_FIT = (*GROUPED, "train.head.cross_fit=true")
STAGES = ("distill", "extract-features", "train-head")
GROUPS = [f"{stage} (rgb, group {n} of 2)" for n in (1, 2) for stage in STAGES]
RunToy = Callable[..., dict[str, str]]


def workspace_of(path: Path, *overrides: str) -> Workspace:
    recipe: Recipe = load_recipe(path, overrides=overrides)
    return open_workspace(recipe, base=path.parent, progress=Quiet())


def names(items: tuple[Item, ...]) -> set[str]:
    return {item.name for item in items}


@pytest.fixture(scope="session")
def cross_fitted(tmp_path_factory: pytest.TempPathFactory, undisturbed: Path) -> Path:
    """The recipe file of a run with cross-fitting; not to be changed."""
    from tadkit.recipe.run import run

    folder = tmp_path_factory.mktemp("cross-fit") / "toy"
    shutil.copytree(undisturbed.parent, folder)
    path = folder / undisturbed.name
    run(load_recipe(path, overrides=CROSS_FIT), base=folder, device="cpu", progress=Quiet())
    return path


@pytest.fixture
def changed(tmp_path: Path, cross_fitted: Path) -> Path:
    """A copy of it."""
    shutil.copytree(cross_fitted.parent, tmp_path / "changed")
    return tmp_path / "changed" / cross_fitted.name


def redone(states: dict[str, str]) -> set[str]:
    return {stage for stage, state in states.items() if state == "done"}


def test_the_features_of_a_training_video_come_from_a_student_that_did_not_see_it(cross_fitted: Path) -> None:
    whole = workspace_of(cross_fitted, *CROSS_FIT)
    assert names(whole.groups[0].held_out) | names(whole.groups[1].held_out) == names(whole.training)
    for group in whole.groups:
        student = load_checkpoint(group.student("rgb"), kind="student")
        assert set(student.provenance["training_videos"]) == names(group.training)
        assert not names(group.training) & names(group.held_out)
        with read_store(group.features("rgb"), kind="features") as store, Inputs(whole) as inputs:
            assert store.settings["model"] == student.digest
            features = inputs.head_features("rgb")
            for name in names(group.held_out):
                ours, theirs = (reader.read(name, "mirror/appearance") for reader in (features, store))
                assert features.key(name) == store.key(name)
                assert ours.shape == theirs.shape
                weights = np.linalg.lstsq(np.column_stack([theirs, np.ones(len(theirs))]), ours)[0]
                assert np.allclose(np.column_stack([theirs, np.ones(len(theirs))]) @ weights, ours, atol=1e-3), "linear"


def test_alignment_learns_the_map_from_the_videos_that_both_students_saw(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    matrix, shift = chance.normal(size=(6, 6)), chance.normal(size=6)
    source = {name: chance.normal(size=(400, 6)).astype(np.float32) for name in ("seen", "other", "unseen")}
    target = {name: (x @ matrix + shift).astype(np.float32) for name, x in source.items()}
    target["unseen"] = chance.normal(size=(400, 6)).astype(np.float32)  # what the map must not learn from
    readers = []
    for number, tracks in enumerate((source, target)):
        with open_store(tmp_path / f"{number}.h5", kind="features", settings={}) as store:
            for name, values in tracks.items():
                attributes = {"duration_s": 80.0}
                stamps_s = np.arange(400) / 5
                with store.video(name, key="k", stamps_s=stamps_s, attributes=attributes) as entry:
                    entry.append("original/appearance", values)
        readers.append(read_store(tmp_path / f"{number}.h5", kind="features"))
    aligned = AlignedTracks(*readers, ["seen", "other"]).read("unseen", "original/appearance", 10, 20)
    expected = (source["unseen"] @ matrix + shift)[10:20]
    assert np.abs(aligned - expected).max() < 0.1 * np.abs(expected).max()


def test_a_group_s_detector_is_made_without_the_group_and_detects_in_it(cross_fitted: Path) -> None:
    whole = workspace_of(cross_fitted, *CROSS_FIT)
    for group in whole.groups:
        detector = load_checkpoint(group.detector("rgb"), kind="detector")
        assert set(detector.provenance["training_videos"]) == names(group.training)
        assert set(detector.provenance["held_out_videos"]) == names(group.held_out)
        assert set(read_detections(group.detections("rgb"))) == names(group.held_out)
        with Inputs(group) as inputs, read_store(group.features("rgb"), kind="features") as store:
            features = inputs.head_features("rgb")
            assert all(features.key(item.name) == store.key(item.name) for item in group.training)


def test_the_detector_has_the_student_of_all_training_videos(cross_fitted: Path) -> None:
    whole = workspace_of(cross_fitted, *CROSS_FIT)
    student = load_checkpoint(whole.student("rgb"), kind="student")
    detector = load_checkpoint(whole.detector("rgb"), kind="detector")
    assert set(detector.provenance["training_videos"]) == names(whole.training)
    assert [set(group) for group in detector.provenance["groups"]] == [names(g.held_out) for g in whole.groups]
    assert all(value.equal(detector.tensors[f"student.{name}"]) for name, value in student.tensors.items())
    assert set(read_detections(whole.detections("rgb"))) == names(whole.held_out)


def test_groups_add_stages_and_leave_those_of_the_run_alone(finished: Path, run_toy: RunToy) -> None:
    detector = finished.parent / "runs" / "toy" / "detector-rgb.safetensors"
    plain = load_checkpoint(detector, kind="detector")
    states = run_toy(finished, *GROUPED)
    assert list(states)[-len(GROUPS) - 1 :] == [*GROUPS, "train-head (rgb)"]
    assert redone(states) == {*GROUPS, "train-head (rgb)"}
    assert set(run_toy(finished, *GROUPED).values()) == {"up to date"}
    grouped = load_checkpoint(detector, kind="detector")
    assert all(value.equal(grouped.tensors[name]) for name, value in plain.tensors.items()), "only points are added"
    extracted = {f"extract-features (rgb, group {number} of 2)" for number in (1, 2)}
    assert redone(run_toy(finished, *CROSS_FIT)) == {*extracted, "train-head (rgb)"}
    assert redone(run_toy(finished, *RGB)) == {"train-head (rgb)"}
    assert load_checkpoint(detector, kind="detector").provenance["key"] == plain.provenance["key"], "as before"


def test_decoding_chooses_operating_points_again_and_trains_nothing(changed: Path, run_toy: RunToy) -> None:
    folder = changed.parent / "runs" / "toy"
    before = load_checkpoint(folder / "detector-rgb.safetensors", kind="detector")
    log = (folder / "stages" / "train-head-rgb" / "metrics.jsonl").read_text()
    assert redone(run_toy(changed, *CROSS_FIT, "decode.sigma=0.3")) == {"train-head (rgb)"}
    after = load_checkpoint(folder / "detector-rgb.safetensors", kind="detector")
    assert after.provenance["key"] != before.provenance["key"]
    assert all(value.equal(after.tensors[name]) for name, value in before.tensors.items())
    assert (folder / "stages" / "train-head-rgb" / "metrics.jsonl").read_text() == log


def test_another_number_of_groups_uses_no_student_of_this_one(changed: Path, run_toy: RunToy) -> None:
    states = run_toy(changed, *RGB, "train.head.groups=3", "train.head.cross_fit=true")
    assert redone(states) == {stage for stage in states if "group" in stage} | {"train-head (rgb)"}
    assert set(run_toy(changed, *CROSS_FIT).values()) == {"up to date"} | {"done"}


def test_a_head_refuses_features_of_another_student(changed: Path, run_toy: RunToy) -> None:
    """The whole run's features of the same videos, put in a group's place."""
    whole = workspace_of(changed, *CROSS_FIT)
    group = whole.groups[0]
    path = group.features("rgb")
    shutil.rmtree(path.with_name(f"{path.name}.parts"))
    shutil.copytree(whole.folder / "features-rgb.h5.parts", path.with_name(f"{path.name}.parts"))
    shutil.copy(whole.features("rgb"), path)
    with pytest.raises(StoreError, match=r"groups/1-of-2/features-rgb\.h5: .* run tadkit extract-features"):
        run_toy(changed, *CROSS_FIT, only="train-head")
    assert "extract-features (rgb, group 1 of 2)" in redone(run_toy(changed, *CROSS_FIT))


def test_an_action_of_a_video_that_moves_redoes_the_students_that_saw_it(changed: Path, run_toy: RunToy) -> None:
    whole = workspace_of(changed, *CROSS_FIT)
    first, second = (f"distill (rgb, group {number} of 2)" for number in (1, 2))
    touched = whole.groups[0].held_out[0].record
    file = changed.parent / "data" / "annotations.json"
    moved = (replace(touched.annotations[0], end_s=touched.annotations[0].end_s + 0.1), *touched.annotations[1:])
    dataset = read_dataset(file)
    write_dataset(file, Dataset({**dataset.videos, touched.name: replace(touched, annotations=moved)}))
    states = run_toy(changed, *CROSS_FIT)
    assert states[second] == "done", "it saw the video"
    assert states[first] == "up to date", "it did not"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train.head.groups=0"], "train.head.cross_fit needs train.head.groups"),
        (["distill.joint=true"], "train.head.cross_fit needs distill.joint = false"),
        (['sources=[{kind="features", annotations="a.json", features="f.h5"}]'], "train.head.groups needs videos"),
    ],
)
def test_what_cannot_be_cross_fitted_is_refused(toy: Path, overrides: list[str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load_recipe(toy, overrides=(*CROSS_FIT, *overrides))


KILLED = {
    "distill (rgb, group 2 of 2)": "2-of-2/stages/distill-rgb/last.safetensors",
    "extract-features (rgb, group 1 of 2)": "1-of-2/features-rgb.h5.parts/*.h5",
    "train-head (rgb, group 2 of 2)": "2-of-2/stages/train-head-rgb/last.safetensors",
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", KILLED)
def test_a_run_killed_in_a_group_ends_where_an_undisturbed_one_does(
    finished: Path, cross_fitted: Path, run_toy: RunToy, stage: str
) -> None:
    folder = finished.parent / "runs" / "toy"
    command = [sys.executable, "-m", "tadkit.cli", "run", str(finished), "--device", "cpu"]
    overrides = (*CROSS_FIT, "train.student.checkpoint_s=0", "train.head.checkpoint_s=0")
    command += [word for override in overrides for word in ("--set", override)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        limit = time.monotonic() + 120
        while not list((folder / "groups").glob(KILLED[stage])):
            assert process.poll() is None
            assert time.monotonic() < limit, f"{stage} did not begin"
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -9
    states = run_toy(finished, *CROSS_FIT)
    assert states[stage] == "done"
    assert not [path for path in folder.rglob(".*") if path.name != ".lock"], "leftovers of the killed writer"
    for name in ("detector-rgb", "groups/1-of-2/detector-rgb", "groups/2-of-2/detector-rgb"):
        one, other = (
            load_checkpoint(path.parent / "runs" / "toy" / f"{name}.safetensors", kind="detector")
            for path in (finished, cross_fitted)
        )
        assert one.operating_points == other.operating_points
        assert one.provenance == other.provenance
        assert all(value.equal(other.tensors[key]) for key, value in one.tensors.items())


def record(name: str, *labels: str, duration_s: float = 60.0) -> Item:
    actions = tuple(Annotation(2.0 * n, 2.0 * n + 1, label) for n, label in enumerate(labels))
    return Item(name, Path(name), VideoRecord(name, duration_s, "", actions), held_out=False)


def test_groups_share_rare_actions() -> None:
    items = [record(f"v{n}", "walk", *(["fall"] if n < 4 else [])) for n in range(8)]
    groups = groups_of(items, 4, labels=("walk", "fall"), split=SplitSettings())
    assert sorted(name for group in groups for name in group) == [f"v{n}" for n in range(8)]
    assert [sum(name in ("v0", "v1", "v2", "v3") for name in group) for group in groups] == [1, 1, 1, 1]
    assert groups == groups_of(items[::-1], 4, labels=("walk", "fall"), split=SplitSettings())


def test_groups_keep_together_what_the_split_keeps_together() -> None:
    items = [record(f"person{n // 3}_{n}", "walk") for n in range(12)]
    for group in groups_of(items, 2, labels=("walk",), split=SplitSettings(kind="group", held_out=("person9",))):
        people = {name.split("_")[0] for name in group}
        assert len(group) == 3 * len(people)


def test_too_few_videos_for_the_groups_are_reported_before_anything_is_computed(toy: Path, run_toy: RunToy) -> None:
    with pytest.raises(SettingsError, match=r"train\.head\.groups 5: there are only 4 training videos; lower it"):
        run_toy(toy, *RGB, "train.head.groups=5")
    assert not (toy.parent / "runs" / "toy" / "flow.h5").exists()
    with pytest.raises(SettingsError, match="needs two groups or more"):
        load_recipe(toy, overrides=("train.head.groups=1",))
