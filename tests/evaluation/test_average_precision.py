import json
import os
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tadkit.errors import AnnotationError
from tadkit.evaluation import mean_average_precision
from tadkit.records import Annotation, Detection, read_dataset, read_detections

GOLDEN = Path(__file__).parent / "golden"
TIED = {"ties_heavy", "ties_all", "ties_small"}
# 0/0 is NaN in the official evaluator, which takes it for a hit; a test of its own tells what we do.
ODD_TRUTHS = {"zero_len_both"}
needs_data = pytest.mark.skipif(not os.environ.get("TADKIT_DATA"), reason="needs TADKIT_DATA, the shared research data")


def golden(name):
    """(truth of the validation subset, detections, tious, peers' results) of one case of the peers."""
    content = json.loads((GOLDEN / f"{name}.json").read_text())
    truth = {
        video: [Annotation(*item["segment"], item["label"]) for item in entry["annotations"]]
        for video, entry in content["truth"]["database"].items()
        if entry["subset"] == "validation"
    }
    detections = {
        video: [Detection(*item["segment"], item["label"], item["score"]) for item in found]
        for video, found in content["detections"]["results"].items()
    }
    return truth, detections, content["tious"], content["peers"]


def assert_equal_to(result, expected):
    assert set(result.per_class) == set(expected["ap"])
    for label, values in expected["ap"].items():
        np.testing.assert_allclose(result.per_class[label], values, atol=1e-9, err_msg=label)
    np.testing.assert_allclose(result.map, expected["mAP"], atol=1e-9)


@pytest.mark.parametrize("name", sorted({path.stem for path in GOLDEN.glob("*.json")} - TIED - ODD_TRUTHS))
def test_equals_the_official_evaluator(name):
    truth, detections, tious, peers = golden(name)
    # The official one raises KeyError on labels without truth; OpenTAD passes them over as we do.
    expected = peers.get("activitynet") or peers["opentad"]
    assert_equal_to(mean_average_precision(truth, detections, labels=None, tiou=tious), expected)


@pytest.mark.parametrize("name", ["zero_len_both", "dup_gt_exact"])
def test_equals_opentad_once_the_truths_that_it_drops_are_dropped(name):
    truth, detections, tious, peers = golden(name)
    cleaned = {
        video: [action for action in dict.fromkeys(actions) if action.end_s > action.start_s]
        for video, actions in truth.items()
    }
    assert_equal_to(mean_average_precision(cleaned, detections, labels=None, tiou=tious), peers["opentad"])


@pytest.mark.parametrize("name", sorted(TIED))
def test_tied_scores_give_one_answer_whatever_the_order_of_the_file(name):
    truth, detections, tious, _ = golden(name)
    shuffled = {video: list(reversed(found)) for video, found in reversed(detections.items())}
    first = mean_average_precision(truth, detections, labels=None, tiou=tious)
    second = mean_average_precision(truth, shuffled, labels=None, tiou=tious)
    np.testing.assert_array_equal(first.map, second.map)
    np.testing.assert_array_equal(first.pooled, second.pooled)


def test_equal_scores_are_ranked_by_video_then_start():
    truth = {"a": [Annotation(0, 1, "x")], "b": [Annotation(0, 1, "x")]}
    later_is_right = {"a": [Detection(0, 1, "x", 0.5), Detection(-9, -8, "x", 0.5)], "b": []}
    earlier_is_right = {"a": [Detection(0, 1, "x", 0.5), Detection(8, 9, "x", 0.5)], "b": []}
    first_video_is_right = {"b": [Detection(8, 9, "x", 0.5)], "a": [Detection(0, 1, "x", 0.5)]}

    def score(found):
        return mean_average_precision(truth, found, labels=None, tiou=[0.5]).average_map

    assert score(later_is_right) == pytest.approx(0.25)
    assert score(earlier_is_right) == pytest.approx(0.5)
    assert score(first_video_is_right) == pytest.approx(0.5)


def test_protocols_differ_where_the_tiou_equals_the_threshold():
    truth = {"v": [Annotation(0, 2, "x")]}
    found = {"v": [Detection(0, 1, "x", 0.9)]}
    assert mean_average_precision(truth, found, labels=None, tiou=[0.5]).average_map == 1.0
    assert mean_average_precision(truth, found, labels=None, tiou=[0.5], protocol="thumos14").average_map == 0.0


