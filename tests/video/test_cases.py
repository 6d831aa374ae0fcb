"""Small files that went wrong: cameras, converters and live recorders write such, and every player shows them right."""

from __future__ import annotations

import logging
from pathlib import Path

import av
import numpy as np
import pytest

from tadkit.errors import VideoError
from tadkit.video import open_video
from tadkit.video.index import build_index

CASES = Path(__file__).parent / "cases"
BAR_PX = 16
READ = ["h264_b_frames.avi", "raw_stream.h264", "intra_refresh.mp4", "late_picture.mp4"]


def spelled(frames: np.ndarray) -> list[int]:
    """The numbers that eight vertical bars spell, white where the bit is set."""
    middles = frames[:, frames.shape[1] // 2, BAR_PX // 2 :: BAR_PX, 0][:, :8]
    return [int(number) for number in ((middles > 120) << np.arange(8)).sum(axis=1)]


@pytest.mark.parametrize("name", READ)
def test_frame_k_is_frame_k_whatever_is_read_and_in_whatever_order(name: str) -> None:
    order = np.random.default_rng(0).permutation(150).tolist()
    with open_video(CASES / name) as video:
        assert spelled(video.read(range(150))) == list(range(150))
        assert spelled(video.read(range(0, 150, 5))) == list(range(0, 150, 5))
    with open_video(CASES / name) as video:
        assert [spelled(video.read([index]))[0] for index in order[:60]] == order[:60]
        assert spelled(video.read(order)) == order


@pytest.mark.parametrize(
    ("name", "start_s", "end_s"),
    [
        ("h264_b_frames.avi", 0.0, 6.0),
        ("raw_stream.h264", 0.0, 6.0),
        ("intra_refresh.mp4", 0.0, 6.0),
        ("late_picture.mp4", 1.0, 7.0),
    ],
)
def test_stamps_are_those_of_players(name: str, start_s: float, end_s: float) -> None:
    index = build_index(CASES / name)
    np.testing.assert_allclose(index.stamps_s, start_s + np.arange(150) / 25, atol=1e-6)
    assert index.duration_s == pytest.approx(end_s)


def test_packed_b_frames_are_read_to_the_end() -> None:
    with open_video(CASES / "xvid_packed.avi") as video:
        assert spelled(video.read(range(148))) == [*range(147), 149]  # those that FFmpeg gives
        assert spelled(video.read([90, 3, 47, 0])) == [90, 3, 47, 0]
        assert len(video.stamps_s) == 148
        assert np.abs(video.stamps_s - np.arange(148) / 25).max() <= 2 / 25
        assert video.duration_s == pytest.approx(6.0, abs=0.041)


def test_a_mirrored_picture_is_mirrored_left_to_right() -> None:
    with av.open(str(CASES / "mirrored.mp4")) as container:
        stored = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    with open_video(CASES / "mirrored.mp4") as video:
        np.testing.assert_array_equal(video.read(range(100)), stored[:, :, ::-1])


def test_a_file_without_stamps_is_reported_once(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    path = tmp_path / "camera.h264"
    path.write_bytes((CASES / "raw_stream.h264").read_bytes())
    with caplog.at_level(logging.WARNING, logger="tadkit"):
        for _ in range(2):
            open_video(path).close()
    (message,) = caplog.messages
    assert message.startswith(f"{path}: stores no time stamps; its frames are taken to be 25 a second")
    assert "video.fallback_fps" in message


def test_the_rate_of_a_file_without_stamps_can_be_given(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    path = tmp_path / "camera.h264"
    path.write_bytes((CASES / "raw_stream.h264").read_bytes())
    with caplog.at_level(logging.WARNING, logger="tadkit"), open_video(path, fallback_fps=12.5) as video:
        np.testing.assert_allclose(video.stamps_s, np.arange(150) / 12.5)
        assert video.duration_s == pytest.approx(12.0)
    assert caplog.messages == []


def test_a_given_rate_changes_no_file_that_has_stamps() -> None:
    for name in ("h264_b_frames.avi", "late_picture.mp4"):
        given, own = build_index(CASES / name, fallback_fps=50), build_index(CASES / name)
        np.testing.assert_array_equal(given.stamps_s, own.stamps_s)
        assert given.duration_s == own.duration_s


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("h264_b_frames.avi", "no time stamps"),
        ("raw_stream.h264", "no time stamps"),
        ("intra_refresh.mp4", "periodic intra refresh"),
        ("mirrored.mp4", "a mirrored picture"),
    ],
)
def test_decord_refuses_what_it_reads_wrongly(name: str, reason: str) -> None:
    with pytest.raises(VideoError, match=rf"decord returns wrong frames .*{reason}.*set video.reader to auto"):
        open_video(CASES / name, reader="decord")
