"""Annotation tools' files as the tools themselves write them."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tadkit.data.formats import Known, SourceVideo, guess, read_annotations, write_annotations
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


EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT FORMAT="3.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
 <HEADER TIME_UNITS="milliseconds"><MEDIA_DESCRIPTOR MEDIA_URL="file:///my%20film.mp4" TIME_ORIGIN="500"/></HEADER>
 <TIME_ORDER><TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="ts2"/>
  <TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="2000"/></TIME_ORDER>
 <TIER TIER_ID="hands"><ANNOTATION><ALIGNABLE_ANNOTATION TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
  <ANNOTATION_VALUE>wave</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
  <ANNOTATION><ALIGNABLE_ANNOTATION TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts3"><ANNOTATION_VALUE/>
  </ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
 <TIER TIER_ID="notes"><ANNOTATION><REF_ANNOTATION><ANNOTATION_VALUE>x</ANNOTATION_VALUE></REF_ANNOTATION>
 </ANNOTATION></TIER>
</ANNOTATION_DOCUMENT>"""


def test_elan_slots_origin_and_tiers(tmp_path):
    (tmp_path / "a.eaf").write_text(EAF)
    source = read_annotations(tmp_path, "elan", Known())
    (video,) = source.videos
    assert video.name == "my film"
    assert video.annotations == (Annotation(1.5, 2.0, "wave"), Annotation(2.0, 2.5, "hands"))
    assert "1 annotations refer to others and are left out" in source.remarks[0]


@pytest.mark.parametrize("form", ["elan", "cvat"])
def test_xml_with_a_document_type_is_refused_unexpanded(form, tmp_path):
    path = tmp_path / "bomb.xml"
    path.write_text('<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]><annotations><track label="&d;"/></annotations>')
    with pytest.raises(AnnotationError, match="has a document type"):
        read_annotations(path, form, Known())


def test_cvat_tracks_leave_and_come_back(tmp_path):
    track = "".join(
        f'<box frame="{frame}" outside="{outside}" keyframe="1"/>'
        for frame, outside in ((10, 0), (20, 0), (25, 1), (40, 0), (59, 0))
    )
    text = f"""<?xml version="1.0" encoding="utf-8"?>
      <annotations><version>1.1</version><meta><task><size>100</size><source>v.mp4</source></task></meta>
      <track id="0" label="walk">{track}</track></annotations>"""
    (tmp_path / "v.xml").write_text(text)
    with pytest.raises(AnnotationError, match="does not say how many a second; give --fps or --videos"):
        read_annotations(tmp_path, "cvat", Known())
    (video,) = read_annotations(tmp_path, "cvat", Known(fps=10.0)).videos
    assert video.annotations == (Annotation(1.0, 2.5, "walk"), Annotation(4.0, 6.0, "walk"))
    assert video.duration_s == 10.0


def test_a_cvat_file_lists_the_labels_of_its_own_video(tmp_path):
    both = [SourceVideo("v", WALK), SourceVideo("w", (Annotation(0.0, 1.0, "run"),))]
    write_annotations(tmp_path, "cvat", both, Known(fps=10.0))
    for name, label in (("v", "walk"), ("w", "run")):
        names = ElementTree.parse(tmp_path / f"{name}.xml").findall("meta/task/labels/label/name")
        assert [found.text for found in names] == [label]


def label_studio(path: Path, *regions: object, video: str) -> Path:
    task = {"id": 1, "data": {"video": video}, "annotations": [{"result": list(regions)}]}
    path.write_text(json.dumps([task]))
    return path


def test_label_studio_counts_frames_from_one_with_the_last_included(tmp_path):
    region = {"type": "timelinelabels", "value": {"ranges": [{"start": 11, "end": 25}], "timelinelabels": ["walk"]}}
    path = label_studio(tmp_path / "a.json", region, video="/data/upload/3/0a1b2c3d-v.mp4")
    (video,) = read_annotations(path, "label-studio", Known(fps=10.0)).videos
    assert (video.name, video.annotations) == ("v", (Annotation(1.0, 2.5, "walk"),))


def test_label_studio_in_seconds_needs_no_rate(tmp_path):
    region = {"type": "labels", "original_length": 9.5, "value": {"start": 1, "end": 2.5, "labels": ["walk"]}}
    other = {"type": "textarea", "value": {"text": ["hm"]}}
    path = label_studio(tmp_path / "a.json", region, other, video="/data/local-files/?d=films/v.mp4")
    source = read_annotations(path, "label-studio", Known())
    assert source.videos == (SourceVideo("v", (Annotation(1.0, 2.5, "walk"),), "", 9.5),)
    assert "1 regions or answers are no segments" in source.remarks[0]


