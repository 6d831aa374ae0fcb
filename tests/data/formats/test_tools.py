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
