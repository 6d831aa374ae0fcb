"""Every engine gives what torch gives in one pass, whatever the pieces."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tadkit.config import TemporalShiftSettings
from tadkit.detection.detect import Detector, load_detector
from tadkit.errors import UsageError
from tadkit.models.backbones import Backbone, TemporalShiftBackbone
from tadkit.models.engines import Engine, build_engine
from tadkit.records import Detection
from tadkit.runtime.engines import FASTEST_FIRST, EngineName, missing_packages

ROOM = Path(__file__).parents[2] / "examples" / "room.mp4"
ENGINES: list[EngineName] = ["torch", "onnxruntime", "openvino"]


def installed(name: EngineName) -> EngineName:
    if missing := missing_packages(name):
        pytest.skip(f"needs {' and '.join(missing)}, of the extra export")
    return name


@cache
def detector(engine: EngineName) -> Detector:
    return load_detector(device="cpu", engine=engine)


@pytest.fixture(scope="module")
def found() -> Callable[[EngineName], list[Detection]]:
    return cache(lambda engine: list(detector(engine).detect(ROOM)))


def lacking(some: list[Detection], others: list[Detection]) -> list[Detection]:
    """Detections above the lowest scores that have no like among the others."""

    def alike(a: Detection, b: Detection) -> bool:
        near = abs(a.start_s - b.start_s) < 0.05 and abs(a.end_s - b.end_s) < 0.05
        return a.label == b.label and near and abs(a.score - b.score) < 1e-3

    return [one for one in some if one.score > 0.015 and not any(alike(one, other) for other in others)]


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_detections_of_the_bundled_model_are_those_of_torch(
    engine: EngineName, found: Callable[[EngineName], list[Detection]]
) -> None:
    assert detector(installed(engine)).origin["engine"] == engine
    ours, torchs = found(engine), found("torch")
    assert len(torchs) > 50
    assert lacking(ours, torchs) == lacking(torchs, ours) == []


def test_bfloat16_is_chosen_where_the_cpu_has_it_and_finds_what_is_shown(
    found: Callable[[EngineName], list[Detection]],
) -> None:
    openvino = pytest.importorskip("openvino")
    pytest.importorskip("onnx")
    assert "openvino-bf16" not in FASTEST_FIRST
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(UsageError, match="--engine openvino-bf16: this CPU does not compute in bfloat16"):
            detector("openvino-bf16")
        return
    assert detector("openvino-bf16").origin["engine"] == "openvino-bf16"
    rounded, exact = found("openvino-bf16"), found("torch")
    assert lacking(rounded, exact)
    for detection in exact:
        if detection.score > 0.3:
            like = [
                one for one in rounded if one.label == detection.label and abs(one.start_s - detection.start_s) < 0.5
            ]
            assert min(abs(one.score - detection.score) for one in like) < 0.1


def streamed(engine: Engine | None, frames: Tensor, cuts: list[int]) -> Tensor:
    assert engine is not None
    features, kept = [], ()
    for start, stop in pairwise([0, *cuts, len(frames)]):
        part, kept = engine.piece(frames[start:stop], kept, last=stop == len(frames))
        features.append(part)
    return torch.cat(features)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("shift_blocks", "height", "cuts", "reads"),
    [
        (8, 64, [9, 10, 13], {}),
        (8, 64, [], {}),
        (3, 51, [4, 20], {}),
        (16, 40, [17], {}),
        (0, 40, [1, 2], {}),
        (8, 64, [9, 10, 13], {"changes_frames": (1, 3, 10), "colours": False}),
        (0, 40, [1, 2], {"changes_frames": (1, 3, 10), "colours": False}),
        (3, 51, [4, 20], {"changes_frames": (2, 4)}),
    ],
)
@torch.inference_mode()
def test_pieces_give_the_features_of_one_pass(
    engine: EngineName, shift_blocks: int, height: int, cuts: list[int], reads: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    fraction = 0.125 if shift_blocks else 0.0
    settings = TemporalShiftSettings(
        name="efficientnet-lite0", stride=1, shift_blocks=shift_blocks, shift_fraction=fraction, **reads
    )
    backbone = TemporalShiftBackbone(settings, in_channels=3, pretrained=True).eval()
    frames = torch.randint(0, 256, (22, height, 47, 3), dtype=torch.uint8)
    expected = backbone(frames[None], torch.ones(1, 22, dtype=torch.bool))[0].T
    features = streamed(build_engine(installed(engine), backbone), frames, cuts)
    assert torch.allclose(features, expected, atol=1e-4 * float(expected.abs().max()))


def test_one_frame_is_a_video_too() -> None:
    backbone: Backbone = detector("torch").net.student.backbone
    frames = torch.randint(0, 256, (1, 112, 112, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected = backbone(frames[None], torch.ones(1, 1, dtype=torch.bool))[0].T
        for engine in ENGINES:
            if not missing_packages(engine):
                assert torch.allclose(streamed(build_engine(engine, backbone), frames, []), expected, atol=1e-3)


def test_auto_falls_back_to_torch_and_a_choice_that_cannot_be_had_is_refused(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_detector(tiny_model, device="cpu").engine_name == "torch"
    with pytest.raises(UsageError, match="--engine onnxruntime: only runs efficientnet-lite0"):
        load_detector(tiny_model, device="cpu", engine="onnxruntime")
    monkeypatch.setitem(sys.modules, "onnx", None)
    backbone = detector("torch").net.student.backbone
    assert getattr(build_engine("auto", backbone), "name", None) == "torch"
    with pytest.raises(UsageError, match=r"--engine openvino: onnx .*not installed; pip install 'tadkit\[export\]'"):
        build_engine("openvino", backbone)
