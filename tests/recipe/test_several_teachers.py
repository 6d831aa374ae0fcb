"""A recipe of several teachers: it trains, distils and detects, and a change of one redoes what depends on it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy_recipe import NETS_OF_FEATURES, RECIPE

from tadkit import load_detector
from tadkit.checkpoint import load_checkpoint
from tadkit.config.loading import load_recipe, parse_recipe
from tadkit.detection.detect_features import detect_features
from tadkit.errors import SettingsError, WeightsError
from tadkit.progress import Quiet
from tadkit.recipe.run import DONE, RunResult, run
from tadkit.records import read_dataset, read_detections
from tadkit.store import open_store, read_store

TEACHERS = """
[[teachers]]
name = "dis"
flow.method = "opencv-dis"
[[teachers]]
name = "seed"
train.seed = 5
[variants.one]
distill.teachers = ["teacher"]
"""
QUICK = tuple(f"train.{stage}.epochs=1" for stage in ("teacher", "student", "head"))
ROWS = 'compare=["teacher","decomposed","one"]'
RunToy = Callable[..., dict[str, str]]


def redone(states: dict[str, str]) -> set[str]:
    return {name for name, state in states.items() if state == DONE}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, toy_data: Path) -> RunResult:
    """A run of three teachers on videos; not to be changed."""
    folder = tmp_path_factory.mktemp("several")
    shutil.copytree(toy_data, folder / "data")
    (folder / "toy.toml").write_text(RECIPE + TEACHERS)
    recipe = load_recipe(folder / "toy.toml", overrides=(*QUICK, ROWS))
    return run(recipe, base=folder, device="cpu", progress=Quiet())


@pytest.fixture
def changeable(finished: RunResult, tmp_path: Path) -> Path:
    """The recipe file of a finished run that may be changed."""
    shutil.copytree(finished.folder.parents[1], tmp_path / "toy")
    return tmp_path / "toy" / "toy.toml"


def test_every_teacher_is_trained_on_its_own_motion_and_flow_is_computed_once(finished: RunResult) -> None:
    assert [name for name, state in finished.stages if state == DONE] == [
        *("extract-flow", "train-teacher", "teacher's features"),
        *("extract-flow (dis)", "train-teacher (dis)", "teacher's features (dis)"),
        *("train-teacher (seed)", "teacher's features (seed)"),
        *(
            f"{stage} ({row})"
            for row in ("decomposed", "one")
            for stage in ("distill", "extract-features", "train-head")
        ),
    ]
    methods = {"teacher": "temporal-gradient", "teacher-dis": "opencv-dis", "teacher-seed": "temporal-gradient"}
    tensors = []
    for name, method in methods.items():
        checkpoint = load_checkpoint(finished.folder / f"{name}.safetensors", kind="teacher")
        assert checkpoint.settings["flow"]["method"] == method
        assert "teachers" not in checkpoint.settings
        tensors.append(checkpoint.tensors["head.regressor.out.conv.weight"])
    assert not torch.equal(tensors[0], tensors[2])
    with read_store(finished.folder / "flow-dis.h5", kind="flow") as flow:
        assert flow.settings["flow"]["method"] == "opencv-dis"
    assert not (finished.folder / "flow-seed.h5").exists()


def test_every_teacher_has_its_row_below_the_first(finished: RunResult) -> None:
    names = ["teacher", "teacher: dis", "teacher: seed", "decomposed", "one"]
    assert [row.name for row in finished.rows if row.name.startswith("teacher") or ":" not in row.name] == names
    found = read_detections(finished.folder / "detections" / "teacher+dis.json")
    assert found != read_detections(finished.folder / "detections" / "teacher.json")
    report = json.loads((finished.folder / "detections" / "teacher+dis.json").read_text())
    assert report["external_data"]["teacher"] == "dis"


@pytest.mark.parametrize("row", ["decomposed", "one"])
def test_the_detector_finds_in_a_video_what_the_run_found(finished: RunResult, row: str) -> None:
    detector = load_detector(finished.folder / f"detector-{row}.safetensors")
    for name in read_dataset(finished.folder / "detections" / "annotations.json").videos:
        judged = read_detections(finished.folder / "detections" / f"{row}.json")[name]
        found = detector.detect(finished.folder.parents[1] / "data" / "videos" / f"{name}.mp4")
        assert len(found) == len(judged) > 0
        for a, b in zip(found, judged, strict=True):
            assert (a.score, a.start_s, a.end_s) == pytest.approx((b.score, b.start_s, b.end_s), abs=1e-3)


def test_the_student_states_its_teachers_in_order_and_what_they_read(finished: RunResult) -> None:
    for kind in ("student", "detector"):
        settings = load_checkpoint(finished.folder / f"{kind}-decomposed.safetensors", kind=kind).settings
        assert list(settings["distill"]["teachers"]) == ["teacher", "dis", "seed"]
        assert [(t["name"], t["flow"]["method"]) for t in settings["teachers"]] == [
            ("dis", "opencv-dis"),
            ("seed", "temporal-gradient"),
        ]
        alone = load_checkpoint(finished.folder / f"{kind}-one.safetensors", kind=kind).settings
        assert "teachers" not in alone
        assert "teachers" not in alone["distill"]


def test_a_student_of_the_first_teacher_is_that_of_a_recipe_with_one(
    finished: RunResult, changeable: Path, run_toy: RunToy
) -> None:
    changeable.write_text(RECIPE)
    states = run_toy(changeable, *QUICK, 'compare=["decomposed"]')
    assert redone(states) == {f"{stage} (decomposed)" for stage in ("distill", "extract-features", "train-head")}
    one, other = (folder / "student-" for folder in (finished.folder, changeable.parent / "runs" / "toy"))
    assert Path(f"{one}one.safetensors").read_bytes() == Path(f"{other}decomposed.safetensors").read_bytes()


def test_a_change_of_one_teacher_redoes_it_and_the_students_that_it_teaches(changeable: Path, run_toy: RunToy) -> None:
    assert not redone(run_toy(changeable, *QUICK, ROWS))
    students = {f"{stage} (decomposed)" for stage in ("distill", "extract-features", "train-head")}
    states = run_toy(changeable, *QUICK, ROWS, "teachers.0.train.seed=9")
    assert redone(states) == {"train-teacher (dis)", "teacher's features (dis)", *students}


@pytest.mark.parametrize("teachers", ['["dis","teacher"]', '["teacher","dis","seed"]'])
def test_the_commands_of_the_stages_take_the_teachers_by_name(
    changeable: Path, teachers: str, tadkit: Callable[..., Any]
) -> None:
    chosen = [word for each in (*QUICK, ROWS, f"distill.teachers={teachers}") for word in ("--set", each)]
    told = tadkit("distill", changeable, *chosen, "--device", "cpu")
    assert told.code == 0
    assert ("distill (decomposed): done" in told.out) == (
        teachers == '["dis","teacher"]'
    )  # the others are all, in order
    told = tadkit("train-head", changeable, *chosen, "--device", "cpu")
    assert (told.code == 0) == (teachers == '["teacher","dis","seed"]')
    path = changeable.parent / "runs" / "toy" / "student-decomposed.safetensors"
    assert list(load_checkpoint(path, kind="student").settings["distill"]["teachers"]) == json.loads(teachers)


def test_a_missing_teacher_is_reported_by_its_name(changeable: Path, run_toy: RunToy) -> None:
    (changeable.parent / "runs" / "toy" / "teacher-dis.safetensors").unlink()
    with pytest.raises(
        WeightsError, match=r"teacher-dis.safetensors: no teacher \(dis\) yet; run tadkit train-teacher"
    ):
        run_toy(changeable, *QUICK, ROWS, only="distill")
    assert redone(run_toy(changeable, *QUICK, ROWS, only="train-teacher")) == {"train-teacher (dis)"}


MADE_UP = f"""
name = "mine"
labels = ["box", "ball", "push", "pull", "open", "close"]
sources = [{{kind = "made-up-features", training_videos = 3, test_videos = 1}}]
{NETS_OF_FEATURES}[[teachers]]
name = "wide"
backbone.width = 32
train.seed = 5
[variants.one-stage]
distill.joint = true
"""
FEATURE_ROWS = ("decomposed", "direct", "logits", "one-stage")
"""The losses of all methods are in ``tests/distill/test_several_teachers.py``."""
SHORT = (*QUICK, *(f"train.{stage}.window_s=8" for stage in ("teacher", "student", "head")))


@pytest.fixture(scope="module")
def on_features(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A run of two teachers on features; not to be changed."""
    recipe = parse_recipe(MADE_UP, name="mine", overrides=(*SHORT, f"compare={list(FEATURE_ROWS)}"))
    return run(recipe, base=tmp_path_factory.mktemp("features"), device="cpu", progress=Quiet())


