"""What every method owes: N frames give N - 1 motions, from arrays and tensors alike."""

import numpy as np
import pytest
import torch

from tadkit.config import FlowSettings, OpencvDisSettings, OpencvTvl1Settings, TemporalGradientSettings, Tvl1Settings
from tadkit.flow import build_flow
from tadkit.flow.frames import grey_levels

CPU = torch.device("cpu")
METHODS = [Tvl1Settings(), OpencvTvl1Settings(), OpencvDisSettings(), TemporalGradientSettings()]


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, 20, 24, 3), dtype=np.uint8)


@pytest.mark.parametrize("choice", METHODS, ids=lambda choice: choice.method)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_n_frames_give_n_minus_one_motions(choice: FlowSettings, count: int, frames: np.ndarray) -> None:
    method = build_flow(choice, device=CPU)
    motion = method(frames[:count])
    assert motion.shape == (count - 1, method.channels, 20, 24)
    assert motion.dtype == torch.float32
    assert motion.is_contiguous()
    assert torch.equal(method(torch.from_numpy(frames[:count])), motion)


@pytest.mark.parametrize("choice", METHODS, ids=lambda choice: choice.method)
def test_a_net_can_learn_from_motion_directly(choice: FlowSettings, frames: np.ndarray) -> None:
    method = build_flow(choice, device=CPU)
    layer = torch.nn.Conv2d(method.channels, 1, 3)
    layer(method(frames[:2])).sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize("choice", METHODS, ids=lambda choice: choice.method)
def test_other_arrays_are_refused(choice: FlowSettings, frames: np.ndarray) -> None:
    method = build_flow(choice, device=CPU)
    for bad in (frames.astype(np.float32), frames[0], frames[..., :1], frames[:0]):
        with pytest.raises(ValueError, match="uint8 frames of shape"):
            method(bad)


def test_temporal_gradient_is_the_difference(frames: np.ndarray) -> None:
    gradient = build_flow(TemporalGradientSettings(), device=CPU)(frames)
    expected = frames[1:].astype(int) - frames[:-1]
    np.testing.assert_array_equal(gradient.permute(0, 2, 3, 1).numpy(), expected)
    assert gradient.min() < -200
    assert gradient.max() > 200


def test_grey_is_opencvs_but_for_rounding(frames: np.ndarray) -> None:
    import cv2

    grey = grey_levels(torch.from_numpy(frames)).numpy()
    opencvs = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
    assert np.abs(grey - opencvs).max() <= 0.51
