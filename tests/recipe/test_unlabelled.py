"""Recipes with videos that have no annotations: who is trained on them, what is redone, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toy_recipe import HEAD, NETS_OF_FEATURES, ONE_EPOCH

from tadkit.checkpoint import load_checkpoint
from tadkit.config import Recipe
from tadkit.config.loading import load_recipe, parse_recipe, recipe_toml
from tadkit.detection.detect import load_detector
from tadkit.detection.detect_features import detect_features
from tadkit.errors import AnnotationError, SettingsError, StoreError, TadkitError, VideoError
from tadkit.progress import Quiet
from tadkit.recipe.run import DONE, UP_TO_DATE, RunResult, run
from tadkit.recipe.workspace import Workspace, open_workspace
from tadkit.records import read_detections
from tadkit.store import open_store, read_store
from tadkit.synth.tracks.rgb_and_flow import LABELS

NET = NETS_OF_FEATURES + ONE_EPOCH
NAMED = f"""
name = "mine"
labels = {list(LABELS)}
compare = ["teacher", "rgb", "decomposed"]
"""
MADE_UP = """
[[sources]]
kind = "made-up-features"
training_videos = 3
test_videos = 2
"""
MADE_UP_WITHOUT = """
[[sources]]
kind = "made-up-features"
labelled = false
training_videos = 2
seed = 1
"""
IN_STORE = """
[[sources]]
kind = "features"
annotations = "annotations.json"
features = "features.h5"
rgb = "appearance"
flow = "motion"
"""
IN_STORE_WITHOUT = """
[[sources]]
kind = "features"
labelled = false
features = "features.h5"
"""
FEATURES = NAMED + MADE_UP + MADE_UP_WITHOUT + NET
LABELLED_ONLY = NAMED + MADE_UP + NET
STORED = NAMED + IN_STORE + IN_STORE_WITHOUT + NET
FILES_WITHOUT = """
[[sources]]
kind = "files"
labelled = false
videos = "more"
"""
FROM_THE_SAME_FOLDER = FILES_WITHOUT.replace("more", "data/videos")
OF_THE_STUDENT = {f"{stage} (decomposed)" for stage in ("distill", "extract-features", "train-head")}


def ran(folder: Path, text: str, *overrides: str, progress: Quiet | None = None) -> RunResult:
    recipe = parse_recipe(text, name="mine", overrides=overrides)
    return run(recipe, base=folder, device="cpu", progress=progress or Quiet())


def redone(result: RunResult) -> set[str]:
    return {name for name, state in result.stages if state == DONE}


def with_source(path: Path, source: str = FILES_WITHOUT) -> Recipe:
    """The toy recipe with one more source."""
    text = path.read_text().replace("[video]", f"{source}[video]", 1)
    path.write_text(text)
    return load_recipe(path)


def opened(path: Path, source: str = FILES_WITHOUT) -> Workspace:
    return open_workspace(with_source(path, source), base=path.parent, progress=Quiet())


def annotate_only(path: Path, *names: str) -> None:
    """Leave out of the toy's annotations all videos but these."""
    annotations = path.parent / "data" / "annotations.json"
    content = json.loads(annotations.read_text())
    content["database"] = {name: content["database"][name] for name in names}
    annotations.write_text(json.dumps(content))


