from __future__ import annotations

import json
from pathlib import Path

import pytest

from tadkit.config.loading import load_recipe

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.name)
def test_example_recipes_are_valid(path):
    assert load_recipe(path).name == path.stem


def test_a_stage_whose_input_is_missing_says_so_in_one_line(tadkit, tmp_path):
    small = ["--set", "sources.0.count=2", "--set", "sources.0.duration_s=10", "--set", f"out='{tmp_path}'"]
    ran = tadkit("train-head", EXAMPLES / "synth.toml", *small)
    assert ran.code > 1
    (line,) = [line for line in ran.err.splitlines() if line.startswith("tadkit: error: ")]
    assert "run tadkit distill RECIPE first" in line


@pytest.mark.slow
def test_a_run_prints_its_figures_and_a_second_one_finds_all_up_to_date(tadkit, tmp_path):
    words = ["run", EXAMPLES / "synth.toml", "--set", f"out='{tmp_path}'", "--json"]
    first, second = json.loads(tadkit(*words).out), json.loads(tadkit(*words).out)
    assert {stage["state"] for stage in second["stages"]} == {"up to date"}
    assert second["rows"] == first["rows"]
    assert [row["name"] for row in first["rows"]] == [
        "teacher",
        "decomposed",
        "decomposed: motion",
        "decomposed: appearance",
    ]
