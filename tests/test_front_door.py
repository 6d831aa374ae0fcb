"""``import tadkit`` as a user meets it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

import tadkit
from tadkit.detection.html_timeline import html_timeline
from tadkit.models.detector import DetectorNet
from tadkit.records import read_detections

HEAVY = ("torch", "numpy", "pydantic", "click", "h5py", "cv2", "av", "json", "pathlib")
FOUND = [tadkit.Detection(2.0, 4.0, "rest", 0.9), tadkit.Detection(0.0, 1.5, "slide", 0.25)]
ODD = '<img src=x onerror=alert(1)> & "quotes" \''


def detections(found: list[tadkit.Detection] = FOUND) -> tadkit.Detections:
    return tadkit.Detections(found, video="v", duration_s=5.0, origin={"model": {"file": "m"}})


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_it_loads_nothing_else():
    before = set(json.loads(python("import sys, json; print(json.dumps(sorted(sys.modules)))")))
    after = set(json.loads(python("import sys, tadkit; m = sorted(sys.modules); import json; print(json.dumps(m))")))
    assert not [name for name in HEAVY if name in after - before]
    assert {name for name in after - before if name.startswith("tadkit")} == {"tadkit", "tadkit.version"}


def test_every_public_name_is_there_and_listed():
    names = python("import tadkit; print([n for n in tadkit.__all__ if getattr(tadkit, n) is None], dir(tadkit))")
    assert names.startswith("[] ")
    assert dir(tadkit) == list(tadkit.__all__)
    with pytest.raises(AttributeError, match="no attribute 'detekt'"):
        tadkit.detekt  # noqa: B018 - the access is what is tested


def test_one_video_gives_a_list_and_several_give_a_mapping(
    tmp_path: Path, write_squares: Callable[..., Path], tiny_model: Path, tiny_detector: DetectorNet
) -> None:
    paths = [write_squares(tmp_path / f"{name}.mp4", 30, seed=seed) for seed, name in enumerate("ab")]
    one = tadkit.detect(paths[0], model=tiny_model, device="cpu")
    assert (one.video, one.duration_s) == ("a", pytest.approx(3.0))
    assert [d.score for d in one] == sorted((d.score for d in one), reverse=True)
    assert len(one) > 10
    both = tadkit.detect(paths, model=str(tiny_model), device="cpu")
    assert list(both) == ["a", "b"]
    assert both["a"] == one
    assert tadkit.detect([tmp_path], model=tiny_model, device="cpu")["b"] == both["b"]
    detector = tadkit.load_detector(tiny_model, device="cpu", overrides={"decode": {"keep": 3}})
    assert detector.labels == tiny_detector.labels
    assert [(found.video, len(found)) for found in detector.iter_detect(paths)] == [("a", 3), ("b", 3)]


def test_a_video_that_fails_is_raised_or_collected(
    tmp_path: Path, write_squares: Callable[..., Path], tiny_model: Path
):
    good, bad = write_squares(tmp_path / "good.mp4", 20), tmp_path / "bad.mp4"
    bad.write_text("no video")
    detector = tadkit.load_detector(tiny_model, device="cpu")
    with pytest.raises(tadkit.TadkitError, match=r"bad\.mp4"):
        detector.detect([bad, good])
    found = detector.detect([bad, good], on_error="collect")
    assert list(found) == ["good"]
    assert list(found.failed) == ["bad"]
    assert list(tadkit.detect([bad, good], model=tiny_model, device="cpu", on_error="collect").failed) == ["bad"]
    with pytest.raises(tadkit.TadkitError, match="no such file"):
        tadkit.load_detector(tmp_path / "gone.safetensors")


def test_a_part_of_detections_is_still_detections():
    found = detections()
    assert found.above(0.5) == [FOUND[0]]
    assert found.in_order() == [FOUND[1], FOUND[0]]
    assert found[1] == FOUND[1]
    assert found[:1].video == "v"
    assert found != detections(FOUND[:1])


def test_what_is_written_is_what_was_found(tmp_path: Path):
    found = detections()
    for name in ("d.json", "d.jsonl", "D.CSV"):
        found.write(tmp_path / name)
    assert read_detections(tmp_path / "d.json") == {"v": FOUND}
    external = json.loads((tmp_path / "d.json").read_text())["external_data"]
    assert external == {"model": {"file": "m"}, "durations_s": {"v": 5.0}}
    lines = [json.loads(line) for line in (tmp_path / "d.jsonl").read_text().splitlines()]
    assert lines == found.to_records()
    with (tmp_path / "D.CSV").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["score"]) for row in rows] == [0.9, 0.25]
    with pytest.raises(tadkit.TadkitError, match=r"d\.txt: detections are written as \.json, \.jsonl, \.csv, "):
        found.write(tmp_path / "d.txt")


def test_what_a_terminal_would_obey_is_shown_as_escapes():
    found = tadkit.Detections([tadkit.Detection(0.0, 1.0, "\x1b[2Jwalk", 0.9)], video="a\nb", duration_s=5.0, origin={})
    assert r"\x1b[2Jwalk" in repr(found)
    assert r"'a\nb'" in repr(found)
    assert "\x1b" not in repr(tadkit.VideoDetections({"\x1b": found}, origin={}))


def test_a_dataframe_has_a_row_for_each_detection():
    frame = detections().to_dataframe()
    assert list(frame.columns) == ["video", "start_s", "end_s", "label", "score"]
    assert frame["end_s"].tolist() == [4.0, 1.5]
    assert list(detections([]).to_dataframe().columns) == list(frame.columns)


def test_without_pandas_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['pandas'] = None; import tadkit\n"
        "try: tadkit.Detections([], video='v', duration_s=1.0, origin={}).to_dataframe()\n"
        "except tadkit.TadkitError as error: print(error)"
    )
    assert "pip install 'tadkit[dataframe]'" in python(code)


class Bars(HTMLParser):
    """Tags, and the places of the bars with their titles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.places: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = dict(attrs)
        if "title" in given:
            style = dict(part.split(":", 1) for part in str(given["style"]).split(";"))
            self.places.append((style["left"], style["width"]))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_timeline_puts_bars_where_the_detections_are_and_shows_markup_as_text():
    found = [tadkit.Detection(1.0, 3.5, ODD, 0.9), tadkit.Detection(0.0, 1.0, "weak", 0.1)]
    bars = Bars(html_timeline(found, video=ODD, duration_s=5.0))
    assert bars.places == [("20.000%", "50.000%")]
    assert bars.tags == {"div", "b", "span"}
    assert bars.text.count(ODD) == 2
    assert "1 of 2 detections, score ≥ 0.3" in bars.text
    assert Bars(html_timeline([], video="v", duration_s=5.0)).places == []
    weak = Bars(html_timeline(found[1:], video="v", duration_s=5.0))
    assert weak.places == [("0.000%", "20.000%")]