@pytest.mark.parametrize("row", FEATURE_ROWS)
def test_features_have_several_teachers_and_what_they_teach_detects(on_features: RunResult, row: str) -> None:
    judged = read_detections(on_features.folder / "detections" / f"{row}.json")
    head = on_features.folder / f"detector-{row}.safetensors"
    assert on_features.features is not None
    found = detect_features(on_features.features, head=head, decoding={}, device="cpu", progress=Quiet())
    assert {video: list(found[video]) for video in judged} == judged
    assert all(judged.values())
    student = load_checkpoint(on_features.folder / f"student-{row}.safetensors", kind="student")
    assert list(student.settings["distill"]["teachers"]) == ["teacher", "wide"]
    if row != "logits":
        assert student.tensors["adapter.weight"].shape == (32, 16, 1)


def test_each_teacher_reads_its_own_stream_of_a_feature_store(on_features: RunResult, tmp_path: Path) -> None:
    assert on_features.features is not None
    shutil.copy(on_features.features.with_name("annotations.json"), tmp_path / "annotations.json")
    with (
        read_store(on_features.features, kind="features") as old,
        open_store(tmp_path / "features.h5", kind="features", settings=old.settings) as new,
    ):
        for video in old.videos():
            known = {"key": old.key(video), "stamps_s": old.stamps_s(video), "attributes": old.attributes(video)}
            with new.video(video, **known) as entry:
                flow = old.features(video)[:, 32:64]
                entry.append("original/appearance", np.hstack([old.features(video), flow[:, :10]]))
    stored = (
        'kind = "features", annotations = "annotations.json", features = "features.h5", rgb = "0:32", flow = "32:64"'
    )
    text = MADE_UP.replace('kind = "made-up-features", training_videos = 3, test_videos = 1', stored)
    text = text.replace('name = "wide"', 'name = "wide"\nstream = "64:74"')
    quick = (*SHORT, 'compare=["decomposed"]')
    result = run(parse_recipe(text, name="mine", overrides=quick), base=tmp_path, device="cpu", progress=Quiet())
    reads = [
        load_checkpoint(result.folder / f"{name}.safetensors", kind="teacher").settings["features"]
        for name in ("teacher", "teacher-wide")
    ]
    assert [(each["flow"], each["flow_channels"]) for each in reads] == [("32:64", 32), ("64:74", 10)]
    student = load_checkpoint(result.folder / "student-decomposed.safetensors", kind="student").settings
    assert student["teachers"][0]["features"]["flow_channels"] == 10
    again = run(parse_recipe(text, name="mine", overrides=quick), base=tmp_path, device="cpu", progress=Quiet())
    assert not redone(dict(again.stages))
    with pytest.raises(SettingsError, match=r"rgb 0:32 and flow original/appearance have channels in common"):
        run(
            parse_recipe(text.replace("64:74", "original/appearance"), name="mine", overrides=quick),
            base=tmp_path,
            device="cpu",
            progress=Quiet(),
        )


