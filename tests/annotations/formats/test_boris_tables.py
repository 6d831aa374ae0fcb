"""BORIS's exported tables, as its versions 7 to 9 write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tadkit.annotations.formats import Known, SourceVideo, guess, read_annotations
from tadkit.errors import AnnotationError
from tadkit.records import Annotation

CASES = Path(__file__).parent / "cases"
WALK = (Annotation(1.0, 2.5, "walk"), Annotation(4.0, 6.0, "walk"))


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
    assert "'o': actions are those of the first player, not of 'w.mp4'" in source.remarks[0]
    assert "observation 'p' has no media file (it is live, or of images) and is left out with its 2" in source.losses[0]


@pytest.mark.parametrize("offset", ["Time offset (s)\t60.0\n", "Time offset (s)\t0\n"])
def test_the_offset_above_a_table_of_boris_7_is_taken_off(offset, tmp_path):
    path, zero_s = tmp_path / "e.tsv", float(offset.split()[-1])
    times = "".join(f"{zero_s + s}\tv.mp4\twalk\t{status}\n" for s, status in ((1.0, "START"), (2.5, "STOP")))
    path.write_text(f"Observation id\to\n{offset}\nTime\tMedia file path\tBehavior\tStatus\n{times}")
    assert read_annotations(path, "boris", Known()).videos == (SourceVideo("v", WALK[:1]),)


START_STOP = ((1.0, "START"), (12.0, "STOP"))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row(1.0, "START"), row(1.1, "START", id="p"), row(2.0, "STOP"), row(2.1, "STOP", id="p")], "several observ"),
        (
            [row(t, s, source="player #1:v.mp4;w.mp4", s="9.0") for t, s in START_STOP],
            "plays 2 files in a row, and the length",
        ),
        ([row(1.0, "START", source="v"), row(12.0, "STOP", source="w", media="w.mp4")], "rows of different sources"),
        ([], "no event below the heading line"),
        ([row(1.0, "START"), row(2.0, "STOP").strip() + "\tx\n"], "row 3: has more cells than the heading"),
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


def test_a_table_limited_to_an_interval_has_cut_actions_which_are_lost_and_placed():
    source = read_annotations(CASES / "boris_interval.tsv", "boris", Known())
    assert source.videos == (SourceVideo("kitchen", (Annotation(8, 10, "pour"),), "", 20.0, 30.0),)
    assert "stops 'pour' at 6 s and never starts it; left out" in source.losses[0]
    assert "starts 'pour' at 13 s and never stops it; left out" in source.losses[1]
    assert "observation 'cup test' covers 10 s of 20 s; the rest counts as without actions" in source.remarks[0]


ACTIONS = "Observation id,Source,Time offset (s),Media duration (s),FPS (frame/s),Subject,Behavior,Behavior type,"
ACTIONS += "Start (s),Stop (s),Media file name\n"


def action_row(start: str, stop: str, *, kind: str = "STATE", label: str = "walk", subject: str = "cat") -> str:
    return f"o,player #1:a/v.mp4,0.0,9.0,25.0,{subject},{label},{kind},{start},{stop},a/v.mp4\n"


def test_a_row_that_cannot_be_read_is_lost_and_placed_and_costs_no_other(tmp_path):
    rows = [("1.0", "2.5"), ("x", "3.0"), ("5.0", "4.0"), ("7.0", "NA"), ("4.0", "6.0")]
    (tmp_path / "a.csv").write_text(ACTIONS + "".join(action_row(*row) for row in rows))
    source = read_annotations(tmp_path / "a.csv", "boris", Known())
    assert source.videos == (SourceVideo("v", WALK, "", 9.0, 25.0),)
    assert [loss.partition("a.csv, row ")[2][:1] for loss in source.losses] == ["3", "4", "5"]


def test_point_events_of_aggregated_tables_have_no_length_and_subjects_are_chosen(tmp_path):
    rows = [action_row("1.0", "2.5"), action_row("3.0", "NA", kind="POINT", label="hit", subject="No focal subject")]
    (tmp_path / "a.csv").write_text(ACTIONS + "".join(rows))
    source = read_annotations(tmp_path / "a.csv", "boris", Known())
    assert source.videos[0].annotations == (WALK[0], Annotation(3, 3, "hit"))
    assert "1 point events become actions of zero length" in source.remarks[0]
    source = read_annotations(tmp_path / "a.csv", "boris", Known(subjects=("cat",)))
    assert (source.videos[0].annotations, source.remarks) == (WALK[:1], ())


def test_files_in_a_row_of_a_table_are_split_by_its_source_and_not_by_its_media_column(tmp_path):
    two = {"source": "player #1:v.mp4;w.mp4|player #2:x.mp4", "s": "10.0;20.0|30.0", "media": "Not found"}
    (tmp_path / "e.tsv").write_text(HEAD + row(9.0, "START", **two) + row(12.5, "STOP", **two))
    source = read_annotations(tmp_path / "e.tsv", "boris", Known())
    v, w = source.videos
    assert (v.name, v.duration_s, v.annotations) == ("v", 10.0, (Annotation(9, 10, "walk"),))
    assert (w.name, w.duration_s, w.annotations) == ("w", 20.0, (Annotation(0, 2.5, "walk"),))


def test_files_in_a_row_of_boris_7_need_lengths_that_its_table_does_not_have(tmp_path):
    times = "1.0\tv.mp4\t30.0\twalk\tSTART\n12.5\tw.mp4\t30.0\twalk\tSTOP\n"
    head = "Time\tMedia file path\tTotal length\tBehavior\tStatus\n"
    (tmp_path / "e.tsv").write_text("Observation id\to\n" + head + times)
    with pytest.raises(AnnotationError, match="plays 2 files in a row, whose order and lengths its table does not"):
        read_annotations(tmp_path / "e.tsv", "boris", Known())


def test_a_time_budget_is_not_a_table_of_events(tmp_path):
    (tmp_path / "b.csv").write_text("Observation id,Subject,Behavior,Total duration (s)\no,,walk,3.5\n")
    with pytest.raises(AnnotationError, match=r"no column 'Time', .* not a time budget"):
        read_annotations(tmp_path / "b.csv", "boris", Known())


def test_times_on_a_clock_of_hours_are_read(tmp_path):
    text = HEAD + row("00:01:01.5", "START") + row("00:01:03", "STOP")  # type: ignore[arg-type]
    (tmp_path / "e.tsv").write_text(text)
    assert read_annotations(tmp_path / "e.tsv", "boris", Known()).videos[0].annotations == (
        Annotation(61.5, 63.0, "walk"),
    )
