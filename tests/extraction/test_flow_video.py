"""The flow of one video: in pieces that outlive what breaks it off, in the code that was asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tadkit.config import OpencvDisSettings, TemporalGradientSettings
from tadkit.extraction.flow_video import PIECE_PAIRS
from tadkit.extraction.results import ExtractionResult
from tadkit.flow.codec import read_flow
from tadkit.store import read_store

Content = Callable[[Path], dict[str, Any]]
Extracted = Callable[..., ExtractionResult]
WriteSquares = Callable[..., Path]


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.fixture(scope="session")
def undisturbed_flow(long_video: Path, store_content: Content, extracted: Extracted) -> dict[str, Any]:
    out = long_video.with_name("flow.h5")
    assert extracted({"long": long_video}, out).done == ["long"]
    return store_content(out)


def pieces(out: Path) -> list[Path]:
    return sorted(out.with_name(f"{out.name}.parts").glob(".pieces-*/*"))


def test_what_was_computed_of_a_video_is_not_computed_again(
    tmp_path: Path,
    long_video: Path,
    store_content: Content,
    undisturbed_flow: dict[str, Any],
    extracted: Extracted,
    long_pairs: int,
    counted: type[Any],
) -> None:
    out = tmp_path / "flow.h5"
    with pytest.raises(KeyboardInterrupt):
        extracted({"long": long_video}, out, progress=counted(PIECE_PAIRS + 100, interrupt))
    assert len(pieces(out)) == 1
    assert not store_content(out)
    progress = counted()
    assert extracted({"long": long_video}, out, progress=progress).done == ["long"]
    assert progress.steps[0] == PIECE_PAIRS, "counted at once"
    assert sum(progress.steps) == progress.total == long_pairs
    assert store_content(out) == undisturbed_flow
    assert [path.name for path in out.with_name("flow.h5.parts").glob(".*")] == [".lock"]


def test_a_damaged_piece_is_computed_again(
    tmp_path: Path,
    long_video: Path,
    store_content: Content,
    undisturbed_flow: dict[str, Any],
    extracted: Extracted,
    counted: type[Any],
) -> None:
    out = tmp_path / "flow.h5"
    with pytest.raises(KeyboardInterrupt):
        extracted({"long": long_video}, out, progress=counted(2 * PIECE_PAIRS + 1, interrupt))
    first, second = pieces(out)
    with h5py.File(first, "r+") as file:
        file["motion"][100] += 1
    second.write_bytes(second.read_bytes()[:-1000])
    progress = counted()
    extracted({"long": long_video}, out, progress=progress)
    assert max(progress.steps) < PIECE_PAIRS
    assert store_content(out) == undisturbed_flow


def test_pieces_made_with_other_settings_are_not_used_but_removed(
    tmp_path: Path, long_video: Path, extracted: Extracted, counted: type[Any]
) -> None:
    out = tmp_path / "flow.h5"
    with pytest.raises(KeyboardInterrupt):
        extracted({"long": long_video}, out, progress=counted(PIECE_PAIRS + 1, interrupt))
    (left,) = pieces(out)
    with pytest.raises(KeyboardInterrupt):
        extracted({"long": long_video}, out, flow=OpencvDisSettings(), progress=counted(1, interrupt))
    assert not left.exists()


def test_a_video_of_one_piece_is_written_without_pieces(
    tmp_path: Path, write_squares: WriteSquares, extracted: Extracted, counted: type[Any]
) -> None:
    video, out = write_squares(tmp_path / "v.mp4", PIECE_PAIRS + 1, fps=100), tmp_path / "flow.h5"
    with pytest.raises(KeyboardInterrupt):
        extracted({"v": video}, out, progress=counted(PIECE_PAIRS, interrupt))
    assert [path.name for path in out.with_name("flow.h5.parts").iterdir()] == [".lock"]


def test_float16_keeps_what_int8_rounds_and_clips(
    tmp_path: Path, write_squares: WriteSquares, extracted: Extracted
) -> None:
    items = {"v": write_squares(tmp_path / "v.mp4", 40)}
    coded, half = tmp_path / "coded.h5", tmp_path / "half.h5"
    narrow = TemporalGradientSettings(bound_px=40)
    assert extracted(items, coded, flow=narrow).clipped["v"] > 0
    assert extracted(items, half, flow=narrow.model_copy(update={"code": "float16"})).clipped["v"] == 0
    with read_store(coded, kind="flow") as one, read_store(half, kind="flow") as other:
        assert (one.bound("v", "motion"), other.bound("v", "motion")) == (40, None)
        assert other.read("v", "motion").dtype == np.float16
        near, exact = (read_flow(store, "v", 0, 40) for store in (one, other))
        assert near.dtype == exact.dtype == np.float32
        assert np.abs(exact).max() > 100
        assert np.array_equal(exact, exact.round()), "differences of grey levels are whole"
        np.testing.assert_allclose(near, exact.clip(-40, 40), atol=40 / 254 + 1e-5)


def test_the_note_tells_the_share_of_clipped_values(
    tmp_path: Path, write_squares: WriteSquares, extracted: Extracted, counted: type[Any]
) -> None:
    progress = counted()
    result = extracted(
        {"v": write_squares(tmp_path / "v.mp4", 40)},
        tmp_path / "flow.h5",
        flow=TemporalGradientSettings(bound_px=2),
        progress=progress,
    )
    assert progress.notes[-1] == f"{result.clipped['v']:.2%} clipped, v"
    assert result.clipped["v"] > 0.01
