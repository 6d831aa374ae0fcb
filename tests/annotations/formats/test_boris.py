"""BORIS's projects and tables as BORIS itself writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tadkit.annotations.formats import Known, SourceVideo, guess, read_annotations
from tadkit.errors import AnnotationError
from tadkit.records import Annotation

WALK = (Annotation(1.0, 2.5, "walk"), Annotation(4.0, 6.0, "walk"))


def test_boris_toggles_states_and_keeps_points_without_length(tmp_path):
    project = {
        "behaviors_conf": {"0": {"code": "walk", "type": "State event"}, "1": {"code": "hit", "type": "Point event"}},
        "observations": {
            "obs": {
                "file": {"1": ["C:\\films\\a b.avi"], "2": []},
                "media_info": {"length": {"C:\\films\\a b.avi": 9.0}, "fps": {"C:\\films\\a b.avi": 25.0}},
                "events": [
                    [4.0, "cat", "walk", "", ""],
                    [1.0, "cat", "walk", "", ""],
                    [1.5, "dog", "walk", "", ""],
                    [2.5, "cat", "walk", "", "", 62],
                    [3.0, "dog", "walk", "", ""],
                    [3.5, "cat", "hit", "", ""],
                    [6.0, "cat", "walk", "", ""],
                ],
            },
            "live": {"file": {}, "events": []},
        },
    }
    path = tmp_path / "p.boris"
    path.write_text(json.dumps(project))
    source = read_annotations(path, "boris", Known())
    (video,) = source.videos
    assert (video.name, video.duration_s, video.fps) == ("a b", 9.0, 25.0)
    assert video.annotations == (WALK[0], Annotation(1.5, 3.0, "walk"), Annotation(3.5, 3.5, "hit"), WALK[1])
    assert "1 observations without a media file" in source.remarks[0]


def test_a_state_that_never_stops_is_refused(tmp_path):
    path = tmp_path / "p.boris"
    observation = {"file": {"1": ["v.mp4"]}, "events": [[1.0, "", "walk", "", ""]]}
    path.write_text(json.dumps({"behaviors_conf": {}, "observations": {"o": observation}}))
    with pytest.raises(AnnotationError, match="observation 'o' starts 'walk' at 1 s and never stops it"):
        read_annotations(path, "boris", Known())


OLD = """Observation id,obs
Media file(s)
Player #1,v.mp4

