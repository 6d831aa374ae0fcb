"""Matching and ranking by synthetic cases: equal to the rules walked one by one, and true to their properties."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tadkit.evaluation import mean_average_precision
from tadkit.evaluation.oracle import looped_average_precision
from tadkit.records import Annotation, Detection

# Quarter-second grids give the ties and touching ends in which matching rules differ.
quarter_s = st.integers(0, 40).map(lambda n: n / 4)
videos = st.sampled_from(["a", "b", "c"])
labels = st.sampled_from(["x", "y"])
protocols = st.sampled_from(["activitynet", "thumos14"])


@st.composite
def cases(draw, *, distinct_scores=False):
    truth: dict[str, list[Annotation]] = {"a": [Annotation(0.0, 1.0, "x")]}
    for _ in range(draw(st.integers(0, 6))):
        start = draw(quarter_s)
        action = Annotation(start, start + draw(st.integers(1, 12)) / 4, draw(labels))
        truth.setdefault(draw(videos), []).append(action)
    count = draw(st.integers(0, 10))
    scores = draw(st.lists(st.integers(1, 100), min_size=count, max_size=count, unique=distinct_scores))
    found: dict[str, list[Detection]] = {}
    for score in scores:
        start = draw(quarter_s)
        end = start + draw(st.integers(0, 12)) / 4
        found.setdefault(draw(videos), []).append(Detection(start, end, draw(labels), score / 100))
    return truth, found


def tiou_of(a, b):
    shared = max(0.0, min(a.end_s, b.end_s) - max(a.start_s, b.start_s))
    union = (a.end_s - a.start_s) + (b.end_s - b.start_s) - shared
    return shared / union if union else 0.0


def plain_thumos14(truth, found, label, threshold):
    """AP by the kit's rules, without arrays."""
    judged = []
    truths = 0
    for video in sorted({*truth, *found}):
        items = sorted((d for d in found.get(video, []) if d.label == label), key=lambda d: -d.score)
        taken = [False] * len(items)
        for action in sorted((a for a in truth.get(video, []) if a.label == label), key=lambda a: (a.start_s, a.end_s)):
            truths += 1
            free = [i for i in range(len(items)) if not taken[i]]
            best = max(free, key=lambda i: tiou_of(items[i], action), default=None)
            if best is not None and tiou_of(items[best], action) > threshold:
                taken[best] = True
        judged += list(zip((d.score for d in items), taken, strict=True))
    judged.sort(key=lambda pair: -pair[0])
    flags = [hit for _, hit in judged]
    return sum(sum(flags[: i + 1]) / (i + 1) for i, hit in enumerate(flags) if hit) / truths


@settings(max_examples=150, deadline=None)
@given(cases())
def test_equals_the_rules_walked_one_by_one(case):
    truth, found = case
    tiou = [0.25, 0.5, 0.8]
    looped = looped_average_precision(truth, found, tiou=tiou)
    result = mean_average_precision(truth, found, labels=None, tiou=tiou)
    assert set(looped) == set(result.per_class)
    for label, values in result.per_class.items():
        np.testing.assert_allclose(values, looped[label], atol=1e-12, err_msg=f"activitynet {label}")
    result = mean_average_precision(truth, found, labels=None, tiou=tiou, protocol="thumos14")
    for label, values in result.per_class.items():
        expected = [plain_thumos14(truth, found, label, threshold) for threshold in tiou]
        np.testing.assert_allclose(values, expected, atol=1e-12, err_msg=f"thumos14 {label}")


def test_in_a_crowd_who_gives_way_to_a_better_detection_still_gets_its_next_action():
    rng = np.random.default_rng(0)

    def segments(count):
        start_s = rng.integers(0, 40, count) / 4
        return zip(start_s, start_s + rng.integers(8, 40, count) / 4, strict=True)

    truth = {"a": [Annotation(start, end, "x") for start, end in segments(40)]}
    found = {"a": [Detection(start, end, "x", rng.random()) for start, end in segments(150)]}
    tiou = [0.1, 0.3, 0.6]
    looped = looped_average_precision(truth, found, tiou=tiou)
    result = mean_average_precision(truth, found, labels=None, tiou=tiou)
    np.testing.assert_allclose(result.per_class["x"], looped["x"], atol=1e-12)
    assert (looped["x"] > 0.2).all(), "the crowd is too thin to show anything"


@settings(max_examples=60, deadline=None)
@given(cases(), protocols)
def test_precisions_lie_between_zero_and_one(case, protocol):
    result = mean_average_precision(*case, labels=None, tiou=[0.0, 0.3, 1.0], protocol=protocol)
    for values in (result.map, result.pooled, *result.per_class.values()):
        assert ((values >= 0) & (values <= 1 + 1e-12)).all()


@settings(max_examples=60, deadline=None)
@given(cases(), protocols, st.randoms(use_true_random=False))
def test_perfect_detections_score_one_and_false_ones_below_them_change_nothing(case, protocol, random):
    truth, found = case
    perfect = {
        video: [Detection(a.start_s, a.end_s, a.label, random.uniform(0.5, 1)) for a in actions]
        for video, actions in truth.items()
    }
    below = {
        video: [Detection(d.start_s, d.end_s, d.label, d.score / 10) for d in items] for video, items in found.items()
    }
    both = {video: perfect.get(video, []) + below.get(video, []) for video in {*perfect, *below}}
    for detections in (perfect, both):
        result = mean_average_precision(truth, detections, labels=None, tiou=[0.3, 0.7, 0.95], protocol=protocol)
        np.testing.assert_allclose(result.map, 1.0)
        np.testing.assert_allclose(result.pooled, 1.0)


@settings(max_examples=60, deadline=None)
@given(cases(distinct_scores=True), protocols)
def test_only_the_order_of_scores_counts(case, protocol):
    truth, found = case
    bent = {
        video: [Detection(d.start_s, d.end_s, d.label, d.score**3 * 7 - 2) for d in reversed(items)]
        for video, items in reversed(found.items())
    }
    turned = dict(reversed(truth.items()))
    first = mean_average_precision(truth, found, labels=None, tiou=[0.3, 0.5], protocol=protocol)
    second = mean_average_precision(turned, bent, labels=None, tiou=[0.3, 0.5], protocol=protocol)
    np.testing.assert_array_equal(first.map, second.map)
    np.testing.assert_array_equal(first.pooled, second.pooled)
