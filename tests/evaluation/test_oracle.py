import numpy as np

from tadkit.evaluation.oracle import looped_soft_nms


def test_what_is_taken_lowers_its_own_class_by_the_gaussian():
    segments, scores = np.array([[0.0, 1.0]] * 3), np.array([1.0, 0.9, 0.8])
    kept = looped_soft_nms(segments, scores, [0, 0, 1], sigma=0.5, min_score=0.0, keep=9)
    assert [index for index, _ in kept] == [0, 2, 1]
    np.testing.assert_allclose([score for _, score in kept], [1.0, 0.8, 0.9 * np.exp(-2)])