def test_an_unlabelled_source_of_frames_redoes_the_taught_student_and_neither_teacher_nor_rgb(
    finished: Path, write_squares: Callable[..., Path]
) -> None:
    folder = finished.parent / "runs" / "toy"
    before = load_checkpoint(folder / "student-decomposed.safetensors", kind="student")
    (finished.parent / "more" / "deep").mkdir(parents=True)
    names = [
        write_squares(finished.parent / "more" / name, 60, seed=n).stem
        for n, name in enumerate(("a.mp4", "deep/b.mp4"))
    ]
    recipe = with_source(finished)
    with refused(StoreError, r"'a' is missing \(2 videos in all\); run tadkit extract-flow RECIPE first"):
        run(recipe, base=finished.parent, device="cpu", progress=Quiet(), only="distill")
    alone = run(recipe, base=finished.parent, device="cpu", progress=Quiet(), only="train-teacher")
    assert not redone(alone)
    result = run(recipe, base=finished.parent, device="cpu", progress=Quiet())
    assert redone(result) == {"extract-flow", "teacher's features", *OF_THE_STUDENT}
    student = load_checkpoint(folder / "student-decomposed.safetensors", kind="student")
    assert student.provenance["unlabelled_videos"] == names
    assert not set(names) & {*student.provenance["training_videos"], *student.provenance["held_out_videos"]}
    assert {*student.tensors} == {*before.tensors}
    assert any(not (student.tensors[name] == before.tensors[name]).all() for name in before.tensors)
    rgb = load_checkpoint(folder / "student-rgb.safetensors", kind="student")
    assert "unlabelled_videos" not in rgb.provenance
    judged = read_detections(folder / "detections" / "decomposed.json")
    assert set(judged) == set(student.provenance["held_out_videos"])
    video = next(iter(judged))
    assert result.detector is not None
    found = load_detector(result.detector).detect(finished.parent / "data" / "videos" / f"{video}.mp4")
    assert [d.label for d in found] == [d.label for d in judged[video]]
    again = run(recipe, base=finished.parent, device="cpu", progress=Quiet())
    assert {state for _, state in again.stages} == {UP_TO_DATE}
    assert again.rows == result.rows


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, list[str]]:
    """A run on synthetic features, then one with unlabelled videos and plain RGB, and what the second warned of."""
    folder, progress = tmp_path_factory.mktemp("made-up"), Quiet()
    ran(folder, LABELLED_ONLY, 'compare=["teacher", "decomposed"]')
    return ran(folder, FEATURES, progress=progress), progress.warnings


def test_unlabelled_made_up_features_redo_the_taught_student_and_not_the_teacher(
    made_up: tuple[RunResult, list[str]],
) -> None:
    result, _ = made_up
    rgb = {stage.replace("decomposed", "rgb") for stage in OF_THE_STUDENT}
    assert redone(result) == {"teacher's features", *OF_THE_STUDENT, *rgb}
    student = load_checkpoint(result.folder / "student-decomposed.safetensors", kind="student").provenance
    assert student["unlabelled_videos"] == ["unlabelled-1_00000", "unlabelled-1_00001"]
    assert result.features is not None
    assert result.detector is not None
    found = detect_features(result.features, head=result.detector, decoding={}, device="cpu", progress=Quiet())
    expected = read_detections(result.folder / "detections" / "decomposed.json")
    assert set(expected) == {"testing_00003", "testing_00004"}
    assert {video: list(found[video]) for video in expected} == expected


def test_the_seed_of_unlabelled_videos_makes_other_videos(made_up: tuple[RunResult, list[str]]) -> None:
    store = made_up[0].features
    assert store is not None
    with read_store(store, kind="features") as reader:
        first = [reader.features(video)[:20] for video in ("training_00000", "unlabelled-1_00000")]
        assert len(reader.videos()) == 7
    assert not np.allclose(first[0], first[1])


def test_a_row_without_a_teacher_says_that_it_leaves_unlabelled_videos_out(
    made_up: tuple[RunResult, list[str]],
) -> None:
    result, warnings = made_up
    noted = [warning for warning in warnings if "labelled" in warning]
    assert noted == ["rgb: the student has no teacher, so it is trained on the labelled videos alone"]
    rgb = load_checkpoint(result.folder / "student-rgb.safetensors", kind="student")
    assert "unlabelled_videos" not in rgb.provenance


def test_the_windows_of_unlabelled_videos_redo_the_taught_student_alone(made_up: tuple[RunResult, list[str]]) -> None:
    folder = made_up[0].folder
    recipe = parse_recipe(FEATURES, name="mine", overrides=["train.student.unlabelled_windows=3"])
    base = folder.parents[1]
    copied = base.with_name(f"{base.name}-windows")
    shutil.copytree(base, copied)
    result = run(recipe, base=copied, device="cpu", progress=Quiet(), only="distill")
    assert dict(result.stages) == {"distill (decomposed)": DONE, "distill (rgb)": UP_TO_DATE}


