"""TV-L1: the same flow alone or in a batch, and an error that is not above OpenCV's."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tadkit.config import OpencvTvl1Settings, Tvl1Settings
from tadkit.flow import FlowMethod, build_flow
from tadkit.flow.tvl1 import Tvl1

Scene = Callable[..., tuple[np.ndarray, np.ndarray]]
CPU = torch.device("cpu")
SETTINGS = [Tvl1Settings(), OpencvTvl1Settings()]
BORDER_PX = 10
"""Left out: what moves into the picture has no truth in the other frame."""


def inner_error(method: FlowMethod, frames: np.ndarray, truth: np.ndarray) -> float:
    """Mean end-point error in px away from the border."""
    error = np.linalg.norm(method(frames)[0].numpy() - truth, axis=0)
    return float(error[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX].mean())


def random_walk(moving_texture: Scene, pairs: int) -> np.ndarray:
    """Frames that all differ in their motion and in their picture."""
    rng = np.random.default_rng(7)
    return np.concatenate([moving_texture(np.eye(2), rng.uniform(-2, 2, 2), seed)[0] for seed in range(pairs)])


@pytest.mark.parametrize("batch_pairs", [1, 3, 32])
def test_a_pair_has_the_same_flow_in_any_batch(moving_texture: Scene, batch_pairs: int) -> None:
    frames = random_walk(moving_texture, 4)
    together = Tvl1(Tvl1Settings(batch_pairs=batch_pairs), device=CPU)(frames)
    alone = torch.cat([Tvl1(Tvl1Settings(), device=CPU)(frames[k : k + 2]) for k in range(len(frames) - 1)])
    assert together.shape == (7, 2, 64, 64)
    assert (together - alone).abs().max() <= 1e-4


def test_flow_does_not_wrap_around_between_pictures(moving_texture: Scene) -> None:
    moving, truth = moving_texture(np.eye(2), (2.0, 0.0))
    still = np.zeros_like(moving)
    flow = Tvl1(Tvl1Settings(), device=CPU)(np.concatenate([still, moving, still]))
    assert flow[0].abs().max() == 0
    assert flow[4].abs().max() == 0
    assert np.abs(flow[2].numpy() - truth)[:, BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX].mean() < 0.15


def test_settings_of_one_level_without_median_still_find_small_motion(moving_texture: Scene) -> None:
    frames, truth = moving_texture(np.eye(2), (0.6, -0.4))
    method = Tvl1(Tvl1Settings(scales=1, median_px=1, inner_steps=40), device=CPU)
    assert inner_error(method, frames, truth) < 0.1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_and_cpu_agree(moving_texture: Scene) -> None:
    frames = random_walk(moving_texture, 2)
    on_cpu = Tvl1(Tvl1Settings(), device=CPU)(frames)
    on_gpu = Tvl1(Tvl1Settings(), device=torch.device("cuda"))(frames).cpu()
    assert (on_cpu - on_gpu).abs().mean() < 1e-3


def test_error_on_flying_chairs_is_not_above_opencvs(shared_data: Path) -> None:
    """On the three pairs at half size, within 10 % of OpenCV in the same run."""
    folder, size_wh = shared_data / "flow", (256, 192)
    ours, opencvs = [], []
    for number in ("00001", "00002", "00003"):
        pictures = [cv2.imread(str(folder / f"{number}_img{k}.ppm"))[..., ::-1] for k in (1, 2)]
        frames = np.stack([cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA) for picture in pictures])
        truth = np.fromfile(folder / f"{number}_flow.flo", np.float32, offset=12).reshape(384, 512, 2)
        truth = cv2.resize(truth, size_wh, interpolation=cv2.INTER_AREA) / 2
        for choice, errors in zip(SETTINGS, (ours, opencvs), strict=True):
            flow = build_flow(choice, device=CPU)(frames)[0].permute(1, 2, 0).numpy()
            errors.append(np.linalg.norm(flow - truth, axis=-1).mean())
    assert np.mean(ours) <= 1.1 * np.mean(opencvs)
