from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

from tadkit.cli.annotations import FORMATS, TOOLS
from tadkit.data.formats import Format, Tool

ROOM = Path(__file__).parents[2] / "examples" / "room.json"


def test_the_forms_in_the_help_are_those_that_are_read():
    assert get_args(Format) == FORMATS
    assert get_args(Tool) == TOOLS


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
