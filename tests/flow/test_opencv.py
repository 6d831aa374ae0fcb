"""OpenCV's methods: as OpenCV gives them, and no crash or traceback of its own."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tadkit.config import OpencvDisSettings, OpencvTvl1Settings
from tadkit.errors import SettingsError
from tadkit.flow import build_flow

CPU = torch.device("cpu")
PRESETS = {"ultrafast": 0, "fast": 1, "medium": 2}


def pictures(height_px: int, width_px: int) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (2, height_px, width_px, 3), dtype=np.uint8)
    return np.stack([cv2.GaussianBlur(picture, (0, 0), 2) for picture in noise])


def grey(frames: np.ndarray) -> list[np.ndarray]:
    return [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("size_hw", [(20, 24), (40, 40), (80, 80), (112, 112), (96, 128), (200, 60), (240, 320)])
def test_dis_is_opencvs(preset: str, size_hw: tuple[int, int]) -> None:
    frames = pictures(*size_hw)
    direct = cv2.DISOpticalFlow_create(PRESETS[preset]).calc(*grey(frames), None)
    flow = build_flow(OpencvDisSettings(preset=preset), device=CPU)(frames)
    np.testing.assert_array_equal(flow[0].permute(1, 2, 0).numpy(), direct)


def test_tvl1_is_opencvs() -> None:
    frames = pictures(40, 56)
    direct = cv2.optflow.DualTVL1OpticalFlow_create().calc(*grey(frames), None)
    flow = build_flow(OpencvTvl1Settings(), device=CPU)(frames)
    np.testing.assert_array_equal(flow[0].permute(1, 2, 0).numpy(), direct)


@pytest.mark.parametrize("preset", PRESETS)
@settings(max_examples=60, deadline=None)
@given(sides=st.tuples(st.integers(1, 40), st.integers(1, 600)), upright=st.booleans())
def test_dis_takes_any_size(preset: str, sides: tuple[int, int], upright: bool) -> None:
    """OpenCV itself raises below 12 px, and crashes the process on pictures that are wide and low, such as 16x200."""
    height_px, width_px = sides[::-1] if upright else sides
    flow = build_flow(OpencvDisSettings(preset=preset), device=CPU)(pictures(height_px, width_px))
    assert flow.shape == (1, 2, height_px, width_px)
    assert flow.isfinite().all()


@pytest.mark.parametrize("sides", [(1, 1), (1, 30), (30, 1), (15, 200)])
def test_tvl1_takes_any_size(sides: tuple[int, int]) -> None:
    flow = build_flow(OpencvTvl1Settings(), device=CPU)(pictures(*sides))
    assert flow.shape == (1, 2, *sides)
    assert flow.isfinite().all()


def test_threads_do_not_change_the_flow() -> None:
    frames, threads = pictures(96, 128), cv2.getNumThreads()
    flows = []
    try:
        for count in (1, 2, 3):
            cv2.setNumThreads(count)
            flows.append(build_flow(OpencvDisSettings(), device=CPU)(frames))
    finally:
        cv2.setNumThreads(threads)
    assert torch.equal(flows[0], flows[1])
    assert torch.equal(flows[0], flows[2])


def test_a_missing_optflow_module_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "optflow")
    with pytest.raises(SettingsError, match="opencv-contrib-python"):
        build_flow(OpencvTvl1Settings(), device=CPU)
