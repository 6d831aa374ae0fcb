from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadkit.config import VideoSettings
from tadkit.video import SampledVideo, open_sampled, sample_indices, windows, write_video
from tadkit.video.index import build_index
from tadkit.video.pyav_reader import PyavReader
from tadkit.video.sampling import SampleClock

GAPS = st.lists(st.integers(min_value=1, max_value=900), min_size=1, max_size=60)


def on_screen(stamps_s: np.ndarray, at_s: float) -> int:
    """The frame on screen, found by walking through the stamps."""
    return max(index for index, stamp_s in enumerate(stamps_s) if stamp_s <= at_s + 1e-6)


@given(gaps_ms=GAPS, rate_hz=st.sampled_from([1.0, 3.0, 7.5, 10.0, 25.0, 29.97]))
def test_samples_are_the_frames_on_screen(gaps_ms, rate_hz):
    ends_s = np.cumsum(gaps_ms) / 1000
    stamps_s, duration_s = np.concatenate([[0.0], ends_s[:-1]]), float(ends_s[-1])
    times_s = [k / rate_hz for k in range(int(duration_s * rate_hz) + 2) if k == 0 or k / rate_hz < duration_s - 1e-6]
    expected = sorted({on_screen(stamps_s, at_s) for at_s in times_s})
    assert sample_indices(stamps_s, duration_s, rate_hz).tolist() == expected


@given(gaps_ms=GAPS, rate_hz=st.floats(min_value=0.1, max_value=240))
def test_samples_begin_at_the_first_frame_and_increase(gaps_ms, rate_hz):
    ends_s = np.cumsum(gaps_ms) / 1000
    indices = sample_indices(np.concatenate([[0.0], ends_s[:-1]]), float(ends_s[-1]), rate_hz)
    assert indices[0] == 0
    assert (np.diff(indices) > 0).all()
    assert indices[-1] < len(gaps_ms)


@given(gaps_ms=GAPS, first_ms=st.integers(0, 500), rate_hz=st.floats(min_value=0.1, max_value=240))
def test_frames_that_come_one_after_the_other_give_the_same_samples(gaps_ms, first_ms, rate_hz):
    ends_s = (np.cumsum(gaps_ms) + first_ms) / 1000
    stamps_s, duration_s = np.concatenate([[first_ms / 1000], ends_s[:-1]]), float(ends_s[-1])
    clock = SampleClock(rate_hz)
    taken = [index - 1 for index, stamp_s in enumerate(stamps_s.tolist()) if clock.next(stamp_s)]
    taken += [len(stamps_s) - 1] if clock.end(duration_s) else []
    assert taken == sample_indices(stamps_s, duration_s, rate_hz).tolist()


@pytest.mark.parametrize("rate_hz", [5.0, 10.0, 25.0, 30.0, 29.97])
def test_a_video_of_the_asked_rate_gives_each_frame_once(rate_hz):
    for frames in (1, 2, 3, 299, 300, 301):
        assert sample_indices(np.arange(frames) / rate_hz, frames / rate_hz, rate_hz).tolist() == list(range(frames))


def test_a_slow_video_gives_each_frame_once():
    assert sample_indices(np.arange(5) / 2.0, 2.5, 10.0).tolist() == [0, 1, 2, 3, 4]


def test_no_frames_give_no_samples():
    assert len(sample_indices(np.zeros(0), 0.0, 10.0)) == 0


@pytest.mark.parametrize("reader", ["decord", "pyav"])
def test_variable_rate_video_shows_the_frame_on_screen(tmp_path, numbered, number_of, reader):
    stamps_s = np.concatenate([[0.0], np.cumsum(np.random.default_rng(3).choice([0.01, 0.04, 0.13, 0.35], size=120))])
    path = tmp_path / "a.mp4"
    write_video(path, numbered(121), fps=10, stamps_s=stamps_s.tolist())
    settings = VideoSettings(rate_hz=10.0, height_px=32, width_px=64, reader=reader)
    times_s = np.arange(0, stamps_s[-1] + 0.1 - 1e-6, 0.1)
    expected = sorted({on_screen(stamps_s, at_s) for at_s in times_s})
    with open_sampled(path, settings) as video:
        assert number_of(video.frames(0, len(video))) == expected
        np.testing.assert_allclose(video.stamps_s, stamps_s[expected], atol=1e-5)
        np.testing.assert_array_equal(video.timeline.centres_s, video.stamps_s)
        assert number_of(video.frames(40, 43)) == expected[40:43]
        assert number_of(video.frames(7, 9)) == expected[7:9]
        assert video.duration_s == pytest.approx(stamps_s[-1] + 0.1, abs=1e-5)
        assert video.path == path


