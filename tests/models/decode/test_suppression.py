import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tadkit.evaluation.oracle import looped_soft_nms
from tadkit.models.decode import suppression
from tadkit.models.decode.suppression import (
    REFERENCE_MARGIN,
    Hard,
    SoftGaussian,
    SoftLinear,
    SuppressionRule,
    suppress,
)
from tadkit.models.decode.voting import voted
from tadkit.segments import temporal_iou


def test_an_iou_at_the_threshold_depends_on_the_margin_alone() -> None:
    """Why plain float64 leaves 7 of the 35 degenerate sets: 1e-6 lifts the union, unless float32 swallows it."""
    scores = np.array([0.9, 0.8])
    for length_s, kept in ((1.0, 2), (100.0, 1)):
        segments = np.array([[0, length_s], [0, length_s / 2]], np.float32)
        assert len(suppress(segments, scores, Hard(0.5), min_score=0.0, keep=9, margin=REFERENCE_MARGIN)[0]) == kept
        assert len(suppress(segments.astype(float), scores, Hard(0.5), min_score=0.0, keep=9)[0]) == 1


@pytest.mark.parametrize("keep", [1, 7, 30, 1000])
def test_all_classes_at_once_give_what_one_detection_after_another_gives(keep: int) -> None:
    rng = np.random.default_rng(keep)
    start = rng.uniform(0, 60, 150)
    segments, labels = np.stack((start, start + rng.uniform(0, 20, 150)), axis=1), rng.integers(0, 4, 150) ** 2
    scores = rng.uniform(0, 1, 150).round(2)
    kept, lowered = suppress(segments, scores, SoftGaussian(0.5), min_score=0.01, keep=keep, labels=labels)
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
    assert len(suppress(points, np.ones(2), Hard(0.1), min_score=0.0, keep=9)[0]) == 2


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 3), st.sampled_from([0.1, 0.5, 0.9]), st.integers(0, 2)),
        max_size=12,
    )
)
def test_suppression_by_class_is_suppression_of_each_class(rows: list[tuple[int, int, float, int]]) -> None:
    starts, lengths, scores, labels = (np.array([row[i] for row in rows]) for i in range(4))
    segments, scores = np.stack((starts, starts + lengths), axis=1).reshape(-1, 2), scores.astype(float)
    joint = dict(
        zip(*suppress(segments, scores, SoftGaussian(0.5), min_score=0.01, keep=99, labels=labels), strict=True)
    )
    apart = {}
    for label in set(labels.tolist()):
        members = np.flatnonzero(labels == label)
        kept, lowered = suppress(segments[members], scores[members], SoftGaussian(0.5), min_score=0.01, keep=99)
        apart |= dict(zip(members[kept], lowered, strict=True))
    assert joint == apart
    assert list(joint.values()) == sorted(joint.values(), reverse=True)
    assert np.isfinite(list(joint.values())).all()


def test_ties_go_to_the_lower_index() -> None:
    segments, scores = np.array([[0.0, 1.0], [0.0, 1.0], [5.0, 6.0]]), np.array([0.5, 0.5, 0.5])
    assert suppress(segments, scores, SoftGaussian(0.5), min_score=0.0, keep=3)[0].tolist() == [0, 2, 1]
    assert suppress(segments, scores, Hard(0.5), min_score=0.0, keep=3)[0].tolist() == [0, 2]


def test_a_segment_overlapped_entirely_falls_by_the_gaussian() -> None:
    _, scores = suppress(np.array([[0.0, 1.0]] * 2), np.array([1.0, 1.0]), SoftGaussian(0.5), min_score=0.0, keep=2)
    np.testing.assert_allclose(scores, [1.0, np.exp(-2.0)])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rule", [SoftGaussian(0.001), SoftLinear(0.5), Hard(0.5)])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_twins_of_a_narrow_gaussian_and_padding_beside_them_give_numbers_and_no_warning(
    rule: SuppressionRule, kind: type[np.floating]
) -> None:
    """exp(-1000) is 0 in both precisions, and 0 times the -inf of what is taken, or of padding, is no number."""
    segments = np.array([[0, 10], [0, 10], [0, 10], [50, 60], [50, 60], [90, 100]], kind)
    scores, labels = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4]), np.array([0, 1, 0, 0, 0, 1])
    kept, lowered = suppress(segments, scores, rule, labels=labels, min_score=0.0, keep=9)
    assert np.isfinite(lowered).all()
    assert kept.tolist()[:4] == [0, 1, 3, 5]
    np.testing.assert_allclose(lowered[:4], [0.9, 0.8, 0.6, 0.4], rtol=1e-6)
    assert (lowered[4:] < 1e-20).all()


