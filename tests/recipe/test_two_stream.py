"""Two-stream rows: what they share with other rows, and that `tadkit detect` gives what the table was judged on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tadkit.checkpoint import load_checkpoint
from tadkit.config.loading import load_recipe
from tadkit.detection.detect import Detector, detections_in_video, load_detector
from tadkit.errors import SettingsError
from tadkit.extraction.extract_features import extract_features
from tadkit.models.detector import build_detector, build_teacher
from tadkit.models.fusion import LateHead
from tadkit.progress import Quiet
from tadkit.recipe.run import DONE, RunResult, run
from tadkit.recipe.workspace import Workspace, open_workspace
from tadkit.records import Detection, read_dataset, read_detections
from tadkit.store import read_store
from tadkit.video import open_sampled

RunToy = Callable[..., dict[str, str]]
ROWS = 'compare=["teacher","two-stream","two-stream-late","rgb","decomposed"]'
FLOW_ROWS = ("two-stream", "two-stream-late")


def redone(states: dict[str, str]) -> set[str]:
    return {name for name, state in states.items() if state == DONE}


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, undisturbed: Path) -> RunResult:
    """A run that adds both rows to a finished one; not to be changed."""
    import shutil

    folder = tmp_path_factory.mktemp("two-stream") / "toy"
    shutil.copytree(undisturbed.parent, folder)
    recipe = load_recipe(folder / undisturbed.name, overrides=(ROWS,))
    return run(recipe, base=folder, device="cpu", progress=Quiet())


def held_out(result: RunResult) -> list[Path]:
    names = read_dataset(result.folder / "detections" / "annotations.json").videos
    return [next(result.folder.parents[1].glob(f"data/videos/{name}.mp4")) for name in names]


def assert_same(found: list[Detection], expected: list[Detection]) -> None:
    assert len(found) > 5
    assert [d.label for d in found] == [d.label for d in expected]
    for one, other in zip(found, expected, strict=True):
        assert (one.start_s, one.end_s) == pytest.approx((other.start_s, other.end_s), abs=2e-3)
        assert one.score == pytest.approx(other.score, abs=2e-4)


def test_both_rows_share_the_teacher_and_the_students_of_other_rows(compared: RunResult) -> None:
    assert redone(dict(compared.stages)) == {f"train-head ({row})" for row in FLOW_ROWS}
    branches = ["decomposed", "decomposed: motion", "decomposed: appearance"]
    names = ["teacher", *FLOW_ROWS, "rgb", "rgb: appearance", *branches]
    assert [row.name for row in compared.rows] == names
    assert {path.stem for path in compared.folder.glob("detections/*.json")} == {
        *(name.replace(": ", "+") for name in names),
        "annotations",
    }


@pytest.mark.parametrize("row", FLOW_ROWS)
def test_detect_finds_in_a_video_what_the_table_was_judged_on(compared: RunResult, row: str) -> None:
    judged = read_detections(compared.folder / "detections" / f"{row}.json")
    detector = load_detector(compared.folder / f"detector-{row}.safetensors", device="cpu")
    for video in held_out(compared):
        found = detector.detect(video)
        assert_same(list(found), judged[video.stem])
        assert detector.origin["flow"]["method"] == "temporal-gradient"


@pytest.mark.parametrize("row", FLOW_ROWS)
def test_the_size_of_chunks_shows_nowhere(compared: RunResult, row: str) -> None:
    detector = load_detector(compared.folder / f"detector-{row}.safetensors", device="cpu")

    def found(core_frames: int) -> list[Detection]:
        with open_sampled(held_out(compared)[0], detector.video) as video:
            return detections_in_video(
                detector.net,
                video,
                name="v",
                decoding=detector.decoding,
                flow=detector.flow,
                core_frames=core_frames,
            )

    assert_same(found(2), found(1 << 20))


def test_late_averages_the_heads_of_the_teacher_and_of_the_rgb_row(compared: RunResult) -> None:
    def detector(row: str) -> Detector:
        return load_detector(compared.folder / f"detector-{row}.safetensors", device="cpu")

    late, rgb = detector("two-stream-late").net, detector("rgb").net
    teacher = build_teacher(load_checkpoint(compared.folder / "teacher.safetensors", kind="teacher"))[1]
    assert isinstance(late.joint.head, LateHead)
    for own, other in zip(late.joint.head.branches, (teacher.head, rgb.joint.head), strict=True):
        assert all(torch.equal(own.state_dict()[name], value) for name, value in other.state_dict().items())
        assert own.trained_steps == other.trained_steps == 16
    assert all(torch.equal(late.student.state_dict()[k], v) for k, v in rgb.student.state_dict().items())
    assert late.teacher is not None
    assert all(torch.equal(v, teacher.state_dict()[k]) for k, v in late.teacher.state_dict().items())


def test_every_row_has_its_paired_difference_to_rgb(compared: RunResult) -> None:
    rows = {row.name: row for row in compared.rows}
    assert rows["rgb"].difference is None
    for name in rows.keys() - {"rgb"}:
        difference = rows[name].difference
        assert difference is not None
        assert difference.baseline == "rgb"
        assert difference.average_map == pytest.approx(rows[name].average_map - rows["rgb"].average_map)
        assert difference.average_pooled == pytest.approx(rows[name].average_pooled - rows["rgb"].average_pooled)
        low, high = difference.map_interval
        assert low <= high
        assert difference.covers_zero == (low <= 0 <= high)
    reported = json.loads((compared.folder / "report.json").read_text())["rows"]
    assert {row["name"]: row["difference"] is None for row in reported} == {n: n == "rgb" for n in rows}


def test_the_table_says_which_differences_cover_zero(compared: RunResult, tadkit: Callable[..., Any]) -> None:
    ran = tadkit("run", compared.folder.parents[1] / "toy.toml", "--set", ROWS, "--device", "cpu")
    assert ran.code == 0
    lines = [line for line in ran.out.splitlines() if line.split()]
    assert any("mAP - rgb (95 %)" in line for line in lines)
    covers = sum(row.difference is not None and row.difference.covers_zero for row in compared.rows)
    assert ran.out.count("covers zero") == covers + (covers > 0)
    below, branch = (next(line for line in lines if line.split()[0] == name) for name in ("decomposed", "decomposed:"))
    assert branch.index("decomposed") == below.index("decomposed") + 2


@pytest.mark.slow
def test_a_new_teacher_or_rgb_head_makes_both_rows_anew(compared: RunResult, tmp_path: Path, run_toy: RunToy) -> None:
    import shutil

    shutil.copytree(compared.folder.parents[1], tmp_path / "toy")
    recipe = tmp_path / "toy" / "toy.toml"
    assert not redone(run_toy(recipe, ROWS))
    states = run_toy(recipe, ROWS, "train.head.epochs=1")
    assert redone(states) == {f"train-head ({row})" for row in (*FLOW_ROWS, "rgb", "decomposed")}
    (recipe.parent / "runs" / "toy" / "detector-rgb.safetensors").unlink()
    assert redone(run_toy(recipe, ROWS, "train.head.epochs=1")) == {"train-head (rgb)"}  # it is the same file again


def test_extracted_motion_is_what_the_run_stored_and_changes_of_its_flow_are_refused(
    compared: RunResult, tmp_path: Path
) -> None:
    model = compared.folder / "detector-two-stream.safetensors"
    videos = held_out(compared)
    extract_features(videos, tmp_path / "f.h5", model=model, device="cpu", progress=Quiet())
    with (
        read_store(tmp_path / "f.h5", kind="features") as store,
        read_store(compared.folder / "teacher.h5", kind="features") as teacher,
    ):
        for video in videos:
            stored = teacher.read(video.stem, "original/feature")
            np.testing.assert_array_equal(store.read(video.stem, "original/motion"), stored)
    with pytest.raises(SettingsError, match="--set flow: fixed when the model was trained"):
        load_detector(model, device="cpu", overrides={"flow": {"bound_px": 9.0}})


def opened(recipe: Path, *overrides: str) -> Workspace:
    return open_workspace(load_recipe(recipe, overrides=overrides), base=recipe.parent, progress=Quiet())


def test_late_trains_the_rgb_row_that_it_averages_even_if_that_is_not_compared(toy: Path) -> None:
    workspace = opened(toy, 'compare=["two-stream-late"]')
    assert workspace.detectors == ("decomposed", "rgb", "two-stream-late")
    assert workspace.rows == ("two-stream-late",)
    assert workspace.rgb_row("two-stream-late") == workspace.student_row("two-stream-late") == "rgb"
    own = opened(toy, 'streams="two-stream-late"', 'distill.method="rgb"', 'compare=["teacher"]')
    assert own.detectors == ("rgb", "two-stream-late")


def test_a_late_row_without_its_rgb_row_is_refused(toy: Path) -> None:
    late = ('variants.late.streams="two-stream-late"', 'variants.late.distill.method="rgb"')
    longer = "variants.late.train.head.epochs=9"
    assert opened(toy, 'compare=["late"]', *late).rgb_row("late") == "rgb"
    with pytest.raises(SettingsError, match="'late' averages the scores of an RGB detector with its settings"):
        opened(toy, 'compare=["late"]', *late, longer).rgb_row("late")
    rgb = ('variants.long.distill.method="rgb"', "variants.long.train.head.epochs=9")
    assert opened(toy, 'compare=["late","long"]', *late, longer, *rgb).rgb_row("late") == "long"


def test_groups_are_those_of_rows_that_read_rgb_and_views_of_the_head_reach_the_teacher(toy: Path) -> None:
    rows = 'compare=["two-stream","rgb"]'
    workspace = opened(toy, rows, 'distill.method="rgb"', "train.head.groups=2")
    assert workspace.detectors == ("rgb", "two-stream")
    assert len(workspace.groups_of("rgb")) == 2
    assert workspace.groups_of("two-stream") == ()
    flipped = opened(toy, rows, 'train.head.views=["original","flip"]', 'train.student.views=["mirror"]')
    assert flipped.student_views == ("original", "mirror")
    assert flipped.teacher_views == ("original", "mirror", "flip")


def test_views_that_only_heads_of_flow_read_do_not_train_students_again(finished: Path, run_toy: RunToy) -> None:
    flipped = ('variants.flipped.streams="two-stream"', 'variants.flipped.distill.method="rgb"')
    views = ('variants.flipped.train.head.views=["original","flip"]', "variants.flipped.train.head.epochs=1")
    states = run_toy(finished, 'compare=["rgb","flipped"]', *flipped, *views)
    again = {"teacher's features", "extract-features (rgb)", "train-head (rgb)", "train-head (flipped)"}
    assert redone(states) == again


@pytest.mark.slow
def test_a_recipe_whose_detector_reads_flow_hands_over_that_one(compared: RunResult) -> None:
    recipe = compared.folder.parents[1] / "toy.toml"
    overrides = ('streams="two-stream"', 'distill.method="rgb"', 'compare=["two-stream"]')
    result = run(load_recipe(recipe, overrides=overrides), base=recipe.parent, device="cpu", progress=Quiet())
    assert result.detector == compared.folder / "detector-two-stream.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tvl1", "opencv-dis"])
@pytest.mark.parametrize("code", ["int8", "float16"])
def test_detect_computes_the_flow_of_the_store(toy: Path, method: str, code: str) -> None:
    overrides = (f"flow.method={method}", f"flow.code={code}", "flow.stack=2", 'compare=["two-stream"]')
    result = run(load_recipe(toy, overrides=overrides), base=toy.parent, device="cpu", progress=Quiet())
    judged = read_detections(result.folder / "detections" / "two-stream.json")
    detector = load_detector(result.folder / "detector-two-stream.safetensors", device="cpu")
    for video in held_out(result):
        assert_same(list(detector.detect(video)), judged[video.stem])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tridet", "temporal-maxer", "tadtr", "bmn", "tags"])
def test_other_heads_go_through_both_rows(toy: Path, kind: str) -> None:
    from recipe.test_run_with_heads import HEADS

    text = toy.read_text()
    head = f'[head]\nkind = "{kind}"\ndim = 16\n{HEADS[kind]}\n[decode]\nmin_score = 0.0\n'
    toy.write_text(text[: text.index("[head]")] + head + text[text.index("[distill]") :])
    overrides = ('compare=["two-stream","two-stream-late"]', "train.teacher.window_s=12.8")
    result = run(load_recipe(toy, overrides=overrides), base=toy.parent, device="cpu", progress=Quiet())
    for row in result.rows:
        assert np.isfinite(row.average_map)
        judged = read_detections(result.folder / "detections" / f"{row.name}.json")
        detector = load_detector(result.folder / f"detector-{row.name}.safetensors", device="cpu")
        video = held_out(result)[0]
        assert_same(list(detector.detect(video)), judged[video.stem])
    late = build_detector(load_checkpoint(result.folder / "detector-two-stream-late.safetensors", kind="detector"))
    assert isinstance(late.joint.head, LateHead)
    teacher = load_checkpoint(result.folder / "teacher.safetensors", kind="teacher").trained_steps
    assert teacher == (16 if kind in ("tadtr", "bmn", "tags") else 32)  # those have windows of a fixed length
    assert [head.trained_steps for head in late.joint.head.branches] == [teacher, 16]
