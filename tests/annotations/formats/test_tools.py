"""Annotation tools' files as the tools themselves write them."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tadkit.annotations.formats import Known, SourceVideo, guess, read_annotations, write_annotations
from tadkit.errors import AnnotationError
from tadkit.records import Annotation

WALK = (Annotation(1.0, 2.5, "walk"), Annotation(4.0, 6.0, "walk"))


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    "doctype",
    [
        '<!DOCTYPE a [<!ENTITY l "c">]>',
        f'<!DOCTYPE a [<!ENTITY l0 "ha">{LAUGHS}<!ENTITY l "&l9;">]>',
        '<!DOCTYPE a [<!ENTITY l SYSTEM "secret.txt">]>',
        '<!DOCTYPE a [<!ENTITY % p SYSTEM "secret.txt"> %p; <!ENTITY l "c">]>',
        '<!DOCTYPE a SYSTEM "secret.txt">',
    ],
    ids=["entity", "billion-laughs", "external-entity", "external-parameter-entity", "external-dtd"],
)
@pytest.mark.parametrize("form", ["elan", "cvat"])
def test_xml_with_a_document_type_is_refused_unexpanded(form, doctype, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("secret.txt").write_text("top secret")
    label = "x" if doctype.endswith('"secret.txt">') else "&l;"
    path = tmp_path / "bomb.xml"
    path.write_text(f'<?xml version="1.0"?>{doctype}<annotations><track label="x">{label}</track></annotations>')
    with pytest.raises(AnnotationError) as error:
        read_annotations(path, form, Known(fps=25.0))
    way_out = "has a document type (<!DOCTYPE>), which annotation tools do not write; remove it"
    assert str(error.value) == f"{path}: {way_out}"


def test_cvat_tracks_leave_and_come_back(tmp_path):
    track = "".join(
        f'<box frame="{frame}" outside="{outside}" keyframe="1"/>'
        for frame, outside in ((10, 0), (20, 0), (25, 1), (40, 0), (59, 0))
    )
    text = f"""<?xml version="1.0" encoding="utf-8"?>
      <annotations><version>1.1</version><meta><task><size>100</size><source>v.mp4</source></task></meta>
      <track id="0" label="walk">{track}</track></annotations>"""
    (tmp_path / "v.xml").write_text(text)
    with pytest.raises(AnnotationError, match="do not contain the frame rate; give --fps or --videos"):
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
    assert "1 answers about whole videos are left out" in source.remarks[0]


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
    assert "1 regions of single frames are left out" in source.remarks[0]


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
    assert "2 unlabelled or skipped tasks are left out" in source.remarks[0]


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