def test_unlabelled_videos_train_a_two_stream_row_whose_joint_head_is_taught(
    made_up: tuple[RunResult, list[str]], tmp_path: Path
) -> None:
    base = made_up[0].folder.parents[1]
    shutil.copytree(base, tmp_path, dirs_exist_ok=True)
    rows = 'compare=["rgb", "decomposed", "two-stream"]'
    weight = "distill.joint_prediction_weight=1"
    for given, expected in (((), None), ((weight,), ["unlabelled-1_00000", "unlabelled-1_00001"])):
        result = ran(tmp_path, FEATURES, rows, "distill.joint=true", *given)
        found = load_checkpoint(result.folder / "student-two-stream.safetensors", kind="student").provenance
        assert found.get("unlabelled_videos") == expected
        rgb = load_checkpoint(result.folder / "student-rgb.safetensors", kind="student").provenance
        assert "unlabelled_videos" not in rgb


def test_queries_of_two_nets_are_not_averaged() -> None:
    given = ("streams='two-stream'", "distill.method='rgb'", "distill.joint=true", "distill.joint_prediction_weight=1")
    with refused(SettingsError, "queries of tadtr have no partners in another net"):
        parse_recipe(LABELLED_ONLY.replace(HEAD, "[head]\nkind = 'tadtr'\n"), name="mine", overrides=given)


def test_stored_features_without_annotations_train_the_student(
    made_up: tuple[RunResult, list[str]], tmp_path: Path
) -> None:
    source = made_up[0].features
    assert source is not None
    shutil.copytree(source.parent, tmp_path, dirs_exist_ok=True)
    recipe = parse_recipe(STORED, name="mine")
    assert parse_recipe(recipe_toml(recipe), name="mine") == recipe
    result = run(recipe, base=tmp_path, device="cpu", progress=Quiet())
    student = load_checkpoint(result.folder / "student-decomposed.safetensors", kind="student")
    made = load_checkpoint(made_up[0].folder / "student-decomposed.safetensors", kind="student")
    assert student.provenance["unlabelled_videos"] == made.provenance["unlabelled_videos"]
    assert all((student.tensors[name] == made.tensors[name]).all() for name in made.tensors)


def test_annotated_videos_are_never_unlabelled_whatever_the_split_uses(toy: Path) -> None:
    annotate_only(toy, "room0_0", "room0_1", "room1_2", "room1_3")
    annotations = toy.parent / "data" / "annotations.json"
    content = json.loads(annotations.read_text())
    content["database"]["room0_1"]["subset"] = "unused"
    annotations.write_text(json.dumps(content))
    toy.write_text(toy.read_text() + '[split]\nkind = "subset"\ntraining = ["training"]\nheld_out = ["validation"]\n')
    workspace = opened(toy, FROM_THE_SAME_FOLDER)
    assert [item.name for item in workspace.items] == ["room0_0", "room1_2", "room1_3"]
    assert [item.name for item in workspace.unlabelled] == ["room2_4", "room2_5"]


def test_a_copy_of_a_held_out_video_is_refused_whatever_its_name(toy: Path) -> None:
    held_out = open_workspace(load_recipe(toy), base=toy.parent, progress=Quiet()).held_out[0]
    (toy.parent / "more").mkdir()
    shutil.copy(held_out.path, toy.parent / "more" / "other.mp4")
    recipe = with_source(toy)
    with refused(AnnotationError, f"the unlabelled video 'other' is a copy of '{held_out.name}', which is annotated"):
        run(recipe, base=toy.parent, device="cpu", progress=Quiet(), only="extract-flow")
    assert not (toy.parent / "runs" / "toy" / "flow.h5").exists()