def test_keep_is_the_most_that_is_kept() -> None:
    segments = np.stack((np.arange(9.0), np.arange(9.0) + 0.5), axis=1)
    assert len(suppress(segments, np.full(9, 0.5), SoftGaussian(0.5), min_score=0.0, keep=4)[0]) == 4
    assert len(suppress(segments, np.full(9, 0.5), Hard(0.5), min_score=0.0, keep=4)[0]) == 4


def long_video(seconds: int, *, seed: int, a_second: float = 3.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Segments, scores and labels all over a video: most are short, some long."""
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, seconds, int(seconds * a_second))
    length = rng.exponential(3, len(start)).clip(0.1, 20)
    return np.stack((start, start + length), axis=1), rng.beta(0.5, 3, len(start)), rng.integers(0, 2, len(start))


def test_a_long_video_gives_what_one_detection_after_another_gives() -> None:
    segments, scores, labels = long_video(300, seed=1)
    kept, lowered = suppress(segments, scores, SoftGaussian(0.5), min_score=0.05, keep=None, labels=labels)
    expected = looped_soft_nms(segments, scores, labels.tolist(), sigma=0.5, min_score=0.05, keep=10**6)
    assert len(kept) > 300
    assert kept.tolist() == [index for index, _ in expected]
    np.testing.assert_allclose(lowered, [score for _, score in expected], rtol=1e-9)


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 4), st.sampled_from([0.1, 0.3, 0.5, 0.9]), st.integers(0, 1)),
        max_size=40,
    ),
    st.sampled_from([SoftGaussian(0.5), SoftLinear(0.3), Hard(0.3)]),
    st.integers(1, 5),
    st.sampled_from([None, 3]),
)
@settings(max_examples=40)
def test_blocks_of_time_give_what_all_at_once_gives(rows: list, rule: SuppressionRule, block: int, keep: int) -> None:
    starts, lengths, scores, labels = (np.array([row[i] for row in rows]) for i in range(4))
    segments, scores = np.stack((starts, starts + lengths), axis=1).reshape(-1, 2), scores.astype(float)
    found = []
    for size in (block, 10**9):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(suppression, "_BLOCK_SEGMENTS", size)
            found.append(suppress(segments, scores, rule, min_score=0.01, keep=keep, labels=labels.astype(np.int64)))
    in_blocks, at_once = (dict(zip(kept.tolist(), lowered.tolist(), strict=True)) for kept, lowered in found)
    if keep is None:
        assert in_blocks.keys() == at_once.keys()
    np.testing.assert_allclose(sorted(in_blocks.values()), sorted(at_once.values()), rtol=1e-9)


def test_videos_joined_are_suppressed_as_they_are_apart() -> None:
    one, other = (long_video(600, seed=seed) for seed in (2, 3))
    joined = [np.concatenate((x, y + after)) for x, y, after in zip(one, other, (700.0, 0.0, 0), strict=True)]
    apart: dict[int, float] = {}
    for first, (segments, scores, labels) in ((0, one), (len(one[0]), other)):
        kept, lowered = suppress(segments, scores, SoftGaussian(0.5), min_score=0.01, keep=None, labels=labels)
        apart |= dict(zip((kept + first).tolist(), lowered.tolist(), strict=True))
    kept, lowered = suppress(*joined[:2], SoftGaussian(0.5), min_score=0.01, keep=None, labels=joined[2])
    assert sorted(kept.tolist()) == sorted(apart)
    np.testing.assert_allclose(lowered, [apart[index] for index in kept.tolist()], rtol=1e-9)


def test_votes_in_a_long_video_are_those_of_the_segments_around() -> None:
    segments, scores, labels = long_video(900, seed=4)
    moved = voted(segments, segments, scores, iou=0.6, rule="score", kept_labels=labels, labels=labels)
    overlap = temporal_iou(segments[:, None], segments[None])
    weights = scores * (overlap >= 0.6) * (labels[:, None] == labels)
    np.testing.assert_allclose(moved, weights @ segments / weights.sum(axis=1, keepdims=True), rtol=1e-9)
