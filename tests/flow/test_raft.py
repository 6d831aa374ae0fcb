"""RAFT: torchvision's net behind our protocol, and weights that are refused in one line."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tadkit.config import RaftSettings
from tadkit.errors import SettingsError, WeightsError
from tadkit.flow import build_flow
from tadkit.flow.raft import memory_bytes
from tadkit.runtime.devices import import_torchvision

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    return random_net("raft-small")


@pytest.fixture(scope="module")
def weights(net: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(net, tmp_path_factory.mktemp("raft"))


def random_net(name: str) -> torch.nn.Module:
    module = import_torchvision("torchvision.models.optical_flow")
    torch.manual_seed(0)
    net: torch.nn.Module = {"raft-small": module.raft_small, "raft-large": module.raft_large}[name]()
    return net.eval()


def saved(net: torch.nn.Module, folder: Path) -> Path:
    torch.save(net.state_dict(), folder / "raft.pth")
    return folder / "raft.pth"


def pictures(count: int, height_px: int, width_px: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height_px, width_px, 3), dtype=np.uint8)


def torchvisions(net: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([net(images[k : k + 1], images[k + 1 : k + 2], num_flow_updates=2)[-1] for k in (0, 1)])


def normalised(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1


@pytest.mark.parametrize("batch_pairs", [1, 2, 4])
@pytest.mark.parametrize("name", ["raft-small", "raft-large"])
def test_equals_torchvision_pair_by_pair(name: str, batch_pairs: int, tmp_path: Path) -> None:
    net, frames = random_net(name), pictures(3, 128, 136)
    choice = RaftSettings(method=name, weights=saved(net, tmp_path), iterations=2, batch_pairs=batch_pairs)
    flow = build_flow(choice, device=CPU)(frames)
    assert flow.shape == (2, 2, 128, 136)
    assert flow.abs().mean() > 0.1
    assert (flow - torchvisions(net, normalised(frames))).abs().max() <= 1e-4


@pytest.mark.parametrize(
    ("height_px", "width_px", "margins"),
    [(101, 101, (13, 14, 13, 14)), (16, 16, (56, 56, 56, 56)), (1, 2, (63, 63, 63, 64)), (129, 150, (1, 1, 3, 4))],
)
def test_any_size_is_padded_by_its_border_and_cropped(
    net: torch.nn.Module, weights: Path, height_px: int, width_px: int, margins: tuple[int, int, int, int]
) -> None:
    frames = pictures(3, height_px, width_px)
    flow = build_flow(RaftSettings(method="raft-small", weights=weights, iterations=2), device=CPU)(frames)
    padded = torch.nn.functional.pad(normalised(frames), margins, mode="replicate")
    left, right, top, bottom = margins
    expected = torchvisions(net, padded)[..., top:-bottom, left:-right]
    assert flow.shape == (2, 2, height_px, width_px)
    assert (flow - expected).abs().max() <= 1e-4


def test_bfloat16_stays_near_and_gives_float32(weights: Path) -> None:
    frames = pictures(2, 128, 128)
    exact, coarse = (
        build_flow(RaftSettings(method="raft-small", weights=weights, iterations=4, precision=precision), device=CPU)(
            frames
        )
        for precision in ("no", "bf16")
    )
    error = (coarse - exact).norm(dim=1).mean()
    assert coarse.dtype == torch.float32
    assert 0 < error < 0.05 * exact.norm(dim=1).mean()


def test_float16_on_a_cpu_is_refused(weights: Path) -> None:
    with pytest.raises(SettingsError, match=r"flow\.precision 'fp16' needs a GPU"):
        build_flow(RaftSettings(method="raft-small", weights=weights, precision="fp16"), device=CPU)


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="the system does not tell its free memory")
def test_frames_that_do_not_fit_into_memory_are_refused(weights: Path) -> None:
    method = build_flow(RaftSettings(method="raft-small", weights=weights), device=CPU)
    huge = np.zeros((2, 4_000, 6_000, 3), dtype=np.uint8)
    with pytest.raises(SettingsError, match=r"6000x4000 px needs about \d+\.\d GiB .* video\.height_px") as caught:
        method(huge)
    assert "\n" not in str(caught.value)


def test_memory_grows_with_the_square_of_the_pixels() -> None:
    """The peaks that were measured: 0.14 GiB at 512x384, 0.97 GiB at 960x720, 8.0 GiB at 1920x1080."""
    estimates_gib = [memory_bytes(height, width) / 2**30 for height, width in ((384, 512), (720, 960), (1080, 1920))]
    assert estimates_gib == pytest.approx([0.14, 0.97, 8.0], rel=0.2)


def test_one_frame_has_no_flow(weights: Path) -> None:
    method = build_flow(RaftSettings(method="raft-small", weights=weights), device=CPU)
    assert method(pictures(1, 64, 64)).shape == (0, 2, 64, 64)


def test_flow_that_is_not_finite_is_refused(net: torch.nn.Module, tmp_path: Path) -> None:
    state = {
        name: torch.full_like(value, 1e30) if value.ndim > 1 else value for name, value in net.state_dict().items()
    }
    torch.save(state, tmp_path / "huge.pth")
    settings = RaftSettings(method="raft-small", weights=tmp_path / "huge.pth", iterations=1)
    with pytest.raises(WeightsError, match="raft-small returned flow that is not finite"):
        build_flow(settings, device=CPU)(pictures(2, 128, 128))


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_weights_that_are_not_finite_are_refused_before_any_flow(
    net: torch.nn.Module, value: float, tmp_path: Path
) -> None:
    state = net.state_dict()
    last = next(name for name in reversed(state) if state[name].is_floating_point())
    torch.save(state | {last: torch.full_like(state[last], value)}, tmp_path / "nan.pth")
    with pytest.raises(WeightsError, match=rf"^flow\.weights .*nan\.pth: NaN or infinity in {last}; "):
        build_flow(RaftSettings(method="raft-small", weights=tmp_path / "nan.pth"), device=CPU)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"flow\.weights .*none\.pth: no such file"):
        build_flow(RaftSettings(method="raft-small", weights=tmp_path / "none.pth"), device=CPU)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_bytes(b"not weights at all")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        build_flow(RaftSettings(method="raft-small", weights=tmp_path / "bad.pth"), device=CPU)


def test_weights_of_another_net_are_refused(weights: Path) -> None:
    with pytest.raises(WeightsError, match="not a state dict of torchvision's raft-large"):
        build_flow(RaftSettings(method="raft-large", weights=weights), device=CPU)


def test_a_failed_download_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(WeightsError, match=r"set flow\.weights") as caught:
        build_flow(RaftSettings(method="raft-small"), device=CPU)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
