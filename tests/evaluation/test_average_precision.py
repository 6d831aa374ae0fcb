import warnings

import numpy as np
import pytest

from tadkit.errors import AnnotationError
from tadkit.evaluation import mean_average_precision
from tadkit.records import Annotation, Detection


def test_equal_scores_are_ranked_by_video_then_start():
    truth = {"a": [Annotation(0, 1, "x")], "b": [Annotation(0, 1, "x")]}
    later_is_right = {"a": [Detection(0, 1, "x", 0.5), Detection(-9, -8, "x", 0.5)], "b": []}
    earlier_is_right = {"a": [Detection(0, 1, "x", 0.5), Detection(8, 9, "x", 0.5)], "b": []}
    first_video_is_right = {"b": [Detection(8, 9, "x", 0.5)], "a": [Detection(0, 1, "x", 0.5)]}

    def score(found):
        return mean_average_precision(truth, found, labels=None, tiou=[0.5]).average_map

    assert score(later_is_right) == pytest.approx(0.25)
    assert score(earlier_is_right) == pytest.approx(0.5)
    assert score(first_video_is_right) == pytest.approx(0.5)


def test_protocols_differ_where_the_tiou_equals_the_threshold():
    truth = {"v": [Annotation(0, 2, "x")]}
    found = {"v": [Detection(0, 1, "x", 0.9)]}
    assert mean_average_precision(truth, found, labels=None, tiou=[0.5]).average_map == 1.0
    assert mean_average_precision(truth, found, labels=None, tiou=[0.5], protocol="thumos14").average_map == 0.0


def test_only_activitynet_interpolates_precision():
    truth = {"v": [Annotation(0, 1, "x"), Annotation(5, 6, "x")]}
    found = {"v": [Detection(9, 10, "x", 0.9), Detection(0, 1, "x", 0.8), Detection(5, 6, "x", 0.7)]}
    interpolated = mean_average_precision(truth, found, labels=None, tiou=[0.5])
    plain = mean_average_precision(truth, found, labels=None, tiou=[0.5], protocol="thumos14")
    assert interpolated.average_map == pytest.approx(2 / 3)
    assert plain.average_map == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_a_duplicate_falls_through_to_the_next_free_action():
    truth = {"v": [Annotation(0, 10, "x"), Annotation(1, 11, "x")]}
    found = {"v": [Detection(0, 10, "x", 0.9), Detection(0, 10, "x", 0.8)]}
    assert mean_average_precision(truth, found, labels=None, tiou=[0.5]).average_map == 1.0


def test_ambiguous_stretches_excuse_detections_only_in_thumos14():
    truth = {"v": [Annotation(0, 10, "x"), Annotation(20, 30, "Ambiguous")]}
    found = {"v": [Detection(21, 25, "x", 0.9), Detection(0, 10, "x", 0.8)]}
    strict = mean_average_precision(truth, found, labels=None, tiou=[0.5])
    lenient = mean_average_precision(truth, found, labels=None, tiou=[0.5], protocol="thumos14")
    assert strict.average_map == pytest.approx(0.5)
    assert lenient.average_map == 1.0
    assert set(strict.per_class) == set(lenient.per_class) == {"x"}
    assert strict.counts.ambiguous == lenient.counts.ambiguous == 1
    assert strict.counts.truths == 1


@pytest.mark.parametrize("protocol", ["activitynet", "thumos14"])
def test_segments_of_no_length_never_give_nan(protocol):
    truth = {"v": [Annotation(3, 3, "x"), Annotation(0, 1, "x"), Annotation(5, 5, "Ambiguous")]}
    found = {"v": [Detection(3, 3, "x", 0.9), Detection(5, 5, "x", 0.8), Detection(0, 1, "x", 0.7)]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = mean_average_precision(truth, found, labels=None, tiou=[0.3, 0.5], protocol=protocol)
    np.testing.assert_allclose(result.map, 1 / 6)
    assert result.counts.truths_without_length == 1


def test_classes_weigh_the_same_in_the_mean_and_instances_the_same_when_pooled():
    truth = {"v": [Annotation(i, i + 0.5, "many") for i in range(9)] + [Annotation(50, 51, "one")]}
    found = {"v": [Detection(i, i + 0.5, "many", 0.9) for i in range(9)]}
    result = mean_average_precision(truth, found, labels=None, tiou=[0.5])
    assert result.per_class["one"] == 0.0
    assert result.average_map == pytest.approx(0.5)
    assert result.average_pooled == pytest.approx(0.9)


def test_pooling_still_demands_the_same_label():
    truth = {"v": [Annotation(0, 1, "x"), Annotation(5, 6, "y")]}
    found = {"v": [Detection(0, 1, "y", 0.9), Detection(5, 6, "x", 0.8)]}
    assert mean_average_precision(truth, found, labels=None, tiou=[0.1]).average_pooled == 0.0


def test_no_detections_score_zero():
    result = mean_average_precision({"v": [Annotation(0, 1, "x")]}, {}, labels=None, tiou=[0.3, 0.5])
    np.testing.assert_array_equal(result.map, [0, 0])
    np.testing.assert_array_equal(result.pooled, [0, 0])
    assert result.counts.missing_videos == 1


def test_what_is_left_out_is_counted():
    truth = {"a": [Annotation(0, 1, "x")], "b": [Annotation(0, 1, "y")], "empty": []}
    found = {
        "a": [Detection(0, 1, "x", 0.5), Detection(0, 1, "typo", 0.9)],
        "stranger": [Detection(0, 1, "x", 0.9)],
        "empty stranger": [],
    }
    result = mean_average_precision(truth, found, labels=["x", "z"], tiou=[0.5])
    assert result.average_map == pytest.approx(0.5), "a detection in an unknown video is a false positive"
    counts = result.counts
    assert (counts.videos, counts.truths, counts.detections) == (3, 1, 2)
    assert (counts.unknown_labels, counts.unknown_label_names) == (1, ("typo",))
    assert (counts.unknown_videos, counts.missing_videos) == (1, 2)
    assert counts.labels_without_truth == ("z",)


@pytest.mark.parametrize("truth", [{}, {"v": []}, {"v": [Annotation(0, 1, "Ambiguous")]}])
def test_nothing_to_measure_is_refused(truth):
    with pytest.raises(AnnotationError, match="no action to evaluate"):
        mean_average_precision(truth, {}, labels=None, tiou=[0.5])
    with pytest.raises(AnnotationError, match="no action of x to evaluate"):
        mean_average_precision(truth, {}, labels=["x"], tiou=[0.5])
