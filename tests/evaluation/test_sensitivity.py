import pytest

from tadkit.evaluation import diagnose
from tadkit.records import Annotation, Detection


def groups(truth, found, respect, *, duration_s=100.0, protocol="activitynet"):
    """Actions, missed share and normalised mAP of each group with actions, by name."""
    diagnosis = diagnose(
        truth, found, durations_s=dict.fromkeys(truth, duration_s), labels=None, tiou=[0.5], protocol=protocol
    )
    one = next(one for one in diagnosis.sensitivities if one.respect == respect)
    return {group.name: (group.actions, group.missed, group.normalised_map) for group in one.groups if group.actions}


SHORT_AND_LONG = {"v": [Annotation(0, 10, "x"), Annotation(20, 100, "x")]}


def test_a_detector_of_short_actions_is_told_by_coverage_and_length():
    found = {"v": [Detection(0, 10, "x", 0.9)]}
    expected = {"XS": (1, 0.0, 1.0), "L": (1, 1.0, 0.0)}
    assert groups(SHORT_AND_LONG, found, "coverage") == expected
    assert groups(SHORT_AND_LONG, found, "length_s") == {"XS": (1, 0.0, 1.0), "M": (1, 1.0, 0.0)}


def test_bounds_are_those_of_the_protocol():
    assert set(groups(SHORT_AND_LONG, {}, "length_s", protocol="thumos14")) == {"M", "XL"}
    assert set(groups(SHORT_AND_LONG, {}, "coverage", protocol="thumos14")) == {"XL"}


def test_instances_are_counted_for_each_class_of_a_video():
    truth = {"v": [Annotation(n, n + 1, "many") for n in range(5)] + [Annotation(0, 1, "one")]}
    assert {name: row[0] for name, row in groups(truth, {}, "instances").items()} == {"XS": 1, "M": 5}


def test_detections_of_other_groups_are_neither_hits_nor_errors():
    found = {"v": [Detection(20, 100, "x", 0.9), Detection(0, 10, "x", 0.5)]}
    assert groups(SHORT_AND_LONG, found, "coverage") == {"XS": (1, 0.0, 1.0), "L": (1, 0.0, 1.0)}


def test_precision_is_normalised_by_the_mean_number_of_actions():
    truth = {"v": [Annotation(0, 10, "x"), *(Annotation(20 * n, 20 * n + 10, "y") for n in range(3))]}
    found = {"v": [Detection(50, 55, "x", 0.9), Detection(0, 10, "x", 0.5)]}
    diagnosis = diagnose(truth, found, durations_s={"v": 100.0}, labels=["x"], tiou=[0.5])
    assert diagnosis.sensitivities[0].normalised_map == pytest.approx(1 / 2)
    both = diagnose(truth, found, durations_s={"v": 100.0}, labels=None, tiou=[0.5])
    # Of class x: recall 1, N = 2 actions a class, one false positive: 2 / (2 + 1); class y finds nothing.
    assert both.sensitivities[0].normalised_map == pytest.approx(2 / 3 / 2)


def test_lengths_on_a_bound_are_in_the_lower_group():
    lengths_s = (30, 31, 60, 61, 120, 121, 180, 181, 500)
    truth = {"v": [Annotation(0, length_s, "x") for length_s in lengths_s]}
    found = groups(truth, {}, "length_s", duration_s=1000.0)
    assert {name: row[0] for name, row in found.items()} == {"XS": 1, "S": 2, "M": 2, "L": 2, "XL": 2}
    found = groups(truth, {}, "coverage", duration_s=150.0)
    assert {name: row[0] for name, row in found.items()} == {"XS": 1, "S": 2, "M": 1, "L": 1, "XL": 4}


@pytest.mark.parametrize(("instances", "group"), [(1, "XS"), (2, "S"), (4, "S"), (5, "M"), (8, "M"), (9, "L")])
def test_instances_are_grouped_by_their_number(instances, group):
    truth = {"v": [Annotation(n, n + 1, "x") for n in range(instances)]}
    assert {name: row[0] for name, row in groups(truth, {}, "instances").items()} == {group: instances}


def test_instances_of_other_videos_and_classes_do_not_count():
    truth = {
        "v": [Annotation(0, 1, "x"), Annotation(2, 3, "x"), Annotation(4, 5, "y")],
        "w": [Annotation(0, 1, "x"), Annotation(4, 5, "y")],
    }
    assert {name: row[0] for name, row in groups(truth, {}, "instances").items()} == {"XS": 3, "S": 2}


def test_normalised_precision_is_interpolated():
    truth = {"v": [Annotation(0, 10, "x"), Annotation(20, 30, "x")]}
    found = {"v": [Detection(50, 55, "x", 0.9), Detection(0, 10, "x", 0.5), Detection(20, 30, "x", 0.4)]}
    diagnosis = diagnose(truth, found, durations_s={"v": 100.0}, labels=None, tiou=[0.5])
    # After the hits: 1 / (1 + 1) and 2 / (2 + 1), of which the envelope is 2 / 3 at both.
    assert diagnosis.sensitivities[0].normalised_map == pytest.approx(2 / 3)
