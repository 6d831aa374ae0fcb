"""RAFT: torchvision's net behind our protocol, and weights that are refused in one line."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tadkit.config import RaftSettings
from tadkit.errors import WeightsError
from tadkit.flow import build_flow
from tadkit.torchvision_import import import_torchvision

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return import_torchvision("torchvision.models.optical_flow").raft_small().eval()


@pytest.fixture(scope="module")
def weights(net: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raft") / "small.pth"
    torch.save(net.state_dict(), path)
    return path


def pictures(count: int, side_px: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side_px, side_px, 3), dtype=np.uint8)


def torchvisions(net: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return net(images[:-1], images[1:], num_flow_updates=2)[-1]


def normalised(frames: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1


def test_equals_torchvision(net: torch.nn.Module, weights: Path) -> None:
    frames = pictures(3, 128)
    flow = build_flow(RaftSettings(method="raft-small", weights=weights, iterations=2, batch_pairs=1), device=CPU)(
        frames
    )
    assert flow.shape == (2, 2, 128, 128)
    assert (flow - torchvisions(net, normalised(frames))).abs().max() <= 1e-4


def test_small_frames_are_padded_and_cropped(net: torch.nn.Module, weights: Path) -> None:
    frames = pictures(2, 101)
    method = build_flow(RaftSettings(method="raft-small", weights=weights, iterations=2), device=CPU)
    padded = torch.nn.functional.pad(normalised(frames), (13, 14, 13, 14), mode="replicate")
    expected = torchvisions(net, padded)[..., 13:-14, 13:-14]
    assert (method(frames) - expected).abs().max() <= 1e-4


def test_one_frame_has_no_flow(weights: Path) -> None:
    method = build_flow(RaftSettings(method="raft-small", weights=weights), device=CPU)
    assert method(pictures(1, 64)).shape == (0, 2, 64, 64)


def test_flow_that_is_not_finite_is_refused(net: torch.nn.Module, tmp_path: Path) -> None:
    state = {
        name: value * torch.nan if value.is_floating_point() else value for name, value in net.state_dict().items()
    }
    torch.save(state, tmp_path / "nan.pth")
    settings = RaftSettings(method="raft-small", weights=tmp_path / "nan.pth", iterations=1)
    with pytest.raises(WeightsError, match="not finite"):
        build_flow(settings, device=CPU)(pictures(2, 128))


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


def test_a_failed_download_names_the_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(WeightsError, match=r"set flow\.weights") as caught:
        build_flow(RaftSettings(method="raft-small"), device=CPU)
    assert "\n" not in str(caught.value)