def test_label_studio_s_short_form_holds_the_regions_among_the_data(tmp_path):
    frames = [{"ranges": [{"start": 11, "end": 25}], "timelinelabels": ["walk"]}]
    seconds = [{"start": 4, "end": 6, "channel": 0, "labels": ["walk"]}]
    task = {"id": 1, "video": "/films/v.mp4", "tricks": frames, "sounds": seconds, "annotator": 1, "annotation_id": 2}
    path = tmp_path / "min.json"
    path.write_text(json.dumps([task]))
    assert guess(path) == "label-studio"
    (video,) = read_annotations(path, "label-studio", Known(fps=10.0)).videos
    assert video == SourceVideo("v", WALK)


def test_via_takes_the_class_from_the_options_of_the_segment_attribute(tmp_path):
    project = {
        "project": {"data_format_version": "3.1.1"},
        "attribute": {
            "1": {"aname": "TEMPORAL-SEGMENTS", "anchor_id": "FILE1_Z2_XY0", "options": {"0": "sit", "1": "walk"}},
            "2": {"aname": "colour", "anchor_id": "FILE1_Z1_XY1", "options": {}},
        },
        "file": {"7": {"fid": "7", "fname": "v.mp4", "src": "http://x/v.mp4"}},
        "view": {"1": {"fid_list": ["7"]}},
        "metadata": {
            "1_b": {"vid": "1", "z": [4, 6], "xy": [], "av": {"1": "1"}},
            "1_a": {"vid": "1", "z": [1.0, 2.5], "xy": [], "av": {"1": "1"}},
            "1_c": {"vid": "1", "z": [3.0], "xy": [2, 1, 1, 5, 5], "av": {"2": "red"}},
        },
    }
    path = tmp_path / "v.json"
    path.write_text(json.dumps(project))
    source = read_annotations(path, "via", Known())
    assert source.videos == (SourceVideo("v", WALK),)
    assert "1 regions or single moments" in source.remarks[0]


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
        ([], "no event below the headings"),
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


def test_elan_s_video_gives_the_name_although_its_sound_is_listed_first(tmp_path):
    sound = '<MEDIA_DESCRIPTOR MEDIA_URL="file:///x/v_16k.wav" MIME_TYPE="audio/x-wav"/>'
    film = (
        '<MEDIA_DESCRIPTOR MEDIA_URL="file:///x/my%20v.mp4" MIME_TYPE="video/mp4" RELATIVE_MEDIA_URL="./my%20v.mp4"/>'
    )
    text = (
        EAF.partition("<MEDIA_DESCRIPTOR")[0] + sound + film + EAF.partition("</HEADER>")[1] + "</ANNOTATION_DOCUMENT>"
    )
    (tmp_path / "a.eaf").write_text(text)
    (video,) = read_annotations(tmp_path, "elan", Known()).videos
    assert video.name == "my v"


def cvat(path: Path, *, size: int, stop: int, of: str = "task") -> Path:
    boxes = '<box frame="10" outside="0" keyframe="1"/><box frame="25" outside="1" keyframe="1"/>'
    meta = f"<size>{size}</size><start_frame>0</start_frame><stop_frame>{stop}</stop_frame><source>v.mp4</source>"
    text = f'<annotations><meta><{of}>{meta}</{of}></meta><track id="0" label="walk">{boxes}</track></annotations>'
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("size", "stop", "of", "duration_s"),
    [(100, 99, "task", 10.0), (20, 99, "task", None), (50, 99, "task", None), (100, 99, "job", 10.0)],
)
def test_cvat_s_number_of_frames_is_a_length_only_where_all_are_labelled(size, stop, of, duration_s, tmp_path):
    path = cvat(tmp_path / "a.xml", size=size, stop=stop, of=of)
    (video,) = read_annotations(path, "cvat", Known(fps=10.0)).videos
    assert video == SourceVideo("v", WALK[:1], "", duration_s)


def test_label_studio_s_tasks_that_nobody_labelled_are_left_out_and_counted(tmp_path):
    data = [{"video": f"{name}.mp4"} for name in "abc"]
    given = [[], [{"was_cancelled": True, "result": []}], [{"result": []}]]
    tasks = [{"id": n, "data": d, "annotations": a} for n, (d, a) in enumerate(zip(data, given, strict=True))]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(tasks))
    source = read_annotations(path, "label-studio", Known())
    assert [video.name for video in source.videos] == ["c"]
    assert "2 tasks that nobody labelled, or that were skipped, are left out" in source.remarks[0]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"video": "https://x.org/films/v.mp4?token=1/2"}, "v"),
        ({"video": "http://localhost:8080/data/local-files/?d=my%20films/v.mp4"}, "v"),
        ({"rating": 4, "note": "nice", "film": "s3://bucket/my%20v.MP4"}, "my v"),
    ],
)
def test_label_studio_s_addresses_of_videos(data, name, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"id": 1, "data": data, "annotations": [{"result": []}]}]))
    assert [video.name for video in read_annotations(path, "label-studio", Known()).videos] == [name]
