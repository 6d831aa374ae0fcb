"""Files that would lead a decoder elsewhere, or state what no video is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadkit.errors import VideoError
from tadkit.video import open_video
from tadkit.video.sampling import STAMP_TOLERANCE_S, sample_indices

PLAYLIST = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:1.2,\n{}\n#EXT-X-ENDLIST\n"
DESCRIPTION = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"


@pytest.mark.parametrize("name", ["list.m3u8", "list.ffconcat", "stream.sdp"])
def test_a_file_that_names_others_is_not_followed(
    name: str, tmp_path: Path, write_squares: Callable[..., Path]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    private = write_squares(tmp_path / "elsewhere" / "private.ts", 12)
    texts = {"m3u8": PLAYLIST.format(private), "ffconcat": f"file elsewhere/{private.name}\n", "sdp": DESCRIPTION}
    (tmp_path / name).write_text(texts[name.partition(".")[2]])
    with pytest.raises(VideoError, match="not a video that FFmpeg can read"):
        open_video(tmp_path / name)


def test_pictures_in_an_unknown_code_are_reported(tmp_path: Path, write_squares: Callable[..., Path]) -> None:
    whole = write_squares(tmp_path / "whole.mp4", 12).read_bytes()
    assert whole.count(b"avc1") == 2  # as a brand of the file, and as the code of its pictures
    path = tmp_path / "unknown.mp4"
    path.write_bytes(whole.replace(b"avc1", b"zzzz"))
    with pytest.raises(VideoError, match="have a code that FFmpeg does not know"):
        open_video(path)


def by_all_times(stamps_s: np.ndarray, duration_s: float, rate_hz: float) -> np.ndarray:
    """The frames on screen at every sample time, all of which are written out."""
    count = max(1, int(np.ceil((duration_s - stamps_s[0] - STAMP_TOLERANCE_S) * rate_hz)))
    times_s = stamps_s[0] + np.arange(count) / rate_hz
    return np.unique(np.searchsorted(stamps_s, times_s + STAMP_TOLERANCE_S, side="right") - 1)


@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=40),
    st.sampled_from([0.1, 1.0, 5.0, 10.0, 25.0, 29.97, 100.0]),
    st.sampled_from([100.0, 90_000 / 3003, 25.0, 3.0]),
)
def test_samples_are_the_frames_on_screen_at_the_sample_times(steps: list[int], rate_hz: float, tick_hz: float) -> None:
    ends_s = np.cumsum([0, *steps]) / tick_hz
    found = sample_indices(ends_s[:-1], float(ends_s[-1]), rate_hz)
    np.testing.assert_array_equal(found, by_all_times(ends_s[:-1], float(ends_s[-1]), rate_hz))


def test_a_video_that_states_centuries_has_no_more_samples_than_frames() -> None:
    assert sample_indices(np.array([0.0, 1.0, 1e15]), 2e15, 30.0).tolist() == [0, 1, 2]
