from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadkit.errors import AnnotationError, SettingsError
from tadkit.records import (
    Annotation,
    Dataset,
    Detection,
    VideoRecord,
    check_subset,
    detections_json,
    read_dataset,
    read_detections,
    write_dataset,
    write_detections,
)

FINITE = st.floats(0, 1e6, allow_nan=False)


def annotations_file(folder: Path, **video: Any) -> Path:
    path = folder / "annotations.json"
    entry = {"duration": 10.0, "subset": "training", "annotations": [], **video}
    path.write_text(json.dumps({"version": "1", "taxonomy": [], "database": {"v_1": entry}}))
    return path


def test_a_dataset_is_read_back_as_it_was_written(tmp_path):
    record = VideoRecord("v_1", 9.5, "validation", (Annotation(0.1, 1 / 3, "sit"), Annotation(2.0, 2.0, "walk")))
    dataset = Dataset({"v_1": record, "empty": VideoRecord("empty", 1.0, "", ())})
    write_dataset(tmp_path / "a.json", dataset)
    assert read_dataset(tmp_path / "a.json") == dataset


def test_numbers_given_as_text_are_numbers(tmp_path):
    path = annotations_file(tmp_path, duration="12.5", annotations=[{"segment": ["1.5", "2"], "label": "dive"}])
    video = read_dataset(path).videos["v_1"]
    assert video.duration_s == 12.5
    assert video.annotations == (Annotation(1.5, 2.0, "dive"),)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"annotations": [{"segment": [3, 2], "label": "a"}]}, "ends before it starts"),
        ({"annotations": [{"segment": [1], "label": "a"}]}, "expected [start, end] in seconds"),
        ({"annotations": [{"segment": [1, "x"], "label": "a"}]}, "'x'; expected a number of seconds"),
        ({"annotations": [{"segment": [1, True], "label": "a"}]}, "True; expected a number of seconds"),
        ({"annotations": [{"segment": [1, 2]}]}, "without a text 'label'"),
        ({"annotations": {}}, "not a list"),
        ({"duration": None}, "has no duration; add it with: tadkit data convert"),
        ({"fps": "fast"}, "fps is 'fast'; expected frames a second"),
        ({"duration": "nan"}, "duration is 'nan'"),
        ({"duration": 10**400}, "...; expected a number of seconds"),
        ({"duration": 1e300}, "duration is 1e+300; expected a number of seconds"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_video(tmp_path, change, said):
    with pytest.raises(AnnotationError) as caught:
        read_dataset(annotations_file(tmp_path, **change))
    message = str(caught.value)
    assert said in message
    assert "annotations.json: 'v_1'" in message


def test_a_tool_s_file_is_sent_to_convert(tmp_path):
    (tmp_path / "a.csv").write_text("video,label,start,end\n")
    with pytest.raises(AnnotationError, match="convert it first with: tadkit data convert"):
        read_dataset(tmp_path / "a.csv")


@pytest.mark.parametrize("text", ["[]", "{}", '{"database": []}', "3"])
def test_a_file_of_another_kind_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(AnnotationError, match="expected ActivityNet-style JSON"):
        read_dataset(tmp_path / "a.json")
    with pytest.raises(AnnotationError, match="expected a detections file"):
        read_detections(tmp_path / "a.json")


def test_detections_have_the_three_keys_that_official_readers_ask_for():
    content = json.loads(detections_json({"v": [Detection(1.0, 2.0, "sit", 0.5)]}, external={"tadkit": {"model": "x"}}))
    assert content == {
        "version": "VERSION 1.3",
        "results": {"v": [{"label": "sit", "score": 0.5, "segment": [1.0, 2.0]}]},
        "external_data": {"tadkit": {"model": "x"}},
    }


@given(st.lists(st.tuples(FINITE, FINITE, st.text(), st.floats(0, 1)), max_size=5))
def test_detections_keep_their_full_precision(tmp_path_factory, found):
    path = tmp_path_factory.mktemp("dets") / "dets.json"
    detections = {"v": [Detection(min(a, b), max(a, b), label, score) for a, b, label, score in found]}
    write_detections(path, detections, external={})
    assert read_detections(path) == detections


def test_detections_of_others_may_lack_version_and_external_data(tmp_path):
    path = tmp_path / "dets.json"
    path.write_text('{"results": {"v": [{"label": "a", "score": "0.25", "segment": ["1", "2.5"]}]}}')
    assert read_detections(path) == {"v": [Detection(1.0, 2.5, "a", 0.25)]}


def test_a_detection_without_a_score_is_told_with_file_and_video(tmp_path):
    path = tmp_path / "dets.json"
    path.write_text('{"results": {"v": [{"label": "a", "segment": [1, 2]}]}}')
    with pytest.raises(AnnotationError, match=r"dets\.json: 'v' score is None"):
        read_detections(path)


@pytest.mark.parametrize(
    ("where", "videos", "actions"),
    [("room/annotations.json", 13, 163)],
)
def test_real_annotations_have_their_published_counts(shared_data, where, videos, actions):
    dataset = read_dataset(shared_data / where)
    assert len(dataset.videos) == videos
    assert sum(len(video.annotations) for video in dataset.videos.values()) == actions


@pytest.mark.parametrize("found", ["null", "3", '"abc"', "{}"])
def test_detections_that_are_no_list_are_told_with_file_and_video(tmp_path, found):
    path = tmp_path / "dets.json"
    path.write_text(f'{{"results": {{"v": {found}}}}}')
    with pytest.raises(AnnotationError, match=r"dets\.json: 'v' has detections that are not a list"):
        read_detections(path)


@pytest.mark.parametrize("read", [read_dataset, read_detections])
def test_a_video_named_twice_is_refused(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tmp_path / "twice.json"
    video = '{"duration": 9, "subset": "a", "annotations": []}' if read is read_dataset else "[]"
    key = "database" if read is read_dataset else "results"
    path.write_text(f'{{"{key}": {{"a": {video}, "b": {video}, "a": {video}}}}}')
    with pytest.raises(AnnotationError, match="'a' appears twice in one object"):
        read(path)


def test_an_unknown_subset_is_refused_with_the_existing_ones() -> None:
    check_subset("training", ["training", ""], where="a.json")
    check_subset("", ["training", ""], where="a.json")
    with pytest.raises(AnnotationError) as error:
        check_subset("test", ["training", "", "testing", "training"], where="a.json")
    assert str(error.value) == "a.json: no subset 'test'; the annotations have 'testing', 'training'"
    with pytest.raises(SettingsError, match="no subset 'test'; the videos have no subsets, so do not select one"):
        check_subset("test", [""], where="a.json", error=SettingsError)
