"""A recipe goes through all stages once, and again only through those whose inputs have changed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tadkit import load_detector
from tadkit.checkpoint import load_checkpoint
from tadkit.config.loading import load_recipe
from tadkit.errors import StoreError, TadkitError, UsageError, WeightsError
from tadkit.files import digest_of_file
from tadkit.progress import Quiet
from tadkit.recipe.run import DONE, UP_TO_DATE, RunResult, run
from tadkit.records import Annotation, Dataset, VideoRecord, read_dataset, read_detections, write_dataset
from tadkit.store import read_store

FLOW_AND_TEACHER = ("extract-flow", "train-teacher", "teacher's features")
RunToy = Callable[..., dict[str, str]]


def stages_of(*methods: str) -> list[str]:
    return [
        *FLOW_AND_TEACHER,
        *(f"{stage} ({m})" for m in methods for stage in ("distill", "extract-features", "train-head")),
    ]


def redone(states: dict[str, str]) -> set[str]:
    return {name for name, state in states.items() if state == DONE}


def test_a_recipe_goes_through_all_stages_and_then_through_none(first_run: RunResult, undisturbed: Path) -> None:
    recipe, first = load_recipe(undisturbed), first_run
    assert first.stages == [(name, DONE) for name in stages_of("decomposed", "rgb")]
    branches = ["decomposed", "decomposed: motion", "decomposed: appearance"]
    names = ["teacher", "rgb", "rgb: appearance", *branches]
    assert [row.name for row in first.rows] == names
    for row in first.rows:
        assert list(row.map) == list(row.pooled) == list(recipe.evaluation.tiou)
        assert row.average_map == pytest.approx(sum(row.map.values()) / len(row.map))
        assert row.map_interval[0] - 1e-9 <= row.average_map <= row.map_interval[1] + 1e-9
        assert row.pooled_interval[0] <= row.pooled_interval[1]
        assert set(row.per_class) == {"slide", "rest"}
        assert 0 <= row.average_pooled <= 1
    again = run(recipe, base=undisturbed.parent, device="cpu", progress=Quiet())
    assert again.stages == [(name, UP_TO_DATE) for name in stages_of("decomposed", "rgb")]
    assert again.rows == first.rows
    assert [row["name"] for row in json.loads((first.folder / "report.json").read_text())["rows"]] == names


def test_models_state_the_windows_that_they_were_trained_on(undisturbed: Path) -> None:
    folder = undisturbed.parent / "runs" / "toy"
    for kind, name in (("teacher", "teacher"), ("student", "student-rgb"), ("detector", "detector-decomposed")):
        assert load_checkpoint(folder / f"{name}.safetensors", kind=kind).trained_steps == 16  # 6.4 s of 5 Hz, stride 2


def test_detections_are_written_for_the_held_out_videos_alone(undisturbed: Path) -> None:
    folder = undisturbed.parent / "runs" / "toy"
    detector = load_checkpoint(folder / "detector-decomposed.safetensors", kind="detector")
    held_out, training = (set(detector.provenance[part]) for part in ("held_out_videos", "training_videos"))
    assert held_out
    assert training
    assert not held_out & training
    for row in ("teacher", "rgb", "decomposed"):
        assert set(read_detections(folder / "detections" / f"{row}.json")) == held_out
    assert set(read_dataset(folder / "detections" / "annotations.json").videos) == held_out


def test_a_setting_of_train_head_redoes_that_stage_alone(finished: Path, run_toy: RunToy) -> None:
    states = run_toy(finished, "train.head.epochs=1")
    assert redone(states) == {"train-head (decomposed)", "train-head (rgb)"}


def test_flow_settings_redo_all_that_hears_flow(finished: Path, run_toy: RunToy) -> None:
    states = run_toy(finished, "flow.bound_px=100.0", 'compare=["teacher"]')
    assert redone(states) == set(stages_of("decomposed"))


def test_other_decoding_is_that_of_the_detector_file_too_and_trains_nothing(finished: Path, run_toy: RunToy) -> None:
    folder = finished.parent / "runs" / "toy"
    before = load_checkpoint(folder / "detector-rgb.safetensors", kind="detector")
    assert not redone(run_toy(finished, "decode.keep=3", "decode.min_score=0.02"))
    after = load_checkpoint(folder / "detector-rgb.safetensors", kind="detector")
    assert (after.settings["decode"]["keep"], after.settings["decode"]["min_score"]) == (3, 0.02)
    assert {**after.settings, "decode": before.settings["decode"]} == before.settings
    assert all(bool((after.tensors[name] == value).all()) for name, value in before.tensors.items())
    for video, judged in read_detections(folder / "detections" / "rgb.json").items():
        found = load_detector(folder / "detector-rgb.safetensors").detect(
            finished.parent / "data" / "videos" / f"{video}.mp4"
        )
        assert [(one.label, one.start_s) for one in found] == [(one.label, one.start_s) for one in judged]


def test_a_row_that_differs_in_its_fusion_shares_the_student(finished: Path, run_toy: RunToy) -> None:
    rows = 'compare=["teacher","rgb","decomposed","no-fusion"]'
    changed = ("variants.no-fusion.fusion.kind=concat", "variants.no-fusion.train.head.epochs=1")
    assert redone(run_toy(finished, rows, *changed)) == {"train-head (no-fusion)"}
    folder = finished.parent / "runs" / "toy"
    model = load_checkpoint(folder / "detector-no-fusion.safetensors", kind="detector")
    assert model.settings["fusion"]["kind"] == "concat"
    report = json.loads((folder / "report.json").read_text())
    branches = ["decomposed: motion", "decomposed: appearance"]  # of the student that no-fusion has, too
    assert [row["name"] for row in report["rows"]] == [
        "teacher",
        "rgb",
        "rgb: appearance",
        "decomposed",
        *branches,
        "no-fusion",
    ]
    assert not redone(run_toy(finished, rows, *changed))


def test_a_row_that_is_trained_otherwise_has_a_student_of_its_own(finished: Path, run_toy: RunToy) -> None:
    rows = 'compare=["decomposed","no-features"]'
    states = run_toy(finished, rows, "variants.no-features.distill.feature_weight=0", only="distill")
    assert states == {"distill (decomposed)": UP_TO_DATE, "distill (no-features)": DONE}


@pytest.mark.slow
def test_stacks_of_flow_redo_all_but_the_flow(finished: Path, run_toy: RunToy) -> None:
    overrides = ("flow.stack=4", "train.teacher.flow_jitter=0.2", 'compare=["teacher", "decomposed"]')
    assert redone(run_toy(finished, *overrides)) == set(stages_of("decomposed")) - {"extract-flow"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["self-gating", "global-gating", "cross-attention", "concat", "sum", "late"])
def test_every_fusion_trains_in_two_stages_and_in_one(finished: Path, run_toy: RunToy, kind: str) -> None:
    overrides = (f"fusion.kind={kind}", 'compare=["decomposed"]')
    folder = finished.parent / "runs" / "toy"
    assert redone(run_toy(finished, *overrides)) == {"train-head (decomposed)"}
    model = load_checkpoint(folder / "detector-decomposed.safetensors", kind="detector")
    assert model.settings["fusion"]["kind"] == kind
    assert any(read_detections(folder / "detections" / "decomposed.json").values())
    joint = (*overrides, "distill.joint=true", "train.student.epochs=1")
    assert redone(run_toy(finished, *joint)) == set(stages_of("decomposed")) - set(FLOW_AND_TEACHER)
    assert any(read_detections(folder / "detections" / "decomposed.json").values())


def test_the_detector_that_a_run_names_is_there_whatever_it_compares(finished: Path) -> None:
    recipe = load_recipe(finished, overrides=('compare=["teacher"]',))
    result = run(recipe, base=finished.parent, device="cpu", progress=Quiet())
    assert [row.name for row in result.rows] == ["teacher"]
    assert result.detector == result.folder / "detector-decomposed.safetensors"
    assert result.detector.is_file()


def test_speed_and_decoding_settings_redo_nothing(finished: Path, run_toy: RunToy) -> None:
    states = run_toy(
        finished,
        "decode.keep=5",
        "train.head.checkpoint_s=9",
        "train.teacher.log_every=3",
        "train.student.cache_mb=0",
        "video.reader=pyav",
    )
    assert redone(states) == set()


def test_validation_redoes_a_stage_whose_checkpoint_says_which_weights_it_holds(
    finished: Path, run_toy: RunToy
) -> None:
    path = finished.parent / "runs" / "toy" / "detector-decomposed.safetensors"
    assert load_checkpoint(path, kind="detector").provenance["trained"] == {"weights": "last", "step": 8}
    states = run_toy(finished, "train.head.validate_every=1")
    assert redone(states) == {"train-head (decomposed)", "train-head (rgb)"}
    trained = load_checkpoint(path, kind="detector").provenance["trained"]
    assert trained["weights"] == "best"
    assert trained["validation_loss"] > 0
    assert (path.parent / "stages" / "train-head-decomposed" / "best.safetensors").exists()


def test_views_of_the_head_redo_features_and_head(finished: Path, run_toy: RunToy) -> None:
    states = run_toy(finished, 'train.head.views=["original", "flip"]')
    assert redone(states) == {f"{s} ({m})" for s in ("extract-features", "train-head") for m in ("decomposed", "rgb")}


def changed_annotations(recipe: Path, *, of: str) -> None:
    path = recipe.parent / "data" / "annotations.json"
    videos = dict(read_dataset(path).videos)
    record = videos[of]
    videos[of] = VideoRecord(record.name, record.duration_s, record.subset, (Annotation(0.2, 1.2, "slide"),))
    write_dataset(path, Dataset(videos))


def parts_of(recipe: Path) -> tuple[list[str], list[str]]:
    checkpoint = load_checkpoint(recipe.parent / "runs/toy/teacher.safetensors", kind="teacher")
    return checkpoint.provenance["training_videos"], checkpoint.provenance["held_out_videos"]


def test_an_annotation_of_a_training_video_redoes_training_but_not_flow(finished: Path, run_toy: RunToy) -> None:
    changed_annotations(finished, of=parts_of(finished)[0][0])
    states = run_toy(finished, 'compare=["teacher"]')
    assert redone(states) == set(stages_of("decomposed")) - {"extract-flow"}


def test_an_annotation_of_a_held_out_video_redoes_no_stage(finished: Path, run_toy: RunToy) -> None:
    changed_annotations(finished, of=parts_of(finished)[1][0])
    assert redone(run_toy(finished)) == set()


def test_new_bytes_of_a_held_out_video_are_extracted_and_train_nothing(
    finished: Path, run_toy: RunToy, write_squares: Callable[..., Path]
) -> None:
    name = parts_of(finished)[1][0]
    write_squares(finished.parent / "data" / "videos" / f"{name}.mp4", 80, seed=99)
    assert redone(run_toy(finished)) == {
        "extract-flow",
        "teacher's features",
        "extract-features (decomposed)",
        "extract-features (rgb)",
    }


def test_held_out_videos_leave_no_trace_in_the_weights(undisturbed: Path, tmp_path: Path, run_toy: RunToy) -> None:
    training, held_out = parts_of(undisturbed)
    shutil.copytree(undisturbed.parent / "data", tmp_path / "data")
    dataset = read_dataset(tmp_path / "data" / "annotations.json").videos
    for name in held_out:
        (tmp_path / "data" / "videos" / f"{name}.mp4").unlink()
    write_dataset(tmp_path / "data" / "annotations.json", Dataset({name: dataset[name] for name in training}))
    recipe = tmp_path / "toy.toml"
    shutil.copy(undisturbed, recipe)
    run_toy(recipe, "split.kind=all", 'compare=["teacher"]')
    assert not (tmp_path / "runs" / "toy" / "report.json").exists(), "nothing is held out, so there is no table"
    for kind, name in (("teacher", "teacher"), ("student", "student-decomposed"), ("detector", "detector-decomposed")):
        with_them, without = (
            load_checkpoint(base / f"runs/toy/{name}.safetensors", kind=kind)  # type: ignore[arg-type]
            for base in (undisturbed.parent, tmp_path)
        )
        assert with_them.tensors.keys() == without.tensors.keys()
        assert all(value.equal(without.tensors[at]) for at, value in with_them.tensors.items()), name


def test_the_detector_finds_the_same_on_the_video_as_from_its_stored_features(undisturbed: Path) -> None:
    from tadkit.detection.detect import load_detector

    held_out = parts_of(undisturbed)[1]
    folder = undisturbed.parent / "runs" / "toy"
    videos = [undisturbed.parent / "data" / "videos" / f"{name}.mp4" for name in held_out]
    model = folder / "detector-decomposed.safetensors"
    live = load_detector(model, device="cpu").detect(videos)
    stored = read_detections(folder / "detections" / "decomposed.json")
    assert live.keys() == stored.keys()
    assert any(stored.values())
    for name in stored:
        assert [d.label for d in live[name]] == [d.label for d in stored[name]]
        for a, b in zip(live[name], stored[name], strict=True):
            assert (a.start_s, a.end_s, a.score) == pytest.approx((b.start_s, b.end_s, b.score), abs=1e-4)


def test_stages_one_by_one_make_what_one_run_makes(toy: Path, undisturbed: Path, run_toy: RunToy) -> None:
    compare = 'compare=["teacher"]'
    assert run_toy(toy, compare, only="extract-flow") == {"extract-flow": DONE}
    assert run_toy(toy, compare, only="train-teacher") == {"train-teacher": DONE}
    assert run_toy(toy, compare, only="extract-flow") == {"extract-flow": UP_TO_DATE, "teacher's features": DONE}
    for stage in ("distill", "extract-features", "train-head"):
        assert run_toy(toy, compare, only=stage) == {f"{stage} (decomposed)": DONE}
    one_by_one, at_once = (
        load_checkpoint(path.parent / "runs/toy/detector-decomposed.safetensors", kind="detector").tensors
        for path in (toy, undisturbed)
    )
    assert all(value.equal(at_once[name]) for name, value in one_by_one.items())


@pytest.mark.parametrize(
    ("stage", "gone", "error", "advice"),
    [
        ("train-teacher", "flow.h5", StoreError, "no flow yet; run tadkit extract-flow RECIPE first"),
        ("distill", "teacher.safetensors", WeightsError, "no teacher yet; run tadkit train-teacher RECIPE first"),
        ("distill", "teacher.h5", StoreError, "no features of the teacher yet; run tadkit extract-flow RECIPE first"),
        (
            "extract-features",
            "student-decomposed.safetensors",
            WeightsError,
            "no student (decomposed) yet; run tadkit distill RECIPE first",
        ),
        (
            "train-head",
            "student-decomposed.safetensors",
            WeightsError,
            "no student (decomposed) yet; run tadkit distill RECIPE first",
        ),
        (
            "train-head",
            "features-decomposed.h5",
            StoreError,
            "no features (decomposed) yet; run tadkit extract-features RECIPE first",
        ),
    ],
)
def test_a_stage_whose_input_is_missing_names_the_command_to_run_first(
    finished: Path, run_toy: RunToy, stage: str, gone: str, error: type[TadkitError], advice: str
) -> None:
    path = finished.parent / "runs" / "toy" / gone
    path.unlink()
    with pytest.raises(error) as raised:
        run_toy(finished, only=stage)
    assert str(raised.value) == f"{path}: {advice}"


@pytest.mark.parametrize(
    ("stage", "override", "command"),
    [
        ("train-teacher", "flow.bound_px=100.0", "extract-flow"),
        ("distill", "train.teacher.epochs=1", "train-teacher"),
        ("distill", "train.student.views=['flip']", "extract-flow"),
        ("extract-features", "train.student.epochs=1", "distill"),
        ("train-head", "train.student.epochs=1", "distill"),
        ("train-head", "train.head.views=['flip']", "extract-features"),
    ],
)
def test_a_stage_whose_input_is_stale_names_the_command_to_run_first(
    finished: Path, run_toy: RunToy, stage: str, override: str, command: str
) -> None:
    with pytest.raises((StoreError, WeightsError), match=f"run tadkit {command} RECIPE first"):
        run_toy(finished, override, only=stage)


def test_flow_of_other_settings_is_never_read_by_an_old_teacher(finished: Path, run_toy: RunToy) -> None:
    before = finished.parent / "runs" / "toy" / "teacher.h5"
    with read_store(before, kind="features") as tracks:
        keys = [tracks.key(video) for video in tracks.videos()]
    assert run_toy(finished, "flow.bound_px=100.0", only="extract-flow") == {"extract-flow": DONE}
    with read_store(before, kind="features") as tracks:
        assert [tracks.key(video) for video in tracks.videos()] == keys


def test_an_unknown_stage_is_refused_with_those_that_exist(toy: Path, run_toy: RunToy) -> None:
    with pytest.raises(UsageError, match="no stage 'train'; choose one of extract-flow, train-teacher, distill"):
        run_toy(toy, only="train")


def test_the_one_stage_form_hands_its_joint_head_on(toy: Path, run_toy: RunToy) -> None:
    overrides = ("distill.joint=true", 'compare=["teacher"]')
    run_toy(toy, *overrides)
    folder = toy.parent / "runs" / "toy"
    joint = load_checkpoint(folder / "joint-head-decomposed.safetensors", kind="joint-head").tensors
    detector = load_checkpoint(folder / "detector-decomposed.safetensors", kind="detector").tensors
    for name, value in joint.items():
        assert value.equal(detector[f"joint.{name}"]), name


def test_a_joint_head_of_other_settings_or_none_names_the_command_to_run_first(toy: Path, run_toy: RunToy) -> None:
    joint = ("distill.joint=true", "compare=['decomposed']")
    run_toy(toy, *joint)
    folder = toy.parent / "runs" / "toy"
    student = (folder / "student-decomposed.safetensors").read_bytes()
    run_toy(toy, *joint, "train.student.seed=1", only="distill")
    (folder / "student-decomposed.safetensors").write_bytes(student)  # as if killed before it was replaced, too
    (folder / "detector-decomposed.safetensors").unlink()
    path = folder / "joint-head-decomposed.safetensors"
    with pytest.raises(WeightsError, match="other than the recipe's; run tadkit distill RECIPE first"):
        run_toy(toy, *joint, only="train-head")
    path.unlink()
    with pytest.raises(WeightsError) as raised:
        run_toy(toy, *joint, only="train-head")
    assert str(raised.value) == f"{path}: no joint head (decomposed) yet; run tadkit distill RECIPE first"
    assert run_toy(toy, *joint, only="distill") == {"distill (decomposed)": DONE}
    assert run_toy(toy, *joint, only="train-head") == {"train-head (decomposed)": DONE}


def test_in_one_stage_no_head_is_trained_and_no_feature_of_a_training_video_is_stored(
    toy: Path, run_toy: RunToy
) -> None:
    overrides = ("distill.joint=true", 'compare=["decomposed","two-stream","two-stream-late"]')
    run_toy(toy, *overrides)
    folder = toy.parent / "runs" / "toy"
    assert not list((folder / "stages").glob("train-head-*"))
    judged = set(read_dataset(folder / "detections" / "annotations.json").videos)
    for row in ("decomposed", "two-stream", "rgb"):
        with read_store(folder / f"features-{row}.h5", kind="features") as store:
            assert set(store.videos()) == judged
    of_rgb, beside_flow = (digest_of_file(folder / f"student-{row}.safetensors") for row in ("rgb", "two-stream"))
    assert of_rgb != beside_flow  # the joint head reads the teacher's feature while the student is trained
    assert redone(run_toy(toy, *overrides, "train.head.lr=1e-2")) == set()


def test_a_run_in_one_stage_says_once_that_it_has_no_use_for_the_settings_of_the_head(
    finished: Path, tadkit: Callable[..., Any]
) -> None:
    said = "train.head is not used: with distill.joint, the joint head is trained with the student"
    joint = ("--set", "distill.joint=true", "--set", 'compare=["decomposed","rgb"]')
    assert tadkit("run", finished, *joint).err.count(said) == 1
    assert said not in tadkit("run", finished).err


def test_a_damaged_video_fails_the_stage_and_keeps_the_flow_of_the_others(toy: Path, run_toy: RunToy) -> None:
    videos = sorted((toy.parent / "data" / "videos").iterdir())
    videos[2].write_bytes(b"no video")
    with pytest.raises(TadkitError, match=f"'{videos[2].stem}' failed: ") as raised:
        run_toy(toy)
    assert raised.value.exit_code == 3
    with read_store(toy.parent / "runs" / "toy" / "flow.h5", kind="flow") as flow:
        assert flow.videos() == [video.stem for video in videos if video != videos[2]]


OPENED = """
import json, sys
from pathlib import Path
from typing import Any
from tadkit.config.loading import load_recipe
from tadkit.files import digest_of_file
from tadkit.progress import Quiet
from tadkit.recipe.run import run

opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
recipe = Path(sys.argv[1])
result = run(load_recipe(recipe), base=recipe.parent, device="cpu", progress=Quiet())
print(json.dumps([[state for _, state in result.stages], [path for path in opened if path.endswith(".mp4")]]))
"""


def test_a_run_with_nothing_to_do_reads_no_video(finished: Path) -> None:
    videos = sorted((finished.parent / "data" / "videos").glob("*.mp4"))
    run_again = [sys.executable, "-c", OPENED, str(finished)]
    first = json.loads(subprocess.run(run_again, capture_output=True, text=True, check=True).stdout)
    assert {str(path) for path in videos} <= set(first[1])  # copied with the run: other files than the ledger knows
    states, opened = json.loads(subprocess.run(run_again, capture_output=True, text=True, check=True).stdout)
    assert set(states) == {UP_TO_DATE}
    assert opened == []


def test_a_damaged_ledger_costs_nothing_but_time(finished: Path, run_toy: Callable[..., dict[str, str]]) -> None:
    ledger = finished.parent / "runs" / "toy" / "digests.json"
    for text in ("", "{", "[]", '{"format": "tadkit-digests", "version": 1, "digests": [[1]]}'):
        ledger.write_text(text)
        assert set(run_toy(finished).values()) == {UP_TO_DATE}


def test_figures_are_computed_again_when_what_they_depend_on_changes(finished: Path) -> None:
    report = finished.parent / "runs" / "toy" / "report.json"
    before = json.loads(report.read_text())["rows"]
    report.write_text(report.read_text().replace('"average_map": ', '"average_map": 7'))
    for overrides, changed in ((["evaluation.tiou=[0.3, 0.5]"], True), (["decode.min_score=0.4"], True), ([], False)):
        recipe = load_recipe(finished, overrides=overrides)
        rows = run(recipe, base=finished.parent, device="cpu", progress=Quiet()).rows
        assert all(row.average_map <= 1 for row in rows)
        assert ([row.average_map for row in rows] != [row["average_map"] for row in before]) == changed
