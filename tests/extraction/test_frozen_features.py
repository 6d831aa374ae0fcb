"""Frozen features: what is stored, when it is computed again, and what a detector of them needs for a new video."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tadkit.config import FrozenSettings, OpencvDisSettings, VideoSettings
from tadkit.extraction.extract_flow import extract_flow_of
from tadkit.extraction.frozen_features import extract_frozen_features
from tadkit.extraction.results import ExtractionResult
from tadkit.flow.histograms import CHANNELS
from tadkit.progress import Quiet
from tadkit.store import read_store

WriteSquares = Callable[..., Path]
VIDEO = VideoSettings(rate_hz=5.0, height_px=48, width_px=48)
FLOW = OpencvDisSettings(method="opencv-dis", stack=3)
FROZEN = FrozenSettings(grid=2, motion_grid=3)


def extracted(
    folder: Path,
    video: Path,
    *,
    frozen: FrozenSettings = FROZEN,
    flow: OpencvDisSettings = FLOW,
    frames: VideoSettings = VIDEO,
) -> ExtractionResult:
    given = {"flow": flow, "video": frames, "device": "cpu", "progress": Quiet()}
    extract_flow_of({"v": video}, folder / "flow.h5", **given).raise_if_failed()
    return extract_frozen_features({"v": video}, folder / "f.h5", flow_store=folder / "flow.h5", frozen=frozen, **given)


def test_a_step_is_a_sampled_frame_and_has_cells_of_rgb_and_of_motion(
    tmp_path: Path, write_squares: WriteSquares
) -> None:
    video = write_squares(tmp_path / "v.mp4", 60)
    assert extracted(tmp_path, video).done == ["v"]
    with read_store(tmp_path / "f.h5", kind="features") as store, read_store(tmp_path / "flow.h5", kind="flow") as flow:
        np.testing.assert_array_equal(store.stamps_s("v"), flow.stamps_s("v"))
        steps = len(flow.stamps_s("v"))
        assert store.read("v", "original/appearance").shape == (steps, 2 * 2 * 320)
        assert store.read("v", "original/motion").shape == (steps, 3 * 3 * 3 * CHANNELS)
        assert store.feature_channels("v") == 1280 + 297
        assert store.settings["frozen"]["backbone"] == "efficientnet-lite0"
        assert np.isfinite(store.features("v").astype(float)).all()


@pytest.mark.parametrize(
    "changed",
    [
        {"frozen": FrozenSettings(grid=1, motion_grid=3)},
        {"frozen": FrozenSettings(grid=2, motion_grid=3, blocks=12)},
        {"flow": OpencvDisSettings(method="opencv-dis", stack=1)},
        {"flow": OpencvDisSettings(method="opencv-dis", stack=3, preset="fast")},
        {"frames": VideoSettings(rate_hz=2.5, height_px=48, width_px=48)},
    ],
    ids=["grid", "blocks", "stack", "flow", "rate"],
)
def test_features_are_kept_until_the_net_the_cells_the_rate_or_the_flow_changes(
    tmp_path: Path, write_squares: WriteSquares, changed: dict[str, object]
) -> None:
    video = write_squares(tmp_path / "v.mp4", 20)
    assert extracted(tmp_path, video).done == ["v"]
    assert extracted(tmp_path, video).reused == ["v"]
    assert extracted(tmp_path, video, **changed).done == ["v"]


def test_without_flow_rgb_alone_is_stored_and_it_is_the_same(tmp_path: Path, write_squares: WriteSquares) -> None:
    video = write_squares(tmp_path / "v.mp4", 30)
    extracted(tmp_path, video)
    alone = extract_frozen_features(
        {"v": video},
        tmp_path / "rgb.h5",
        flow_store=None,
        frozen=FROZEN,
        flow=FLOW,
        video=VIDEO,
        device="cpu",
        progress=Quiet(),
    )
    assert alone.done == ["v"]
    with (
        read_store(tmp_path / "rgb.h5", kind="features") as rgb,
        read_store(tmp_path / "f.h5", kind="features") as both,
    ):
        assert rgb.tracks("v") == ["original/appearance"]
        np.testing.assert_array_equal(rgb.features("v"), both.read("v", "original/appearance"))
