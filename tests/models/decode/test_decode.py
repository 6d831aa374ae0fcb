import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tadkit.config import DecodeSettings
from tadkit.errors import WeightsError
from tadkit.models.decode.decode import Decoded, decode
from tadkit.models.heads import Candidates, HeadPredictions, anchor_free_candidates
from tadkit.timeline import Timeline

STRIDES = (1, 2)
UNEVEN = Timeline(np.array([0.1, 0.3, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5]))


def predictions(*points: tuple[int, int, int, float, tuple[float, float]], classes: int = 2) -> HeadPredictions:
    """Background but for points given as (level, step, class, logit, offsets)."""
    lengths = (8, 4)
    logits = tuple(torch.full((1, n, classes), -30.0) for n in lengths)
    offsets = tuple(torch.ones(1, n, 2) for n in lengths)
    for level, step, label, logit, reach in points:
        logits[level][0, step, label] = logit
        offsets[level][0, step] = torch.tensor(reach)
    return HeadPredictions(logits, offsets, tuple(torch.ones(1, n, dtype=torch.bool) for n in lengths))


def decoded(given: HeadPredictions, duration_s: float, settings: DecodeSettings) -> Decoded:
    least, limit = settings.min_score, settings.top_candidates
    best = anchor_free_candidates(given, strides=STRIDES, min_score=least, limit=limit)
    return decode(best, UNEVEN, duration_s, settings)


def test_positions_become_seconds_by_the_timeline_alone() -> None:
    found = decoded(predictions((1, 2, 1, 0.0, (1.25, 0.5))), 6.0, DecodeSettings())
    # Step 2 of level 1 is at position 4: from 4 - 2.5 to 4 + 1; position 1.5 is 0.4 s and position 5 is 3.5 s.
    np.testing.assert_allclose(found.segments_s, [[0.4, 3.5]])
    assert found.scores.tolist() == [0.5]
    assert found.labels.tolist() == [1]


def test_segments_are_clipped_and_those_without_length_dropped() -> None:
    given = predictions((0, 1, 0, 1.0, (5.0, 5.0)), (0, 6, 0, 2.0, (0.0, 0.0)), (0, 7, 0, 2.0, (0.5, 3.0)))
    found = decoded(given, 4.0, DecodeSettings())
    np.testing.assert_allclose(found.segments_s, [[0.0, 4.0]])


def test_detections_come_by_falling_score_and_one_class_does_not_suppress_another() -> None:
    given = predictions((0, 4, 0, 1.0, (1.0, 1.0)), (0, 4, 1, 2.0, (1.0, 1.0)))
    found = decoded(given, 6.0, DecodeSettings())
    assert found.labels.tolist() == [1, 0]
    np.testing.assert_allclose(found.scores, torch.tensor([2.0, 1.0]).sigmoid(), rtol=1e-6)


def test_thresholds_and_counts_hold() -> None:
    given = predictions(*((0, step, 0, step - 4.0, (0.2, 0.2)) for step in range(8)))
    score = float(torch.tensor(-1.0).sigmoid())
    assert len(decoded(given, 6.0, DecodeSettings(min_score=score - 1e-6)).scores) == 5
    assert len(decoded(given, 6.0, DecodeSettings(top_candidates=3)).scores) == 3
    assert len(decoded(given, 6.0, DecodeSettings(keep=2)).scores) == 2


def test_masked_steps_give_no_candidates() -> None:
    given = predictions((0, 7, 0, 3.0, (1.0, 1.0)), (1, 3, 0, float("nan"), (1.0, 1.0)))
    masks = (torch.arange(8)[None] < 6, torch.arange(4)[None] < 3)
    found = decoded(given._replace(masks=masks), 6.0, DecodeSettings())
    assert found.segments_s.shape == (0, 2)
    assert found.scores.shape == found.labels.shape == (0,)


def test_predictions_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(WeightsError, match="not finite"):
        decoded(predictions((0, 2, 0, float("nan"), (1.0, 1.0))), 6.0, DecodeSettings())


def some(*rows: tuple[float, float, float, int]) -> Candidates:
    """Candidates given as (start, end, score, label)."""
    table = np.array(rows, dtype=float).reshape(-1, 4)
    return Candidates(table[:, :2], table[:, 2], table[:, 3].astype(np.int64))


EVEN = Timeline(np.arange(20.0))


def test_classes_suppress_each_other_if_class_agnostic() -> None:
    two = some((1, 5, 0.9, 0), (1, 5, 0.8, 1))
    assert len(decode(two, EVEN, 20.0, DecodeSettings(method="hard")).scores) == 2
    assert decode(two, EVEN, 20.0, DecodeSettings(method="hard", class_agnostic=True)).labels.tolist() == [0]


def test_without_suppression_all_come_down_to_the_lowest_score_and_the_most_kept() -> None:
    three = some((1, 5, 0.7, 0), (1, 5, 0.9, 0), (1, 5, 0.001, 0))
    assert decode(three, EVEN, 20.0, DecodeSettings(method="none")).scores.tolist() == [0.9, 0.7]
    assert decode(three, EVEN, 20.0, DecodeSettings(method="none", keep=1)).scores.tolist() == [0.9]


def test_candidates_that_are_too_short_are_dropped() -> None:
    found = decode(some((1, 5, 0.7, 0), (1, 1.5, 0.9, 0)), EVEN, 20.0, DecodeSettings(min_steps=1.0))
    assert found.scores.tolist() == [0.7]


