"""``--resume``: finished videos are skipped as long as their content, the model and the settings are the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tadkit import Detection, Detections, TadkitError
from tadkit.detection.finished import FinishedVideos

ORIGIN = {"model": {"file": "m.safetensors", "sha256": "aa"}, "decode": {"keep": 3}}
FOUND = [Detection(1 / 3, 2 / 3, "walk\x1b\n", 1 / 7)]


class Finder:
    """Counts how often detections are computed."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Detections:
        self.calls += 1
        return Detections(FOUND, video="a", duration_s=2.0, origin=ORIGIN)


@pytest.fixture
def videos(tmp_path: Path, write_squares: Callable[..., Path]) -> tuple[Path, Path]:
    return write_squares(tmp_path / "a.mp4", 20), write_squares(tmp_path / "b.mp4", 20, seed=1)


def test_what_changes_the_detections_has_them_computed_again(tmp_path: Path, videos: tuple[Path, Path]) -> None:
    first, other = videos
    finder, folder = Finder(), tmp_path / "dets.json.parts"
    finished = FinishedVideos(folder)
    assert finished.found("a", first, ORIGIN, finder) == FOUND
    assert (finder.calls, finished.reused) == (1, 0)

    moved = first.rename(tmp_path / "moved.mp4")
    renamed = ORIGIN | {"model": {"file": "n.safetensors", "sha256": "aa"}}
    kept = finished.found("moved", moved, renamed, finder)
    assert (kept, kept.video, kept.duration_s, kept.file) == (kept, "moved", 2.0, moved)
    assert list(kept) == FOUND
    assert (finder.calls, finished.reused) == (1, 1)

    scores = tmp_path / "scores.json"
    scores.write_text("{}")
    finished.found("a", other, ORIGIN, finder)
    finished.found("a", moved, ORIGIN | {"model": {"file": "m.safetensors", "sha256": "bb"}}, finder)
    finished.found("a", moved, ORIGIN | {"decode": {"keep": 4}}, finder)
    FinishedVideos(folder, video_scores=scores).found("a", moved, ORIGIN, finder)
    assert (finder.calls, finished.reused) == (5, 1)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"results": {}}', None])
def test_a_damaged_result_is_computed_again(tmp_path: Path, videos: tuple[Path, Path], damage: bytes | None) -> None:
    finder, folder = Finder(), tmp_path / "parts"
    FinishedVideos(folder).found("a", videos[0], ORIGIN, finder)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b'"key": "', b'"key": "0') if damage is None else damage)
    FinishedVideos(folder).found("a", videos[0], ORIGIN, finder)
    assert finder.calls == 2
    assert file.read_bytes() == whole


def test_a_name_that_no_encoding_has_is_kept(tmp_path: Path, videos: tuple[Path, Path]) -> None:
    finished, finder = FinishedVideos(tmp_path / "parts"), Finder()
    for _ in range(2):
        assert finished.found("a\udcff", videos[0], ORIGIN, finder) == FOUND
    assert (finder.calls, finished.reused) == (1, 1)


def test_a_video_that_fails_is_tried_again(tmp_path: Path, videos: tuple[Path, Path]) -> None:
    def fail() -> Detections:
        raise TadkitError("broken")

    finished, finder = FinishedVideos(tmp_path / "parts"), Finder()
    with pytest.raises(TadkitError, match="broken"):
        finished.found("a", videos[0], ORIGIN, fail)
    finished.found("a", videos[0], ORIGIN, finder)
    assert (finder.calls, finished.reused) == (1, 0)
