import tracemalloc

import numpy as np
import pytest

from tadkit.errors import AnnotationError
from tadkit.evaluation import proposal_recall, recall_at_multiples
from tadkit.records import Annotation, Detection
from tadkit.segments import temporal_iou

LEVELS = np.linspace(0.5, 0.95, 10)


def test_twice_the_truth_finds_what_the_first_missed():
    truth = {"v": [Annotation(0, 1, "x"), Annotation(5, 6, "x")]}
    found = {"v": [Detection(8, 9, "x", 0.9), Detection(0, 1, "x", 0.8), Detection(5, 6, "x", 0.7)]}
    recall = recall_at_multiples(truth, found, labels=None, tiou=[0.5], multiples=(1, 2))
    np.testing.assert_allclose(recall, [[0.5], [1.0]])


def test_labels_of_proposals_do_not_count():
    truth = {"v": [Annotation(0, 1, "x")]}
    recall = proposal_recall(truth, {"v": [Detection(0, 1, "y", 0.9)]}, tiou=[0.5], proposals=1)
    assert recall.average_recall_at(1) == 1.0


def test_no_proposals_find_nothing():
    recall = proposal_recall({"v": [Annotation(0, 1, "x")]}, {}, tiou=[0.5])
    assert (recall.area, recall.average_recall_at(100)) == (0.0, 0.0)
    assert recall_at_multiples({"v": [Annotation(0, 1, "x")]}, {}, labels=None, tiou=[0.5]).tolist() == [[0.0]] * 2


def test_nothing_to_find_is_refused():
    with pytest.raises(AnnotationError, match="no action"):
        proposal_recall({"v": []}, {}, tiou=[0.5])
    with pytest.raises(AnnotationError, match="no action"):
        recall_at_multiples({"v": []}, {}, labels=None, tiou=[0.5])


def crowd(cls, seed, count, *score):
    """Segments of one label in a video of half an hour."""
    rng = np.random.default_rng(seed)
    start_s = rng.uniform(0, 1800, count)
    ends = np.stack((start_s, start_s + rng.uniform(1, 20, count)), axis=1)
    return ends, [cls(*segment, "x", *score) for segment in ends.tolist()]


def test_in_a_crowd_recall_is_that_of_the_matrix_of_overlaps_in_little_memory():
    (actions_s, actions), (found_s, _) = crowd(Annotation, 0, 400), crowd(Detection, 1, 2000, 0.5)
    found = [Detection(*ends, "x", 1 - place / 2000) for place, ends in enumerate(found_s.tolist())]
    reached = temporal_iou(actions_s[:, None], found_s[None])[..., None] >= LEVELS
    expected = [reached[:, :400].any(axis=1).mean(axis=0), reached.any(axis=1).mean(axis=0)]
    truth = {f"v{number}": actions for number in range(4)}
    tracemalloc.start()
    recall = recall_at_multiples(truth, dict.fromkeys(truth, found), labels=None, tiou=LEVELS)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(recall, expected)
    assert peak_bytes < 25e6
