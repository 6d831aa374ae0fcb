from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

ROOM = Path(__file__).parents[2] / "examples" / "room.json"


def test_convert_says_what_it_guessed_and_counts(tadkit, tmp_path):
    ran = tadkit("data", "convert", ROOM, "--to", "via", "--out", tmp_path / "room.via.json")
    assert ran.code == 0
    assert "room.json: read as tadkit" in ran.err
    back = tadkit("data", "convert", tmp_path / "room.via.json", "--out", tmp_path / "room.json", "--json")
    assert json.loads(back.out)["subsets"]["validation"]["instances"] == 9


def test_annotations_in_no_known_form_exit_6_in_one_line(tadkit, tmp_path):
    (tmp_path / "a.json").write_text("{}")
    ran = tadkit("data", "convert", tmp_path / "a.json", "--out", tmp_path / "b.json")
    assert (ran.code, ran.out) == (6, "")
    assert ran.err.count("\n") == 1
    assert "name it with --from" in ran.err


def test_check_exits_6_on_errors_and_0_on_warnings(tadkit, tmp_path):
    right = tadkit("data", "check", ROOM, "--videos", ROOM.parent)
    assert (right.code, right.out) == (0, "1 videos: 0 errors, 0 warnings\n")
    path = tmp_path / "a.json"
    path.write_text(ROOM.read_text().replace('"validation"', '"val"'))
    wrong = tadkit("data", "check", path)
    assert wrong.code == 6
    assert wrong.out.startswith("error: 'room': unknown subset 'val'")
    path.write_text(ROOM.read_text().replace("44.0", '"44.0"'))
    warned = tadkit("data", "check", path, "--json")
    assert warned.code == 0
    assert [finding["what"] for finding in json.loads(warned.out)["findings"]] == ["text"]


def test_stats_end_with_settings_that_a_recipe_takes(tadkit):
    shown = tadkit("data", "stats", ROOM, "--rate", "5", "--stride", "1")
    assert shown.code == 0
    assert "head.levels=4 head.first_range_steps=4" in shown.out
    assert json.loads(tadkit("data", "stats", ROOM, "--json").out)["total"]["instances"] == 9


def test_stats_draw_classes_and_coverage_to_the_scale_of_the_largest(tadkit, tmp_path):
    actions = [{"segment": [n, n + 1], "label": "walk" if n < 4 else "lie down"} for n in range(5)]
    video = {"subset": "training", "duration": 20.0, "annotations": actions}
    (tmp_path / "a.json").write_text(json.dumps({"database": {"v": video}}))
    shown = tadkit("data", "stats", tmp_path / "a.json").out.splitlines()
    assert f"  walk           4 {'#' * 40}" in shown
    assert f"  lie down       1 {'#' * 10}" in shown
    assert f"    4 to 6   %       5 {'#' * 40}" in shown
    assert "    8 to 20  %       0" in shown
    as_json = json.loads(tadkit("data", "stats", tmp_path / "a.json", "--json").out)
    assert [0.04, 0.06, 5] in as_json["coverage_histogram"]
    assert as_json["per_class"]["walk"]["instances"] == 4


def test_check_tells_many_warnings_in_a_line_and_all_of_them_as_json(tadkit, tmp_path):
    content = json.loads(ROOM.read_text())
    content["database"]["room"]["annotations"] = [{"segment": [n, n], "label": "walk"} for n in range(5)]
    (tmp_path / "a.json").write_text(json.dumps(content))
    shown = tadkit("data", "check", tmp_path / "a.json")
    line, total = shown.out.splitlines()
    assert line.startswith("warning: 5 of kind empty in 1 video ('room'; --json lists all); the first: annotation 0")
    assert (shown.code, total) == (0, "1 videos: 0 errors, 5 warnings")
    assert len(json.loads(tadkit("data", "check", tmp_path / "a.json", "--json").out)["findings"]) == 5


@pytest.mark.skipif(not os.environ.get("TADKIT_DATA"), reason="needs TADKIT_DATA, the shared research data")
def test_the_first_two_commands_of_the_thumos14_recipe_exit_0_on_the_published_file(tadkit, shared_data, tmp_path):
    published = shared_data / "annotations" / "thumos14" / "afsd" / "thumos_gt.json"
    assert tadkit("data", "convert", published, "--out", tmp_path / "t.json").code == 0
    checked = tadkit("data", "check", tmp_path / "t.json", "--preset", "thumos14")
    assert checked.code == 0
    assert checked.out.splitlines()[-1] == "410 videos: 0 errors, 1 warnings"