def test_videos_without_labels_are_taught_by_every_teacher(tmp_path: Path) -> None:
    more = '{kind = "made-up-features", labelled = false, training_videos = 2, seed = 7}'
    text = MADE_UP.replace("test_videos = 1}]", f"test_videos = 1}}, {more}]").split("[variants")[0]
    quick = (*SHORT, 'compare=["decomposed"]')
    result = run(parse_recipe(text, name="mine", overrides=quick), base=tmp_path, device="cpu", progress=Quiet())
    path = result.folder / "student-decomposed.safetensors"
    unlabelled = load_checkpoint(path, kind="student").provenance["unlabelled_videos"]
    assert len(unlabelled) == 2
    for teacher in ("teacher", "teacher-wide"):
        with read_store(result.folder / f"{teacher}.h5", kind="features") as store:
            assert set(unlabelled) < set(store.videos())


@pytest.mark.slow  # heads that see a window as a whole take seconds a step
@pytest.mark.parametrize("head", ["bmn", "tags", "tadtr"])
def test_heads_without_stored_predictions_have_several_teachers_too(head: str, tmp_path: Path) -> None:
    section = MADE_UP[MADE_UP.index("[head]") : MADE_UP.index("[[teachers]]")]
    text = MADE_UP.replace(section, f'[head]\nkind = "{head}"\nwindow_steps = 32\n').split("[variants")[0]
    method = "mars" if head == "tadtr" else "decomposed"
    recipe = parse_recipe(text, name="mine", overrides=(*SHORT, f"distill.method={method}", f'compare=["{method}"]'))
    result = run(recipe, base=tmp_path, device="cpu", progress=Quiet())
    assert method in [row.name for row in result.rows]


@pytest.mark.slow  # a student and a head for every group
def test_groups_share_the_teachers_of_the_run(tmp_path: Path) -> None:
    quick = (*SHORT, 'compare=["decomposed"]', "train.head.groups=2", "train.head.cross_fit=true")
    text = MADE_UP.split("[variants")[0]
    result = run(parse_recipe(text, name="mine", overrides=quick), base=tmp_path, device="cpu", progress=Quiet())
    assert ("train-head (decomposed, group 2 of 2)", DONE) in result.stages
    assert not list((result.folder / "groups").rglob("teacher*"))
