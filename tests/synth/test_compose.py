"""Composed streams hold the clips they state, where they state, and nothing that moves between them."""

from pathlib import Path

import av
import numpy as np
import pytest

from tadkit.config import ComposeSource
from tadkit.errors import AnnotationError, UsageError
from tadkit.progress import Quiet
from tadkit.records import read_dataset
from tadkit.synth.compose import compose_stream, compose_streams, read_clips

SETTINGS = ComposeSource(clips="clips.npz", streams=2, actions=3, fps=25.0, seed=1)


@pytest.fixture
def clips_path(tmp_path):
    """Two subjects; a square slides to the right in `push`, down in `drop`."""
    clips = {}
    for level, subject in ((200, "ann"), (120, "bob")):
        for action, length in (("push", 30), ("drop", 120)):
            clip = np.full((length, 32, 48, 3), 40, np.uint8)
            for k in range(length):
                at = k % 20
                top, left = (10, at) if action == "push" else (at, 10)
                clip[k, top : top + 10, left : left + 10] = level
            clips[f"{subject}_{action}_a"] = clip
    path = tmp_path / "clips.npz"
    np.savez(path, **clips)
    return path


def test_streams_are_repeatable_decodable_and_resumable(clips_path, tmp_path):
    annotations = compose_streams(SETTINGS, clips_path, tmp_path / "a", progress=Quiet())
    dataset = read_dataset(annotations)
    assert sorted(dataset.videos) == ["ann_0", "ann_1", "bob_0", "bob_1"]
    for record in dataset.videos.values():
        assert record.subset == "training"
        assert len(record.annotations) == 3
        assert {a.label for a in record.annotations} == {"push", "drop"}
        assert all(1.4 < a.end_s - a.start_s < 4.1 for a in record.annotations)
        assert all(0 < a.start_s < a.end_s < record.duration_s for a in record.annotations)
        path = tmp_path / "a" / "videos" / f"{record.name}.mp4"
        assert _frame_count(path) == round(record.duration_s * 25)
    stamp = path.stat().st_mtime_ns
    again = compose_streams(SETTINGS, clips_path, tmp_path / "a", progress=Quiet())
    assert path.stat().st_mtime_ns == stamp
    other = compose_streams(SETTINGS, clips_path, tmp_path / "b", progress=Quiet())
    assert again.read_text() == other.read_text()


def test_only_actions_move(clips_path):
    stream = compose_stream(SETTINGS, "ann", read_clips(clips_path)["ann"], 0)
    frames = np.stack(list(stream.frames())).astype(float)
    assert len(frames) == round(stream.duration_s * 25)
    change = np.abs(np.diff(frames, axis=0)).max((1, 2, 3))
    moving = np.zeros(len(change), bool)
    for a in stream.annotations:
        moving[round(a.start_s * 25) : round(a.end_s * 25) - 1] = True
    assert np.median(change[moving]) > 80
    assert change[~moving].max() < 40


def test_missing_file_is_told(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        compose_streams(SETTINGS, tmp_path / "no.npz", tmp_path, progress=Quiet())


def test_a_file_that_is_no_npz_is_told(tmp_path):
    path = tmp_path / "clips.npz"
    path.write_text("not an archive")
    with pytest.raises(UsageError, match=r"not an \.npz"):
        read_clips(path)
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(UsageError, match=r"not an \.npz"):
        read_clips(tmp_path / "array.npy")


@pytest.mark.parametrize(
    ("key", "clip"),
    [
        ("walk", np.zeros((4, 8, 8, 3), np.uint8)),
        ("ann_walk_a", np.zeros((4, 8, 8, 3), np.float32)),
        ("ann_walk_a", np.zeros((4, 8, 8), np.uint8)),
    ],
)
def test_clips_of_another_form_are_told(tmp_path, key, clip):
    np.savez(tmp_path / "clips.npz", **{key: clip})
    with pytest.raises(AnnotationError, match=key):
        read_clips(tmp_path / "clips.npz")


def test_weizmann_is_composed(shared_data, tmp_path):
    clips = shared_data / "weizmann" / "clips.npz"
    settings = ComposeSource(clips=str(clips), streams=1, actions=4)
    dataset = read_dataset(compose_streams(settings, clips, tmp_path, progress=Quiet()))
    assert len(dataset.videos) == 6
    for record in dataset.videos.values():
        assert {a.label for a in record.annotations} == {"bend", "jack", "wave1", "wave2"}


def _frame_count(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))
