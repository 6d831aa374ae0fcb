"""A video that failed is listed with the reason, and tried again only when something has changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tadkit.config import VideoSettings
from tadkit.errors import StoreError, VideoError
from tadkit.extraction.results import ExtractionResult

Extracted = Callable[..., ExtractionResult]
WriteSquares = Callable[..., Path]


def listed(out: Path) -> dict[str, Any]:
    videos = json.loads(out.with_name(f"{out.name}.failed.json").read_text())["videos"]
    assert isinstance(videos, dict)
    return videos


def test_a_video_that_failed_is_tried_again_only_when_something_changed(
    tmp_path: Path, write_squares: WriteSquares, extracted: Extracted
) -> None:
    bad, out = tmp_path / "bad.mp4", tmp_path / "flow.h5"
    bad.write_bytes(b"no video")
    first = extracted({"bad": bad}, out).failed["bad"]
    entry = listed(out)["bad"]
    assert entry["reason"] == str(first)
    assert entry["error"] == "VideoError"
    assert set(entry) == {"source_sha256", "settings", "error", "reason", "when", "tadkit"}
    again = extracted({"bad": bad}, out).failed["bad"]
    assert isinstance(again, VideoError)
    assert str(again).startswith(str(first))
    assert "add --retry-failed to try again" in str(again)
    for changed in (
        {"retry_failed": True},
        {"video": VideoSettings(rate_hz=100.0, height_px=32, width_px=32, reader="pyav")},
    ):
        assert str(extracted({"bad": bad}, out, **changed).failed["bad"]) == str(first)  # type: ignore[arg-type]
    write_squares(bad, 20)
    assert extracted({"bad": bad}, out).done == ["bad"]
    assert not out.with_name("flow.h5.failed.json").exists()


def test_a_video_that_is_missing_is_listed_and_looked_for_again(
    tmp_path: Path, write_squares: WriteSquares, extracted: Extracted
) -> None:
    out = tmp_path / "flow.h5"
    items = {"late": tmp_path / "late.mp4"}
    assert list(extracted(items, out).failed) == ["late"]
    assert "no such file" in listed(out)["late"]["reason"]
    write_squares(items["late"], 5)
    assert extracted(items, out).done == ["late"]


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "tadkit-failed", "version": 9}'])
def test_a_list_of_failures_that_cannot_be_read_is_refused(tmp_path: Path, text: str, extracted: Extracted) -> None:
    (tmp_path / "flow.h5.failed.json").write_text(text)
    with pytest.raises(StoreError, match=r"flow\.h5\.failed\.json: "):
        extracted({}, tmp_path / "flow.h5")