def test_only_activitynet_interpolates_precision():
    truth = {"v": [Annotation(0, 1, "x"), Annotation(5, 6, "x")]}
    found = {"v": [Detection(9, 10, "x", 0.9), Detection(0, 1, "x", 0.8), Detection(5, 6, "x", 0.7)]}
    interpolated = mean_average_precision(truth, found, labels=None, tiou=[0.5])
    plain = mean_average_precision(truth, found, labels=None, tiou=[0.5], protocol="thumos14")
    assert interpolated.average_map == pytest.approx(2 / 3)
    assert plain.average_map == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_a_duplicate_falls_through_to_the_next_free_action():
    truth = {"v": [Annotation(0, 10, "x"), Annotation(1, 11, "x")]}
    found = {"v": [Detection(0, 10, "x", 0.9), Detection(0, 10, "x", 0.8)]}
    assert mean_average_precision(truth, found, labels=None, tiou=[0.5]).average_map == 1.0


def test_ambiguous_stretches_excuse_detections_only_in_thumos14():
    truth = {"v": [Annotation(0, 10, "x"), Annotation(20, 30, "Ambiguous")]}
    found = {"v": [Detection(21, 25, "x", 0.9), Detection(0, 10, "x", 0.8)]}
    strict = mean_average_precision(truth, found, labels=None, tiou=[0.5])
    lenient = mean_average_precision(truth, found, labels=None, tiou=[0.5], protocol="thumos14")
    assert strict.average_map == pytest.approx(0.5)
    assert lenient.average_map == 1.0
    assert set(strict.per_class) == set(lenient.per_class) == {"x"}
    assert strict.counts.ambiguous == lenient.counts.ambiguous == 1
    assert strict.counts.truths == 1


