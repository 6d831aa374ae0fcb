"""VIA 3's projects and CSV exports: which attribute, which option, and what is reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

CASES = Path(__file__).parent / "cases"
LASTS = ("--durations", "d.csv")
SEGMENT = "FILE1_Z2_XY0"
TEXT, CHECKBOX, RADIO, SELECT = 1, 2, 3, 4


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work beside a table of durations."""
    (tmp_path / "d.csv").write_text("video,seconds\nkitchen,20\nbench,20\n")
    monkeypatch.chdir(tmp_path)


def attribute(name: str, kind: int, anchor: str = SEGMENT, **options: str) -> dict[str, Any]:
    numbered = {key.removeprefix("_"): value for key, value in options.items()}
    return {"aname": name, "anchor_id": anchor, "type": kind, "desc": "", "options": numbered, "default_option_id": ""}


def project(
    attributes: dict[str, Any], *entries: tuple[list[Any], dict[str, str]], name: str = "kitchen.mp4", **more: Any
):
    metadata = {f"1_{n}": {"vid": "1", "flg": 0, "z": z, "xy": [], "av": av} for n, (z, av) in enumerate(entries)}
    files = {"1": {"fid": "1", "fname": name, "type": 4, "loc": 1, "src": ""}}
    views = {"1": {"fid_list": ["1"]}}
    return {"attribute": attributes, "file": files, "metadata": metadata, "view": views, "config": {}} | more


def test_a_value_that_was_never_set_is_no_class(converted, films):
    got = converted(CASES / "via_two_attributes.json", "--videos", films)
    assert (got.code, got.rows("kitchen")) == (0, [(1.124, 5.31, "main title"), (6.0, 9.0, "chart")])
    chosen = converted(CASES / "via_two_attributes.json", "--videos", films, "--attribute", "Scene")
    assert chosen.rows("kitchen") == got.rows("kitchen")
    unset = converted(CASES / "via_two_attributes.json", "--videos", films, "--attribute", "Comment")
    assert unset.code == 6
    assert "2 segments have no class" in unset.err
    assert "'kitchen' is left out: none of its labels could be converted" in unset.err
    assert not unset.videos


TWO = {"1": attribute("Comment", TEXT), "2": attribute("Scene", RADIO, _0="title", _1="chart")}


def test_one_attribute_of_several_is_taken_and_the_others_are_named(converted):
    content = project(TWO, ([1, 2], {"1": "nice", "2": "0"}), ([3, 4], {"1": "hm", "2": "1"}))
    got = converted(content, *LASTS)
    assert (got.code, got.rows("kitchen")) == (0, [(1.0, 2.0, "title"), (3.0, 4.0, "chart")])
    assert "classes are the values of the attribute 'Scene'; those of 'Comment' are not used" in got.err
    assert converted(content, *LASTS, "--attribute", "Comment").rows("kitchen") == [
        (1.0, 2.0, "nice"),
        (3.0, 4.0, "hm"),
    ]
    assert "no attribute 'x'; attributes: 'Comment', 'Scene'" in converted(content, *LASTS, "--attribute", "x").err


def test_each_ticked_box_is_a_class_and_text_is_never_an_option(converted):
    boxes = {"1": attribute("what", CHECKBOX, _0="pour", _1="stir", _2="_DEFAULT")}
    assert converted(project(boxes, ([1, 2], {"1": "0,1"})), *LASTS).rows("kitchen") == [
        (1.0, 2.0, "pour"),
        (1.0, 2.0, "stir"),
    ]
    words = {"1": attribute("what", TEXT, default="Default")}
    assert converted(project(words, ([1, 2], {"1": "default"})), *LASTS).rows("kitchen") == [(1.0, 2.0, "default")]


def test_what_is_not_a_segment_with_a_class_is_counted_with_its_place(converted):
    entries = [([1, 2], {"2": "0"}), ([3, 4], {"2": ""}), ([5], {"2": "1"}), ([6, "?"], {"2": "1"})]
    got = converted(project(TWO, *entries), *LASTS)
    assert (got.code, got.rows("kitchen")) == (6, [(1.0, 2.0, "title")])
    assert "1 segments have no class; give their attribute a value in VIA: 'kitchen' [3, 4] (1_1)" in got.err
    assert "1 labels of single moments are not segments: 'kitchen' [5] (1_2)" in got.err
    assert "'kitchen' [6, '?'] (1_3) end is '?'" in got.err


def test_an_option_that_the_list_lacks_is_no_class_and_a_name_is_one(converted):
    got = converted(project(TWO, ([1, 2], {"2": "7"}), ([3, 4], {"2": "drawing"})) | {"x": 1}, *LASTS)
    assert (got.code, got.rows("kitchen")) == (6, [(3.0, 4.0, "drawing")])
    broken = project(TWO, ([1, 2], {"2": "0"}))
    broken["metadata"]["odd"] = None
    got = converted(broken, *LASTS)
    assert (got.code, got.rows("kitchen")) == (6, [(1.0, 2.0, "title")])
    assert "metadata 'odd' is not an object" in got.err


