"""Which videos the page of ``tadkit report`` has, and where it finds their files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tadkit.progress import Quiet
from tadkit.records import Annotation, Dataset, VideoRecord, write_dataset
from tadkit.report.report import write_report
from tadkit.video import write_video

FRAMES = [np.zeros((32, 48, 3), np.uint8)] * 5


def test_a_file_that_annotations_name_without_its_prefix_is_one_video(tmp_path: Path) -> None:
    write_video(tmp_path / "videos" / "v_one.mp4", FRAMES, fps=5)
    write_video(tmp_path / "videos" / "two.mp4", FRAMES, fps=5)
    record = VideoRecord("one", 1.0, "validation", (Annotation(0.2, 0.6, "walk"),))
    write_dataset(tmp_path / "truth.json", Dataset({"one": record}))
    made = write_report(
        tmp_path / "page.html", truth=tmp_path / "truth.json", videos=tmp_path / "videos", edit=True, progress=Quiet()
    )
    assert (made.videos, made.annotations, list(made.missing)) == (2, 1, [])
    assert '"url":"videos/v_one.mp4"' in made.out.read_text()


def test_a_file_name_that_is_no_text_can_be_played(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "one.mp4", FRAMES, fps=5)
    try:
        (tmp_path / "one.mp4").rename(tmp_path / "videos" / os.fsdecode(b"caf\xe9.mp4"))
    except OSError:
        pytest.skip("this file system has names in UTF-8 only")
    made = write_report(tmp_path / "page.html", videos=tmp_path / "videos", edit=True, progress=Quiet())
    assert '"url":"videos/caf%E9.mp4"' in made.out.read_text()
