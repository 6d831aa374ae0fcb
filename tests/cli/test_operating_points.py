"""``tadkit operating-points`` shows, measures and chooses from which scores a detector shows its detections."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tadkit.checkpoint import load_checkpoint
from tadkit.detection.detect import load_detector
from tadkit.records import Annotation, Dataset, Detection, VideoRecord, write_dataset, write_detections

LABELS = ("slide", "rest")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Annotations of six slides and two rests in one video, and detections that find the slides at 0.2."""
    actions = [Annotation(10.0 * n, 10.0 * n + 4, LABELS[n > 5]) for n in range(8)]
    dataset = Dataset({"v": VideoRecord("v", 90.0, "", tuple(actions)), "w": VideoRecord("w", 9.0, "", ())})
    found = [Detection(a.start_s, a.end_s, a.label, 0.2) for a in actions]
    found += [Detection(10.0 * n + 5, 10.0 * n + 9, "slide", 0.1) for n in range(4)]
    write_dataset(tmp_path / "a.json", dataset)
    write_detections(tmp_path / "d.json", {"v": found}, external={})
    return tmp_path / "a.json", tmp_path / "d.json"


def rows(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines() if line.split()[:1] in (["slide"], ["rest"])]


def test_points_are_chosen_written_and_used(
    tadkit: Callable[..., Any], files: tuple[Path, Path], tmp_path: Path, tiny_model: Path
) -> None:
    annotations, detections = files
    given = ("--annotations", annotations, "--detections", detections)
    ran = tadkit("operating-points", tiny_model, *given)
    assert rows(ran.out) == [["slide", "6", "0.30", "0", "0.0%", "0.0%"], ["rest", "2", "0.30", "0", "0.0%", "0.0%"]]
    out = tmp_path / "new.safetensors"
    ran = tadkit("operating-points", tiny_model, *given, "--out", out)
    assert rows(ran.out)[:2] == [
        ["slide", "6", "0.30", "0", "0.0%", "0.0%"],
        ["slide", "6", "0.15", "6", "100.0%", "100.0%"],
    ]
    assert ran.out.endswith(f"written to {out}\n")
    assert load_checkpoint(out, kind="detector").operating_points == {"slide": 0.15}, "two rests are too few"
    assert load_checkpoint(out, kind="detector").provenance["operating_points"]["videos"] == ["v"]
    assert load_detector(out, device="cpu").operating_points == {"slide": 0.15}
    assert rows(tadkit("operating-points", out).out) == [["slide", "0.15"], ["rest", "0.30", "(default)"]]
    assert tadkit("operating-points", tiny_model).out.count("0.30") == 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--detections", "{d}"], 2, "--annotations PATH: needed"),
        (["--annotations", "{a}"], 2, "--detections PATH: needed"),
        (["--out", "x.safetensors"], 2, "--out x.safetensors: needs --annotations and --detections"),
        (["--annotations", "{a}", "--detections", "{d}", "--out", "{d}"], 2, "is an input of this command"),
        (["--annotations", "{d}", "--detections", "{d}"], 6, "no 'database' object"),
        (
            ["--annotations", "{a}", "--detections", "{d}", "--detections", "{d}"],
            6,
            "'v' is in another detections file",
        ),
        (["--annotations", "{a}", "--detections", "{other}"], 6, "no video 'x', which"),
        (["--annotations", "{a}", "--detections", "{none}", "--out", "{out}"], 6, "too few actions of slide, rest"),
    ],
)
def test_mistakes_are_reported_in_one_line(
    tadkit: Callable[..., Any],
    files: tuple[Path, Path],
    tmp_path: Path,
    tiny_model: Path,
    words: list[str],
    code: int,
    said: str,
) -> None:
    places = {"a": files[0], "d": files[1], "out": tmp_path / "out.safetensors"}
    for name, video in (("other", "x"), ("none", "w")):
        places[name] = tmp_path / f"{name}.json"
        places[name].write_text(json.dumps({"results": {video: []}}))
    ran = tadkit("operating-points", tiny_model, *(word.format(**places) for word in words))
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
    assert not places["out"].exists()


def test_a_model_that_is_no_detector_is_reported(tadkit: Callable[..., Any], tmp_path: Path) -> None:
    assert tadkit("operating-points", tmp_path / "missing.safetensors").code == 5
