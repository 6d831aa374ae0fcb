"""``tadkit data convert`` on files that once gave wrong seconds: right values, reports, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

CASES = Path(__file__).parents[1] / "annotations" / "formats" / "cases"


def written(path: Path) -> dict[str, list[tuple[str, float, float]]]:
    database = json.loads(path.read_text())["database"]
    return {name: [(a["label"], *a["segment"]) for a in video["annotations"]] for name, video in database.items()}


@pytest.fixture
def durations(tmp_path: Path) -> Path:
    path = tmp_path / "durations.csv"
    path.write_text("video,seconds\nkitchen,20\n")
    return path


def test_elan_s_subdivisions(tadkit, tmp_path, durations):
    source, out = CASES / "elan_subdivision.eaf", tmp_path / "out.json"
    ran = tadkit("data", "convert", source, "--durations", durations, "--tier", "phase", "--out", out)
    assert (ran.code, ran.err) == (0, f"{source}: read as elan; use --from to choose another format\n")
    assert written(out) == {"kitchen": [("fill", 2, 4), ("boil", 4, 6), ("pour", 6, 8)]}
    ran = tadkit("data", "convert", source, "--durations", durations, "--tier", "p*", "--tier", "gaze", "--out", out)
    assert (ran.code, len(written(out)["kitchen"])) == (0, 4)
    ran = tadkit("data", "convert", source, "--durations", durations, "--out", out)
    assert ran.code == 0
    assert "tadkit: warning: " in ran.err
    assert "actions of 3 tiers are read together, choose with --tier" in ran.err


def test_a_tier_that_is_not_there_exits_6_and_writes_nothing(tadkit, tmp_path):
    out = tmp_path / "out.json"
    ran = tadkit("data", "convert", CASES / "elan_subdivision.eaf", "--tier", "phases", "--out", out)
    assert (ran.code, out.exists()) == (6, False)
    assert ran.err.count("\n") == 1
    assert "no tier 'phases'; expected 'activity', 'gaze', 'phase'" in ran.err


def test_boris_s_files_in_a_row(tadkit, tmp_path):
    out = tmp_path / "out.json"
    ran = tadkit("data", "convert", CASES / "boris_two_files_in_a_row.boris", "--out", out)
    assert ran.code == 0
    assert "tadkit: warning: " in ran.err
    assert "'pen A' plays 2 files in a row" in ran.err
    assert written(out) == {
        "a1": [("feed", 5, 8), ("feed", 9, 10)],
        "a2": [("feed", 0, 1.5), ("feed", 2, 5)],
        "b": [("feed", 1, 4)],
    }
    ran = tadkit("data", "convert", CASES / "boris_two_files_in_a_row.boris", "--observation", "pen B", "--out", out)
    assert (ran.code, written(out)) == (0, {"b": [("feed", 1, 4)]})


def test_boris_s_interval_keeps_what_is_whole_and_exits_6(tadkit, tmp_path):
    out = tmp_path / "out.json"
    ran = tadkit("data", "convert", CASES / "boris_interval.tsv", "--json", "--out", out)
    assert ran.code == 6
    assert written(out) == {"kitchen": [("pour", 8, 10)]}
    errors = [line for line in ran.err.splitlines() if line.startswith("tadkit: error: ")]
    assert ["stops 'pour' at 6 s" in errors[0], "starts 'pour' at 13 s" in errors[1], len(errors)] == [True, True, 2]
    assert len(json.loads(ran.out)["losses"]) == 2


def test_more_losses_than_a_screen_holds_are_counted(tadkit, tmp_path):
    rows = "".join("v,wave,x,2,20\n" for _ in range(60))
    (tmp_path / "a.csv").write_text(f"video,label,start,end,duration\nv,wave,1,2,20\n{rows}")
    ran = tadkit("data", "convert", tmp_path / "a.csv", "--out", tmp_path / "out.json")
    assert ran.code == 6
    assert ran.err.count("tadkit: error: ") == 51
    assert "tadkit: error: 10 more losses; --json lists all" in ran.err


def test_dates_are_put_on_the_video_with_starts(tadkit, tmp_path):
    rows = "v,wave,2024-05-02 09:00:01,2024-05-02 09:00:02,20\n"
    (tmp_path / "a.csv").write_text(f"video,label,start,end,duration\n{rows}")
    (tmp_path / "starts.csv").write_text("video,start\nv,2024-05-02 09:00:00\n")
    out = tmp_path / "out.json"
    ran = tadkit("data", "convert", tmp_path / "a.csv", "--out", out)
    assert (ran.code, out.exists()) == (6, False)
    assert "no labelled video; " in ran.err
    assert "is a time of the calendar, not of the video; say with --starts when each video starts" in ran.err
    ran = tadkit("data", "convert", tmp_path / "a.csv", "--starts", tmp_path / "starts.csv", "--out", out)
    assert (ran.code, written(out)) == (0, {"v": [("wave", 1, 2)]})
