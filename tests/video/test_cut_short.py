"""A video of which a part is missing is refused where its container tells, and taken as it is where it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from tadkit.errors import VideoError
from tadkit.video import open_video, write_video
from tadkit.video.index import build_index

FRAMES = 100
Numbered = Callable[[int], list[np.ndarray]]


@pytest.fixture
def encoded(tmp_path: Path) -> Callable[..., Path]:
    """Write 4 s of noise, so that heads are small beside it, to a file of that name; words are the container's."""
    pictures = np.random.default_rng(0).integers(0, 256, (FRAMES, 64, 64, 3), dtype=np.uint8)

    def write(name: str, **options: str) -> Path:
        path = tmp_path / name
        with av.open(str(path), "w", options=options) as container:
            stream = container.add_stream("libvpx" if path.suffix == ".webm" else "mpeg4", rate=25, width=64, height=64)
            stream.pix_fmt = "yuv420p"
            for picture in pictures:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
        return path

    return write


def test_an_mp4_cut_off_before_its_table_is_refused(tmp_path: Path, numbered: Numbered) -> None:
    write_video(tmp_path / "a.mp4", numbered(30), fps=25)
    whole = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VideoError, match="not a video that FFmpeg can read"):
        open_video(tmp_path / "a.mp4")


@pytest.mark.parametrize(
    ("name", "options", "after"),
    [
        ("a.mp4", {"movflags": "+faststart"}, 0),
        ("a.mov", {"movflags": "+faststart"}, 0),
        ("a.mkv", {}, 0),
        ("a.webm", {}, 0),
        ("a.avi", {}, 8 + 16 * FRAMES),  # the index, which FFmpeg makes anew
    ],
)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.999])
def test_a_video_cut_off_after_its_head_is_refused(
    encoded: Callable[..., Path], name: str, options: dict[str, str], after: int, share: float
) -> None:
    path = encoded(name, **options)
    whole = path.read_bytes()
    with open_video(path) as video:
        assert len(video.stamps_s) == FRAMES
    kept = round((len(whole) - after) * share)
    path.write_bytes(whole[:kept])
    missing = len(whole) - after - kept
    with pytest.raises(VideoError, match=f"truncated, the last {missing} bytes are missing"):
        open_video(path)


def test_an_avi_that_lacks_its_index_alone_has_all_frames(encoded: Callable[..., Path]) -> None:
    path = encoded("a.avi")
    path.write_bytes(path.read_bytes()[: -8 - 16 * FRAMES])
    assert len(build_index(path)) == FRAMES


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.avi"])
def test_frames_that_end_long_before_the_file_says_are_missed(encoded: Callable[..., Path], name: str) -> None:
    path = encoded(name)
    whole = path.read_bytes()
    half = len(whole) // 2
    path.write_bytes(whole[:half] + b"\0" * (len(whole) - half - 1) + whole[-1:])
    with pytest.raises(
        VideoError, match=r"frames end at [12]\.\d s, but the header says 4\.0 s.*-c copy rest\."
    ) as told:
        open_video(path)
    assert "\n" not in str(told.value)


def test_a_live_recording_says_no_length_and_is_taken_as_it_is(encoded: Callable[..., Path]) -> None:
    path = encoded("live.mkv", live="1")
    assert len(build_index(path)) == FRAMES
    path.write_bytes(path.read_bytes()[:-10_000])
    assert 0 < len(build_index(path)) < FRAMES


def test_an_avi_whose_writer_was_killed_says_no_length_and_is_taken_as_it_is(encoded: Callable[..., Path]) -> None:
    path = encoded("killed.avi")
    whole = path.read_bytes()
    riff, movi, frames = 4, whole.index(b"movi") - 4, whole.index(b"strh") + 40
    content = bytearray(whole[: len(whole) // 2])
    for at in (riff, movi, frames, whole.index(b"avih") + 24):
        content[at : at + 4] = bytes(4)
    path.write_bytes(content)
    assert 0 < len(build_index(path)) < FRAMES
