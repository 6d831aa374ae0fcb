"""Teacher and student are trained on the flow and RGB halves of features; the detector reads the RGB half alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from toy_recipe import FEATURES_RECIPE as MADE_UP

from tadkit.checkpoint import load_checkpoint
from tadkit.config.loading import parse_recipe, recipe_toml
from tadkit.detection.detect_features import detect_features
from tadkit.errors import SettingsError, StoreError, WeightsError
from tadkit.evaluation.evaluate import evaluate
from tadkit.progress import Quiet
from tadkit.recipe.run import DONE, UP_TO_DATE, RunResult, run
from tadkit.recipe.workspace import open_workspace
from tadkit.records import read_dataset, read_detections
from tadkit.store import open_store, read_store

STORED = MADE_UP.replace(
    'kind = "made-up-features"\ntraining_videos = 4\ntest_videos = 2\n',
    'kind = "features"\nannotations = "annotations.json"\nfeatures = "features.h5"\nrgb = "0:32"\nflow = "32:64"\n',
)


NO_STREAMS = ("", "0-5", " 0:5", "0:5 ", "5", "0:", "a//b", "/a", "a/", "./a", "a/..", "a b")


def ran(folder: Path, *overrides: str, text: str = MADE_UP) -> RunResult:
    recipe = parse_recipe(text, name="mine", overrides=overrides)
    return run(recipe, base=folder, device="cpu", progress=Quiet())


def store_with(path: Path, source: Path, tracks: Mapping[str, slice]) -> Path:
    """A copy of the RGB and flow features of a store, with these channels of both in each track."""
    with read_store(source, kind="features") as old, open_store(path, kind="features", settings=old.settings) as new:
        for video in old.videos():
            known = {"key": old.key(video), "stamps_s": old.stamps_s(video), "attributes": old.attributes(video)}
            with new.video(video, **known) as entry:
                for track, channels in tracks.items():
                    entry.append(f"original/{track}", old.features(video)[:, channels])
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return ran(tmp_path_factory.mktemp("made-up"))


def test_the_stages_are_those_of_videos_but_for_flow_and_are_done_once(finished: RunResult) -> None:
    names = [name for name, _ in finished.stages]
    assert names[:2] == ["train-teacher", "teacher's features"]
    assert names[2:] == [
        f"{stage} ({row})" for row in ("decomposed", "rgb") for stage in ("distill", "extract-features", "train-head")
    ]
    assert {state for _, state in finished.stages} == {DONE}
    assert [row.name for row in finished.rows if ":" not in row.name] == ["teacher", "rgb", "decomposed"]
    again = ran(finished.folder.parents[1])
    assert {state for _, state in again.stages} == {UP_TO_DATE}
    assert again.rows == finished.rows


def test_evaluate_on_the_files_of_a_run_gives_the_table_of_the_run(tmp_path: Path) -> None:
    result = ran(tmp_path, 'labels=["box", "push"]', 'compare=["teacher"]', "sources.0.test_videos=8")
    (row,) = result.rows
    folder = result.folder / "detections"
    written = {
        a.label for video in read_dataset(folder / "annotations.json").videos.values() for a in video.annotations
    }
    assert written == {"box", "push"} == set(row.per_class)
    rules = {"protocol": "activitynet", "tiou": (0.3,), "subset": None}
    evaluation = evaluate(folder / "teacher.json", folder / "annotations.json", **rules)
    assert evaluation.precision.average_map == row.average_map
    assert evaluation.precision.average_pooled == row.average_pooled


def test_models_state_what_they_read(finished: RunResult) -> None:
    for kind in ("teacher", "detector"):
        path = finished.folder / f"{kind}{'-decomposed' if kind == 'detector' else ''}.safetensors"
        assert load_checkpoint(path, kind=kind).settings["features"] == {
            "rgb": "appearance",
            "flow": "motion",
            "rgb_channels": 32,
            "flow_channels": 32,
            "channels": 64,
        }


@pytest.mark.parametrize("row", ["decomposed", "rgb"])
def test_the_detector_finds_in_rgb_alone_what_the_run_found(finished: RunResult, row: str, tmp_path: Path) -> None:
    assert finished.features is not None
    expected = read_detections(finished.folder / "detections" / f"{row}.json")
    rgb = store_with(tmp_path / "rgb.h5", finished.features, {"appearance": slice(0, 32)})
    head = finished.folder / f"detector-{row}.safetensors"
    for store in (finished.features, rgb):
        found = detect_features(store, head=head, decoding={}, device="cpu", progress=Quiet())
        assert {video: list(found[video]) for video in expected} == expected
        assert len(found) == 6


def test_the_command_line_detects_in_features_with_the_detector_and_its_own_decoding(
    finished: RunResult, tmp_path: Path, tadkit
) -> None:
    assert finished.features is not None
    assert finished.detector is not None
    out, few = tmp_path / "dets.json", tmp_path / "few.json"
    assert tadkit("detect-features", finished.features, "--head", finished.detector, "--out", out).code == 0
    found = json.loads(out.read_text())
    expected = read_detections(finished.folder / "detections" / "decomposed.json")
    assert {video: read_detections(out)[video] for video in expected} == expected
    assert found["external_data"]["decode"] == load_checkpoint(finished.detector, kind="detector").settings["decode"]
    words = ("--head", finished.detector, "--out", few, "--set", "decode.keep=3")
    assert tadkit("detect-features", finished.features, *words).code == 0
    assert max(map(len, read_detections(few).values())) == 3


def test_other_features_and_videos_are_refused_in_one_line(finished: RunResult, tmp_path: Path, tadkit) -> None:
    assert finished.features is not None
    assert finished.detector is not None
    wrong = store_with(tmp_path / "wrong.h5", finished.features, {"appearance": slice(0, 30)})
    with pytest.raises(StoreError, match=r"has 30 channels, but .* reads 32 of RGB \(appearance\) of 64"):
        detect_features(wrong, head=finished.detector, decoding={}, device="cpu", progress=Quiet())
    flow = store_with(tmp_path / "flow.h5", finished.features, {"motion": slice(32, 64)})
    told = tadkit("detect-features", flow, "--head", finished.detector, "--out", tmp_path / "dets.json")
    assert told.code == StoreError.exit_code
    assert "(it has: original/motion); import RGB features with: tadkit import features" in told.err
    video = Path(__file__).parents[2] / "examples" / "room.mp4"
    for command in (("detect", video, "--model", finished.detector), ("extract-features", video, "--model")):
        words = command if command[0] == "detect" else (*command, finished.detector, "--out", tmp_path / "out.h5")
        told = tadkit(*words)
        assert told.code == WeightsError.exit_code
        assert "reads features, not videos" in told.err
        assert "tadkit detect-features" in told.err


@pytest.mark.parametrize("row", ["two-stream", "two-stream-late"])
def test_two_stream_rows_read_both_halves(row: str, tmp_path: Path) -> None:
    result = ran(tmp_path, f'compare=["{row}"]', "distill.method=rgb", f"streams={row}", 'labels=["push", "box"]')
    assert row in [found.name for found in result.rows]
    assert result.features is not None
    assert result.detector is not None
    expected = read_detections(result.folder / "detections" / f"{row}.json")
    found = detect_features(result.features, head=result.detector, decoding={}, device="cpu", progress=Quiet())
    for video, detections in expected.items():
        assert [d.label for d in found[video]] == [d.label for d in detections]
        np.testing.assert_allclose([d.score for d in found[video]], [d.score for d in detections], atol=1e-5)
    rgb = store_with(tmp_path / "rgb.h5", result.features, {"appearance": slice(0, 32)})
    with pytest.raises(StoreError, match="a two-stream detector, reads flow"):
        detect_features(rgb, head=result.detector, decoding={}, device="cpu", progress=Quiet())


def test_a_detector_of_videos_is_refused_for_features(finished: RunResult, tiny_model: Path) -> None:
    assert finished.features is not None
    with pytest.raises(WeightsError, match="reads videos, not features; use tadkit detect"):
        detect_features(finished.features, head=tiny_model, decoding={}, device="cpu", progress=Quiet())


def test_ranges_of_one_track_train_the_same_models_as_two_tracks(finished: RunResult, tmp_path: Path) -> None:
    assert finished.features is not None
    shutil.copy(finished.features.with_name("annotations.json"), tmp_path / "annotations.json")
    store_with(tmp_path / "features.h5", finished.features, {"appearance": slice(0, 64)})
    result = ran(tmp_path, 'compare=["decomposed"]', text=STORED)
    own, others = ({row.name: row.per_class for row in each.rows}["decomposed"] for each in (result, finished))
    assert own == others
    again = ran(tmp_path, 'compare=["decomposed"]', text=STORED)
    assert dict(again.stages) == {name: UP_TO_DATE for name, _ in result.stages}


@pytest.mark.slow
def test_groups_of_training_videos_choose_operating_points(tmp_path: Path) -> None:
    result = ran(tmp_path, 'compare=["rgb"]', "distill.method=rgb", "train.head.groups=2", "train.head.cross_fit=true")
    assert ("train-head (rgb, group 2 of 2)", DONE) in result.stages


@pytest.mark.slow
@pytest.mark.parametrize("head", ['kind = "tadtr"\nwindow_steps = 32', 'kind = "bmn"\nwindow_steps = 32'])
def test_heads_without_stored_predictions_are_distilled_from_features_too(head: str, tmp_path: Path) -> None:
    section = MADE_UP[MADE_UP.index("[head]") : MADE_UP.index("[train.teacher]")]
    text = MADE_UP.replace(section, f"[head]\n{head}\n")
    result = ran(tmp_path, 'compare=["decomposed"]', text=text)
    assert "decomposed" in [row.name for row in result.rows]


def test_videos_of_different_widths_are_refused(finished: RunResult, tmp_path: Path) -> None:
    assert finished.features is not None
    shutil.copy(finished.features.with_name("annotations.json"), tmp_path / "annotations.json")
    store_with(tmp_path / "features.h5", finished.features, {"appearance": slice(0, 40)})
    with pytest.raises(StoreError, match=r"has 40 channels, so there are no channels 32:64"):
        ran(tmp_path, text=STORED)
    known = {"key": "k", "stamps_s": np.arange(40.0), "attributes": {"duration_s": 40.0}}
    with (
        open_store(tmp_path / "features.h5", kind="features", settings={"imported": True}) as store,
        store.video("testing_00004", **known) as entry,
    ):
        entry.append("original/appearance", np.zeros((40, 64), np.float32))
    with pytest.raises(StoreError, match="has 40 channels and 'testing_00004' 64; import them together"):
        ran(tmp_path, "sources.0.flow='32:40'", text=STORED)


@pytest.mark.parametrize(("rgb", "flow"), [("0:33", "motion"), ("31:64", "appearance"), ("appearance", "0:64")])
def test_a_range_in_the_other_stream_s_track_is_refused(
    finished: RunResult, tmp_path: Path, rgb: str, flow: str, tadkit
) -> None:
    assert finished.features is not None
    shutil.copy(finished.features.with_name("annotations.json"), tmp_path / "annotations.json")
    store_with(tmp_path / "features.h5", finished.features, {"appearance": slice(0, 32), "motion": slice(32, 64)})
    (tmp_path / "mine.toml").write_text(STORED)
    told = tadkit("run", tmp_path / "mine.toml", "--set", f"sources.0.rgb='{rgb}'", "--set", f"sources.0.flow='{flow}'")
    assert told.code == SettingsError.exit_code
    assert f"rgb {rgb} and flow {flow} have channels in common" in told.err
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_range_beside_the_other_stream_s_track_is_accepted(finished: RunResult, tmp_path: Path) -> None:
    assert finished.features is not None
    shutil.copy(finished.features.with_name("annotations.json"), tmp_path / "annotations.json")
    store_with(tmp_path / "features.h5", finished.features, {"appearance": slice(0, 32), "motion": slice(32, 64)})
    recipe = parse_recipe(STORED, name="mine", overrides=["sources.0.flow=motion"])
    found = open_workspace(recipe, base=tmp_path, progress=Quiet()).recipe.features
    assert found is not None
    assert (found.rgb_channels, found.flow_channels, found.channels) == (32, 32, 64)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ('train.student.views=["mirror"]', "train.student.views needs videos, but the source has features"),
        ("train.student.colour_jitter=0.1", "train.student.colour_jitter needs videos"),
        ("train.student.colour_variants=2", "train.student.colour_variants needs videos"),
        ("flow.method=raft-small", "flow.method needs videos"),
        ("flow.method=temporal-gradient", "flow.method needs videos"),
        ("flow.stack=3", "flow.stack needs videos"),
        ("flow.preset=reference", "flow.preset needs videos"),
        ("video.rate_hz=5", "video.rate_hz needs videos"),
        ("backbone.kernel=4", "kernel 4 must be odd"),
        ("sources.0.flow='0:32'", "rgb and flow are both '0:32'"),
        ("sources.0.rgb='9:9'", r"sources\.0\.rgb: a range of channels must start before its end"),
        ("sources.0.flow='31:64'", "rgb 0:32 and flow 31:64 have channels in common"),
        *(
            (f"sources.0.rgb='{s}'", r"sources\.0\.rgb: must be a track, such as appearance, or a range")
            for s in NO_STREAMS
        ),
    ],
)
def test_settings_that_features_do_not_have_are_refused(override: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_recipe(STORED, name="mine", overrides=[override])


@pytest.mark.parametrize("flow", ["original/appearance", "appearance"])
@pytest.mark.parametrize("rgb", ["original/appearance", "appearance"])
def test_the_student_is_not_given_the_track_of_the_teacher(rgb: str, flow: str) -> None:
    with pytest.raises(SettingsError, match=r"^[^\n]*rgb and flow are both 'original/appearance'[^\n]*$"):
        parse_recipe(STORED, name="mine", overrides=[f"sources.0.rgb={rgb}", f"sources.0.flow={flow}"])


def test_defaults_of_settings_that_features_do_not_have_are_accepted() -> None:
    given = ["flow.method=tvl1", "video.rate_hz=10", "train.student.colour_variants=0"]
    recipe = parse_recipe(STORED, name="mine", overrides=given)
    assert recipe.model_dump() == parse_recipe(STORED, name="mine").model_dump()
    assert parse_recipe(recipe_toml(recipe), name="mine") == recipe


def test_a_backbone_of_videos_is_refused() -> None:
    text = STORED.replace("[backbone]\nwidth = 16", '[backbone]\nname = "tiny"\nstride = 1')
    with pytest.raises(SettingsError, match=r"backbone\.name 'tiny' reads videos, but the source has features"):
        parse_recipe(text, name="mine")


def test_rgb_and_flow_belong_together() -> None:
    with pytest.raises(SettingsError, match="rgb needs flow"):
        parse_recipe(STORED.replace('flow = "32:64"\n', ""), name="mine")


@pytest.mark.parametrize("source", ['kind = "synth"', 'kind = "features"\nannotations = "a.json"\nfeatures = "f.h5"'])
def test_the_encoder_needs_streams(source: str) -> None:
    text = f'name = "n"\nlabels = ["a"]\n[[sources]]\n{source}\n[backbone]\nname = "temporal-encoder"\n'
    with pytest.raises(
        SettingsError, match=r"reads features; it needs \[frozen\], or a source of features with rgb and flow"
    ):
        parse_recipe(text, name="mine", overrides=["teacher_backbone.stride=1"])


def test_the_section_that_a_run_fills_in_is_not_for_recipes(tmp_path: Path) -> None:
    given = "features={rgb='a', flow='b', rgb_channels=1, flow_channels=1, channels=2}"
    with pytest.raises(SettingsError, match="a run fills this section in"):
        ran(tmp_path, given)


@pytest.mark.parametrize("states_the_head", [True, False])
def test_in_one_stage_only_settings_of_the_head_that_were_given_are_unused(
    tmp_path: Path, states_the_head: bool
) -> None:
    head = "[train.head]\nepochs = 1\nwindow_s = 8.0\n"
    text = MADE_UP if states_the_head else MADE_UP.replace(head, "")
    recipe = parse_recipe(text, name="mine", overrides=["distill.joint=true"])
    workspace = open_workspace(recipe, base=tmp_path, progress=Quiet())
    assert workspace.leaves_train_head_unused == states_the_head
