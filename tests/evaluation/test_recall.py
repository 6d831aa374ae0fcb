import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tadkit.errors import AnnotationError
from tadkit.evaluation import proposal_recall, recall_at_multiples
from tadkit.evaluation.tables import temporal_iou
from tadkit.records import Annotation, Detection

PEERS = json.loads((Path(__file__).parent / "golden" / "recall" / "recall.json").read_text())
# Tied scores: the peers' answer is that of an unstable sort.
TIED = {"ties_heavy", "ties_all", "ties_small"}
# OpenTAD drops truths without length and repeated ones.
DROPPED = {"zero_len_both", "dup_gt_exact"}
LEVELS = np.linspace(0.5, 0.95, 10)


@pytest.mark.parametrize("name", sorted(set(PEERS["multiples"]) - TIED))
def test_recall_at_multiples_is_that_of_opentad(name, golden):
    truth, detections, tious, _ = golden(name)
    if name in DROPPED:
        truth = {
            video: [action for action in dict.fromkeys(actions) if action.end_s > action.start_s]
            for video, actions in truth.items()
        }
    found = recall_at_multiples(truth, detections, labels=None, tiou=tious)
    np.testing.assert_allclose(found.T, PEERS["multiples"][name], atol=1e-9)


@pytest.mark.parametrize("name", sorted(set(PEERS["proposals"]) - TIED))
@pytest.mark.parametrize(("key", "proposals"), [("an_None", None), ("an_10", 10), ("an_5", 5)])
def test_proposal_recall_is_that_of_the_official_evaluator(name, key, proposals, golden):
    truth, detections, _, _ = golden(name)
    expected = PEERS["proposals"][name][key]
    found = proposal_recall(truth, detections, tiou=LEVELS, proposals=proposals)
    np.testing.assert_allclose(found.average_recall, expected["avg_recall"], atol=1e-9)
    np.testing.assert_allclose(found.proposals_per_video, expected["proposals_per_video"], atol=1e-9)
    assert found.area == pytest.approx(expected["auc"], abs=1e-9)


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
    reached = temporal_iou(actions_s, found_s)[..., None] >= LEVELS
    expected = [reached[:, :400].any(axis=1).mean(axis=0), reached.any(axis=1).mean(axis=0)]
    truth = {f"v{number}": actions for number in range(4)}
    tracemalloc.start()
    recall = recall_at_multiples(truth, dict.fromkeys(truth, found), labels=None, tiou=LEVELS)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(recall, expected)
    assert peak_bytes < 25e6
