"""The recipes of published datasets: every stage runs on made-up videos with that dataset's names and labels."""

from __future__ import annotations

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
from tadkit.records import Annotation, Dataset, VideoRecord, read_dataset, write_dataset
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


@pytest.mark.parametrize("name", [*NAMES, "thumos14-features"])
def test_commands_in_a_recipe_parse(name, parse):
    text = (EXAMPLES / f"{name}.toml").read_text().replace("\\\n#", "")
    commands = re.findall(r"^#\s+tadkit (.*)$", text, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        parse(command.split())
