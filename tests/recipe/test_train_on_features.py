"""A head is trained on features that others made, judged on held-out videos, and run on further features."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from tadkit.cli.commands.stages import _print_result
from tadkit.config import DecodeSettings
from tadkit.config.loading import parse_recipe
from tadkit.detection.detect_features import detect_features
from tadkit.errors import SettingsError, StoreError, WeightsError
from tadkit.interop.import_features import import_features
from tadkit.models.head_file import load_head
from tadkit.progress import Quiet
from tadkit.recipe.run import DONE, UP_TO_DATE, RunResult, run
from tadkit.records import Annotation, Dataset, VideoRecord, read_detections, write_dataset

LABELS = ("jump", "throw")
CHANNELS, STRIDE, FPS = 12, 4, 20.0

RECIPE = """
name = "mine"
labels = ["jump", "throw"]
[[sources]]
kind = "features"
annotations = "annotations.json"
features = "features.h5"
[split]
kind = "subset"
held_out = ["testing"]
[head]
dim = 32
levels = 4
head_layers = 1
dropout = 0.0
[train.head]
epochs = 30
window_s = 25.6
lr = 2e-3
[evaluation]
tiou = [0.5]
"""


def made_up(folder: Path, *, videos: int = 10, steps: int = 120) -> Path:
    """Features with noise, in which each class lifts channels of its own, and annotations; a third is held out."""
    rng, records = np.random.default_rng(0), {}
    (folder / "npy").mkdir(parents=True)
    for number in range(videos):
        name, values, actions = f"v{number}", rng.normal(0, 0.3, (steps, CHANNELS)).astype(np.float32), []
        for at in range(4, steps - 24, 28):
            label, first, length = rng.integers(2), at + rng.integers(6), 6 + rng.integers(12)
            values[first : first + length, label * 4 : label * 4 + 4] += 2.0
            start_s, end_s = (first * STRIDE / FPS, (first + length) * STRIDE / FPS)
            actions.append(Annotation(start_s, end_s, LABELS[label]))
        np.save(folder / "npy" / f"{name}.npy", values)
        subset = "testing" if number % 3 == 0 else "training"
        records[name] = VideoRecord(name, steps * STRIDE / FPS, subset, tuple(actions), FPS)
    write_dataset(folder / "annotations.json", Dataset(records))
    import_features(
        folder / "npy",
        folder / "features.h5",
        annotations=folder / "annotations.json",
        stride_frames=STRIDE,
        clip_frames=None,
        fps=None,
        channels_first=False,
        progress=Quiet(),
    )
    return folder


def trained(folder: Path, *overrides: str, progress: Quiet | None = None) -> RunResult:
    recipe = parse_recipe(RECIPE, name="mine", overrides=overrides)
    return run(recipe, base=folder, device="cpu", progress=progress or Quiet())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunResult]:
    folder = made_up(tmp_path_factory.mktemp("features") / "data")
    return folder, trained(folder)


def test_the_head_finds_the_actions_of_held_out_videos(finished):
    _, result = finished
    assert result.stages == [("train-head (features)", DONE)]
    ((row),) = result.rows
    assert row.name == "features"
    assert row.map[0.5] >= 0.9


def test_the_run_ends_with_a_command_that_tries_its_head(finished, tadkit, capsys, tmp_path, monkeypatch):
    _, result = finished
    _print_result(result)
    (tried,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("try it: tadkit ")]
    monkeypatch.chdir(tmp_path)
    assert tadkit(*shlex.split(tried)[3:]).code == 0
    assert len(read_detections(tmp_path / "dets.json")) == 10


def test_its_detections_are_judged_the_same_by_evaluate(finished, tadkit):
    folder, result = finished
    path = result.folder / "detections" / "features.json"
    ran = tadkit("evaluate", path, folder / "annotations.json", "--subset", "testing", "--tiou", "0.5", "--json")
    assert json.loads(ran.out)["average_map"] == pytest.approx(result.rows[0].average_map)
    assert set(read_detections(path)) == {"v0", "v3", "v6", "v9"}


def test_the_head_is_a_file_that_runs_on_any_store_of_such_features(finished):
    folder, result = finished
    path = result.folder / "head.safetensors"
    head, labels = load_head(path)
    assert (head.in_channels, labels) == (CHANNELS, LABELS)
    decoding = DecodeSettings()
    found = detect_features(folder / "features.h5", head=path, decoding=decoding, device="cpu", progress=Quiet())
    assert len(found) == 10
    assert found["v0"] == read_detections(result.folder / "detections" / "features.json")["v0"]


def test_a_second_run_trains_nothing_and_a_changed_annotation_does(tmp_path):
    folder = made_up(tmp_path / "data", videos=4, steps=60)
    assert trained(folder, "train.head.epochs=1").stages == [("train-head (features)", DONE)]
    assert trained(folder, "train.head.epochs=1").stages == [("train-head (features)", UP_TO_DATE)]
    text = (folder / "annotations.json").read_text()
    (folder / "annotations.json").write_text(text.replace('"jump"', '"throw"'))
    assert trained(folder, "train.head.epochs=1").stages == [("train-head (features)", DONE)]


PYRAMID = "levels = 4\nhead_layers = 1\ndropout = 0.0\n"


@pytest.mark.parametrize("kind", ["tridet", "temporal-maxer", "tadtr", "bmn", "tags"])
def test_every_head_trains_on_features(kind, tmp_path):
    folder = made_up(tmp_path / "data", videos=3, steps=60)
    section = PYRAMID if kind in ("tridet", "temporal-maxer") else "window_steps = 32\n"
    text = RECIPE.replace(PYRAMID, f'kind = "{kind}"\n{section}').replace("epochs = 30", "epochs = 1")
    result = run(parse_recipe(text, name="mine"), base=folder, device="cpu", progress=Quiet())
    assert result.stages == [("train-head (features)", DONE)]
    assert [row.name for row in result.rows] == ["features"]


def test_annotated_videos_without_features_are_counted(tmp_path):
    folder = made_up(tmp_path / "data", videos=3, steps=60)
    text = (folder / "annotations.json").read_text()
    (folder / "annotations.json").write_text(text.replace('"v2"', '"w2"'))
    told = Quiet()
    trained(folder, "train.head.epochs=1", progress=told)
    assert "lacks 1 of 3 annotated videos, such as 'w2'" in told.warnings[0]
    (folder / "annotations.json").write_text(text.replace('"v', '"w'))
    with pytest.raises(StoreError, match="has no features of the videos"):
        trained(folder)


def test_features_of_another_width_are_refused(finished, tmp_path):
    _, result = finished
    (tmp_path / "npy").mkdir()
    np.save(tmp_path / "npy" / "v.npy", np.zeros((20, 5), np.float32))
    given = {"annotations": None, "stride_frames": 4, "clip_frames": 4, "fps": 20.0, "channels_first": False}
    import_features(tmp_path / "npy", tmp_path / "f.h5", progress=Quiet(), **given)
    with pytest.raises(WeightsError, match=r"reads 12 channels, but 'v' in .* has 5"):
        detect_features(
            tmp_path / "f.h5",
            head=result.folder / "head.safetensors",
            decoding=DecodeSettings(),
            device="cpu",
            progress=Quiet(),
        )


def test_a_source_of_features_stands_alone():
    more = '[[sources]]\nkind = "synth"\n'
    with pytest.raises(SettingsError, match="a source of features must be the only source"):
        parse_recipe(RECIPE + more, name="mine")
