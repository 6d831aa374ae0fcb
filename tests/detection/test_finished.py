"""``--resume``: finished videos are skipped as long as their content, the model and the settings are the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tadkit import Detection, Detections
from tadkit.detection.finished import FinishedVideos

ORIGIN = {"model": {"file": "m.safetensors", "sha256": "aa"}, "decode": {"keep": 3}}
FOUND = [Detection(1 / 3, 2 / 3, "walk\x1b\n", 1 / 7)]


class Finder:
    """Counts how often detections are computed."""

    def __init__(self) -> None:
        self.calls, self.video = 0, "a"

    def __call__(self) -> Detections:
        self.calls += 1
        return Detections(FOUND, video=self.video, duration_s=2.0, origin=ORIGIN)


def found(finished: FinishedVideos, name: str, path: Path, detect: Callable[[], Detections], **over: Any) -> Detections:
    """The detections that are kept, else those that ``detect`` finds, which are kept then."""
    key, kept = finished.kept(name, path, ORIGIN | over)
    if kept is None:
        finished.keep(key, kept := detect())
    return kept


@pytest.fixture
def videos(tmp_path: Path, write_squares: Callable[..., Path]) -> tuple[Path, Path]:
    return write_squares(tmp_path / "a.mp4", 20), write_squares(tmp_path / "b.mp4", 20, seed=1)


def test_what_changes_the_detections_has_them_computed_again(tmp_path: Path, videos: tuple[Path, Path]) -> None:
    first, other = videos
    finder, folder = Finder(), tmp_path / "dets.json.parts"
    finished = FinishedVideos(folder)
    assert found(finished, "a", first, finder) == FOUND
    assert finder.calls == 1

    moved = first.rename(tmp_path / "moved.mp4")
    kept = found(finished, "moved", moved, finder, model={"file": "n.safetensors", "sha256": "aa"})
    assert (kept, kept.video, kept.duration_s, kept.file) == (kept, "moved", 2.0, moved)
    assert list(kept) == FOUND
    assert finder.calls == 1

    scores = tmp_path / "scores.json"
    scores.write_text("{}")
    found(finished, "a", other, finder)
    found(finished, "a", moved, finder, model={"file": "m.safetensors", "sha256": "bb"})
    found(finished, "a", moved, finder, decode={"keep": 4})
    found(FinishedVideos(folder, video_scores=scores), "a", moved, finder)
    assert finder.calls == 5


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"results": {}}', None])
def test_a_damaged_result_is_computed_again(tmp_path: Path, videos: tuple[Path, Path], damage: bytes | None) -> None:
    finder, folder = Finder(), tmp_path / "parts"
    found(FinishedVideos(folder), "a", videos[0], finder)
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b'"key": "', b'"key": "0') if damage is None else damage)
    found(FinishedVideos(folder), "a", videos[0], finder)
    assert finder.calls == 2
    assert file.read_bytes() == whole


def test_a_name_that_no_encoding_has_is_kept(tmp_path: Path, videos: tuple[Path, Path]) -> None:
    finished, finder = FinishedVideos(tmp_path / "parts"), Finder()
    finder.video = "a\udcff"
    for _ in range(2):
        assert found(finished, "a\udcff", videos[0], finder) == FOUND
    assert finder.calls == 1
