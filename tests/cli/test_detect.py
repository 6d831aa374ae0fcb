from __future__ import annotations

import pytest

from tadkit import load_detector
from tadkit.cli.commands.detect import _print_detections
from tadkit.records import Detection


def found(*scores: float) -> list[Detection]:
    return [Detection(10.0 * i, 10.0 * i + 2.5, "sit", score) for i, score in enumerate(scores)]


def test_the_table_holds_the_surer_detections_in_the_order_of_time(capsys):
    _print_detections({"a": found(0.4, 0.1, 0.9)}, points={}, otherwise=0.3, written=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0] == ["video", "start", "end", "label", "score"]
    assert lines[2:4] == [["a", "0:00.0", "0:02.5", "sit", "0.40"], ["a", "0:20.0", "0:22.5", "sit", "0.90"]]
    assert lines[4] == ["1", "more", "are", "not", "shown;", "--out", "PATH", "writes", "all", "of", "them"]


def test_at_most_50_a_video_are_in_the_table(capsys):
    _print_detections({"a": found(*[0.5] * 60), "b": found(0.6)}, points={}, otherwise=0.3, written=True)
    out = capsys.readouterr().out
    assert sum(" sit " in line for line in out.splitlines()) == 51
    assert "the table has the 50 best of each video; 10 more score as high\n" in out
    assert out.endswith("10 more score as high\n")


def test_nothing_sure_is_said_in_words(capsys):
    _print_detections({"a": found(0.1)}, points={}, otherwise=0.3, written=False)
    assert capsys.readouterr().out.startswith(
        "no detection scores 0.3 or more; the best scores 0.10 (lower --show-score to see it)\n"
    )


def test_each_label_is_shown_from_its_operating_point(capsys):
    mixed = [Detection(0.0, 1.0, "fall", 0.15), Detection(2.0, 3.0, "sit", 0.15), Detection(4.0, 5.0, "sit", 0.35)]
    _print_detections({"a": mixed}, points={"fall": 0.1}, otherwise=0.3, written=False)
    shown = [line.split()[3:] for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["a"]]
    assert shown == [["fall", "0.15"], ["sit", "0.35"]]
    _print_detections({"a": mixed}, points={"fall": 0.4}, otherwise=0.5, written=False)
    assert capsys.readouterr().out.startswith("no detection scores 0.4 (fall), 0.5 or more; the best scores 0.35 ")


def test_an_override_that_changes_nothing_is_refused(tadkit, tmp_path, tiny_model):
    ran = tadkit("detect", "v.mp4", "--model", tiny_model, "--out", tmp_path / "d.json", "--set", "decode.iou=0.4")
    assert ran.code == 2
    assert "--set decode.iou has no effect: it needs method = 'hard' or 'soft-linear'; leave it out" in ran.err
    kept = load_detector(tiny_model, overrides={"decode": {"iou": 0.5, "sigma": 0.3}})  # iou is that of the model
    assert kept.decoding.sigma == 0.3


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--set", "decode.kep=3"], 2, "decode.kep: no such setting; did you mean keep?"),
        (["--set", "decode.sigma=0"], 2, "decode.sigma: must be greater than or equal to 0.001, got 0"),
        (["--set", "head.levels=3"], 2, "head: no such setting; known settings: decode, video"),
        (["--show-score", "2"], 2, "--show-score"),
        (["--engine", "steam"], 2, "'steam' is not one of auto, torch, onnxruntime, openvino, openvino-bf16."),
        (["{folder}"], 3, "no video in this folder"),
    ],
)
def test_mistakes_are_told_before_any_work(tadkit, tmp_path, words, code, said):
    ran = tadkit("detect", *(word.format(folder=tmp_path) for word in words), "v.mp4")
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