@pytest.mark.parametrize("protocol", ["activitynet", "thumos14"])
def test_segments_of_no_length_never_give_nan(protocol):
    truth = {"v": [Annotation(3, 3, "x"), Annotation(0, 1, "x"), Annotation(5, 5, "Ambiguous")]}
    found = {"v": [Detection(3, 3, "x", 0.9), Detection(5, 5, "x", 0.8), Detection(0, 1, "x", 0.7)]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = mean_average_precision(truth, found, labels=None, tiou=[0.3, 0.5], protocol=protocol)
    np.testing.assert_allclose(result.map, 1 / 6)
    assert result.counts.truths_without_length == 1


def test_classes_weigh_the_same_in_the_mean_and_instances_the_same_when_pooled():
    truth = {"v": [Annotation(i, i + 0.5, "many") for i in range(9)] + [Annotation(50, 51, "one")]}
    found = {"v": [Detection(i, i + 0.5, "many", 0.9) for i in range(9)]}
    result = mean_average_precision(truth, found, labels=None, tiou=[0.5])
    assert result.per_class["one"] == 0.0
    assert result.average_map == pytest.approx(0.5)
    assert result.average_pooled == pytest.approx(0.9)


def test_pooling_still_demands_the_same_label():
    truth = {"v": [Annotation(0, 1, "x"), Annotation(5, 6, "y")]}
    found = {"v": [Detection(0, 1, "y", 0.9), Detection(5, 6, "x", 0.8)]}
    assert mean_average_precision(truth, found, labels=None, tiou=[0.1]).average_pooled == 0.0


def test_no_detections_score_zero():
    result = mean_average_precision({"v": [Annotation(0, 1, "x")]}, {}, labels=None, tiou=[0.3, 0.5])
    np.testing.assert_array_equal(result.map, [0, 0])
    np.testing.assert_array_equal(result.pooled, [0, 0])
    assert result.counts.missing_videos == 1


def test_what_is_left_out_is_counted():
    truth = {"a": [Annotation(0, 1, "x")], "b": [Annotation(0, 1, "y")], "empty": []}
    found = {
        "a": [Detection(0, 1, "x", 0.5), Detection(0, 1, "typo", 0.9)],
        "stranger": [Detection(0, 1, "x", 0.9)],
    }
    result = mean_average_precision(truth, found, labels=["x", "z"], tiou=[0.5])
    assert result.average_map == pytest.approx(0.5), "a detection in an unknown video is a false positive"
    counts = result.counts
    assert (counts.videos, counts.truths, counts.detections) == (3, 1, 2)
    assert (counts.unknown_labels, counts.unknown_label_names) == (1, ("typo",))
    assert (counts.unknown_videos, counts.missing_videos) == (1, 2)
    assert counts.labels_without_truth == ("z",)


@pytest.mark.parametrize("truth", [{}, {"v": []}, {"v": [Annotation(0, 1, "Ambiguous")]}])
def test_nothing_to_measure_is_refused(truth):
    with pytest.raises(AnnotationError, match="no action to evaluate"):
        mean_average_precision(truth, {}, labels=None, tiou=[0.5])
    with pytest.raises(AnnotationError, match="no action of x to evaluate"):
        mean_average_precision(truth, {}, labels=["x"], tiou=[0.5])


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


def plain_activitynet(truth, found, label, threshold):
    """AP by walking the rules one after another, without arrays."""
    ranked = sorted(
        ((video, d) for video, items in found.items() for d in items if d.label == label),
        key=lambda pair: (-pair[1].score, pair[0], pair[1].start_s, pair[1].end_s),
    )
    free = {video: [action for action in actions if action.label == label] for video, actions in truth.items()}
    truths = sum(map(len, free.values()))
    points = []
    for rank, (video, detection) in enumerate(ranked, start=1):
        walk = sorted(free.get(video, []), key=lambda a: (-tiou_of(detection, a), -a.start_s, -a.end_s))
        hit = bool(walk) and tiou_of(detection, walk[0]) >= threshold
        if hit:
            free[video].remove(walk[0])
        hits = (points[-1][0] if points else 0) + hit
        points.append((hits, hits / rank))
    return sum(max((p for hits, p in points if hits >= level), default=0.0) for level in range(1, truths + 1)) / truths


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
    for protocol, plain in (("activitynet", plain_activitynet), ("thumos14", plain_thumos14)):
        result = mean_average_precision(truth, found, labels=None, tiou=[0.25, 0.5, 0.8], protocol=protocol)
        for label, values in result.per_class.items():
            expected = [plain(truth, found, label, threshold) for threshold in (0.25, 0.5, 0.8)]
            np.testing.assert_allclose(values, expected, atol=1e-12, err_msg=f"{protocol} {label}")


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


def official_thumos14_truth(folder):
    truth = defaultdict(list)
    for path in folder.glob("*_test.txt"):
        for line in filter(None, path.read_text().splitlines()):
            video, start, end = line.split()
            truth[video].append(Annotation(float(start), float(end), path.stem.removesuffix("_test")))
    return truth


@needs_data
@pytest.mark.parametrize("threshold", ["0.1", "0.2", "0.3", "0.4", "0.5"])
def test_reproduces_turn_with_scnn_on_thumos14(threshold):
    data = Path(os.environ["TADKIT_DATA"])
    truth = official_thumos14_truth(data / "annotations/thumos14/official_txt/test")
    names = sorted({a.label for actions in truth.values() for a in actions} - {"Ambiguous"})
    ids = (7, 9, 12, 21, 22, 23, 24, 26, 31, 33, 36, 40, 45, 51, 68, 79, 85, 92, 93, 97)
    name_of = dict(zip(ids, names, strict=True))
    folder = data / "detections/turn_flow16_scnn"
    found = defaultdict(list)
    for line in (folder / f"TURN-FLOW-16_SCNN_thumos14_iou{threshold}.txt").read_text().splitlines():
        video, start, end, label, score = line.split()
        found[video].append(Detection(float(start), float(end), name_of[int(label)], float(score)))
    expected = json.loads((data / "detections/expected.json").read_text())["turn_flow16_scnn"]
    result = mean_average_precision(truth, found, labels=None, tiou=[float(threshold)], protocol="thumos14")
    assert round(100 * result.average_map, 2) == expected["reproduced"][threshold]
    assert round(100 * result.average_map, 1) == expected["published"][threshold]
    assert (result.counts.truths, result.counts.ambiguous) == (3358, 99)


@needs_data
def test_reproduces_autoloc_on_thumos14():
    folder = Path(os.environ["TADKIT_DATA"]) / "detections"
    truth = {v.name: v.annotations for v in read_dataset(folder / "autoloc/ground_truth.json").videos.values()}
    found = read_detections(folder / "autoloc/results.json")
    expected = json.loads((folder / "expected.json").read_text())["autoloc"]
    result = mean_average_precision(truth, found, labels=None, tiou=[0.3, 0.4, 0.5, 0.6, 0.7])
    assert [round(100 * value, 2) for value in result.map] == list(expected["reproduced"].values())
    assert [round(100 * value, 1) for value in result.map] == list(expected["published"].values())
