import json

import pytest

from tadkit.errors import AnnotationError, UsageError
from tadkit.evaluation import ERRORS
from tadkit.evaluation.evaluate import evaluate, parse_tiou, report_json
from tadkit.records import Annotation, Dataset, Detection, VideoRecord, write_dataset, write_detections


@pytest.fixture
def files(tmp_path):
    """(detections, annotations): one video in each of two subsets, both found exactly."""
    annotations, detections = tmp_path / "truth.json", tmp_path / "found.json"
    records = [
        VideoRecord("a", 60.0, "training", (Annotation(1, 3, "walk"), Annotation(5, 7, "sit"))),
        VideoRecord("b", 60.0, "validation", (Annotation(1, 3, "walk"), Annotation(20, 30, "Ambiguous"))),
    ]
    write_dataset(annotations, Dataset({record.name: record for record in records}))
    found = {
        "a": [Detection(1, 3, "walk", 0.9), Detection(5, 7, "sit", 0.8)],
        "b": [Detection(1, 3, "walk", 0.7), Detection(8, 9, "wlak", 0.7)],
    }
    write_detections(detections, found, external={})
    return detections, annotations


def run(files, *, subset=None, labels=None, tiou=(0.3, 0.5)):
    return evaluate(*files, protocol="activitynet", tiou=tiou, subset=subset, labels=labels)


def test_all_videos_are_judged_without_a_subset(files):
    result = run(files).precision
    assert result.average_map == 1.0
    assert result.counts.truths == 3


def test_a_subset_judges_its_videos_and_counts_the_others_as_unknown(files):
    result = run(files, subset="validation").precision
    assert set(result.per_class) == {"walk"}
    assert result.average_map == pytest.approx(0.5), "the detection in the other subset is a false positive"
    assert result.counts.unknown_videos == 1
    assert result.counts.ambiguous == 1


def test_labels_restrict_the_classes(files):
    assert set(run(files, labels=["sit"]).precision.per_class) == {"sit"}


def test_an_unknown_subset_is_refused_with_those_that_exist(files):
    with pytest.raises(AnnotationError, match=r"no subset 'test'.*'training', 'validation'"):
        run(files, subset="test")


def test_files_that_share_no_video_are_refused(files):
    detections, _ = files
    write_detections(detections, {"v_a": [Detection(1, 3, "walk", 0.9)]}, external={})
    with pytest.raises(AnnotationError, match=r"found.json: none of its videos \(such as 'v_a'\).*such as 'a'"):
        run(files)


def test_empty_detections_score_zero(files):
    detections, _ = files
    write_detections(detections, {}, external={})
    result = run(files).precision
    assert result.average_map == result.average_pooled == 0.0
    assert result.counts.missing_videos == 2


def test_a_missing_file_is_named(files, tmp_path):
    with pytest.raises(AnnotationError, match=r"none.json: no such file"):
        evaluate(tmp_path / "none.json", files[1], protocol="activitynet", tiou=[0.5], subset=None)


def test_the_report_is_plain_json(files):
    report = json.loads(json.dumps(report_json(run(files))))
    assert report["protocol"] == "activitynet"
    assert report["map"] == report["pooled"] == {"0.3": 1.0, "0.5": 1.0}
    assert report["average_map"] == report["average_pooled"] == 1.0
    assert report["per_class"] == {"sit": {"0.3": 1.0, "0.5": 1.0}, "walk": {"0.3": 1.0, "0.5": 1.0}}
    assert report["counts"]["truths"] == report["counts"]["detections"] == 3
    assert report["counts"]["unknown_label_names"] == ["wlak"]


def test_recall_is_told_beside_precision(files):
    report = report_json(run(files))
    assert report["recall_at"] == {"1x": {"0.3": 1.0, "0.5": 1.0}, "5x": {"0.3": 1.0, "0.5": 1.0}}
    assert report["proposals"]["ar_at"]["100"] == 1.0
    assert 0 < report["proposals"]["auc"] <= 1.0


def test_the_analysis_is_plain_json(files):
    result = evaluate(*files, protocol="activitynet", tiou=[0.5], subset=None, analysis=True)
    analysis = json.loads(json.dumps(report_json(result)))["analysis"]
    assert analysis["errors"]["0.5"]["shares"]["10G"]["true positive"] == 1.0
    assert set(analysis["errors"]["0.5"]["map_cost"]) == set(ERRORS)
    assert set(analysis["sensitivities"]) == {"coverage", "length_s", "instances"}


def test_two_files_are_compared_at_every_threshold(files, tmp_path):
    worse = tmp_path / "worse.json"
    write_detections(worse, {"a": [Detection(1, 3, "walk", 0.9)], "b": []}, external={})
    result = evaluate(*files, protocol="activitynet", tiou=[0.3, 0.5], subset=None, compare=worse, resamples=20, seed=3)
    comparison = json.loads(json.dumps(report_json(result)))["comparison"]
    assert comparison["difference"]["value"] == pytest.approx(1.0 - comparison["other_average_map"])
    assert set(comparison["difference_at"]) == {"0.3", "0.5"}
    assert (comparison["resamples"], comparison["seed"]) == (20, 3)


def test_another_file_that_shares_no_video_is_refused(files, tmp_path):
    stranger = tmp_path / "stranger.json"
    write_detections(stranger, {"z": [Detection(1, 3, "walk", 0.9)]}, external={})
    with pytest.raises(AnnotationError, match=r"stranger.json: none of its videos"):
        evaluate(*files, protocol="activitynet", tiou=[0.5], subset=None, compare=stranger)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.3:0.1:0.7", (0.3, 0.4, 0.5, 0.6, 0.7)),
        ("0.1:0.1:0.5", (0.1, 0.2, 0.3, 0.4, 0.5)),
        ("0.5:0.05:0.95", (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)),
        ("0.3:0.3:0.8", (0.3, 0.6)),
        ("0.5:0.1:0.5", (0.5,)),
        ("0.5", (0.5,)),
        ("0.3, 0.5", (0.3, 0.5)),
    ],
)
def test_thresholds_are_read_from_text(text, expected):
    assert parse_tiou(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "half", "0.3,", "1.5", "-0.1", "nan", "0.5,0.5", "0.3:0.7", "0.3:0:0.7", "0.3:-0.1:0.1", "0.7:0.1:0.3",
     "0:1e-9:1", "0:nan:1", "0.5:0.1:1.2", "0.1:0.1:inf"],
)  # fmt: skip
def test_text_that_is_no_thresholds_is_refused(text):
    with pytest.raises(UsageError, match="tIoU"):
        parse_tiou(text)
