from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadkit.evaluation.oracle import looped_soft_nms
from tadkit.heads.suppression import PEER_MARGIN, hard_nms, linear_soft_nms, soft_nms, voted

GOLDEN = dict(np.load(Path(__file__).parent / "golden" / "suppression.npz"))
CASES = sorted({name.split("_")[0] for name in GOLDEN})
EVERYTHING = 10**6


def inputs(case: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tuple(GOLDEN[f"{case}_{field}"] for field in ("segments", "scores", "labels"))


PEER = {"keep": EVERYTHING, "margin": PEER_MARGIN}
"""As ActionFormer's routines compute: in float32 (as the inputs are), 1e-6 added to lengths."""


def is_tied(case: str) -> bool:
    """Where scores tie the peer's order is that of an unstable sort, and what it keeps depends on the order."""
    scores = GOLDEN[f"{case}_scores"]
    return len(np.unique(scores)) < len(scores)


UNTIED = [case for case in CASES if not is_tied(case)]


@pytest.mark.parametrize("case", UNTIED)
def test_every_suppression_takes_what_actionformer_takes_in_its_order(case: str) -> None:
    segments, scores, _ = inputs(case)
    kept, _ = hard_nms(segments, scores, iou=0.5, min_score=0.0, **PEER)
    assert kept.tolist() == GOLDEN[f"{case}_hard_inds"].tolist()
    for name, (kept, lowered) in {
        "gauss": soft_nms(segments, scores, sigma=0.5, min_score=0.001, **PEER),
        "linear": linear_soft_nms(segments, scores, iou=0.3, min_score=0.001, **PEER),
        "soft0": hard_nms(segments, scores, iou=0.5, min_score=0.001, **PEER),
    }.items():
        assert kept.tolist() == GOLDEN[f"{case}_{name}_inds"].tolist(), name
        np.testing.assert_allclose(lowered, GOLDEN[f"{case}_{name}_scores"], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("case", [case for case in CASES if is_tied(case)])
def test_soft_nms_of_tied_scores_lowers_as_actionformer_does(case: str) -> None:
    segments, scores, _ = inputs(case)
    _, lowered = soft_nms(segments, scores, sigma=0.5, min_score=0.001, keep=EVERYTHING)
    np.testing.assert_allclose(lowered, GOLDEN[f"{case}_gauss_scores"], atol=1e-5)


@pytest.mark.parametrize("case", UNTIED)
@pytest.mark.parametrize("method", ["soft", "hard"])
@pytest.mark.parametrize("classes", ["mc", "ag"])
def test_whole_calls_are_those_of_actionformer(case: str, method: str, classes: str) -> None:
    segments, scores, labels = inputs(case)
    limits = {"min_score": 0.001, "keep": 200, "labels": labels if classes == "mc" else None, "margin": PEER_MARGIN}
    kept, lowered = (
        soft_nms(segments, scores, sigma=0.5, **limits)
        if method == "soft"
        else hard_nms(segments, scores, iou=0.5, **limits)
    )
    found = segments[kept]
    if classes == "ag":
        found = voted(found, segments, scores, iou=0.7, rule="score-iou")
    golden = {field: GOLDEN[f"{case}_b_{method}_{classes}_{field}"] for field in ("segments", "scores", "labels")}
    np.testing.assert_allclose(lowered, golden["scores"], atol=1e-5)
    same = lowered[1:] - lowered[:-1] < -1e-6  # float32 scores of two classes may come out equal
    apart = np.concatenate(([True], same)) & np.concatenate((same, [True])) if len(lowered) else np.zeros(0, bool)
    assert (labels[kept] == golden["labels"])[apart].all()
    apart &= np.isfinite(golden["segments"]).all(axis=1)  # the peer's voting gives 0/0 for segments without length
    np.testing.assert_allclose(found[apart], golden["segments"][apart], atol=1e-3, rtol=1e-6)
    assert np.isfinite(found).all()


def test_an_iou_at_the_threshold_depends_on_the_margin_alone() -> None:
    """Why plain float64 leaves 7 of the 35 degenerate sets: 1e-6 lifts the union, unless float32 swallows it."""
    scores = np.array([0.9, 0.8])
    for length_s, kept_by_peer in ((1.0, 2), (100.0, 1)):
        segments = np.array([[0, length_s], [0, length_s / 2]], np.float32)
        assert len(hard_nms(segments, scores, iou=0.5, min_score=0.0, **PEER)[0]) == kept_by_peer
        assert len(hard_nms(segments.astype(float), scores, iou=0.5, min_score=0.0, keep=9)[0]) == 1


@pytest.mark.parametrize("keep", [1, 7, 30, 1000])
def test_all_classes_at_once_give_what_one_detection_after_another_gives(keep: int) -> None:
    rng = np.random.default_rng(keep)
    start = rng.uniform(0, 60, 150)
    segments, labels = np.stack((start, start + rng.uniform(0, 20, 150)), axis=1), rng.integers(0, 4, 150) ** 2
    scores = rng.uniform(0, 1, 150).round(2)
    kept, lowered = soft_nms(segments, scores, sigma=0.5, min_score=0.01, keep=keep, labels=labels)
    expected = looped_soft_nms(segments, scores, labels.tolist(), sigma=0.5, min_score=0.01, keep=keep)
    assert kept.tolist() == [index for index, _ in expected]
    np.testing.assert_allclose(lowered, [score for _, score in expected], rtol=1e-9)


def test_votes_weigh_by_score_and_overlap_or_by_score_alone() -> None:
    segments, scores = np.array([[0.0, 10.0], [0.0, 8.0], [30.0, 40.0]]), np.array([0.6, 0.4, 0.9])
    by_both = voted(segments[:1], segments, scores, iou=0.7, rule="score-iou")
    by_score = voted(segments[:1], segments, scores, iou=0.7, rule="score")
    np.testing.assert_allclose(by_both, [[0, (0.6 * 10 + 0.32 * 8) / 0.92]])
    np.testing.assert_allclose(by_score, [[0, 9.2]])


def test_only_the_own_label_votes_where_labels_are_given() -> None:
    segments, scores, labels = np.array([[0.0, 10.0], [0.0, 8.0]]), np.array([0.6, 0.4]), np.array([0, 1])
    moved = voted(segments, segments, scores, iou=0.7, rule="score", kept_labels=labels, labels=labels)
    np.testing.assert_allclose(moved, segments)


def test_a_segment_without_length_stays_where_it_is() -> None:
    points = np.array([[3.0, 3.0], [3.0, 3.0]])
    np.testing.assert_array_equal(voted(points, points, np.ones(2), iou=0.7, rule="score-iou"), points)
    assert len(hard_nms(points, np.ones(2), iou=0.1, min_score=0.0, keep=9)[0]) == 2


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 3), st.sampled_from([0.1, 0.5, 0.9]), st.integers(0, 2)),
        max_size=12,
    )
)
def test_suppression_by_class_is_suppression_of_each_class(rows: list[tuple[int, int, float, int]]) -> None:
    starts, lengths, scores, labels = (np.array([row[i] for row in rows]) for i in range(4))
    segments, scores = np.stack((starts, starts + lengths), axis=1).reshape(-1, 2), scores.astype(float)
    joint = dict(zip(*soft_nms(segments, scores, sigma=0.5, min_score=0.01, keep=99, labels=labels), strict=True))
    apart = {}
    for label in set(labels.tolist()):
        members = np.flatnonzero(labels == label)
        kept, lowered = soft_nms(segments[members], scores[members], sigma=0.5, min_score=0.01, keep=99)
        apart |= dict(zip(members[kept], lowered, strict=True))
    assert joint == apart
    assert list(joint.values()) == sorted(joint.values(), reverse=True)
    assert np.isfinite(list(joint.values())).all()


def test_ties_go_to_the_lower_index() -> None:
    segments, scores = np.array([[0.0, 1.0], [0.0, 1.0], [5.0, 6.0]]), np.array([0.5, 0.5, 0.5])
    assert soft_nms(segments, scores, sigma=0.5, min_score=0.0, keep=3)[0].tolist() == [0, 2, 1]
    assert hard_nms(segments, scores, iou=0.5, min_score=0.0, keep=3)[0].tolist() == [0, 2]


def test_a_segment_overlapped_entirely_falls_by_the_gaussian() -> None:
    _, scores = soft_nms(np.array([[0.0, 1.0]] * 2), np.array([1.0, 1.0]), sigma=0.5, min_score=0.0, keep=2)
    np.testing.assert_allclose(scores, [1.0, np.exp(-2.0)])


def test_keep_is_the_most_that_is_kept() -> None:
    segments = np.stack((np.arange(9.0), np.arange(9.0) + 0.5), axis=1)
    assert len(soft_nms(segments, np.full(9, 0.5), sigma=0.5, min_score=0.0, keep=4)[0]) == 4
    assert len(hard_nms(segments, np.full(9, 0.5), iou=0.5, min_score=0.0, keep=4)[0]) == 4
