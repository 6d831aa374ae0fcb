"""A head without classifier proposes; scores of whole videos from elsewhere name what it proposes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tadkit.checkpoint import load_checkpoint
from tadkit.config.loading import load_recipe
from tadkit.errors import AnnotationError, SettingsError
from tadkit.interop.import_features import import_features
from tadkit.models.head_file import load_head
from tadkit.progress import Quiet
from tadkit.recipe.run import RunResult, run
from tadkit.records import Annotation, Dataset, VideoRecord, read_detections, write_dataset

GOLDEN = Path(__file__).parents[1] / "models" / "heads" / "golden" / "opentad_bmn.npz"
SCORES = {"v": {"Archery": 0.9, "Diving": 0.2}, "w": {"Rafting": 0.6}}
TAKE_TWO = ("--set", "decode.video_labels=2")
EVERYTHING = ("--set", 'decode.method="none"', "--set", "decode.min_score=0.00001", "--set", "decode.keep=10000")


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with OpenTAD's BMN as it was saved, its config and the features of two videos of 64 s."""
    folder, numbers = tmp_path_factory.mktemp("bmn"), dict(np.load(GOLDEN))
    (folder / "npy").mkdir()
    for name, shift in (("v", 0), ("w", 5)):
        np.save(folder / "npy" / f"{name}.npy", np.roll(numbers["feats_T32"].T, shift, axis=0))
    given: dict[str, Any] = {"annotations": None, "stride_frames": 4, "clip_frames": 4, "fps": 2.0}
    import_features(folder / "npy", folder / "f.h5", channels_first=False, progress=Quiet(), **given)
    weights = {name[7:]: torch.from_numpy(x) for name, x in numbers.items() if name.startswith("weight/")}
    torch.save({"state_dict": weights}, folder / "epoch.pth")
    config = {"roi_head": {"proposal_generator": {"tscale": 32, "dscale": 32}}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vs.json").write_text(json.dumps(SCORES))
    return folder


def imported_head(tadkit, folder: Path, *more: str | Path) -> Path:
    out, config = folder / "head.safetensors", folder / "config.json"
    call = ("import", "head", "--from", "opentad", folder / "epoch.pth", "--config", config, "--out", out)
    ran = tadkit(*call, *more)
    assert ran.code == 0, ran.err
    return out


def test_proposals_of_an_imported_head_are_named_written_and_judged(tadkit, imported):
    head, out = imported_head(tadkit, imported), imported / "dets.json"
    naming = ("--video-scores", imported / "vs.json", *TAKE_TWO)
    call = ("detect-features", imported / "f.h5", "--head", head, "--out", out)
    assert tadkit(*call).code == 0
    alone = read_detections(out)
    assert {found.label for found in alone["v"]} == {"action"}
    ran = tadkit(*call, *naming, *EVERYTHING)
    assert ran.code == 0, ran.err
    named = read_detections(out)
    assert {name: {found.label for found in named[name]} for name in named} == {
        "v": {"Archery", "Diving"},
        "w": {"Rafting"},
    }
    best = {label: next(found for found in named["v"] if found.label == label) for label in ("Archery", "Diving")}
    assert best["Archery"].score / best["Diving"].score == pytest.approx(0.9 / 0.2)
    top = {name: found[0] for name, found in named.items()}
    truth = {
        name: VideoRecord(name, 64.0, "validation", (Annotation(of.start_s, of.end_s, of.label),))
        for name, of in top.items()
    }
    write_dataset(imported / "truth.json", Dataset(truth))
    ran = tadkit("evaluate", out, imported / "truth.json", "--json")
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["average_map"] == pytest.approx(1.0)


def test_a_list_of_classes_is_refused_with_the_way_out_and_one_name_taken(tadkit, imported):
    config, out, names = imported / "config.json", imported / "listed.safetensors", imported / "labels.txt"
    call = ("import", "head", "--from", "opentad", imported / "epoch.pth", "--config", config, "--out", out)
    names.write_text("Archery\nDiving\n")
    ran = tadkit(*call, "--labels", names)
    assert ran.code == 2
    assert "2 different classes; the head has 1 and no classifier; leave out --labels: --video-scores" in ran.err
    names.write_text("event\n")
    assert tadkit(*call, "--labels", names).code == 0
    assert load_head(out)[1] == ("event",)


def test_scores_with_other_names_need_to_be_taken(tadkit, imported):
    head, out = imported_head(tadkit, imported), imported / "none.json"
    scores = ("--video-scores", imported / "vs.json")
    ran = tadkit("detect-features", imported / "f.h5", "--head", head, "--out", out, *scores)
    assert ran.code == 6
    assert "the model is class-agnostic" in ran.err
    assert "--set decode.video_labels=2" in ran.err
    assert not out.exists()


RECIPE = """
name = "proposals"
labels = ["jump", "throw"]
[[sources]]
kind = "features"
annotations = "annotations.json"
features = "features.h5"
[split]
kind = "subset"
held_out = ["testing"]
[head]
kind = "bmn"
dim = 32
map_dim = 8
roi_dim = 8
durations = 16
window_steps = 32
classifier = false
[train.head]
epochs = 3
lr = 2e-3
[decode]
min_score = 0.0
[evaluation]
tiou = [0.5]
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a recipe, features of four videos, in each of which one class lifts all channels, and annotations."""
    folder, rng, records = tmp_path_factory.mktemp("data"), np.random.default_rng(0), {}
    (folder / "npy").mkdir()
    scores: dict[str, dict[str, float]] = {}
    for number in range(4):
        name, label, values = f"v{number}", ("jump", "throw")[number % 2], rng.normal(0, 0.3, (60, 6))
        for first in (8, 34):
            values[first : first + 10] += 2.0
        np.save(folder / "npy" / f"{name}.npy", values.astype(np.float32))
        actions = tuple(Annotation(first * 0.5, first * 0.5 + 5, label) for first in (8, 34))
        records[name] = VideoRecord(name, 30.0, "testing" if number > 1 else "training", actions)
        scores[name] = {label: 0.8, "swim": 0.1}
    write_dataset(folder / "annotations.json", Dataset(records))
    given: dict[str, Any] = {"annotations": None, "stride_frames": 4, "clip_frames": 4, "fps": 8.0}
    import_features(folder / "npy", folder / "features.h5", channels_first=False, progress=Quiet(), **given)
    (folder / "scores").mkdir()
    (folder / "scores" / "vs.json").write_text(json.dumps(scores))
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def trained(folder: Path, *overrides: str) -> RunResult:
    recipe = load_recipe(folder / "recipe.toml", overrides=overrides)
    return run(recipe, base=folder, device="cpu", progress=Quiet())


def test_a_head_without_classifier_trains_on_any_number_of_labels_and_is_judged_as_proposing(data):
    result = trained(data)
    head, labels = load_head(result.folder / "head.safetensors")
    assert (head.num_classes, labels) == (1, ("action",))
    found = read_detections(result.folder / "detections" / "features.json")
    assert {each.label for video in found.values() for each in video} == {"action"}
    (row,) = result.rows
    assert set(row.per_class) == {"action"}
    assert 0 < row.average_map == row.average_pooled


def test_a_single_label_stays_the_heads_own(data):
    result = trained(data, 'name="one"', 'labels=["throw"]', "train.head.epochs=1")
    assert load_head(result.folder / "head.safetensors")[1] == ("throw",)
    assert set(result.rows[0].per_class) == {"throw"}


@pytest.mark.parametrize("path", ["scores/vs.json", "${TADKIT_SCORES}/vs.json"])
def test_scores_that_a_recipe_names_lie_beside_it_and_name_what_is_judged(path, data, tadkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TADKIT_SCORES", os.fspath(data / "scores"))
    result = trained(data, f'video_scores="{path}"', "decode.video_labels=1")
    path = result.folder / "detections" / "features.json"
    labels = {name: {each.label for each in found} for name, found in read_detections(path).items()}
    assert labels == {"v2": {"jump"}, "v3": {"throw"}}
    (row,) = result.rows
    assert set(row.per_class) == {"jump", "throw"}
    ran = tadkit("evaluate", path, data / "annotations.json", "--subset", "testing", "--tiou", "0.5", "--json")
    assert json.loads(ran.out)["average_map"] == pytest.approx(row.average_map)
    assert row.average_map > 0


def test_teacher_and_detector_without_classifier_go_through_all_stages(toy, tadkit):
    text = toy.read_text().replace('"teacher", "rgb", "decomposed"', '"teacher", "decomposed"')
    before, after = text.index("[head]"), text.index("[distill]")
    head = RECIPE[RECIPE.index("[head]") : RECIPE.index("[train.head]")].replace("dim = 32", "dim = 16", 1)
    decoding = "[decode]\nmin_score = 0.0\nvideo_labels = 1\n"
    text, added = 'video_scores = "vs.json"\n' + text, len('video_scores = "vs.json"\n')
    before, after = before + added, after + added
    toy.write_text(text[:before] + head + decoding + text[after:].replace("epochs = 2", "epochs = 1"))
    videos = sorted(path.stem for path in (toy.parent / "data" / "videos").glob("*.mp4"))
    (toy.parent / "vs.json").write_text(json.dumps({name: {"slide": 0.5, "rest": 0.4} for name in videos}))
    result = run(load_recipe(toy), base=toy.parent, device="cpu", progress=Quiet())
    for row in ("teacher", "decomposed"):
        found = read_detections(result.folder / "detections" / f"{row}.json")
        assert {each.label for video in found.values() for each in video} == {"slide"}
    path, out = result.folder / "detector-decomposed.safetensors", toy.parent / "dets.json"
    assert "video_scores" not in str(load_checkpoint(path, kind="detector").settings)
    video = toy.parent / "data" / "videos" / f"{videos[0]}.mp4"
    call = ("detect", video, "--model", path, "--out", out)
    assert tadkit(*call).code == 0
    assert {each.label for each in read_detections(out)[videos[0]]} == {"action"}
    assert tadkit(*call, "--video-scores", toy.parent / "vs.json").code == 0
    assert {each.label for each in read_detections(out)[videos[0]]} == {"slide"}


def test_scores_that_are_not_there_are_told_before_anything_is_trained(data, monkeypatch):
    monkeypatch.delenv("TADKIT_SCORES", raising=False)
    with pytest.raises(AnnotationError, match=r"nowhere.json: no such file; video_scores"):
        trained(data, 'name="early"', 'video_scores="nowhere.json"')
    with pytest.raises(SettingsError, match="environment variable TADKIT_SCORES is not set"):
        trained(data, 'name="early"', 'video_scores="${TADKIT_SCORES}/vs.json"')
    assert not (data / "runs" / "early" / "head.safetensors").exists()
