"""TV-L1's default is as accurate as OpenCV's and as its own start, on motion of any size that chose nothing."""

import numpy as np
import pytest
import torch

from tadkit.config import FlowSettings, OpencvDisSettings, OpencvTvl1Settings, Tvl1Settings
from tadkit.flow import build_flow
from tadkit.flow.frames import grey_levels
from tadkit.flow.truth import BANDS_PX, FlowError, TruthPair, flow_error
from tadkit.flow.tvl1 import Tvl1, start
from tadkit.flow.tvl1.data import grid_of, seen_of, warped
from tadkit.synth.flow_pairs import made_up_pairs

CPU = torch.device("cpu")
UNSEEN_SEED = 3
METHODS: dict[str, FlowSettings] = {
    "fast": Tvl1Settings(compile="never"),
    "tvl1": OpencvTvl1Settings(),
    "dis": OpencvDisSettings(),
}


@pytest.fixture(scope="module")
def pairs() -> list[TruthPair]:
    return list(made_up_pairs(UNSEEN_SEED, sizes_hw=((88, 112),)))


@pytest.fixture(scope="module")
def flows(pairs: list[TruthPair]) -> dict[str, list[np.ndarray]]:
    return {
        name: [build_flow(settings, device=CPU)(pair.frames)[0].numpy() for pair in pairs]
        for name, settings in METHODS.items()
    }


def errors(flows: dict[str, list[np.ndarray]], pairs: list[TruthPair], condition: str = "") -> dict[str, FlowError]:
    """Error of each method in the pairs of a condition."""
    chosen = [number for number, pair in enumerate(pairs) if condition in pair.name]
    return {name: flow_error([each[k] for k in chosen], [pairs[k] for k in chosen]) for name, each in flows.items()}


@pytest.mark.parametrize("band", range(len(BANDS_PX)))
def test_fast_is_as_accurate_as_opencv_and_as_its_start_in_every_band(flows, pairs, band: int) -> None:
    epe_px = {name: error.epe_px_by_band[band] for name, error in errors(flows, pairs).items()}
    assert epe_px["fast"] <= min(1.02 * epe_px["tvl1"], epe_px["dis"]), epe_px


@pytest.mark.parametrize("condition", ["clean", "noise", "light"])
def test_so_it_is_under_noise_and_changes_of_brightness(flows, pairs, condition: str) -> None:
    epe_px = {name: error.epe_px for name, error in errors(flows, pairs, condition).items()}
    assert epe_px["fast"] <= min(1.02 * epe_px["tvl1"], epe_px["dis"]), epe_px


def test_the_energy_is_never_above_that_of_the_start(pairs: list[TruthPair]) -> None:
    """Not even with settings that make the refinement worse: large steps without a chance to settle."""
    rough = {"tau": 1.0, "lam": 10.0, "inner_steps": 1, "coarse_inner_steps": 1, "median_px": 1}
    for settings in (METHODS["fast"], Tvl1Settings(**rough, compile="never")):
        kept = 0
        for pair in pairs[::5]:
            refined = Tvl1(settings, device=CPU)(pair.frames).transpose(0, 1)
            before = build_flow(OpencvDisSettings(), device=CPU)(pair.frames).transpose(0, 1)
            kept += int(torch.equal(refined, before))
            assert total_energy(pair, refined, settings.lam) <= 1.02 * total_energy(pair, before, settings.lam)
        assert (kept > 0) == (settings.lam == 10)


def total_energy(pair: TruthPair, flow: torch.Tensor, lam: float) -> float:
    """TV-L1 energy in the pictures as given, allowing for a change of brightness as the method does."""
    first, second = grey_levels(torch.from_numpy(pair.frames))[:, None]
    grid = grid_of(first)
    read, seen = warped(second[:, None], grid, flow, sampling="bicubic")[0], seen_of(flow, grid)
    gain, offset = start.light_of(first, read, seen)
    return float(start.energy(flow, gain * first + offset, read, seen, lam).sum())


def test_of_each_pair_the_flow_with_less_energy_is_kept() -> None:
    flow, before = torch.zeros(2, 2, 3, 4), torch.ones(2, 2, 3, 4)
    low, high = torch.full((3, 4), 1.0), torch.full((3, 4), 2.0)
    kept = start.lower_energy(flow, before, torch.stack([low, high]), torch.stack([high, low]))
    assert (kept[:, 0].unique().tolist(), kept[:, 1].unique().tolist()) == ([0], [1])


def test_energy_is_the_variation_and_the_weighted_difference() -> None:
    """A step of (3, 4) px across one column of two rows, and 2 grey levels where the end point is inside."""
    flow = torch.zeros(2, 1, 2, 3)
    flow[0, 0, :, 2], flow[1, 0, :, 2] = 3, 4
    grey = torch.zeros(1, 2, 3)
    seen = torch.ones(1, 2, 3)
    seen[0, 0, 0] = 0
    found = start.energy(flow, grey, grey + 2, seen, 0.5)
    np.testing.assert_allclose(found[0], [[0, 3 + 4 + 1, 1], [1, 3 + 4 + 1, 1]])


def test_a_change_of_brightness_is_estimated_around_each_pixel() -> None:
    first = torch.from_numpy(np.random.default_rng(0).uniform(50, 200, (1, 96, 128)).astype(np.float32))
    gain = torch.linspace(0.9, 1.1, 128).expand(1, 96, 128)
    light = start.light_of(first, gain * first + 5, torch.ones_like(first))
    np.testing.assert_allclose(light.gain[0].mean(dim=0)[20:-20], gain[0, 0, 20:-20], atol=0.04)
    away = (light.gain * first + light.offset - gain * first - 5).abs()
    assert away.mean() < 1.5 < (first - gain * first - 5).abs().mean() / 3


def test_the_initial_flow_is_none_where_no_motion_fits_and_that_of_the_start_where_it_fits_better() -> None:
    """On the left nothing moves; on the right everything moves 2 px; the start is right there and noisy on the left."""
    picture = np.random.default_rng(0).uniform(0, 255, (1, 48, 98)).astype(np.float32)
    first = torch.from_numpy(picture[..., :96])
    second = first.clone()
    second[..., 48:] = torch.from_numpy(picture[..., 46:94])
    flow = torch.zeros(2, 1, 48, 96)
    flow[0, ..., :48], flow[0, ..., 48:] = 0.1, 2.0
    grid = grid_of(first)
    read = warped(second[:, None], grid, flow, sampling="bicubic")[0]
    chosen = start.without_noise(first, second, read, seen_of(flow, grid), flow)[0, 0]
    assert chosen[8:-8, 8:40].unique().tolist() == [0]
    assert chosen[8:-8, 56:86].unique().tolist() == [2]
