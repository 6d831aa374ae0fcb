"""Clips, overlays and cut lists show what was detected, for as long as it was, read with PyAV."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tadkit import Detection, Detections, TadkitError, VideoDetections
from tadkit.detection.outputs.clips import write_clips
from tadkit.detection.outputs.content import Content, VideoContent, safe_names
from tadkit.detection.outputs.overlay import write_overlay
from tadkit.progress import Quiet
from tadkit.video import open_video, write_video

FPS = 20
FRAME_S = 1 / FPS
GREY = [4 * number for number in range(60)]
"""The grey level of each frame, by which it is recognised."""
FOUND = (
    Detection(1.02, 2.0, "walk", 0.9),
    Detection(0.0, 3.0, "../../<b>up</b>\0\n" + "x" * 3000, 0.8),
    Detection(2.98, 2.99, "walk", 0.5),
    Detection(1.5, 9.0, "", 0.4),
)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames of even grey, of odd sizes after rounding."""
    path = tmp_path_factory.mktemp("videos") / "it's a: 'video'.mp4"
    write_video(path, (np.full((64, 96, 3), grey, dtype=np.uint8) for grey in GREY), fps=FPS, crf=0)
    return path


@pytest.fixture
def content(video: Path) -> Content:
    return Content((VideoContent("../cam/1", FOUND, 3.0, video),), {})


def decoded(path: Path, **options: Any) -> tuple[float, list[np.ndarray]]:
    """Duration of the video stream in seconds, and its frames."""
    with av.open(str(path), **options) as container:
        stream = container.streams.video[0]
        length = stream.duration or 0
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return float(length * stream.time_base), frames


def test_clips_show_their_detections_from_start_to_end(content: Content, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "clips"
    assert write_clips(folder, content, progress=Quiet()) == {}
    rows = [json.loads(line) for line in (folder / "clips.jsonl").read_text().splitlines()]
    assert [(row["start_s"], row["label"], row["score"]) for row in rows] == [
        (d.start_s, d.label, d.score) for d in sorted(FOUND, key=lambda d: d.start_s)
    ]
    assert {path.parent for path in tmp_path.rglob("*") if path.is_file()} == {folder}
    assert {path.name for path in folder.iterdir()} == {"clips.jsonl", *(row["file"] for row in rows)}
    for row in rows:
        duration_s, frames = decoded(folder / row["file"])
        start_s, end_s = row["start_s"], min(row["end_s"], 3.0)
        assert duration_s == pytest.approx(end_s - start_s, abs=FRAME_S)
        first = int(start_s / FRAME_S + 1e-6)
        shown = GREY[first : first + len(frames)]
        assert np.abs([frame.mean() for frame in frames] - np.array(shown)).max() < 3
        assert (first + len(frames)) * FRAME_S == pytest.approx(end_s, abs=FRAME_S)


def test_no_clip_replaces_that_of_another_video(video: Path, tmp_path: Path) -> None:
    labelled = {"cam": "001-walk", "cam-001": "walk", "a/cam": "walk", "a_cam": "walk"}
    videos = [VideoContent(name, (Detection(0.0, 0.2, label, 0.9),), 3.0, video) for name, label in labelled.items()]
    assert write_clips(tmp_path, Content(tuple(videos), {}), progress=Quiet()) == {}
    rows = [json.loads(line) for line in (tmp_path / "clips.jsonl").read_text().splitlines()]
    assert [row["video"] for row in rows] == list(labelled)
    assert len({row["file"] for row in rows}) == len(list(tmp_path.glob("*.mp4"))) == 4


def test_a_damaged_video_costs_only_its_own_clips(content: Content, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    bad = VideoContent("bad", FOUND[:1], 3.0, tmp_path / "bad.mp4")
    unknown = VideoContent("unknown", FOUND[:1], 3.0, None)
    failed = write_clips(tmp_path / "clips", Content((bad, unknown, *content.videos), {}), progress=Quiet())
    assert list(failed) == ["bad", "unknown"]
    assert "--videos" in str(failed["unknown"])
    assert len((tmp_path / "clips" / "clips.jsonl").read_text().splitlines()) == len(FOUND)


def test_the_overlay_lasts_as_long_and_shows_labels_while_they_do(content: Content, tmp_path: Path) -> None:
    (video,) = content.videos
    write_overlay(tmp_path / "o.mp4", video, labels=content.labels, progress=Quiet())
    duration_s, frames = decoded(tmp_path / "o.mp4")
    assert duration_s == pytest.approx(3.0, abs=FRAME_S)
    assert len(frames) == len(GREY)
    assert frames[0].shape[0] > 64
    assert np.abs([frame[56:63, 80:].mean() for frame in frames] - np.array(GREY)).max() < 8
    quiet = VideoContent("v", (), 3.0, video.file)
    write_overlay(tmp_path / "quiet.mp4", quiet, labels=[], progress=Quiet())
    _, plain = decoded(tmp_path / "quiet.mp4")
    second_line = (slice(20, 34), slice(4, 40))
    both = zip(frames, plain, strict=True)
    differs = [np.abs(a[second_line] - b[second_line].astype(float)).mean() > 20 for a, b in both]
    assert differs[21:40] == [True] * 19  # two detections from 1.02 s
    assert not any(differs[:20])


def test_an_overlay_that_fails_leaves_the_file_as_it_was(tmp_path: Path, write_squares: Callable[..., Path]) -> None:
    whole = write_squares(tmp_path / "v.mp4", 60).read_bytes()
    (tmp_path / "v.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "o.mp4").write_text("old")
    with pytest.raises(TadkitError, match=r"v\.mp4"):
        write_overlay(
            tmp_path / "o.mp4", VideoContent("v", FOUND, 3.0, tmp_path / "v.mp4"), labels=[], progress=Quiet()
        )
    assert (tmp_path / "o.mp4").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"v.mp4", "o.mp4"}


@pytest.mark.parametrize("below", [True, False])
def test_ffmpeg_plays_the_cut_list(video: Path, tmp_path: Path, below: bool) -> None:
    found = Detections(FOUND[:2], video="v", duration_s=3.0, origin={}, file=video)
    path = (video.parent if below else tmp_path) / "cuts.ffconcat"
    found.write(path)
    _, frames = decoded(path, format="concat", options={"safe": "0"})
    levels = [round(float(frame.mean())) for frame in frames]
    longest = levels[: len(GREY)]
    assert np.abs(np.array(longest) - GREY).max() < 3  # all of it, then from 1.02 s; decoding starts at a keyframe
    assert max(levels[len(GREY) :]) == pytest.approx(GREY[39], abs=3)


@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
def test_a_cut_list_counts_from_the_start_of_the_file(tmp_path: Path, suffix: str) -> None:
    path, late_s = tmp_path / f"late{suffix}", 10
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=FPS)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 96, 64, "yuv420p", 1
        for number, grey in enumerate(GREY):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), grey, dtype=np.uint8), format="rgb24")
            frame.pts, frame.time_base = number + late_s * FPS, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    Detections(FOUND[:1], video="v", duration_s=3.0, origin={}, file=path).write(tmp_path / "cuts.ffconcat")
    _, frames = decoded(tmp_path / "cuts.ffconcat", format="concat", options={"safe": "0"})
    levels = [float(frame.mean()) for frame in frames]
    assert (levels[0], levels[-1]) == (pytest.approx(GREY[20], abs=4), pytest.approx(GREY[39], abs=4))


