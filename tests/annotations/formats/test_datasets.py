"""Dataset forms, each on a few lines as its authors write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tadkit.annotations.formats import Known, Source, SourceVideo, guess, read_annotations, read_classes
from tadkit.errors import AnnotationError
from tadkit.records import Annotation

NOTHING = Known()


def written(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def only(source: Source) -> SourceVideo:
    (video,) = source.videos
    return video


def database(subset: str, name: str = "video_test_0000004") -> dict[str, Any]:
    entry = {
        "subset": subset,
        "duration": "12.5",
        "fps": 30,
        "annotations": [{"segment": ["1", "2.5"], "label": "Run"}],
    }
    return {"database": {name: entry}}


@pytest.mark.parametrize(
    ("form", "subset", "ours"),
    [
        ("thumos14-afsd", "test", "testing"),
        ("thumos14-afsd", "train", "training"),
        ("thumos14-actionformer", "Validation", "training"),
        ("thumos14-actionformer", "Test", "testing"),
        ("thumos14-opentad", "validation", "testing"),
        ("thumos14-opentad", "training", "training"),
        ("activitynet", "validation", "validation"),
        ("hacs", "testing", "testing"),
        ("fineaction", "training", "training"),
    ],
)
def test_a_subset_means_what_its_form_means_by_it(form, subset, ours, tmp_path):
    video = only(read_annotations(written(tmp_path / "a.json", database(subset)), form, NOTHING))
    assert video == SourceVideo("video_test_0000004", (Annotation(1.0, 2.5, "Run"),), ours, 12.5, 30.0)


def test_a_subset_that_the_form_does_not_use_is_refused(tmp_path):
    path = written(tmp_path / "a.json", database("val"))
    with pytest.raises(AnnotationError, match=r"_0000004' has subset 'val'; this format uses 'train', 'test'"):
        read_annotations(path, "thumos14-afsd", NOTHING)


def both(*subsets: str) -> dict[str, Any]:
    names = ("video_test_0000004", "video_validation_0000001")
    return {"database": {n: database(s)["database"][names[0]] for n, s in zip(names, subsets, strict=False)}}


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (both("test", "train"), "thumos14-afsd"),
        (both("Test", "Validation"), "thumos14-actionformer"),
        (both("validation", "training"), "thumos14-opentad"),
        ({"database": {"v_x": {"subset": "validation"}}}, "activitynet"),
        ({"version": "tadkit 1", "database": {"v_x": {}}}, "tadkit"),
        ({"v_x": {"duration_second": 1, "annotations": []}}, "bmn"),
        ({"video_test_0000004": {"actions": []}}, "multithumos"),
        ({"7UPGT": {"actions": []}}, "charades"),
        ({"version": "1", "videos": []}, "ego4d-mq"),
    ],
)
def test_json_forms_are_told_from_their_content(content, form, tmp_path):
    assert guess(written(tmp_path / "a.json", content)) == form


@pytest.mark.parametrize("content", [both("validation"), {"a": 1}, [], [{"videos": "x.mp4"}], both("a", "b")])
def test_what_may_be_several_forms_is_not_guessed(content, tmp_path):
    with pytest.raises(AnnotationError, match="cannot be detected from its content; name it with --from"):
        guess(written(tmp_path / "a.json", content))


def test_official_thumos14_goes_by_file_names(tmp_path):
    written(tmp_path / "val" / "GolfSwing_val.txt", "video_validation_0000001  1.0 2.0\n")
    written(tmp_path / "test" / "GolfSwing_test.txt", "video_test_0000004  3 4\n\nvideo_test_0000004 5 6\n")
    written(tmp_path / "test" / "Ambiguous_test.txt", "video_test_0000004  7 8\n")
    written(tmp_path / "test" / "segment.txt", "video_test_0000004\n[[1, 2, 3]]\n")
    assert guess(tmp_path) == "thumos14"
    test, val = read_annotations(tmp_path, "thumos14", NOTHING).videos
    assert (test.subset, val.subset) == ("testing", "training")
    assert [a.label for a in test.annotations] == ["Ambiguous", "GolfSwing", "GolfSwing"]
    assert test.duration_s is None


def test_afsd_takes_durations_from_the_csv_beside_it(tmp_path):
    path = written(tmp_path / "thumos_gt.json", both("test", "train"))
    written(
        tmp_path / "test_video_info.csv", "video,fps,sample_fps,count,sample_count\nvideo_test_0000004,25,10,250,100\n"
    )
    first, second = read_annotations(path, "thumos14-afsd", NOTHING).videos
    assert (first.duration_s, first.fps) == (10.0, 25.0)
    assert (second.duration_s, second.fps) == (12.5, 30.0)


def test_numbered_classes_get_names_from_the_list_beside_the_file(tmp_path):
    entry = {"subset": "testing", "duration": 9.0, "actions": [[12, 1.0, 2.0]]}
    path = written(tmp_path / "multithumos.json", {"video_test_0000004": entry})
    bare = read_annotations(path, "multithumos", NOTHING)
    assert only(bare).annotations == (Annotation(1.0, 2.0, "12"),)
    assert "give their names with --classes" in bare.remarks[0]
    written(tmp_path / "class_list.txt", "1 BaseballPitch\n12 HighJump\n")
    named = read_annotations(path, "multithumos", NOTHING)
    assert only(named).annotations == (Annotation(1.0, 2.0, "HighJump"),)
    assert named.remarks == ()


def test_charades_csv_with_its_class_list(tmp_path):
    classes = written(tmp_path / "names.txt", "c092 Watching a window\nc147 Sitting in a chair\n")
    rows = 'id,subject,actions,length\n46GP8,HR43,"c092 11.90 21.20;c147 0.00 12.60",24.83\nN11GT,0KZ7,,18.33\n'
    path = written(tmp_path / "Charades_v1_test.csv", rows)
    assert guess(path) == "charades"
    source = read_annotations(path, "charades", Known(classes=read_classes(classes)))
    assert source.videos[0] == SourceVideo(
        "46GP8",
        (Annotation(11.9, 21.2, "Watching a window"), Annotation(0.0, 12.6, "Sitting in a chair")),
        "testing",
        24.83,
    )
    assert source.videos[1].annotations == ()


def test_segments_that_end_before_they_start_are_left_out_and_told(tmp_path):
    entry = {"subset": "training", "duration": 40, "actions": [[1, 38.0, 13.0], [1, 2, 3]]}
    source = read_annotations(written(tmp_path / "c.json", {"AKKWU": entry}), "charades", NOTHING)
    assert only(source).annotations == (Annotation(2.0, 3.0, "1"),)
    assert "1 segments end before they start and are left out: 'AKKWU' [38, 13]" in source.remarks[-1]


def test_epic_kitchens_names_classes_not_narrations(tmp_path):
    head = "narration_id,video_id,start_timestamp,stop_timestamp,verb,verb_class,noun,noun_class\n"
    path = written(
        tmp_path / "EPIC_100_validation.csv", f"{head}P01_11_1,P01_11,00:00:01.56,01:00:02.45,put-down,1,plate,2\n"
    )
    written(tmp_path / "EPIC_100_verb_classes.csv", "id,key,instances\n0,take,[]\n1,put,[]\n")
    written(tmp_path / "EPIC_100_noun_classes.csv", "id,key,instances\n2,plate:small,[]\n")
    written(tmp_path / "EPIC_100_video_info.csv", "video_id,duration,fps,resolution\nP01_11,3700,50,x\n")
    assert guess(path) == guess(tmp_path) == "epic-kitchens"
    verb = only(read_annotations(path, "epic-kitchens", NOTHING))
    noun = only(read_annotations(tmp_path, "epic-kitchens", Known(noun=True)))
    assert verb == SourceVideo("P01_11", (Annotation(1.56, 3602.45, "put"),), "validation", 3700.0, 50.0)
    assert noun.annotations[0].label == "plate:small"


def test_ego4d_keeps_primary_labels_of_clips_once(tmp_path):
    def label(start: float, primary: bool = True) -> dict[str, Any]:
        return {"start_time": start, "end_time": start + 2, "label": "use_phone", "primary": primary}

    annotators = [{"labels": [label(1.0), label(4.0, primary=False)]}, {"labels": [label(1.0), label(9.0)]}]
    clip = {"clip_uid": "c-1", "video_start_sec": 480.0, "video_end_sec": 960.0, "annotations": annotators}
    content = {"videos": [{"video_uid": "v", "split": "val", "clips": [clip]}]}
    source = read_annotations(written(tmp_path / "moments_val.json", content), "ego4d-mq", NOTHING)
    assert only(source) == SourceVideo(
        "c-1", (Annotation(1.0, 3.0, "use_phone"), Annotation(9.0, 11.0, "use_phone")), "validation", 480.0
    )
    assert [remark.partition(": ")[2][:25] for remark in source.remarks] == [
        "1 labels are not primary ",
        "1 labels are duplicates a",
    ]


@pytest.mark.parametrize(
    ("name", "content", "form", "said"),
    [
        ("a.json", {"database": []}, "activitynet", "no 'database' object"),
        (
            "a.json",
            database("test") | {"database": {"v": {"annotations": [{"label": "x"}]}}},
            "hacs",
            "'v' has the annot",
        ),
        ("a.json", {"v": {"duration_second": 1}}, "bmn", "video_info_new.csv: no such file"),
        ("GolfSwing_val.txt", "video_validation_0000001 1.0\n", "thumos14", "line 1: .* expected: video start end"),
        (
            "a.json",
            {"v": {"actions": [[1, 2]]}},
            "multithumos",
            r"'v' has the action \[1, 2\]; expected \[class, start",
        ),
        ("Charades_v1_test.csv", "id,length\nx,1\n", "charades", "no column 'actions'"),
    ],
)
def test_what_is_not_in_the_form_is_one_line_with_the_place(name, content, form, said, tmp_path):
    path = written(tmp_path / name, content)
    with pytest.raises(AnnotationError, match=said) as caught:
        read_annotations(tmp_path if form == "thumos14" else path, form, NOTHING)
    assert "\n" not in str(caught.value)
