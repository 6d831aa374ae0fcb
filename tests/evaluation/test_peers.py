"""Average precisions that others have computed: golden outputs of three evaluators."""

from pathlib import Path

import numpy as np
import pytest

from tadkit.evaluation import mean_average_precision

GOLDEN = Path(__file__).parent / "golden"
# Where scores tie the peers' answer is that of an unstable sort, and differs between processors: no answer to equal.
TIED = {"ties_heavy", "ties_all", "ties_small"}
# 0/0 is NaN in the official evaluator, which takes it for a hit; a test of its own tells what we do.
ODD_TRUTHS = {"zero_len_both"}


def assert_equal_to(result, expected):
    assert set(result.per_class) == set(expected["ap"])
    for label, values in expected["ap"].items():
        np.testing.assert_allclose(result.per_class[label], values, atol=1e-9, err_msg=label)
    np.testing.assert_allclose(result.map, expected["mAP"], atol=1e-9)


@pytest.mark.parametrize("name", sorted({path.stem for path in GOLDEN.glob("*.json")} - TIED - ODD_TRUTHS))
def test_equals_the_official_evaluator(name, golden):
    truth, detections, tious, peers = golden(name)
    # The official one raises KeyError on labels without truth; OpenTAD passes them over as we do.
    expected = peers.get("activitynet") or peers["opentad"]
    assert_equal_to(mean_average_precision(truth, detections, labels=None, tiou=tious), expected)


@pytest.mark.parametrize("name", ["zero_len_both", "dup_gt_exact"])
def test_equals_opentad_once_the_truths_that_it_drops_are_dropped(name, golden):
    truth, detections, tious, peers = golden(name)
    cleaned = {
        video: [action for action in dict.fromkeys(actions) if action.end_s > action.start_s]
        for video, actions in truth.items()
    }
    assert_equal_to(mean_average_precision(cleaned, detections, labels=None, tiou=tious), peers["opentad"])


def test_equals_actionformer_once_the_truths_under_a_millisecond_that_it_drops_are_dropped(golden):
    truth, detections, tious, peers = golden("tiny_gt")
    cleaned = {video: [a for a in actions if a.end_s - a.start_s >= 1e-3] for video, actions in truth.items()}
    assert_equal_to(mean_average_precision(cleaned, detections, labels=None, tiou=tious), peers["actionformer"])


@pytest.mark.parametrize("name", sorted(TIED))
def test_tied_scores_give_one_answer_whatever_the_order_of_the_file(name, golden):
    truth, detections, tious, _ = golden(name)
    shuffled = {video: list(reversed(found)) for video, found in reversed(detections.items())}
    first = mean_average_precision(truth, detections, labels=None, tiou=tious)
    second = mean_average_precision(truth, shuffled, labels=None, tiou=tious)
    np.testing.assert_array_equal(first.map, second.map)
    np.testing.assert_array_equal(first.pooled, second.pooled)