@pytest.mark.parametrize("split", ['kind = "folds"\nfolds = 2', 'kind = "group"\nheld_out = ["room0"]', 'kind = "all"'])
def test_unlabelled_videos_are_in_no_part_of_a_split(toy: Path, split: str) -> None:
    annotate_only(toy, "room0_0", "room0_1", "room1_2", "room1_3")
    toy.write_text(f"{toy.read_text()}[split]\n{split}\n")
    before = open_workspace(load_recipe(toy), base=toy.parent, progress=Quiet())
    after = opened(toy, FROM_THE_SAME_FOLDER)
    assert (after.training, after.held_out) == (before.training, before.held_out)
    assert not {item.name for item in after.unlabelled} & {item.name for item in after.items}
    assert len(after.unlabelled) == 2


def refused(error: type[TadkitError], message: str):
    return pytest.raises(error, match=rf"\A[^\n]*{message}[^\n]*\Z")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ('sources.1.annotations="a.json"', r"sources\.1\.annotations: must be left out with labelled = false"),
        ("sources.0.labelled=false", r"sources\.0\.annotations: must be left out with labelled = false"),
        ("sources.1.labelled=true", r"sources\.1\.annotations: is missing; videos without annotations need labelled"),
        ('sources=[{kind="files", labelled=false, videos="v"}]', "all sources are unlabelled; the teacher is trained"),
    ],
)
def test_labelled_sources_have_annotations_and_unlabelled_ones_have_none(toy: Path, given: str, message: str) -> None:
    with_source(toy)
    with refused(SettingsError, message):
        load_recipe(toy, overrides=[given])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (MADE_UP_WITHOUT, "is of kind 'files', so unlabelled ones must be, too"),
        (
            '[[sources]]\nkind = "compose"\nclips = "a.npz"\nlabelled = false\n',
            r"sources\.1\.labelled: no such setting",
        ),
        (FILES_WITHOUT.replace('videos = "more"', ""), r"sources\.1\.videos: is missing"),
    ],
)
def test_sources_that_do_not_go_with_videos_are_refused(toy: Path, source: str, message: str) -> None:
    with refused(SettingsError, message):
        with_source(toy, source)


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        (FEATURES, "sources.1.seed=0", "the same seed and thus the same videos; change one"),
        (FEATURES, "sources.1.test_videos=3", "test_videos must be left out with labelled = false"),
        (FEATURES, "sources.0.labelled=false", "test_videos must be left out"),
        (NAMED + MADE_UP_WITHOUT + NET, "name=mine", "all sources are unlabelled"),
        (NAMED + IN_STORE_WITHOUT + NET, "name=mine", "all sources are unlabelled"),
        (FEATURES, "sources.1.labelled=true", "a source of features must be the only source"),
        (STORED, 'sources.1.features="other.h5"', "must be in the store of the labelled source; import all into one"),
        (STORED, 'sources.1.rgb="appearance"', "rgb and flow are those of the labelled source; leave them out"),
        (NAMED + IN_STORE + FILES_WITHOUT + NET, "name=mine", "is of kind 'features', so unlabelled"),
        (
            STORED.replace(NET, IN_STORE_WITHOUT + NET),
            "name=mine",
            "one source with labelled = false has all unlabelled",
        ),
        (STORED, "sources.1.labelled=true", r"sources\.1\.annotations: is missing"),
        (
            LABELLED_ONLY,
            "train.student.unlabelled_windows=2",
            "unlabelled_windows needs a source with labelled = false",
        ),
        (FEATURES, "train.head.unlabelled_windows=2", r"train\.head\.unlabelled_windows: no such setting"),
    ],
)
def test_sources_of_features_that_do_not_go_together_are_refused(text: str, given: str, message: str) -> None:
    with refused(SettingsError, message):
        parse_recipe(text, name="mine", overrides=[given])


def test_one_head_on_features_has_no_use_for_unlabelled_ones() -> None:
    text = STORED.replace('rgb = "appearance"\nflow = "motion"\n', "")
    for section in ("teacher_backbone", "backbone"):
        text = text.replace(f"[{section}]\nwidth = 16\n", "")
    with refused(SettingsError, "needs rgb and flow in the labelled source: one head alone has no teacher"):
        parse_recipe(text, name="mine")


