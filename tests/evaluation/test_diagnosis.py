import tracemalloc

import numpy as np
import pytest

from tadkit.evaluation import ERRORS, diagnose, mean_average_precision
from tadkit.evaluation.diagnosis import TOP
from tadkit.records import Annotation, Detection
from tadkit.segments import temporal_iou

TRUTH = {"v": [Annotation(0, 10, "x"), Annotation(20, 30, "y"), Annotation(40, 50, "x")]}


def diagnosed(found, *, tiou=(0.5,), truth=TRUTH, protocol="activitynet"):
    durations_s = dict.fromkeys(truth, 100.0)
    return diagnose(truth, found, durations_s=durations_s, labels=None, tiou=tiou, protocol=protocol)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (Detection(0, 9, "x", 0.9), "double detection"),
        (Detection(20, 29, "x", 0.9), "wrong label"),
        (Detection(0, 4, "x", 0.9), "localisation"),
        (Detection(20, 24, "x", 0.9), "confusion"),
        (Detection(70, 80, "x", 0.9), "background"),
        (Detection(70, 70, "x", 0.9), "background"),
    ],
)
@pytest.mark.parametrize("protocol", ["activitynet", "thumos14"])
def test_every_type_of_error_is_told_and_its_cost_is_what_map_gains_without_it(wrong, error, protocol):
    right = Detection(0, 10, "x", 0.95 if error == "double detection" else 0.5)
    rest = [Detection(40, 50, "x", 0.4), Detection(20, 30, "y", 0.5)]
    errors = diagnosed({"v": [wrong, right, *rest]}, protocol=protocol).errors[0]
    shares = dict(zip(("true positive", *ERRORS), errors.shares[-1], strict=True))
    assert shares == {"true positive": 0.75, error: 0.25} | {name: 0.0 for name in ERRORS if name != error}
    with_it, without = (
        mean_average_precision(TRUTH, {"v": found}, labels=None, tiou=[0.5], protocol=protocol).average_map
        for found in ([wrong, right, *rest], [right, *rest])
    )
    assert errors.costs[error] == pytest.approx(without - with_it)
    assert errors.costs[error] > 0
    assert all(errors.costs[name] == 0 for name in ERRORS if name != error)
    assert errors.missed == 0


def test_shares_are_those_of_the_best_g_then_2g():
    found = [Detection(0, 10, "x", 0.9), Detection(70, 80, "x", 0.8), Detection(40, 50, "x", 0.7)]
    shares = diagnosed({"v": found}).errors[0].shares
    assert shares.shape == (TOP, 1 + len(ERRORS))
    np.testing.assert_allclose(shares[0, [0, -1]], [0.5, 0.5])
    np.testing.assert_allclose(shares[1:, 0], 2 / 3)


def test_shares_add_up_and_costs_are_not_negative_on_random_detections():
    rng = np.random.default_rng(0)
    found: dict[str, list[Detection]] = {"v": [], "stranger": []}
    for video in found:
        for _ in range(100):
            start = rng.uniform(0, 50)
            label = str(rng.choice(["x", "y"]))
            found[video].append(Detection(start, start + rng.uniform(0, 15), label, rng.uniform()))
    for errors in diagnosed(found, tiou=(0.05, 0.3, 0.7)).errors:
        np.testing.assert_allclose(errors.shares.sum(axis=1), 1.0)
        assert all(cost >= -1e-12 for cost in errors.costs.values())
        assert 0 <= errors.missed <= 1


def test_detections_on_ambiguous_stretches_are_no_errors_in_thumos14():
    truth = {"v": [*TRUTH["v"], Annotation(70, 80, "Ambiguous")]}
    found = {"v": [Detection(71, 79, "x", 0.9), Detection(0, 10, "x", 0.8)]}
    shares = diagnosed(found, truth=truth, protocol="thumos14").errors[0].shares
    np.testing.assert_allclose(shares[-1, 0], 1.0)
    shares = diagnosed(found, truth=truth).errors[0].shares
    np.testing.assert_allclose(shares[-1, [0, -1]], 0.5)


def test_without_detections_everything_is_missed():
    diagnosis = diagnosed({})
    assert diagnosis.errors[0].missed == 1.0
    assert not diagnosis.errors[0].shares.any()
    assert all(one.normalised_map == 0 for one in diagnosis.sensitivities)


def crowd(seed, count):
    """Ends and labels of synthetic segments: one in three has the label x."""
    rng = np.random.default_rng(seed)
    start_s = rng.uniform(0, 900, count)
    return np.stack((start_s, start_s + rng.uniform(1, 9, count)), axis=1), np.where(
        rng.random(count) < 1 / 3, "x", "y"
    )


def test_in_a_crowd_the_action_that_overlaps_most_decides_the_type():
    (actions_s, named), (found_s, guessed) = crowd(0, 500), crowd(1, 700)
    truth = {"v": [Annotation(*ends, label) for ends, label in zip(actions_s.tolist(), named, strict=True)]}
    found = {"v": [Detection(*ends, label, 0.5) for ends, label in zip(found_s.tolist(), guessed, strict=True)]}
    overlap = temporal_iou(found_s[:, None], actions_s[None])
    near, same = overlap.max(axis=1) >= 0.1, named[overlap.argmax(axis=1)] == guessed
    shares = dict(zip(ERRORS, diagnosed(found, truth=truth, tiou=(1.0,)).errors[0].shares[-1, 1:], strict=True))
    expected = {"localisation": near & same, "confusion": near & ~same, "background": ~near}
    assert {name: shares[name] for name in expected} == pytest.approx({n: e.mean() for n, e in expected.items()})


def test_one_crowded_video_costs_the_others_nothing():
    ends = [(float(second), second + 1.0) for second in range(2000)]
    truth = {"crowded": [Annotation(*segment, "x") for segment in ends]}
    truth |= {f"v{number}": [Annotation(0, 1, "x")] for number in range(100)}
    found = {video: [Detection(*segment, "x", 0.5) for segment in ends[:50]] for video in truth}
    tracemalloc.start()
    diagnosed(found, truth=truth)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 25e6
