"""Videos of 20 s at 30 frames a second for the cases in ``cases/``, and what a conversion of one prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tadkit.records import VideoRecord, read_dataset
from tadkit.video import write_video

CASES = Path(__file__).parent / "cases"


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with kitchen.mp4 and bench.mp4."""
    folder = tmp_path_factory.mktemp("films")
    frames = [np.full((16, 16, 3), n % 251, np.uint8) for n in range(600)]
    for name in ("kitchen", "bench"):
        write_video(folder / f"{name}.mp4", frames, fps=30)
    return folder


class Converted(NamedTuple):
    """Exit code, stderr, and the videos that were written."""

    code: int
    err: str
    videos: dict[str, VideoRecord]

    def rows(self, name: str) -> list[tuple[float, float, str]]:
        """Actions of a video, with seconds rounded to microseconds."""
        return [(round(a.start_s, 6), round(a.end_s, 6), a.label) for a in self.videos[name].annotations]


@pytest.fixture
def converted(tadkit: Callable[..., Any], tmp_path: Path) -> Callable[..., Converted]:
    """Run ``tadkit data convert`` on a file, or on content that is first written to a JSON file."""

    def call(source: Any, *options: str | Path) -> Converted:
        path, out = source, tmp_path / "converted.json"
        if not isinstance(source, Path):
            path = tmp_path / "source.json"
            path.write_text(json.dumps(source))
        out.unlink(missing_ok=True)
        ran = tadkit("data", "convert", path, "--out", out, *options)
        return Converted(ran.code, ran.err, dict(read_dataset(out).videos) if out.exists() else {})

    return call
