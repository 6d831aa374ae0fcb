from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadkit.timeline import Timeline

gaps = st.lists(st.floats(0.01, 2.0), min_size=1, max_size=20)
positions = st.lists(st.floats(-30, 30), min_size=1, max_size=8)


def timeline(gaps_s: list[float], first_s: float = 0.0) -> Timeline:
    return Timeline(first_s + np.concatenate([[0.0], np.cumsum(gaps_s)]))


def test_whole_positions_are_the_centres():
    line = Timeline(np.array([0.1, 0.2, 0.9]))
    assert line.seconds(np.array([0.0, 1.0, 2.0])).tolist() == [0.1, 0.2, 0.9]


def test_between_centres_time_runs_evenly_even_where_the_rate_varies():
    line = Timeline(np.array([0.0, 1.0, 3.0]))
    np.testing.assert_allclose(line.seconds(np.array([0.5, 1.5])), [0.5, 2.0])


def test_past_the_ends_time_goes_on_at_the_median_step():
    line = Timeline(np.array([1.0, 2.0, 3.0, 7.0]))
    np.testing.assert_allclose(line.seconds(np.array([-1.0, 4.0])), [0.0, 8.0])


@given(gaps, positions)
def test_positions_undo_seconds(gaps_s, where):
    line = timeline(gaps_s)
    np.testing.assert_allclose(line.positions(line.seconds(np.array(where))), where, atol=1e-6)


@given(gaps, positions)
def test_later_positions_are_later_seconds(gaps_s, where):
    ordered = np.unique(np.round(where, 3))
    assert (np.diff(timeline(gaps_s).seconds(ordered)) > 0).all()


@given(gaps, st.integers(1, 7))
def test_a_strided_track_has_the_mean_stamp_of_each_group(gaps_s, stride):
    line = timeline(gaps_s)
    groups = [line.centres_s[i : i + stride] for i in range(0, len(line), stride)]
    np.testing.assert_allclose(line.strided(stride).centres_s, [group.mean() for group in groups])


@given(gaps, st.integers(0, 20), st.integers(0, 20))
def test_parts_keep_their_seconds(gaps_s, start, stop):
    line = timeline(gaps_s)
    assert line.part(start, stop).centres_s.tolist() == line.centres_s[start:stop].tolist()


def test_tracks_of_one_step_and_of_none():
    one, none = Timeline(np.array([0.5])), Timeline(np.array([]))
    assert one.step_s == 1.0
    assert one.seconds(np.array([0.0, 1.0])).tolist() == [0.5, 1.5]
    assert len(none) == 0
    assert len(none.strided(4)) == 0
    assert none.seconds(np.array([2.0])).tolist() == [2.0]


@pytest.mark.parametrize("stamps", [[0.0, 0.0], [1.0, 0.5], [0.0, np.nan], [0.0, np.inf]])
def test_stamps_that_do_not_increase_are_our_mistake(stamps):
    with pytest.raises(AssertionError):
        Timeline(np.array(stamps))
