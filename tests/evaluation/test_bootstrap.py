import numpy as np
import pytest

from tadkit.errors import AnnotationError
from tadkit.evaluation import bootstrap_map, mean_average_precision, paired_difference
from tadkit.evaluation.average_precision import judged_labels, resampled_average_precision
from tadkit.evaluation.bootstrap import resampled
from tadkit.evaluation.matching import match_classes
from tadkit.records import Annotation, Detection


def made_up(seed, *, videos=8, classes=3, actions=4, found=20):
    """(truth, near detections, random detections)."""
    rng = np.random.default_rng(seed)
    names = [f"v{index:02d}" for index in range(videos)]

    def segment():
        start = rng.uniform(0, 100)
        return start, start + rng.uniform(2, 15)

    def label():
        return f"c{rng.integers(classes)}"

    truth = {name: [Annotation(*segment(), label()) for _ in range(actions)] for name in names}
    near = {
        name: [Detection(a.start_s + rng.normal(), a.end_s + 1, a.label, rng.uniform(0.3, 1)) for a in truth[name]]
        + [Detection(*segment(), label(), rng.uniform()) for _ in range(found - actions)]
        for name in names
    }
    random = {name: [Detection(*segment(), label(), rng.uniform()) for _ in range(found)] for name in names}
    return truth, near, random


@pytest.mark.parametrize("protocol", ["activitynet", "thumos14"])
def test_a_video_drawn_twice_counts_as_two_videos(protocol):
    truth, near, _ = made_up(0, actions=8)
    names = sorted(truth)
    draws = np.array([2, 0, 3, 1, 0, 1, 1, 0])
    copies = [(name, f"{name}.{copy}") for name, times in zip(names, draws, strict=True) for copy in range(times)]
    by_hand = mean_average_precision(
        {copy: truth[name] for name, copy in copies},
        {copy: near[name] for name, copy in copies},
        labels=None,
        tiou=[0.3, 0.5],
        protocol=protocol,
    )
    judged, _ = judged_labels(truth, None)
    matched = match_classes(truth, near, videos=names, labels=judged, tiou=[0.3, 0.5], protocol=protocol)
    of_class = resampled_average_precision(matched.class_ranking(), draws, protocol=protocol)
    pooled = resampled_average_precision(matched.pooled_ranking(), draws, protocol=protocol)
    assert set(by_hand.per_class) == set(judged), "a class is left out of this draw; choose another"
    for found, (label, expected) in zip(of_class, by_hand.per_class.items(), strict=True):
        np.testing.assert_allclose(found, expected, err_msg=label)
    np.testing.assert_allclose(pooled[0], by_hand.pooled)


@pytest.mark.parametrize("figure", ["map", "pooled"])
def test_the_interval_holds_the_figure(figure):
    truth, near, _ = made_up(1)
    interval = bootstrap_map(truth, near, tiou=[0.3, 0.5], resamples=200, seed=0, figure=figure)
    result = mean_average_precision(truth, near, labels=None, tiou=[0.3, 0.5])
    assert interval.value == pytest.approx(result.average_map if figure == "map" else result.average_pooled)
    assert 0 <= interval.low < interval.value < interval.high <= 1


def test_more_confidence_widens_the_interval():
    truth, near, _ = made_up(1)
    narrow, wide = (
        bootstrap_map(truth, near, tiou=[0.5], resamples=200, seed=0, confidence=share) for share in (0.5, 0.95)
    )
    assert wide.low < narrow.low < narrow.high < wide.high


def test_the_better_detections_are_told_apart_from_the_worse():
    truth, near, random = made_up(0, videos=2)
    difference = paired_difference(truth, near, random, tiou=[0.3, 0.5], resamples=200, seed=0)
    assert difference.low > 0
    assert difference.share_above_zero == 1.0
    assert not difference.covers_zero


def test_turning_the_two_around_turns_the_signs_around():
    truth, near, random = made_up(3)
    one = paired_difference(truth, near, random, tiou=[0.3], resamples=100, seed=5)
    other = paired_difference(truth, random, near, tiou=[0.3], resamples=100, seed=5)
    assert other.mean == pytest.approx(-one.mean)
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low))
    assert other.share_above_zero == pytest.approx(1 - one.share_above_zero)


