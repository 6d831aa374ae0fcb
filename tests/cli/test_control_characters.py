"""Names and labels with terminal escapes, markup and ``..``: shown as text, found by ``data check``, never a path."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

HOSTILE = Path(__file__).parents[1] / "cases" / "control_characters.json"
EXAMPLES = Path(__file__).parents[2] / "examples"


def commands(folder: Path) -> list[list[object]]:
    """Commands that print names or labels of the file."""
    database = json.loads(HOSTILE.read_text())["database"]
    results = {
        video: [{**item, "score": 0.9} for item in content["annotations"]] for video, content in database.items()
    }
    detections = folder / "detections.json"
    detections.write_text(json.dumps({"version": "x", "results": results, "external_data": {}}))
    return [
        ["data", "check", HOSTILE],
        ["data", "check", HOSTILE, "--videos", EXAMPLES],
        ["data", "stats", HOSTILE],
        ["evaluate", HOSTILE, detections],
        ["evaluate", EXAMPLES / "room.json", detections],
        ["data", "convert", HOSTILE, "--to", "elan", "--out", folder / "elan"],
        ["data", "convert", HOSTILE, "--videos", EXAMPLES, "--out", folder / "out.json"],
    ]


@pytest.mark.parametrize("number", range(7))
def test_no_command_prints_an_escape(number, tadkit, tmp_path):
    ran = tadkit(*commands(tmp_path)[number])
    assert "\x1b" not in ran.out + ran.err
    assert "\x07" not in ran.out + ran.err


def test_check_finds_the_names_and_the_label(tadkit):
    ran = tadkit("data", "check", HOSTILE)
    assert ran.code == 6
    assert ran.out.splitlines() == [
        r"error: 'cam\x1b[31m1': the name has control characters; rename the video",
        r"error: 'cam\x1b[31m1': label 'weld\x1b]0;title\x07' has control characters",
        "error: '../../outside': the name is an absolute path, or leads out of its folder by '..'; "
        "name the video after its file",
        "2 videos: 3 errors, 0 warnings",
    ]


def test_a_name_never_leads_out_of_the_folder_of_videos(tadkit, tmp_path):
    inside = tmp_path / "a" / "videos"
    inside.mkdir(parents=True)
    shutil.copy(EXAMPLES / "room.mp4", tmp_path / "outside.mp4")
    ran = tadkit("data", "check", HOSTILE, "--videos", inside)
    (line,) = [line for line in ran.out.splitlines() if "outside.mp4 in" in line]
    assert line.startswith("error: '../../outside': ")
