"""One recipe goes from videos to the table through frozen features; what needs frames or flow is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock
from pydantic import ValidationError
from toy_recipe import NETS_OF_FEATURES, ONE_EPOCH

from tadkit.config import FeatureStreams, FrozenSettings, ModelSettings, Recipe
from tadkit.config.loading import parse_recipe
from tadkit.detection.detect_features import detect_features
from tadkit.errors import SettingsError, StoreError, UsageError, WeightsError
from tadkit.extraction.extract_features import extract_features
from tadkit.models.detector import refuse_features
from tadkit.progress import Quiet
from tadkit.recipe.run import DONE, UP_TO_DATE, run
from tadkit.recipe.workspace import open_workspace

SYNTH = """
[[sources]]
kind = "synth"
count = 3
duration_s = 12
looks = 2
fps = 5.0
height_px = 48
width_px = 64
"""
RECIPE = f"""
name = "frozen"
labels = ["walk", "sitdown", "standup"]
compare = ["decomposed", "labelled"]
{SYNTH}
{SYNTH.replace("looks = 2", "labelled = false").replace("count = 3", "count = 2")}
seed = 40
{SYNTH.replace("looks = 2", 'subset = "testing"').replace("count = 3", "count = 2")}
seed = 82

[video]
rate_hz = 5.0
height_px = 32
width_px = 32

[flow]
method = "opencv-dis"
stack = 2

[frozen]
grid = 1
motion_grid = 2

[variants.labelled]
train.student.unlabelled_windows = 0
{NETS_OF_FEATURES}
{ONE_EPOCH}
"""


def ran(folder: Path, *overrides: str):
    return run(parse_recipe(RECIPE, name="frozen", overrides=overrides), base=folder, device="cpu", progress=Quiet())


def test_from_videos_to_the_table_and_to_a_new_video_and_a_second_run_does_nothing(tmp_path: Path) -> None:
    first = ran(tmp_path)
    assert {outcome for _, outcome in first.stages} == {DONE}
    assert next(row.name for row in first.rows) == "decomposed"
    assert {outcome for _, outcome in ran(tmp_path).stages} == {UP_TO_DATE}
    folder = tmp_path / "runs" / "frozen"
    model, video = folder / "detector-decomposed.safetensors", next((folder / "data" / "0-synth" / "videos").iterdir())
    out = tmp_path / "new.h5"
    assert not extract_features([video], out, model=model, device="cpu", progress=Quiet()).failed
    stored, again = (
        detect_features(path, head=model, decoding={}, device="cpu", progress=Quiet())
        for path in (folder / "frozen.h5", out)
    )
    assert list(stored[video.stem]) == list(again[video.stem])


def test_a_variant_without_windows_is_trained_on_labelled_videos_alone(tmp_path: Path) -> None:
    workspace = open_workspace(parse_recipe(RECIPE, name="x"), base=tmp_path, progress=Quiet())
    assert [item.name for item in workspace.unlabelled] == ["synth_above_000040", "synth_side_000041"]
    assert len(workspace.unlabelled_of("decomposed")) == 2
    assert workspace.unlabelled_of("labelled") == ()


def test_frozen_features_are_computed_on_the_device_that_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        run(parse_recipe(RECIPE, name="frozen"), base=tmp_path, device="nowhere", progress=Quiet())
    assert not (tmp_path / "runs" / "frozen" / "frozen.h5").exists()


def test_two_runs_do_not_fill_one_store_of_frozen_features(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "frozen"
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"), pytest.raises(StoreError, match="another run is using this folder"):
        ran(tmp_path)
    assert not (folder / "flow.h5").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ('flow={method="temporal-gradient"}', "frozen needs flow"),
        ('train.student.views=["mirror"]', r"train\.student\.views needs videos, but \[frozen\] has features"),
        ('sources=[{kind="made-up-features"}]', "frozen needs videos"),
        ("frozen.grid=0", r"frozen\.grid"),
        ('sources.1.subset="more"', "subset must be left out"),
    ],
)
def test_what_does_not_go_with_frozen_features_is_refused_in_one_line(override: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_recipe(RECIPE, name="x", overrides=[override])


def test_backbones_that_read_frames_are_refused() -> None:
    given = {"name": "x", "labels": ["a"], "sources": [{"kind": "synth"}], "frozen": {}}
    with pytest.raises(ValidationError, match=r"backbone\.name 'tiny' reads videos, but \[frozen\] has features"):
        Recipe.model_validate(given | {"backbone": {"name": "tiny"}})
    assert Recipe.model_validate(given).backbone.name == "temporal-encoder"


def test_a_detector_of_frozen_features_says_how_to_use_it(tmp_path: Path) -> None:
    streams = FeatureStreams(rgb="appearance", flow="motion", rgb_channels=1, flow_channels=1, channels=2)
    settings = ModelSettings(features=streams, frozen=FrozenSettings())
    with pytest.raises(WeightsError, match="tadkit extract-features VIDEOS --model"):
        refuse_features(settings, path=tmp_path / "m.safetensors")
