import numpy as np
import pytest

from tadkit.evaluation.oracle import looped_average_precision, looped_soft_nms


@pytest.mark.parametrize(
    "name", ["plain_00", "plain_09", "overlapping_gt", "gt_tiou_ties", "dup_gt_exact", "many_tiou"]
)
def test_the_loops_are_the_official_evaluator(name, golden):
    truth, detections, tious, peers = golden(name)
    found = looped_average_precision(truth, detections, tiou=tious)
    assert set(found) == set(peers["activitynet"]["ap"])
    for label, values in peers["activitynet"]["ap"].items():
        np.testing.assert_allclose(found[label], values, atol=1e-9, err_msg=label)


def test_what_is_taken_lowers_its_own_class_by_the_gaussian():
    segments, scores = np.array([[0.0, 1.0]] * 3), np.array([1.0, 0.9, 0.8])
    kept = looped_soft_nms(segments, scores, [0, 0, 1], sigma=0.5, min_score=0.0, keep=9)
    assert [index for index, _ in kept] == [0, 2, 1]
    np.testing.assert_allclose([score for _, score in kept], [1.0, 0.8, 0.9 * np.exp(-2)])
