"""Frames that sampling does not need are not decoded, and those that it needs are the same to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tadkit.config import VideoSettings
from tadkit.video import open_sampled, open_video, sample_indices
from tadkit.video.index import FrameIndex, build_index
from tadkit.video.pyav_reader import PyavReader

FRAMES, FPS = 100, 25


class Counted(PyavReader):
    """Counts the frames that are decoded."""

    decoded = 0

    def _from_start(self):
        for found in super()._from_start():
            self.decoded += 1
            yield found


def moving(path: Path, *, codec: str = "libx264", **options: str) -> Path:
    """A texture that moves and changes, so that frames are predicted from one another."""
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = options
        for number in range(FRAMES):
            picture = np.roll(noise, (number // 2, 2 * number), axis=(0, 1)) // 2 + np.uint8(number)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def seen(index: FrameIndex, path: Path, frames: Sequence[int], wanted: np.ndarray | None) -> tuple[np.ndarray, int]:
    """Frames, and how many were decoded for them."""
    with Counted(path, index, size_hw=(32, 32), wanted=wanted) as reader:
        return reader.read(frames), reader.decoded


@pytest.mark.parametrize("rate_hz", [3.0, 5.0, 10.0])
@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize(
    "options",
    [
        {"bf": "0"},
        {"bf": "3", "b-pyramid": "none", "b_strategy": "0"},
        {"bf": "3", "b_strategy": "0", "threads": "1"},
        {"bf": "5", "b_strategy": "0", "x264-params": "open-gop=1:keyint=20:direct=temporal:slices=3"},
        {"bf": "3", "b_strategy": "0", "x264-params": "interlaced=1"},
    ],
    ids=["no B", "plain B", "B pyramid", "open groups", "interlaced"],
)
def test_sampled_frames_are_those_of_a_full_decode(
    tmp_path: Path, options: dict[str, str], suffix: str, rate_hz: float
) -> None:
    path = moving(tmp_path / f"v.{suffix}", **options)
    index = build_index(path)
    samples = sample_indices(index.stamps_s, index.duration_s, rate_hz)
    frames, decoded = seen(index, path, samples.tolist(), samples)
    expected, all_decoded = seen(index, path, samples.tolist(), None)
    assert np.array_equal(frames, expected)
    spared = set(np.flatnonzero(index.unreferenced)) - set(samples)
    assert all_decoded - decoded == len([number for number in spared if number <= samples[-1]])
    assert (decoded < all_decoded) == (options["bf"] != "0"), "B-frames that nothing refers to are left out"


def test_a_frame_that_was_not_wanted_can_still_be_read(tmp_path: Path) -> None:
    path = moving(tmp_path / "v.mp4", bf="3")
    index = build_index(path)
    spared = np.flatnonzero(index.unreferenced)
    assert len(spared) > 20
    whole, _ = seen(index, path, range(FRAMES), None)
    with PyavReader(path, index, size_hw=(32, 32), wanted=np.array([0, 50])) as reader:
        for number in (0, int(spared[5]), 50, int(spared[2]), FRAMES - 1):
            assert np.array_equal(reader.read([number])[0], whole[number])


def test_of_other_codecs_every_frame_is_decoded(tmp_path: Path) -> None:
    path = moving(tmp_path / "v.mp4", codec="mpeg4", bf="2")
    assert not build_index(path).unreferenced.any()


def test_sampled_video_says_what_it_wants(shared_data: Path) -> None:
    path = sorted((shared_data / "room" / "videos").iterdir())[0]
    settings = VideoSettings(rate_hz=5.0, height_px=56, width_px=56)
    with open_sampled(path, settings) as video, open_video(path, size_hw=(56, 56)) as whole:
        assert np.array_equal(video.frames(0, 60), whole.read(video.indices[:60].tolist()))