def test_one_frame_video_has_one_sample(tmp_path, numbered):
    write_video(tmp_path / "a.mp4", numbered(1), fps=25)
    with open_sampled(tmp_path / "a.mp4", VideoSettings()) as video:
        assert len(video) == 1
        assert video.frames(0, 1).shape == (1, 112, 112, 3)


def test_room_video_is_sampled_at_the_rate(shared_data):
    path = sorted((shared_data / "room" / "videos").glob("*.mp4"))[0]
    with open_sampled(path, VideoSettings(rate_hz=10.0)) as video:
        assert len(video) == 757  # 75.68 s
        assert np.abs(video.stamps_s - np.arange(757) / 10).max() < 0.04


@given(length=st.integers(0, 400), core=st.integers(1, 90), halo=st.integers(0, 40))
def test_cores_tile_and_windows_hold_their_halo(length, core, halo):
    cut = list(windows(length, core=core, halo=halo))
    assert [step for window in cut for step in range(window.core_start, window.core_stop)] == list(range(length))
    for window in cut:
        assert window.start == max(0, window.core_start - halo)
        assert window.stop == min(length, window.core_stop + halo)
        assert 0 < window.core_stop - window.core_start <= core


@given(first_s=st.floats(0, 30), rate_hz=st.floats(1, 30))
def test_a_late_start_shifts_the_samples(first_s, rate_hz):
    stamps_s = np.arange(100) / 25
    expected = sample_indices(stamps_s, 4.0, rate_hz)
    np.testing.assert_array_equal(sample_indices(first_s + stamps_s, first_s + 4.0, rate_hz), expected)


def test_samples_of_a_late_video_have_the_times_of_players():
    settings = VideoSettings(rate_hz=5.0, height_px=32, width_px=32)
    with open_sampled(Path(__file__).parent / "cases" / "late_picture.mp4", settings) as video:
        np.testing.assert_allclose(video.stamps_s, 1 + np.arange(30) / 5, atol=1e-6)
        assert video.duration_s == pytest.approx(7.0)


class Counted(PyavReader):
    """Counts seeks and restarts."""

    jumps = 0

    def _seek(self, entry, number):
        self.jumps += 1
        super()._seek(entry, number)


@pytest.mark.parametrize("rate_hz", [5.0, 10.0, 25.0])
def test_overlapping_windows_are_read_forward_without_seeks(tmp_path, numbered, number_of, rate_hz):
    path = tmp_path / "a.mp4"
    write_video(path, numbered(240), fps=25)
    index = build_index(path)
    reader = Counted(path, index, size_hw=(32, 64))
    with SampledVideo(reader, sample_indices(index.stamps_s, index.duration_s, rate_hz)) as video:
        for window in windows(len(video), core=16, halo=5):
            seen = video.frames(window.start, window.stop)
            assert number_of(seen) == video.indices[window.start : window.stop].tolist()
            seen[:] = 0  # belongs to the caller
    assert reader.jumps == 0


def test_ranges_in_any_order_give_their_samples(tmp_path, numbered, number_of):
    write_video(tmp_path / "a.mp4", numbered(60), fps=10)
    with open_sampled(tmp_path / "a.mp4", VideoSettings(height_px=32, width_px=64)) as video:
        for start, stop in ((0, 20), (10, 30), (12, 14), (13, 60), (0, 5), (4, 4), (3, 9), (50, 60), (55, 60)):
            assert number_of(video.frames(start, stop)) == list(range(start, stop))