def test_videos_without_stamps_are_cut_at_the_rate_they_were_read_at(tmp_path: Path) -> None:
    raw = tmp_path / "v.h264"
    write_video(raw, (np.full((64, 96, 3), grey, dtype=np.uint8) for grey in GREY), fps=FPS, crf=0)
    origin = {"video": {"fallback_fps": FPS / 2}}
    found = Detections([Detection(4.0, 5.0, "walk", 0.9)], video="v", duration_s=6.0, origin=origin, file=raw)
    content = VideoDetections({"v": found}, origin=origin).content
    assert write_clips(tmp_path, content, progress=Quiet()) == {}
    length_s, frames = decoded(tmp_path / "v-001-walk.mp4")
    assert length_s == pytest.approx(1.0)
    assert [round(float(frame.mean())) for frame in frames] == pytest.approx(GREY[40:50], abs=3)
    write_overlay(tmp_path / "o.mp4", content.videos[0], labels=content.labels, progress=Quiet())
    assert decoded(tmp_path / "o.mp4")[0] == pytest.approx(6.0)
    found.write(tmp_path / "v.labelstudio.json")
    (task,) = json.loads((tmp_path / "v.labelstudio.json").read_text())
    assert task["data"]["fps"] == FPS / 2
    assert task["predictions"][0]["result"][0]["value"]["ranges"] == [{"start": 41, "end": 50}]


def test_a_cut_list_needs_files_that_ffmpeg_can_be_given(tmp_path: Path) -> None:
    for file, words in ((None, "--videos"), (tmp_path / "a\nfile x.mp4", "control characters")):
        found = VideoDetections({"v": Detections(FOUND, video="v", duration_s=3.0, origin={}, file=file)}, origin={})
        with pytest.raises(TadkitError, match=words):
            found.write(tmp_path / "cuts.ffconcat")
    assert not list(tmp_path.iterdir())


def test_frames_of_odd_size_lose_a_row(tmp_path: Path) -> None:
    picture = np.zeros((33, 31, 3), dtype=np.uint8)
    with av.open(str(tmp_path / "odd.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 31, 33, "bgr0"
        for _ in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    content = Content((VideoContent("odd", (Detection(0.2, 0.6, "walk", 0.9),), 1.0, tmp_path / "odd.mkv"),), {})
    assert write_clips(tmp_path / "clips", content, progress=Quiet()) == {}
    with open_video(tmp_path / "clips" / "odd-001-walk.mp4") as clip:
        assert clip.size_hw == (32, 30)
        assert clip.duration_s == pytest.approx(0.4)


def test_no_file_system_takes_two_names_for_one() -> None:
    names = ["e\u0301", "\u00e9", "\u00c9", "a/b", "a\\b", "A_B"]
    assert list(safe_names(names).values()) == ["e\u0301", "\u00e9-2", "\u00c9-3", "a_b", "a_b-2", "A_B-3"]
