from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tadkit import evaluate
from tadkit.errors import AnnotationError
from tadkit.records import Annotation, Dataset, Detection, VideoRecord, write_dataset, write_detections


@pytest.fixture
def files(tmp_path):
    """One hit of tIoU 0.5 on ``sit``, one miss of ``walk``; and a video without detections."""
    truth = (Annotation(0.0, 2.0, "sit"), Annotation(5.0, 6.0, "walk"))
    write_dataset(
        tmp_path / "truth.json",
        Dataset({"v": VideoRecord("v", 9.0, "test", truth), "w": VideoRecord("w", 9.0, "train", ())}),
    )
    found = [Detection(1.0, 2.0, "sit", 0.9), Detection(1.0, 2.0, "fly", 0.5)]
    write_detections(tmp_path / "dets.json", {"v": found}, external={})
    return tmp_path / "dets.json", tmp_path / "truth.json"


def test_the_table_tells_classes_mean_and_thresholds(tadkit, files):
    ran = tadkit("evaluate", *files, "--tiou", "0.4:0.1:0.6")
    assert ran.code == 0
    rows = {cells[0]: cells[1:] for line in ran.out.splitlines() if (cells := line.split())}
    assert rows["class"] == ["AP@0.4", "AP@0.5", "AP@0.6", "mean"]
    assert rows["sit"] == ["100.00", "100.00", "0.00", "66.67"]
    assert rows["walk"] == ["0.00", "0.00", "0.00", "0.00"]
    assert rows["mean"] == ["(mAP)", "50.00", "50.00", "0.00", "33.33"]
    assert "activitynet protocol" in ran.out


def test_what_was_left_out_is_told_on_stderr(tadkit, files):
    err = tadkit("evaluate", *files).err
    assert "1 videos of the annotations have no detections" in err
    assert "detections are left out, because no annotation has their label: fly" in err


def test_json_is_all_that_stdout_holds(tadkit, files):
    content = json.loads(tadkit("evaluate", *files, "--tiou", "0.5", "--json", "--subset", "test").out)
    assert content["average_map"] == 0.5
    assert content["per_class"] == {"sit": {"0.5": 1.0}, "walk": {"0.5": 0.0}}


def test_python_gives_the_same_figures_and_the_same_errors(tadkit, files):
    content = json.loads(tadkit("evaluate", *files, "--protocol", "thumos14", "--json", "--subset", "test").out)
    mine = evaluate(*files, protocol="thumos14", subset="test")
    assert list(content["map"].values()) == mine.map.tolist()
    assert content["average_pooled"] == mine.average_pooled > 0
    write_detections(files[0], {"w": [Detection(1.0, 2.0, "sit", 0.9)]}, external={})
    with pytest.raises(AnnotationError) as error:
        evaluate(*files, subset="train")
    assert str(error.value).startswith(f"{files[1]}: ")
    assert f"tadkit: error: {error.value}\n" == tadkit("evaluate", *files, "--subset", "train").err


def test_the_protocol_is_heard(tadkit, files):
    ran = tadkit("evaluate", *files, "--tiou", "0.5", "--json", "--protocol", "thumos14")
    assert json.loads(ran.out)["average_map"] == 0.0


def test_the_analysis_is_printed_and_drawn(tadkit, files, tmp_path):
    ran = tadkit("evaluate", *files, "--tiou", "0.5", "--analysis", "--picture", tmp_path / "a.svg")
    assert ran.code == 0
    assert "double detection" in ran.out
    assert "normalised mAP" in ran.out
    assert "tIoU 0.5" in (tmp_path / "a.svg").read_text()


def test_a_file_does_not_differ_from_itself(tadkit, files):
    ran = tadkit("evaluate", *files, "--tiou", "0.5", "--compare", files[0], "--resamples", "20", "--seed", "4")
    assert "20 resamples of the videos (seed 4)" in ran.out
    rows = {cells[0]: cells[1:] for line in ran.out.splitlines() if (cells := line.split())}
    assert rows["0.5"] == ["0.00", "0.00", "0.00", "0.500"]


def test_mistakes_have_the_exit_codes_of_the_documentation(tadkit, files, tmp_path):
    dets, truth = files
    assert tadkit("evaluate", dets, truth, "--tiou", "2").code == 2
    assert tadkit("evaluate", dets, truth, "--protocol", "coco").code == 2
    assert tadkit("evaluate", tmp_path / "no.json", truth).code == 6
    assert tadkit("evaluate", dets, truth, "--subset", "validation").code == 6


def test_stdin_is_read_once(tadkit, files):
    ran = tadkit("evaluate", "-", "-")
    assert ran.code == 2
    assert "- is given for DETECTIONS and ANNOTATIONS" in ran.err
    ran = tadkit("evaluate", files[0], "-", "--compare", "-")
    assert ran.code == 2
    assert "- is given for ANNOTATIONS and --compare" in ran.err


def test_other_detections_come_from_stdin(files):
    dets, truth = files
    words = ["evaluate", str(dets), str(truth), "--tiou", "0.5", "--compare", "-", "--resamples", "9", "--json"]
    command = [sys.executable, "-m", "tadkit.cli", *words]
    ran = subprocess.run(command, input=dets.read_bytes(), capture_output=True, check=True)
    assert json.loads(ran.stdout)["comparison"]["difference"]["value"] == 0.0


def test_files_the_wrong_way_round_are_named(tadkit, files):
    dets, truth = files
    assert (
        "dets.json: no 'database' object but 'results', as in a detections file" in tadkit("evaluate", truth, dets).err
    )
    assert (
        "truth.json: no 'results' object but 'database', as in an annotations file"
        in tadkit("evaluate", truth, truth).err
    )


def test_a_picture_that_cannot_be_drawn_is_refused_before_the_work(tadkit, files):
    ran = tadkit("evaluate", *files, "--picture", "a.jpg")
    assert (ran.code, ran.out) == (2, "")
    assert "a.jpg: unknown picture format" in ran.err


def test_truth_without_an_action_is_named(tadkit, files):
    write_detections(files[0], {"w": [Detection(1.0, 2.0, "sit", 0.9)]}, external={})
    ran = tadkit("evaluate", *files, "--subset", "train")
    assert ran.code == 6
    assert "truth.json: the 1 annotated videos have no action" in ran.err


def test_detections_of_nothing_judged_are_told(tadkit, files):
    write_detections(files[0], {"v": [], "w": []}, external={})
    ran = tadkit("evaluate", *files)
    assert ran.code == 0
    assert "no detection has a label of the annotations, so every figure is 0" in ran.err


@pytest.mark.parametrize("option", ["--seed", "--resamples"])
def test_options_of_a_comparison_without_one_are_refused(tadkit, files, option):
    ran = tadkit("evaluate", *files, option, "7")
    assert (ran.code, ran.out) == (2, "")
    assert "--compare" in ran.err
    assert tadkit("evaluate", *files, option, "7", "--compare", files[0]).code == 0