def test_a_recipe_of_rows_without_a_teacher_is_refused_at_once(tmp_path: Path) -> None:
    with refused(SettingsError, "no row has a student with a teacher, which unlabelled videos train"):
        ran(tmp_path, FEATURES, 'compare=["teacher", "rgb"]', "distill.method=rgb")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_folds_need_labelled_videos_to_train_on(toy: Path, tadkit) -> None:
    annotate_only(toy, "room0_0")
    with_source(toy, FROM_THE_SAME_FOLDER)
    told = tadkit("run", toy)
    assert told.code == SettingsError.exit_code
    assert told.err.strip().splitlines()[-1].endswith("holds out all 1 labelled videos; none is left to train on")


def test_folders_without_unlabelled_videos_are_refused(toy: Path, toy_data: Path) -> None:
    before = toy.read_text()
    with refused(VideoError, "more: no such folder; sources.videos names one, relative to the recipe"):
        opened(toy)
    (toy.parent / "more").mkdir()
    toy.write_text(before)
    with refused(VideoError, "more: no video in this folder"):
        opened(toy)
    toy.write_text(before)
    with refused(SettingsError, "all videos are annotated, so there is none for the source with labelled = false"):
        opened(toy, FROM_THE_SAME_FOLDER)
    shutil.copy(toy_data / "videos" / "room0_0.mp4", toy.parent / "more" / "room0_0.mp4")
    toy.write_text(before)
    with refused(AnnotationError, "both named 'room0_0'; remove the unlabelled one if it is the same video, or else"):
        opened(toy)


def test_a_store_whose_videos_are_all_annotated_is_refused(
    made_up: tuple[RunResult, list[str]], tmp_path: Path
) -> None:
    source = made_up[0].features
    assert source is not None
    shutil.copy(source.with_name("annotations.json"), tmp_path / "annotations.json")
    with (
        read_store(source, kind="features") as old,
        open_store(tmp_path / "features.h5", kind="features", settings=old.settings) as new,
    ):
        for video in ("training_00000", "testing_00003"):
            known = {"key": old.key(video), "stamps_s": old.stamps_s(video), "attributes": old.attributes(video)}
            with new.video(video, **known) as entry:
                for track in ("original/appearance", "original/motion"):
                    entry.append(track, old.read(video, track))
    with refused(SettingsError, "all videos are annotated, so there is none"):
        open_workspace(parse_recipe(STORED, name="mine"), base=tmp_path, progress=Quiet())


@pytest.mark.slow  # a run each, of kinds of heads and of groups: half a minute
@pytest.mark.parametrize(
    "overrides",
    [
        ("train.head.groups=2", "train.head.cross_fit=true", 'compare=["decomposed"]'),
        ("distill.joint=true", "train.student.validate_every=1"),
        ('compare=["direct", "mers", "hallucination", "two-stream"]', "distill.method=logits"),
    ],
)
def test_other_ways_through_a_run_have_unlabelled_videos_too(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    result = ran(tmp_path, FEATURES, *overrides)
    for path in result.folder.rglob("student-*.safetensors"):
        student = load_checkpoint(path, kind="student")
        taught = student.settings["distill"]["method"] != "rgb"
        assert ("unlabelled_videos" in student.provenance) == taught
    assert {state for _, state in ran(tmp_path, FEATURES, *overrides).stages} == {UP_TO_DATE}


@pytest.mark.slow  # a run each: half a minute
@pytest.mark.parametrize("kind", ["tadtr", "bmn"])
def test_heads_without_stored_predictions_are_distilled_from_unlabelled_videos_too(tmp_path: Path, kind: str) -> None:
    section = FEATURES[FEATURES.index("[head]") : FEATURES.index("[train.teacher]")]
    text = FEATURES.replace(section, f'[head]\nkind = "{kind}"\nwindow_steps = 32\n')
    result = ran(tmp_path, text, 'compare=["decomposed"]')
    assert (
        "unlabelled_videos"
        in load_checkpoint(result.folder / "student-decomposed.safetensors", kind="student").provenance
    )
