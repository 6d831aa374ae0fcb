from __future__ import annotations

import numpy as np
import pytest

from tadkit.errors import VideoError
from tadkit.video import open_video, write_video


def test_bytes_are_the_same_each_time(tmp_path, numbered):
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, numbered(70), fps=25)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_pictures_survive_at_high_quality(tmp_path, numbered):
    frames = numbered(10)
    write_video(tmp_path / "a.mp4", frames, fps=25, crf=1)
    with open_video(tmp_path / "a.mp4") as video:
        assert np.abs(video.read(range(10)).astype(int) - np.stack(frames)).mean() < 3


def test_fractional_rate_is_kept(tmp_path, numbered):
    write_video(tmp_path / "a.mp4", numbered(90), fps=30000 / 1001)
    with open_video(tmp_path / "a.mp4") as video:
        np.testing.assert_allclose(video.stamps_s, np.arange(90) * 1001 / 30000, atol=1e-6)


def test_frames_may_come_from_a_generator(tmp_path, numbered):
    write_video(tmp_path / "deep" / "a.mp4", (frame for frame in numbered(4)), fps=25)
    with open_video(tmp_path / "deep" / "a.mp4") as video:
        assert len(video.stamps_s) == 4


@pytest.mark.parametrize(
    ("sizes", "stamps_s", "expected"),
    [
        ([(31, 64)], None, "31x64.*even sides"),
        ([(32, 64), (32, 66)], None, "frame 1 is 32x66"),
        ([], None, "no frames"),
        ([], [], "no frames"),
        ([(32, 64)] * 2, [0.0], "more frames than the 1 stamps"),
        ([(32, 64)], [0.0, 1.0], "1 frames but 2 stamps"),
        ([(32, 64)] * 2, [1.0, 1.0], "stamps must increase"),
        ([(32, 64)] * 2, [-1.0, 1.0], "stamps must increase"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is_left(tmp_path, sizes, stamps_s, expected):
    frames = [np.zeros((*size, 3), np.uint8) for size in sizes]
    with pytest.raises(VideoError, match=expected):
        write_video(tmp_path / "a.mp4", frames, fps=25, stamps_s=stamps_s)
    assert list(tmp_path.iterdir()) == []


def test_unknown_kind_of_file_is_refused(tmp_path, numbered):
    with pytest.raises(VideoError, match=r"cannot be written.*\.mp4"):
        write_video(tmp_path / "a.video", numbered(2), fps=25)


def test_failure_keeps_the_old_file(tmp_path, numbered):
    path = tmp_path / "a.mp4"
    write_video(path, numbered(3), fps=25)
    before = path.read_bytes()

    def broken():
        yield numbered(1)[0]
        raise RuntimeError("source failed")

    with pytest.raises(RuntimeError, match="source failed"):
        write_video(path, broken(), fps=25)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