Time,Media file path,Total length,FPS,Subject,Behavior,Behavioral category,Comment,Status
1.000,/films/v.mp4,9.0,25.0,,walk,,,START
2.500,/films/v.mp4,9.0,25.0,,walk,,,STOP
4.000,/films/v.mp4,9.0,25.0,,walk,,,START
6.000,/films/v.mp4,9.0,25.0,,walk,,,STOP
"""
NEW = """Observation id\tSource\tMedia duration (s)\tFPS (frame/s)\tSubject\tBehavior\tBehavior type\tTime
o\tplayer #1:v.mp4\t9.0\t25.0\tcat\twalk\tSTART\t1.0
o\tplayer #1:v.mp4\t9.0\t25.0\tcat\twalk\tSTOP\t2.5
o\tplayer #1:v.mp4\t9.0\t25.0\tcat\twalk\tSTART\t4.0
o\tplayer #1:v.mp4\t9.0\t25.0\tcat\twalk\tSTOP\t6.0
"""
AGGREGATED = """Observation,Media duration (s),FPS (frame/s),Behavior,Behavior type,Start (s),Stop (s),Media file name
o,9.0,25.0,walk,STATE,1.0,2.5,v.mp4
o,9.0,25.0,walk,STATE,4.0,6.0,v.mp4
"""


@pytest.mark.parametrize(("name", "text"), [("e.csv", OLD), ("e.tsv", NEW), ("a.csv", AGGREGATED)])
def test_events_that_boris_exported(name, text, tmp_path):
    path = tmp_path / name
    path.write_text(text)
    (video,) = read_annotations(path, "boris", Known()).videos
    assert video == SourceVideo("v", WALK, "", 9.0, 25.0)


def boris(path: Path, **observations: dict[str, object]) -> Path:
    """A project as BORIS 9 writes it, with what matters of an observation."""
    behaviours = {"0": {"code": "walk", "type": "State event"}}
    path.write_text(json.dumps({"behaviors_conf": behaviours, "observations": observations}))
    return path


def observed(start_s: float, end_s: float, **more: object) -> dict[str, object]:
    events = [[start_s, "", "walk", "", "", 25], [end_s, "", "walk", "", "", 50]]
    return {"type": "MEDIA", "file": {"1": ["films/v.mp4"], "2": []}, "time offset": 0.0, "events": events} | more


def test_boris_s_live_observations_have_a_list_for_files(tmp_path):
    live = {"type": "LIVE", "file": [], "events": [[1.0, "", "walk", "", ""]], "media_info": {"offset": {}}}
    source = read_annotations(boris(tmp_path / "p.boris", o=observed(1.0, 2.5), live=live), "boris", Known())
    assert source.videos == (SourceVideo("v", WALK[:1]),)
    assert "1 observations without a media file" in source.remarks[0]


@pytest.mark.parametrize(
    "observation",
    [
        observed(61.0, 62.5, **{"time offset": 60.0}),
        observed(
            1700000061.0,
            1700000062.5,
            **{"time offset": 60.0},
            media_creation_date_as_offset=True,
            media_info={"media_creation_time": {"films/v.mp4": 1700000000.0}},
        ),
    ],
)
def test_boris_s_offsets_are_taken_off_its_times(observation, tmp_path):
    source = read_annotations(boris(tmp_path / "p.boris", o=observation), "boris", Known())
    assert source.videos == (SourceVideo("v", WALK[:1]),)


HEAD = (
    "Observation id\tObservation type\tSource\tTime offset (s)\tMedia duration (s)\tFPS\tSubject\tBehavior\t"
    "Behavior type\tTime\tMedia file name\n"
)


def row(seconds: float, status: str, **more: str) -> str:
    cells = {"id": "o", "type": "Media file(s)", "source": "player #1:v.mp4", "offset": "0.0", "s": "9.000"} | more
    media = more.get("media", "v.mp4")
    return "\t".join([*list(cells.values())[:5], "25.000", "", "walk", status, str(seconds), media]) + "\n"


TWO_PLAYERS = {"source": "player #1:v.mp4|player #2:w.mp4", "s": "9.000|8.000"}
LIVE = {"id": "p", "type": "Live observation", "source": "NA", "s": "NA", "media": "NA"}


def test_tables_of_boris_take_off_the_offset_count_the_first_player_and_leave_out_live_ones(tmp_path):
    path = tmp_path / "e.tsv"
    first = [row(61.0, "START", offset="60.0", **TWO_PLAYERS), row(62.5, "STOP", offset="60.0", **TWO_PLAYERS)]
    path.write_text(HEAD + "".join([*first, row(1.0, "START", **LIVE), row(2.0, "STOP", **LIVE)]))
    source = read_annotations(path, "boris", Known())
    assert source.videos == (SourceVideo("v", WALK[:1], "", 9.0, 25.0),)
    assert "1 observations without a media file" in source.remarks[0]


@pytest.mark.parametrize("offset", ["Time offset (s)\t60.0\n", "Time offset (s)\t0\n"])
def test_the_offset_above_a_table_of_boris_7_is_taken_off(offset, tmp_path):
    path, zero_s = tmp_path / "e.tsv", float(offset.split()[-1])
    times = "".join(f"{zero_s + s}\tv.mp4\twalk\t{status}\n" for s, status in ((1.0, "START"), (2.5, "STOP")))
    path.write_text(f"Observation id\to\n{offset}\nTime\tMedia file path\tBehavior\tStatus\n{times}")
    assert read_annotations(path, "boris", Known()).videos == (SourceVideo("v", WALK[:1]),)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row(1.0, "START"), row(1.1, "START", id="p"), row(2.0, "STOP"), row(2.1, "STOP", id="p")], "several observ"),
        ([row(1.0, "START", source="player #1:v.mp4;w.mp4", s="9.0;8.0")], "observation 'o' plays 2 files in a row"),
        ([row(1.0, "START", source="v"), row(12.0, "STOP", source="w", media="w.mp4")], "'o' plays 2 files in a row"),
        ([], "no event below the heading line"),
    ],
)
def test_tables_of_boris_that_would_mix_clocks_or_people_are_refused(rows, said, tmp_path):
    (tmp_path / "e.tsv").write_text(HEAD + "".join(rows))
    with pytest.raises(AnnotationError, match=said):
        read_annotations(tmp_path / "e.tsv", "boris", Known())


def test_boris_exports_a_table_an_observation_into_a_folder(tmp_path):
    (tmp_path / "o.tsv").write_text(HEAD + row(1.0, "START") + row(2.5, "STOP"))
    other = {"id": "p", "source": "player #1:w.mp4"}
    (tmp_path / "p.tsv").write_text(HEAD + row(1.0, "START", **other) + row(2.5, "STOP", **other))
    assert guess(tmp_path) == "boris"
    videos = read_annotations(tmp_path, "boris", Known()).videos
    assert {video.name: video.annotations for video in videos} == {"v": WALK[:1], "w": WALK[:1]}


@pytest.mark.parametrize(("name", "way_out"), [("p.boris.gz", "gunzip"), ("e.xlsx", "save it as CSV or TSV")])
def test_a_packed_project_or_a_spreadsheet_is_refused_with_the_way_out(name, way_out, tmp_path):
    (tmp_path / name).write_bytes(b"\x1f\x8b")
    with pytest.raises(AnnotationError, match=way_out):
        guess(tmp_path / name)