def test_detections_do_not_differ_from_themselves():
    truth, near, _ = made_up(4)
    difference = paired_difference(truth, near, near, tiou=[0.3], resamples=50, seed=0)
    assert (difference.mean, difference.low, difference.high, difference.share_above_zero) == (0, 0, 0, 0.5)
    assert difference.covers_zero


def test_the_seed_decides_the_draws():
    truth, near, random = made_up(5)
    one, same, other = (
        paired_difference(truth, near, random, tiou=[0.3], resamples=50, seed=seed) for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_draws_without_any_action_are_drawn_again():
    truth = {"full": [Annotation(0, 1, "x")], **{f"empty{i}": [] for i in range(5)}}
    found = {"full": [Detection(0, 1, "x", 0.9)]}
    assert bootstrap_map(truth, found, tiou=[0.5], resamples=50, seed=0).low == 1.0


def test_nothing_to_measure_is_refused():
    with pytest.raises(AnnotationError, match="no action"):
        bootstrap_map({"v": []}, {}, tiou=[0.5], seed=0)


def test_detections_are_matched_once_however_many_draws(monkeypatch):
    truth, near, random = made_up(6)
    matched, ranked = [], []

    def match(_truth, detections, **options):
        matched.append(detections)
        return match_classes(_truth, detections, **options)

    def rank(ranking, draws, **options):
        ranked.append(draws.sum())
        return resampled_average_precision(ranking, draws, **options)

    monkeypatch.setattr("tadkit.evaluation.bootstrap.match_classes", match)
    monkeypatch.setattr("tadkit.evaluation.bootstrap.resampled_average_precision", rank)
    paired_difference(truth, near, random, tiou=[0.3, 0.5], resamples=40, seed=0)
    assert [detections is given for detections, given in zip(matched, (near, random), strict=True)] == [True, True]
    assert set(ranked) == {len(truth)}, "each draw has as many videos as there are"
    assert len(ranked) <= 2 * (40 + 1)


def test_few_videos_have_few_different_draws_and_each_is_scored_once(monkeypatch):
    truth, near, random = made_up(0, videos=2)
    ranked = []

    def rank(ranking, draws, **options):
        ranked.append(draws)
        return resampled_average_precision(ranking, draws, **options)

    monkeypatch.setattr("tadkit.evaluation.bootstrap.resampled_average_precision", rank)
    paired_difference(truth, near, random, tiou=[0.5], resamples=500, seed=0)
    assert len(ranked) == 2 * (3 + 1)  # twice the first, once each, twice the second; and the original videos


def evaluated(truth, detectors, **chosen):
    rules = {
        "tiou": [0.3, 0.5],
        "labels": None,
        "protocol": "activitynet",
        "figure": "map",
        "resamples": 200,
        "seed": 3,
    }
    return resampled(truth, detectors, **(rules | chosen))


def test_equal_seeds_give_what_one_seed_does():
    truth, near, random = made_up(4)
    one, three = evaluated(truth, [[near], [random]]), evaluated(truth, [[near] * 3, [random] * 3])
    np.testing.assert_allclose(one.drawn, three.drawn)
    alone = paired_difference(truth, near, random, tiou=[0.3, 0.5], resamples=200, seed=3)
    assert three.difference(0, 1).value == pytest.approx(alone.value)
    assert (three.difference(0, 1).low, three.difference(0, 1).high) == pytest.approx((alone.low, alone.high))


def test_seeds_that_differ_widen_the_interval_and_the_value_is_their_mean():
    truth, near, random = made_up(5)
    same, mixed = evaluated(truth, [[near] * 4]), evaluated(truth, [[near, random, near, random]])
    values = [mean_average_precision(truth, one, labels=None, tiou=[0.3, 0.5]).average_map for one in (near, random)]
    assert mixed.interval(0).value == pytest.approx(sum(values) / 2)
    assert mixed.interval(0).high - mixed.interval(0).low > 2 * (same.interval(0).high - same.interval(0).low)


def test_all_detectors_have_the_same_draws_of_videos_and_seeds():
    truth, near, random = made_up(6)
    both = evaluated(truth, [[near, random], [near, random]], figure="pooled")
    difference = both.difference(0, 1)
    assert (difference.low, difference.high, difference.covers_zero) == (0.0, 0.0, True)
    assert len(difference.by_tiou) == 2
