"""Operating points: the score of the best F1 of each class, and what is shown from there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadkit.evaluation.operating_points import (
    FEWEST_ACTIONS,
    HIGHEST,
    LOWEST,
    Shown,
    calibration_error,
    choose_operating_points,
    shown_detections,
)
from tadkit.records import Annotation, Detection

ACTIONS = [Annotation(10.0 * n, 10.0 * n + 4, "fall") for n in range(6)]


def hit(number: int, score: float, label: str = "fall") -> Detection:
    return Detection(10.0 * number, 10.0 * number + 4, label, score)


def miss(number: int, score: float, label: str = "fall") -> Detection:
    return Detection(10.0 * number + 5, 10.0 * number + 9, label, score)


def chosen(found: list[Detection], actions: list[Annotation] = ACTIONS) -> dict[str, float]:
    return choose_operating_points({"v": actions}, {"v": found}, labels=("fall",))


def test_the_point_lies_between_the_last_hit_that_pays_and_the_false_positive_below_it() -> None:
    found = [hit(n, 0.2 - 0.01 * n) for n in range(5)] + [miss(n, 0.12 - 0.01 * n) for n in range(4)]
    assert chosen(found) == {"fall": pytest.approx((0.16 + 0.12) / 2)}


def test_a_false_positive_above_two_hits_is_worth_them() -> None:
    found = [hit(0, 0.5), hit(1, 0.45), hit(2, 0.42), miss(0, 0.4), hit(3, 0.3), hit(4, 0.28), miss(1, 0.1)]
    assert chosen(found) == {"fall": pytest.approx((0.28 + 0.1) / 2)}


def test_points_are_bounded() -> None:
    assert chosen([hit(n, 0.9) for n in range(6)] + [miss(n, 0.8) for n in range(6)]) == {"fall": HIGHEST}
    assert chosen([hit(n, 0.02) for n in range(6)] + [hit(0, 0.06)]) == {"fall": LOWEST}


def test_classes_with_few_actions_or_without_a_hit_have_no_point() -> None:
    found = [hit(n, 0.2) for n in range(6)]
    assert chosen(found, ACTIONS[: FEWEST_ACTIONS - 1]) == {}
    assert set(chosen(found, ACTIONS[:FEWEST_ACTIONS])) == {"fall"}
    assert chosen([miss(n, 0.4) for n in range(6)]) == {}
    assert chosen([]) == {}


def test_a_second_detection_of_an_action_is_no_hit() -> None:
    found = [hit(n, 0.4) for n in range(5)] + [hit(n, 0.2) for n in range(5)]
    shown = shown_detections({"v": ACTIONS}, {"v": found}, labels=("fall",), points={"fall": 0.1})["fall"]
    assert shown == Shown(0.1, actions=6, detections=10, hits=5)
    assert (shown.precision, shown.recall, shown.f1) == (0.5, pytest.approx(5 / 6), pytest.approx(10 / 16))


def test_videos_without_an_action_count_and_classes_apart() -> None:
    truth = {"v": ACTIONS, "w": []}
    found = {"v": [hit(0, 0.4), hit(1, 0.4, "sit")], "w": [hit(0, 0.5), hit(1, 0.2)]}
    shown = shown_detections(truth, found, labels=("fall", "sit"), points={"sit": 0.5})
    assert shown == {"fall": Shown(0.3, 6, 2, 1), "sit": Shown(0.5, 0, 0, 0)}
    assert shown["sit"].precision == shown["sit"].recall == shown["sit"].f1 == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 100)), max_size=40), st.integers(5, 59))
def test_no_score_within_the_bounds_has_a_better_f1(rows: list[tuple[int, bool, int]], other: int) -> None:
    found = [hit(n, score / 100) if right else miss(n, score / 100) for n, right, score in rows]

    def f1(score: float) -> float:
        return shown_detections({"v": ACTIONS}, {"v": found}, labels=("fall",), points={"fall": score})["fall"].f1

    points = chosen(found)
    assert all(LOWEST <= point <= HIGHEST for point in points.values())
    assert f1(other / 100 + 0.005) <= (f1(points["fall"]) if points else 0)


def test_calibration_error_is_the_distance_of_score_and_precision_in_each_range():
    truth = {"v": [Annotation(0, 10, "a"), Annotation(20, 30, "a")]}
    found = {
        "v": [
            Detection(0, 10, "a", 0.95),  # right; its range is 0.05 too low
            Detection(20, 30, "a", 0.65),  # right, beside a wrong one in its range: 0.5 right, mean score 0.63
            Detection(50, 60, "a", 0.61),
            Detection(70, 80, "a", 0.0),
            Detection(70, 80, "b", 0.9),  # another label
        ]
    }
    assert calibration_error(truth, found, labels=["a"]) == pytest.approx((0.05 + 2 * 0.13 + 0) / 4)
    assert calibration_error(truth, {}, labels=["a"]) == 0
    assert calibration_error(truth, {"v": [Detection(0, 10, "a", 1.0)]}, labels=["a"]) == 0
