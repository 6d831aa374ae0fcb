"""``tadkit adapt``: own labels from few videos, with a student that exists; what is held out, kept and reported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tadkit.checkpoint import load_checkpoint
from tadkit.errors import AnnotationError
from tadkit.models.detector import build_detector
from tadkit.progress import Quiet
from tadkit.recipe.adapt import AdaptResult, adapt
from tadkit.records import Annotation, Dataset, VideoRecord, read_dataset, read_detections, write_dataset
from tadkit.store import read_store

QUICK = ("train.head.epochs=2", "train.head.window_s=6.4")
QUICK_STUDENT = ("train.student.epochs=1", "train.student.window_s=6.4")
SET = [word for setting in QUICK for word in ("--set", setting)]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory, toy_data: Path) -> Path:
    """Folder of four of the toy videos and their annotations."""
    folder = tmp_path_factory.mktemp("few")
    shutil.copytree(toy_data / "videos", folder / "videos")
    records = read_dataset(toy_data / "annotations.json").videos
    write_dataset(folder / "annotations.json", Dataset(dict(list(records.items())[:4])))
    return folder


def adapted(few: Path, model: Path, **more: Any) -> AdaptResult:
    call = {"annotations": few / "annotations.json", "videos": few / "videos", "out": few / "my.safetensors"}
    usual = {"model": model, "overrides": QUICK, "device": "cpu", "progress": Quiet()}
    return adapt(**(call | usual | more))


@pytest.fixture(scope="module")
def first(few: Path, tiny_model: Path) -> AdaptResult:
    return adapted(few, tiny_model)


def test_the_student_is_frozen_and_the_head_is_for_the_labels(first, tiny_model):
    before, after = (load_checkpoint(path, kind="detector") for path in (tiny_model, first.out))
    assert after.labels == ("rest", "slide")
    streams = [
        name for name in before.tensors if name.startswith(("student.backbone", "student.motion.", "student.app"))
    ]
    assert len(streams) > 10
    for name in streams:
        assert torch.allclose(after.tensors[name], before.tensors[name], atol=2e-3), name  # stored as float16
    heads = [name for name in before.tensors if name.startswith("joint.head") and name.endswith("weight")]
    assert any(not torch.allclose(after.tensors[name], before.tensors[name], atol=2e-3) for name in heads)
    origin = after.provenance["adapted_from"]
    assert (origin["file"], origin["sha256"], origin["fine_tuned"]) == (tiny_model.name, before.digest, False)


def test_figures_are_of_videos_that_no_head_was_trained_on(first):
    names = {"room0_0", "room0_1", "room1_2", "room1_3"}
    assert {name for group in first.groups for name in group} == names
    assert len(first.groups) == 4
    for number, group in enumerate(first.groups, start=1):
        folder = first.cache / "groups" / f"{number}-of-4"
        detector = load_checkpoint(next(folder.glob("detector-*.safetensors")), kind="detector")
        assert set(detector.provenance["training_videos"]) == names - set(group)
        assert set(read_detections(next((folder / "detections").glob("*.json")))) == set(group)
    assert first.row is not None
    assert [(label.name, label.actions, label.videos) for label in first.labels] == [("rest", 4, 4), ("slide", 4, 4)]
    mean = np.mean([label.average_precision for label in first.labels])
    assert first.row.average_map == pytest.approx(mean)


def test_the_one_file_detects(first, few, tadkit, tmp_path):
    shutil.copy(first.out, tmp_path / "alone.safetensors")
    out = tmp_path / "dets.json"
    ran = tadkit("detect", few / "videos" / "room2_5.mp4", "--model", tmp_path / "alone.safetensors", "--out", out)
    assert ran.code == 0, ran.err
    assert {one.label for one in read_detections(out)["room2_5"]} <= {"rest", "slide"}


def test_heads_of_the_branches_are_for_the_labels_too(first):
    checkpoint = load_checkpoint(first.out, kind="detector")
    head = build_detector(checkpoint).student.head
    feature, mask = torch.randn(1, 16, 32), torch.ones(1, 32, dtype=torch.bool)
    assert head(feature, mask).logits[0].shape[-1] == 2


@pytest.mark.slow
def test_new_annotations_use_the_stored_features_again(few, tiny_model, tmp_path):
    shutil.copytree(few, tmp_path / "few")
    one = adapted(tmp_path / "few", tiny_model)
    store = one.cache / "features-given.h5"
    with read_store(store, kind="features") as reader:
        keys = {name: reader.key(name) for name in reader.videos()}
    parts = {path: path.stat().st_mtime_ns for path in one.cache.glob("features-given.h5.parts/*.h5")}
    only = adapted(tmp_path / "few", tiny_model, labels=["slide"])
    assert load_checkpoint(only.out, kind="detector").labels == ("slide",)
    assert {path: path.stat().st_mtime_ns for path in parts} == parts
    with read_store(store, kind="features") as reader:
        assert {name: reader.key(name) for name in reader.videos()} == keys


def test_unfreezing_trains_a_student_of_each_group(few, tiny_model, tmp_path):
    shutil.copytree(few, tmp_path / "few")
    overrides = (*QUICK, *QUICK_STUDENT, "train.head.groups=2")
    result = adapted(tmp_path / "few", tiny_model, unfreeze=True, overrides=overrides)
    students = [*result.cache.glob("groups/*/student-*.safetensors"), *result.cache.glob("student-rgb-matched.*")]
    checkpoints = [load_checkpoint(path, kind="student") for path in students]
    assert [len(one.provenance["training_videos"]) for one in checkpoints] == [2, 2, 4]
    name = "appearance.conv.weight"
    before = load_checkpoint(tiny_model, kind="detector").tensors[f"student.{name}"]
    moved = [float((one.tensors[name] - before).abs().max()) for one in checkpoints]
    assert all(0 < distance < 0.1 for distance in moved)  # further from where it was, not anew
    assert load_checkpoint(result.out, kind="detector").provenance["adapted_from"]["fine_tuned"] is True


def test_one_video_is_trained_on_and_said_not_to_be_evaluated(few, tiny_model, tadkit, tmp_path):
    records = read_dataset(few / "annotations.json").videos
    write_dataset(tmp_path / "one.json", Dataset({"room0_1": records["room0_1"]}))
    out = tmp_path / "one.safetensors"
    ran = tadkit("adapt", tmp_path / "one.json", "--videos", few / "videos", "--model", tiny_model, "--out", out, *SET)
    assert ran.code == 0, ran.err
    assert "not evaluated: one video cannot be held out; label a second one" in ran.out
    assert "one action only: rest, slide" in ran.out
    assert out.is_file()


def test_a_label_of_one_example_is_not_evaluated(few, tiny_model, tmp_path):
    records = dict(read_dataset(few / "annotations.json").videos)
    first = records["room0_0"]
    rare = (*first.annotations, Annotation(7.0, 7.8, "vanish"))
    records["room0_0"] = VideoRecord("room0_0", first.duration_s, "", rare)
    write_dataset(tmp_path / "rare.json", Dataset(records))
    out = tmp_path / "rare.safetensors"
    overrides = (*QUICK, "train.head.groups=2")
    chosen = {"annotations": tmp_path / "rare.json", "out": out, "labels": ["vanish", "slide"]}
    result = adapted(few, tiny_model, **chosen, overrides=overrides)
    by_name = {label.name: label for label in result.labels}
    assert by_name["vanish"].average_precision is None
    assert by_name["slide"].average_precision is not None
    assert load_checkpoint(out, kind="detector").labels == ("vanish", "slide")


def test_a_video_that_fails_costs_no_other(few, tiny_model, tadkit, tmp_path):
    shutil.copytree(few, tmp_path / "few")
    (tmp_path / "few" / "videos" / "room1_2.mp4").write_bytes(b"no video")
    call = ("--videos", tmp_path / "few" / "videos", "--model", tiny_model, "--out", tmp_path / "my.safetensors")
    ran = tadkit("adapt", tmp_path / "few" / "annotations.json", *call, *SET)
    assert ran.code == 3
    assert "room1_2.mp4" in ran.err
    assert "held out: 3 videos in 3 groups" in ran.out
    assert "room1_2" not in load_checkpoint(tmp_path / "my.safetensors", kind="detector").provenance["training_videos"]


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"rename": "room0_00"}, 6, "1 of 4 videos have no file in"),
        ({"rename": "room0_00"}, 6, "'room0_00' (did you mean 'room0_0'?)"),
        ({"labels": "slid"}, 2, "did you mean 'slide'?"),
        ({"set": "distill.dim=8"}, 2, "--set distill: cannot be changed here"),
        ({"set": "train.student.epochs=3"}, 2, "the student is frozen; add --unfreeze"),
        ({"out": "my.pt"}, 2, "a model file has the suffix .safetensors"),
        ({"empty": True}, 6, "has no action; label some"),
    ],
)
def test_mistakes_are_one_line_before_any_work(few, tiny_model, tadkit, tmp_path, change, code, said):
    content = json.loads((few / "annotations.json").read_text())
    if "rename" in change:
        content["database"] = {
            change["rename"] if name == "room0_0" else name: v for name, v in content["database"].items()
        }
    if "empty" in change:
        content["database"] = {name: {**v, "annotations": []} for name, v in content["database"].items()}
    (tmp_path / "a.json").write_text(json.dumps(content))
    words = ["adapt", tmp_path / "a.json", "--videos", few / "videos", "--model", tiny_model]
    words += ["--out", tmp_path / change.get("out", "my.safetensors")]
    words += ["--labels", change["labels"]] if "labels" in change else []
    words += ["--set", change["set"]] if "set" in change else []
    ran = tadkit(*words)
    assert ran.code == code
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1
    assert not list(tmp_path.glob("*.adapt"))


def test_a_copy_is_refused_since_it_would_be_held_out_from_itself(few, tiny_model, tmp_path):
    shutil.copytree(few, tmp_path / "few")
    shutil.copy(few / "videos" / "room0_0.mp4", tmp_path / "few" / "videos" / "room0_1.mp4")
    with pytest.raises(AnnotationError, match="'room0_0' and 'room0_1' have the same content"):
        adapted(tmp_path / "few", tiny_model)