def test_a_view_of_two_files_costs_no_other_view(converted):
    content = project(TWO, ([1, 2], {"2": "0"}))
    content["view"]["2"] = {"fid_list": ["1", "1"]}
    content["metadata"]["2_0"] = {"vid": "2", "z": [1, 2], "xy": [], "av": {"2": "0"}}
    got = converted(content, *LASTS)
    assert (got.code, got.rows("kitchen")) == (6, [(1.0, 2.0, "title")])
    assert "view '2' shows 2 files and is left out" in got.err


def test_a_folder_of_projects_is_read_and_one_video_in_two_of_them_is_a_loss(converted, tmp_path):
    folder = tmp_path / "projects"
    folder.mkdir()
    for n, name in enumerate(("kitchen.mp4", "/home/ann/films/bench.mp4")):
        (folder / f"{n}.json").write_text(json.dumps(project(TWO, ([1, 2], {"2": "1"}), name=name)))
    got = converted(folder, *LASTS)
    assert (got.code, got.rows("kitchen"), got.rows("bench")) == (0, [(1.0, 2.0, "chart")], [(1.0, 2.0, "chart")])
    assert "read as via" in got.err
    (folder / "2.json").write_text(json.dumps(project(TWO, ([1, 2], {"2": "1"}))))
    again = converted(folder, *LASTS)
    assert (again.code, list(again.videos)) == (6, ["bench"])
    assert (
        "1 videos are labelled more than once and left out; keep one of their views or projects: kitchen" in again.err
    )


NEW = """# Exported using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)
# Notes:
# - temporal coordinate of [4.633] denotes a still video frame at 4.633 sec.
# SHAPE_ID = {"POINT":1,"RECTANGLE":2}
# ATTRIBUTE = ATTRIBUTES_HERE
# CSV_HEADER = metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata
"1_a","[""kitchen.mp4""]",0,"[1.124,5.31]","[]","{""1"":""_DEFAULT"",""2"":""1""}"
"1_b","[""kitchen.mp4""]",0,"[2.4]","[2,1,1,5,5]","{""1"":""AOI""}"
"""
OLD = """# Exported using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)
# CSV_HEADER = metadata_id,file_list,temporal_segment_start,temporal_segment_end,metadata
"1_a","[""kitchen.mp4""]",1.124,5.31,"{""2"":""chart""}"
"""


@pytest.mark.parametrize("text", [NEW.replace("ATTRIBUTES_HERE", json.dumps(TWO)), OLD])
def test_a_csv_export_is_read_like_its_project(text, converted, tmp_path):
    (tmp_path / "via.csv").write_text(text)
    got = converted(tmp_path / "via.csv", *LASTS)
    assert (got.code, got.rows("kitchen")) == (0, [(1.124, 5.31, "chart")])
    assert "read as via" in got.err


@pytest.mark.parametrize(
    ("old", "bad", "said"),
    [
        ('"[2.4]"', '"[4,"', "'kitchen' [4, (row 8) has '[4,'; expected a list"),
        (',"{""1"":""AOI""}"', "", "row 8 has 5 cells; expected 6"),
        ('{""1"":""AOI""}', '{""1""', "(row 8) has '{\"1\"'; expected a dict"),
        (
            '"1_b","[""kitchen.mp4""]"',
            '"1_b","[""kitchen"',
            "row 8: file_list is '[\"kitchen'; expected a list of files",
        ),
    ],
)
def test_a_row_of_a_csv_export_that_cannot_be_read_is_lost_and_costs_no_other(old, bad, said, converted, tmp_path):
    text = NEW.replace("ATTRIBUTES_HERE", json.dumps(TWO))
    (tmp_path / "via.csv").write_text(text.replace(old, bad))
    got = converted(tmp_path / "via.csv", *LASTS)
    assert (got.code, got.rows("kitchen")) == (6, [(1.124, 5.31, "chart")])
    assert said in " ".join(got.err.split())


@pytest.mark.parametrize("z", [5, "[1, 2]", {"a": 1}, ["x", 2]])
def test_an_entry_of_a_project_without_times_is_lost_and_costs_no_other(z, converted):
    content = project(TWO, ([1, 2], {"2": "0"}), ([3, 4], {"2": "0"}))
    key = list(content["metadata"])[1]
    content["metadata"][key]["z"] = z
    got = converted(content, *LASTS)
    assert (got.code, got.rows("kitchen")) == (6, [(1.0, 2.0, "title")])


def test_a_project_of_via_2_is_refused_with_the_reason(converted):
    got = converted({"_via_settings": {}, "_via_img_metadata": {"a.png1": {"filename": "a.png", "regions": []}}})
    assert got.code == 6
    assert "a project of VIA 2, which labels pictures and has no times; label it in VIA 3" in got.err
