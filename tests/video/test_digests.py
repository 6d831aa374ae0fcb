"""Results of version 0.1.0 are kept where files are read as before, and computed again where they are not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tadkit.errors import VideoError
from tadkit.files import digest_of_file
from tadkit.video import write_video
from tadkit.video.digests import digest_ledger, source_digest, source_key

CASES = Path(__file__).parent / "cases"
Numbered = Callable[[int], list[np.ndarray]]


def test_a_usual_file_has_its_digest_for_a_key(tmp_path: Path, numbered: Numbered) -> None:
    for name in ("a.mp4", "a.mov", "a.mkv"):
        write_video(tmp_path / name, numbered(40), fps=25)
        assert source_key(tmp_path / name) == source_digest(tmp_path / name) == digest_of_file(tmp_path / name)


@pytest.mark.parametrize("name", sorted(path.name for path in CASES.iterdir()))
def test_a_file_that_is_read_otherwise_has_a_key_of_its_own(name: str) -> None:
    assert source_digest(CASES / name) == digest_of_file(CASES / name)
    assert source_key(CASES / name) != source_digest(CASES / name)


def test_what_is_no_video_has_a_digest(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    assert source_key(tmp_path / "a.mp4") == source_digest(tmp_path / "a.mp4")
    with pytest.raises(VideoError, match="no such file"):
        source_key(tmp_path / "b.mp4")


def test_digest_and_key_are_kept_in_the_ledger(tmp_path: Path) -> None:
    video, ledger = tmp_path / "late.mp4", tmp_path / "digests.json"
    shutil.copy(CASES / "late_picture.mp4", video)
    with digest_ledger(ledger):
        digest = source_digest(video)
    (row,) = (row for row in json.loads(ledger.read_text())["digests"] if row[0] == str(video))
    assert row[4:] == [digest, ""]
    with digest_ledger(ledger):
        key = source_key(video)
    (row,) = (row for row in json.loads(ledger.read_text())["digests"] if row[0] == str(video))
    assert row[4:] == [digest, key]
