from __future__ import annotations

from pathlib import Path

import pytest

from tadkit.detection.detect import load_detector
from tadkit.errors import VideoError
from tadkit.progress import Quiet, VideoProgress
from tadkit.video import open_sampled

EXAMPLE = Path(__file__).parents[1] / "examples" / "room.mp4"


class Kept(Quiet):
    """Keeps every report."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[tuple[str, float, str]] = []
        self.amounts: list[float] = []
        self.notes: list[str] = []

    def start(self, task: str, *, total: float, unit: str) -> None:
        self.tasks.append((task, total, unit))

    def advance(self, amount: float = 1.0, *, note: str = "") -> None:
        self.amounts.append(amount)
        self.notes.append(note)


def test_quiet_prints_nothing_and_keeps_warnings(capsys):
    quiet = Quiet()
    quiet.start("decode", total=2, unit="frames")
    quiet.advance(2, note="fast")
    quiet.warn("dark")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert quiet.warnings == ["dark"]


def test_one_video_is_counted_in_frames():
    kept = Kept()
    progress = VideoProgress(kept, "detect", videos=1)
    progress.begin("a", frames=300)
    progress.advance(128)
    progress.advance(172)
    progress.end("a")
    assert kept.tasks == [("detect", 300, "frames")]
    assert kept.amounts == [128, 172]


def test_each_of_several_videos_counts_as_one_whatever_becomes_of_it():
    kept = Kept()
    progress = VideoProgress(kept, "detect", videos=3)
    progress.begin("a", frames=300)
    progress.advance(100)
    assert (kept.amounts, kept.notes) == ([pytest.approx(1 / 3)], ["a: 100 of 300 frames"])
    progress.end("a")  # failed after a third
    progress.end("b")  # could not be opened
    progress.begin("c", frames=7)
    progress.advance(7)
    progress.end("c")
    assert kept.tasks == [("detect", 3, "videos")]
    assert sum(kept.amounts) == pytest.approx(3)
    assert min(kept.amounts) >= 0


def test_videos_under_way_at_the_same_time_are_noted_together():
    kept = Kept()
    progress = VideoProgress(kept, "detect", videos=5)
    for name in "abcd":
        progress.begin(name, frames=200)
    progress.advance(100, "b")
    progress.advance(30)
    progress.end("b")
    progress.end("a")
    progress.advance(10, "d")
    progress.end("c")
    progress.advance(10, "d")
    assert kept.notes == [
        "a 0%, b 50%, c 0%, 1 more",
        "a 0%, b 50%, c 0%, 1 more",
        "a 0%, c 0%, d 15%",
        "c 0%, d 15%",
        "c 0%, d 20%",
        "d: 40 of 200 frames",
        "d: 50 of 200 frames",
    ]
    assert sum(kept.amounts) == pytest.approx(3.25)


def test_detection_reports_the_frames_of_one_video_and_the_shares_of_several(tmp_path):
    detector = load_detector(device="cpu", engine="torch")
    with open_sampled(EXAMPLE, detector.video) as sampled:
        frames = len(sampled)
    first = detector.net.student.backbone.halo_frames + 1  # the first piece needs them; the others have 16 frames
    one, several = Kept(), Kept()
    found = detector.detect(EXAMPLE, progress=one)
    assert one.tasks == [("detect", frames, "frames")]
    assert sum(one.amounts) == frames
    assert one.amounts[0] == first
    assert len(one.amounts) == 1 - (first - frames) // 16
    assert max(one.amounts) == 16
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(b"no video")
    both = detector.detect([EXAMPLE, damaged], on_error="collect", progress=several)
    assert list(both["room"]) == list(found)
    assert isinstance(both.failed["damaged"], VideoError)
    assert several.tasks == [("detect", 2, "videos")]
    assert sum(several.amounts) == pytest.approx(2)
    assert several.notes[0] == f"room: {first} of {frames} frames"