def test_scores_of_the_video_weigh_those_of_candidates() -> None:
    two, video = some((1, 5, 0.9, 0), (8, 9, 0.8, 1)), np.array([0.25, 1.0])
    assert decode(two, EVEN, 20.0, DecodeSettings(), video_scores=video).scores.tolist() == [0.8, 0.225]
    roots = decode(two, EVEN, 20.0, DecodeSettings(video_rule="geometric-mean"), video_scores=video)
    np.testing.assert_allclose(roots.scores, np.sqrt([0.8, 0.225]))
    spread = decode(two, EVEN, 20.0, DecodeSettings(video_labels=2), video_scores=video)
    np.testing.assert_allclose(spread.scores, [0.9, 0.8, 0.225, 0.2])
    assert spread.labels.tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("rule", ["product", "geometric-mean"])
def test_a_proposal_that_classes_share_takes_its_videos_labels_once_with_its_best_score(rule: str) -> None:
    shared = some((2, 5, 0.9, 1), (8, 9, 0.8, 1), (2, 5, 0.4, 0))
    settings = DecodeSettings.model_validate({"method": "none", "video_labels": 2, "video_rule": rule})
    found = decode(shared, EVEN, 20.0, settings, video_scores=np.array([0.25, 1.0, 0.0]))
    rows = [(*segment, label) for segment, label in zip(found.segments_s.tolist(), found.labels.tolist(), strict=True)]
    assert rows == [(2, 5, 1), (8, 9, 1), (2, 5, 0), (8, 9, 0)]
    products = np.array([0.9, 0.8, 0.225, 0.2])
    np.testing.assert_allclose(found.scores, products if rule == "product" else np.sqrt(products))


def test_without_candidates_the_labels_of_a_video_give_none() -> None:
    found = decode(some(), EVEN, 20.0, DecodeSettings(video_labels=2), video_scores=np.array([0.25, 1.0]))
    assert found.segments_s.shape == (0, 2)
    assert found.scores.shape == found.labels.shape == (0,)


@given(
    st.lists(st.tuples(st.integers(-3, 12), st.integers(0, 6), st.sampled_from([0.1, 0.5, 0.9]), st.integers(0, 2))),
    st.sampled_from(["soft-gaussian", "soft-linear", "hard", "none"]),
    st.sampled_from(["none", "score-iou", "score"]),
    st.booleans(),
)
def test_detections_are_finite_lasting_inside_the_video_and_sorted(rows, method, voting, clip_first) -> None:
    settings = DecodeSettings(method=method, voting=voting, clip_first=clip_first)
    given_rows = some(*((start, start + length, score, label) for start, length, score, label in rows))
    found = decode(given_rows, EVEN, 10.0, settings)
    assert np.isfinite(found.segments_s).all()
    assert (found.segments_s[:, 0] < found.segments_s[:, 1]).all()
    assert ((found.segments_s >= 0) & (found.segments_s <= 10)).all()
    assert (np.diff(found.scores) <= 0).all()


@pytest.mark.parametrize("method", ["soft-gaussian", "soft-linear", "hard", "none"])
@pytest.mark.parametrize("voting", ["none", "score-iou", "score"])
@pytest.mark.filterwarnings("error")
def test_settings_at_their_ends_give_finite_detections_and_no_warning(method: str, voting: str) -> None:
    rng = np.random.default_rng(0)
    positions = np.sort(rng.uniform(-1, 8, (40, 2)), axis=1)
    positions = np.concatenate((positions, positions[::2]))  # some twice, of one class or of two
    best = Candidates(positions, rng.uniform(0.001, 1, 60), rng.integers(0, 3, 60))
    for name, field in DecodeSettings.model_fields.items():
        ends = [end for bound in field.metadata for end in (getattr(bound, "ge", None), getattr(bound, "le", None))]
        for end in (end for end in ends if end is not None):
            chosen = DecodeSettings.model_validate({"method": method, "voting": voting, name: end})
            found = decode(best, UNEVEN, 6.0, chosen, video_scores=np.array([0.0, 0.5, 1.0]))
            assert np.isfinite(found.segments_s).all()
            assert ((found.scores >= chosen.min_score) & (found.scores <= 1)).all()


def test_limits_count_within_a_stretch_or_in_the_whole_video() -> None:
    rows = some(*((10 * k, 10 * k + 2, 0.5 + 0.01 * k, 0) for k in range(10)))
    timeline = Timeline(np.arange(100.0))
    for limit in ("keep", "top_candidates"):
        chosen = {"method": "none", limit: 2}
        starts = {
            stretch_s: sorted(decode(rows, timeline, 100.0, settings).segments_s[:, 0].tolist())
            for stretch_s in (0.0, 5.0, 30.0, 90.0)
            for settings in [DecodeSettings.model_validate(chosen | {"stretch_s": stretch_s})]
        }
        assert starts == {0.0: [80, 90], 5.0: [10 * k for k in range(10)], 30.0: [80, 90], 90.0: [80, 90]}
    falling = rows._replace(scores=1 - 0.05 * np.abs(np.arange(10) % 5))
    kept = decode(falling, timeline, 100.0, DecodeSettings(method="none", keep=1, stretch_s=20.0))
    assert sorted(kept.segments_s[:, 0].tolist()) == [0, 50]