def test_evaluation_takes_values_and_files(tmp_path: Path):
    truth = {"v": [tadkit.Annotation(2.0, 4.0, "rest"), tadkit.Annotation(0.0, 1.0, "slide")]}
    assert tadkit.evaluate(detections(), truth, tiou=[0.5]).average_map == 1.0
    assert tadkit.evaluate(detections(), truth, tiou=0.5).average_map == 1.0
    for wrong in ([], [0.5, 2.0], 1.5):
        with pytest.raises(tadkit.TadkitError, match=r"expected distinct numbers from 0 to 1"):
            tadkit.evaluate(detections(), truth, tiou=wrong)
    assert tadkit.evaluate({"v": FOUND}, truth, tiou="0.6:0.1:0.7").map.tolist() == [1.0, 0.5]
    path = tmp_path / "a.json"
    annotations = [{"segment": [2.0, 4.0], "label": "rest"}]
    path.write_text(json.dumps({"database": {"v": {"duration": 5, "subset": "one", "annotations": annotations}}}))
    detections().write(tmp_path / "d.json")
    assert tadkit.evaluate(tmp_path / "d.json", path, tiou=[0.5], subset="one").average_map == 1.0
    assert tadkit.evaluate(detections(), tadkit.read_annotations(path), tiou=[0.5]).average_map == 1.0
    with pytest.raises(tadkit.TadkitError, match=r"no subset 'two'.*'one'"):
        tadkit.evaluate(detections(), path, subset="two")
    with pytest.raises(tadkit.TadkitError, match=r"^detections: none of its videos"):
        tadkit.evaluate({"w": FOUND}, truth)
    with pytest.raises(tadkit.TadkitError, match=r"subset 'one': a mapping of annotations has no subsets"):
        tadkit.evaluate({"v": FOUND}, truth, subset="one")


def test_a_recipe_runs_from_python(toy: Path):
    result = tadkit.run(toy, overrides=["compare=['decomposed']", "train.student.epochs=1"], device="cpu")
    assert result.folder == toy.parent / "runs" / "toy"
    assert [row.name for row in result.rows] == ["decomposed", "decomposed: motion", "decomposed: appearance"]
    assert {state for _, state in result.stages} == {"done"}
