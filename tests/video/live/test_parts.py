"""Live sources give the frames and stamps that the same video has as a file, and say what was lost."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tadkit.config import VideoSettings
from tadkit.errors import UsageError, VideoError
from tadkit.video import open_sampled
from tadkit.video.live import Begin, End, Item, Over, Sample, live_items, live_source

SETTINGS = VideoSettings(rate_hz=5.0, height_px=32, width_px=32)


@pytest.fixture
def stream(tmp_path: Path, write_squares: Callable[..., Path], remux: Callable[..., Path]) -> Path:
    """12 s of MPEG-TS."""
    return remux(write_squares(tmp_path / "a.mp4", 120), tmp_path / "a.ts")


def read(source: Path | str, *, patience_s: float = 0.1, stopped: threading.Event | None = None) -> list[Item]:
    live = live_source(str(source), patience_s=patience_s, stopped=stopped or threading.Event())
    return list(live_items(live, SETTINGS, patience_s=patience_s))


def assert_as_in_file(items: list[Item], path: Path) -> None:
    """The samples between a beginning and an end are those of the file."""
    samples = [item for item in items if isinstance(item, Sample)]
    with open_sampled(path, SETTINGS) as video:
        np.testing.assert_array_equal([one.stamp_s for one in samples], video.stamps_s)
        np.testing.assert_array_equal([one.picture for one in samples], video.frames(0, len(video)))
        (end,) = (item for item in items if isinstance(item, End))
        assert end.duration_s == video.duration_s


@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".h264", ".nut"])
def test_a_stream_gives_what_the_file_gives(
    tmp_path: Path, write_squares: Callable[..., Path], remux: Callable[..., Path], suffix: str
) -> None:
    gaps_s = np.random.default_rng(1).choice([0.04, 0.1, 0.3], 60)
    bare = suffix == ".h264"
    video = write_squares(tmp_path / "a.mp4", 61, stamps_s=None if bare else [0.0, *np.cumsum(gaps_s).round(2)])
    path = remux(video, tmp_path / f"a{suffix}")
    items = read(path)
    assert_as_in_file(items, path)
    assert isinstance(items[0], Begin)
    assert items[0].at_s == 0
    assert items[-1] == Over("the source has ended", failed=False)


def test_frames_without_a_stamp_follow_the_one_before(
    tmp_path: Path, shared_data: Path, remux: Callable[..., Path]
) -> None:
    """In MPEG-TS, some packets of a real video in MPEG-4 have no stamps."""
    video = next((shared_data / "room" / "videos").glob("20200628_183032*.mp4"))
    path = tmp_path / "short.ts"
    path.write_bytes(remux(video, tmp_path / "room.ts").read_bytes()[: 188 * 2000])
    assert_as_in_file(read(path), path)


def test_a_file_is_read_while_it_grows(tmp_path: Path, stream: Path) -> None:
    growing, content = tmp_path / "growing.ts", stream.read_bytes()
    growing.write_bytes(content[:9000])
    items: list[Item] = []
    thread = threading.Thread(target=lambda: items.extend(read(growing, patience_s=2.0)))
    thread.start()
    for at in range(9000, len(content), 9000):
        threading.Event().wait(0.05)
        with growing.open("ab") as file:
            file.write(content[at : at + 9000])
    thread.join(timeout=60)
    assert_as_in_file(items, stream)


def test_a_file_that_is_replaced_begins_again(tmp_path: Path, stream: Path) -> None:
    growing, stopped = tmp_path / "growing.ts", threading.Event()
    shutil.copy(stream, growing)
    items: list[Item] = []

    def collect() -> None:
        live = live_source(str(growing), patience_s=1.0, stopped=stopped)
        for item in live_items(live, SETTINGS, patience_s=1.0):
            items.append(item)
            if isinstance(item, Sample) and item.stamp_s > 10 and not any(isinstance(one, End) for one in items):
                os.replace(shutil.copy(stream, tmp_path / "other.ts"), growing)

    thread = threading.Thread(target=collect)
    thread.start()
    thread.join(timeout=60)
    first, second = (place for place, item in enumerate(items) if isinstance(item, End))
    assert isinstance(items[first], End)
    assert items[first].reason == "the file was replaced"
    assert_as_in_file(items[: first + 1], stream)
    assert_as_in_file(items[first + 1 : second + 1], stream)
    again = items[first + 1]
    assert isinstance(again, Begin)
    assert 12 <= again.at_s < 60


def test_stamps_that_run_backward_begin_a_part(tmp_path: Path, stream: Path) -> None:
    twice = tmp_path / "twice.ts"
    twice.write_bytes(stream.read_bytes() * 2)
    items = read(twice)
    parts = [item for item in items if isinstance(item, Begin | End)]
    assert [type(part) for part in parts] == [Begin, End, Begin, End]
    assert isinstance(parts[1], End)
    assert parts[1].reason == "time stamps run backward"
    assert isinstance(parts[2], Begin)
    assert parts[2].at_s == pytest.approx(12, abs=0.5)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"no video " * 1000, "not a video that FFmpeg can read"), (None, "No such file or directory; expected a camera")],
)
def test_what_is_no_stream_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "x.ts").write_bytes(content)
    with pytest.raises(VideoError, match=said):
        read(tmp_path / "x.ts")


def test_a_file_whose_index_is_at_its_end_is_refused() -> None:
    with pytest.raises(VideoError, match="expected a format that can be read while it is written"):
        read(Path(__file__).parents[3] / "examples" / "room.mp4")


def test_a_camera_that_is_not_there_is_refused() -> None:
    with pytest.raises((VideoError, UsageError), match="camera"):
        read("97")
