"""The recipes of published datasets: every stage runs on synthetic videos with that dataset's names and labels."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tadkit.annotations.check import check
from tadkit.annotations.presets import Preset, preset
from tadkit.config.loading import load_recipe
from tadkit.interop.import_features import import_features
from tadkit.progress import Quiet
from tadkit.recipe.run import DONE, run
from tadkit.records import Annotation, Dataset, VideoRecord, read_dataset, read_detections, write_dataset
from tadkit.video import write_video

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("thumos14", "activitynet")
SMALL = (
    "video.height_px=32",
    "video.width_px=32",
    "head.dim=16",
    "head.attention_heads=2",
    "head.head_layers=1",
    "distill.dim=16",
    *(f"train.{stage}.epochs=1" for stage in ("teacher", "student", "head")),
    *(f'train.{stage}.views=["original"]' for stage in ("teacher", "student", "head")),
)
QUICK = (
    "flow.method=temporal-gradient",
    "teacher_backbone.name=tiny",
    "teacher_backbone.pretrained=false",
    "backbone.name=tiny",
    "backbone.pretrained=false",
)
SMALL_NETS = (
    "head.dim=16",
    "head.levels=3",
    "distill.dim=16",
    "backbone.width=16",
    "teacher_backbone.width=16",
    'compare=["teacher", "decomposed"]',
)


def stand_in(folder: Path, known: Preset) -> None:
    """Three training videos and one to judge on, 3 s each; one has an ambiguous action where the dataset has those."""
    rng, records = np.random.default_rng(0), []
    (folder / "videos").mkdir(parents=True)
    names = ("video_validation_000005{}", "video_test_0000004") if known.name == "thumos14" else ("v_train{}", "v_val")
    for number, subset in enumerate([known.training] * 3 + [known.held_out]):
        name = names[subset == known.held_out].format(number)
        frames = rng.integers(0, 255, (30, 32, 32, 3), dtype=np.uint8)
        write_video(folder / "videos" / f"{name}.mp4", list(frames), fps=10)
        labels = [known.labels[0], known.labels[-1], *known.left_out][: 2 + (number == 0)]
        actions = tuple(Annotation(0.2 + at, 1.0 + at, label) for at, label in enumerate(labels[:2]))
        actions += tuple(Annotation(2.2, 2.8, label) for label in labels[2:])
        records.append(VideoRecord(name, 3.0, subset, actions))
    write_dataset(folder / "annotations.json", Dataset({record.name: record for record in records}))


@pytest.mark.parametrize(
    ("name", "others"),
    [
        pytest.param("thumos14", (), id="thumos14 with its flow and its pretrained nets", marks=pytest.mark.slow),
        pytest.param("activitynet", QUICK, id="activitynet with quicker ones"),
    ],
)
def test_every_stage_of_a_recipe_runs_unchanged_but_for_its_size(name, others, tmp_path, monkeypatch):
    known = preset(name)
    stand_in(tmp_path / "data", known)
    monkeypatch.setenv(f"TADKIT_{name.upper()}", str(tmp_path / "data"))
    recipe = load_recipe(EXAMPLES / f"{name}.toml", overrides=[*SMALL, *others, f"out={tmp_path / 'runs'}"])
    if not others:
        assert recipe.flow.method == "tvl1"
        assert {(net.name, net.pretrained) for net in (recipe.teacher_backbone, recipe.backbone)} == {
            ("efficientnet-lite0", True)
        }
    result = run(recipe, base=EXAMPLES, device="cpu", progress=Quiet())
    assert [state for _, state in result.stages] == [DONE] * len(result.stages)
    assert [stage for stage, _ in result.stages[:3]] == ["extract-flow", "train-teacher", "teacher's features"]
    assert [row.name for row in result.rows] == [
        "teacher",
        "rgb",
        "rgb: appearance",
        "decomposed",
        "decomposed: motion",
        "decomposed: appearance",
    ]
    held_out = {
        v.name for v in read_dataset(tmp_path / "data" / "annotations.json").videos.values() if v.subset != "training"
    }
    assert len(held_out) == 1
    for row in result.rows:
        assert set(row.per_class) == {known.labels[0], known.labels[-1]}
        assert list(row.map) == list(known.tiou)


def test_a_recipe_of_features_runs_unchanged_but_for_its_size(tmp_path, monkeypatch):
    known = preset("thumos14")
    stand_in(tmp_path / "data", known)
    (tmp_path / "npy").mkdir()
    for name in read_dataset(tmp_path / "data" / "annotations.json").videos:
        np.save(tmp_path / "npy" / f"{name}.npy", np.random.default_rng(0).normal(size=(19, 8)).astype(np.float32))
    import_features(
        tmp_path / "npy",
        tmp_path / "data" / "features.h5",
        annotations=tmp_path / "data" / "annotations.json",
        stride_frames=4,
        clip_frames=16,
        fps=30,
        channels_first=False,
        progress=Quiet(),
    )
    monkeypatch.setenv("TADKIT_THUMOS14", str(tmp_path / "data"))
    small = ("head.dim=16", "train.head.epochs=1", f"out={tmp_path / 'runs'}")
    recipe = load_recipe(EXAMPLES / "thumos14-features.toml", overrides=small)
    result = run(recipe, base=EXAMPLES, device="cpu", progress=Quiet())
    assert result.stages == [("train-head (features)", DONE)]
    assert [row.name for row in result.rows] == ["features"]
    assert recipe.labels == known.labels


@pytest.mark.parametrize(
    "others",
    [
        pytest.param(SMALL_NETS, id="with small nets"),
        pytest.param((), id="with its own nets", marks=pytest.mark.slow),
    ],
)
def test_a_recipe_that_distils_from_features_runs_unchanged_but_for_its_epochs(others, tmp_path, monkeypatch, tadkit):
    """On short videos in the form of the published features; the detector then reads their RGB half alone."""
    known = preset("thumos14")
    stand_in(tmp_path / "data", known)
    annotations, rng = tmp_path / "data" / "annotations.json", np.random.default_rng(0)
    for folder in ("i3d_features", "rgb"):
        (tmp_path / folder).mkdir()
    for name, video in read_dataset(annotations).videos.items():
        both = rng.normal(size=(19, 2048)).astype(np.float32)
        np.save(tmp_path / "i3d_features" / f"{name}.npy", both)
        if video.subset == known.held_out:
            np.save(tmp_path / "rgb" / f"{name}.npy", both[:, :1024])
    stores = {"i3d_features": tmp_path / "data" / "features.h5", "rgb": tmp_path / "rgb.h5"}
    for folder, store in stores.items():
        words = ("--annotations", annotations, "--stride", "4", "--clip-frames", "16", "--fps", "30")
        assert tadkit("import", "features", tmp_path / folder, "--out", store, *words).code == 0
    monkeypatch.setenv("TADKIT_THUMOS14", str(tmp_path / "data"))
    settings = [*(f"train.{stage}.epochs=1" for stage in ("teacher", "student", "head")), *others]
    settings = [word for setting in (*settings, f"out={tmp_path / 'runs'}") for word in ("--set", setting)]
    told = tadkit("run", EXAMPLES / "thumos14-distill-features.toml", *settings, "--json")
    result = json.loads(told.out)
    compared = ["teacher", *([] if others else ["rgb", "direct"]), "decomposed"]
    assert [row["name"] for row in result["rows"] if ":" not in row["name"]] == compared
    assert all(set(row["per_class"]) == {known.labels[0], known.labels[-1]} for row in result["rows"])
    head, out = Path(result["folder"]) / "detector-decomposed.safetensors", tmp_path / "dets.json"
    assert tadkit("detect-features", stores["rgb"], "--head", head, "--out", out).code == 0
    judged = read_detections(Path(result["folder"]) / "detections" / "decomposed.json")
    assert read_detections(out) == judged
    told = tadkit("evaluate", out, annotations, "--subset", "testing", "--tiou", "0.3:0.1:0.7", "--json")
    (own,) = (row for row in result["rows"] if row["name"] == "decomposed")
    assert json.loads(told.out)["average_map"] == pytest.approx(own["average_map"])


def test_a_recipe_that_distils_from_features_has_the_settings_of_that_which_does_not():
    ours, plain = (
        load_recipe(EXAMPLES / f"{name}.toml") for name in ("thumos14-distill-features", "thumos14-features")
    )
    assert (ours.labels, ours.head, ours.decode, ours.split) == (plain.labels, plain.head, plain.decode, plain.split)
    unchanged = {"views", "colour_jitter", "groups", "cross_fit", "flow_jitter"}
    for stage in (ours.train.teacher, ours.train.student, ours.train.head):
        assert stage.model_dump(exclude=unchanged) == plain.train.head.model_dump(exclude=unchanged)


@pytest.mark.parametrize("name", NAMES)
def test_recipe_and_preset_say_the_same(name):
    recipe, known = load_recipe(EXAMPLES / f"{name}.toml"), preset(name)
    assert recipe.labels == known.labels
    assert recipe.evaluation.tiou == known.tiou
    assert (recipe.split.kind, recipe.split.held_out) == ("subset", (known.held_out,))
    assert recipe.split.training == (known.training,)


@pytest.mark.parametrize("name", NAMES)
def test_a_stand_in_is_right_but_for_its_counts(name, tmp_path):
    stand_in(tmp_path / "data", preset(name))
    paths = {"videos": tmp_path / "data" / "videos"}
    result = check([tmp_path / "data" / "annotations.json"], dataset=name, progress=Quiet(), **paths)
    assert {finding.what for finding in result.findings} == {"counts"}


@pytest.mark.parametrize("name", [*NAMES, "thumos14-features", "thumos14-distill-features"])
def test_commands_in_a_recipe_parse(name, parse):
    text = (EXAMPLES / f"{name}.toml").read_text().replace("\\\n#", "")
    commands = re.findall(r"^#\s+tadkit (.*)$", text, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        parse(command.split())
