"""Flow that is computed on the way gives the feature that flow of a store gives, in chunks of any size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tadkit.config import ModelSettings, TemporalGradientSettings
from tadkit.extraction.flow_video import PIECE_PAIRS
from tadkit.extraction.motion_feature import _computed, feature_of_video, motion_feature
from tadkit.extraction.results import ExtractionResult
from tadkit.flow import build_flow
from tadkit.flow.codec import read_flow
from tadkit.models.detector import new_teacher
from tadkit.models.teacher import Teacher
from tadkit.runtime.devices import import_torchvision
from tadkit.store import read_store
from tadkit.video import SampledVideo, open_sampled, windows

WriteSquares = Callable[..., Path]
Extracted = Callable[..., ExtractionResult]
CPU = torch.device("cpu")


def chosen(base: ModelSettings, **flow: object) -> ModelSettings:
    own = base.model_dump(mode="json")
    return ModelSettings.model_validate({**own, "flow": {"method": "temporal-gradient", **flow}})


def teacher_of(settings: ModelSettings) -> Teacher:
    torch.manual_seed(5)
    teacher = new_teacher(settings, num_classes=2)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return teacher.eval()


@pytest.mark.parametrize(
    ("frames", "stack", "code"),
    [
        (1, 1, "int8"),
        (2, 3, "float16"),
        (41, 1, "int8"),
        (41, 4, "float16"),
        pytest.param(PIECE_PAIRS + 40, 1, "int8", marks=pytest.mark.slow),
    ],
)
def test_the_feature_is_that_of_stored_flow_to_the_bit(
    tmp_path: Path,
    write_squares: WriteSquares,
    extracted: Extracted,
    tiny_settings: ModelSettings,
    frames: int,
    stack: int,
    code: str,
) -> None:
    settings = chosen(tiny_settings, code=code, stack=stack, bound_px=100)
    video, teacher = write_squares(tmp_path / "v.mp4", frames, fps=5), teacher_of(settings)
    extracted({"v": video}, tmp_path / "flow.h5", flow=settings.flow, video=settings.video)
    with read_store(tmp_path / "flow.h5", kind="flow") as store, torch.inference_mode():
        expected = motion_feature(store, "v", frames, model=teacher)[0].T.half().float().numpy()
    with open_sampled(video, settings.video) as sampled:
        assert len(sampled) == frames
        method = build_flow(settings.flow, device=CPU)
        found = feature_of_video(teacher, sampled, flow=settings.flow, method=method)
        small = feature_of_video(teacher, sampled, flow=settings.flow, method=method, core_frames=6)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(small, expected, atol=4e-3)
    assert frames < 3 or np.ptp(found, axis=0).max() > 0.05


@pytest.mark.slow
def test_raft_gives_on_the_way_what_it_stores(
    tmp_path: Path, write_squares: WriteSquares, extracted: Extracted, tiny_settings: ModelSettings
) -> None:
    """A net with random weights, in batches of three pairs; RAFT needs pictures of 128 px."""
    torch.manual_seed(0)
    net = import_torchvision("torchvision.models.optical_flow").raft_small()
    torch.save(net.state_dict(), tmp_path / "raft.pth")
    raft = {"method": "raft-small", "weights": str(tmp_path / "raft.pth"), "iterations": 2, "batch_pairs": 3}
    own = tiny_settings.model_dump(mode="json")
    size = {"rate_hz": 5.0, "height_px": 128, "width_px": 128}
    settings = ModelSettings.model_validate({**own, "flow": raft, "video": size})
    video, teacher = write_squares(tmp_path / "v.mp4", 20, fps=5), teacher_of(settings)
    extracted({"v": video}, tmp_path / "flow.h5", flow=settings.flow, video=settings.video)
    with read_store(tmp_path / "flow.h5", kind="flow") as store, torch.inference_mode():
        expected = motion_feature(store, "v", 20, model=teacher)[0].T.half().float().numpy()
    with open_sampled(video, settings.video) as sampled:
        method = build_flow(settings.flow, device=CPU)
        found = feature_of_video(teacher, sampled, flow=settings.flow, method=method)
    np.testing.assert_array_equal(found, expected)


def test_a_step_depends_on_flow_within_the_halo_and_so_on_one_frame_more(tiny_settings: ModelSettings) -> None:
    teacher, flow = teacher_of(tiny_settings), tiny_settings.flow
    stride, reach, changed = teacher.backbone.stride, teacher.halo_frames + 1, 30
    frames = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    other = frames.copy()
    other[changed:] = np.random.default_rng(1).integers(0, 256, other[changed:].shape, dtype=np.uint8)
    one, two = (
        feature_of_video(teacher, in_memory(x), flow=flow, method=build_flow(flow, device=CPU)) for x in (frames, other)
    )
    differ = np.flatnonzero((one != two).any(axis=1))
    last_frames = (np.arange(len(one)) + 1) * stride - 1
    assert len(differ) >= (60 - changed) // stride
    assert (last_frames[differ] + reach >= changed).all()


def test_flow_that_windows_have_passed_is_forgotten() -> None:
    flow = TemporalGradientSettings()
    frames = np.random.default_rng(0).integers(0, 256, (3000, 16, 16, 3), dtype=np.uint8)
    with _computed(in_memory(frames), flow, build_flow(flow, device=CPU)) as tracks:
        for window in windows(len(frames), core=8, halo=6):
            found = read_flow(tracks, "", window.start, window.stop)
            assert len(found) == window.stop - window.start
            assert sum(map(len, tracks._kept)) <= 20 + 2 * 64  # type: ignore[attr-defined] # blocks of 64 pairs
    last = frames[-14:].astype(np.float32).transpose(0, 3, 1, 2)
    expected = np.concatenate([last[1:] - last[:-1], last[-1:] - last[-2:-1]]).clip(-128, 128)
    np.testing.assert_allclose(found, expected, atol=0.51)  # half a step of the code


def in_memory(frames: np.ndarray) -> SampledVideo:
    from tadkit.bench.detect import FramesInMemory

    stamps_s = np.arange(len(frames)) / 5
    return SampledVideo(FramesInMemory(Path("v"), frames, stamps_s, len(frames) / 5), np.arange(len(frames)))
