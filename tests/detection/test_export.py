"""Exported files find what torch finds, in one piece or in many, and the example needs nothing of tadkit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from tadkit.checkpoint import Checkpoint, save_checkpoint
from tadkit.config import ModelSettings
from tadkit.detection.detect import load_detector
from tadkit.detection.export import PIECE_FRAMES, Points, points_in_pieces, torch_points
from tadkit.errors import UsageError
from tadkit.models.detector import DetectorNet, new_joint_head, new_student
from tadkit.models.exported import SUFFIXES, ExportForm, load_exported
from tadkit.models.streamed import StreamedDetector
from tadkit.records import Detection
from tadkit.runtime.engines import missing_packages
from tadkit.zoo import BUNDLED

ROOM = Path(__file__).parents[2] / "examples" / "room.mp4"
EXAMPLE = ROOM.with_name("run_onnx.py")
FORMS: tuple[ExportForm, ...] = get_args(ExportForm)
TRAINED_STEPS = 20
WriteSquares = Callable[..., Path]


def small_net(settings: ModelSettings, **changes: Any) -> DetectorNet:
    """A detector whose fusion and head see a few steps, so that a short video is many times as long."""
    torch.manual_seed(3)
    plain = settings.model_dump(mode="json")
    for name, change in changes.items():
        plain[name] = {**plain[name], **change}
    settings = ModelSettings.model_validate(plain)
    labels = ("slide", "rest")
    net = DetectorNet(
        settings,
        labels=labels,
        student=new_student(settings, num_classes=2),
        joint=new_joint_head(settings, num_classes=2, trained_steps=TRAINED_STEPS),
    )
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net.eval()


def saved(net: DetectorNet, path: Path) -> Path:
    header = net.settings.model_dump(mode="json")
    save_checkpoint(path, Checkpoint("detector", header, net.labels, net.state_dict(), trained_steps=TRAINED_STEPS))
    return path


def run_torch(net: StreamedDetector) -> Callable[..., list[np.ndarray]]:
    def run(inputs: list[np.ndarray]) -> list[np.ndarray]:
        with torch.inference_mode():
            segments, scores, state = net(*map(torch.from_numpy, inputs))
        return [one.numpy() for one in (segments, scores, *state)]

    return run


def alike(found: Points, expected: Points) -> bool:
    return found.scores.shape == expected.scores.shape and all(
        np.allclose(ours, others, atol=1e-4) for ours, others in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize(
    ("changes", "piece_frames"),
    [
        ({}, 40),
        ({"backbone": {"stride": 2}}, 97),
        ({"fusion": {"kind": "late"}}, 120),
        ({"fusion": {"kind": "sum"}}, 97),
        ({"head": {"kind": "temporal-maxer"}}, 40),
    ],
    ids=str,
)
def test_a_stream_in_pieces_finds_what_one_pass_finds(
    tiny_settings: ModelSettings, changes: dict[str, Any], piece_frames: int
) -> None:
    if changes.get("head"):
        keep = {name: getattr(tiny_settings.head, name) for name in ("dim", "levels", "prior_probability")}
        plain = {**tiny_settings.model_dump(mode="json"), "head": keep | changes["head"]}
        net = small_net(ModelSettings.model_validate(plain))
    else:
        net = small_net(tiny_settings, **changes)
    streamed = StreamedDetector(net)
    frames = np.random.default_rng(0).integers(0, 256, (401, 32, 32, 3), dtype=np.uint8)
    assert len(frames) > 3 * streamed.context_steps * streamed.stride
    first = [one.numpy() for one in streamed.first_state()]
    strides = streamed.strides
    found = points_in_pieces(run_torch(streamed), frames, first, strides=strides, piece_frames=piece_frames)
    assert alike(found, torch_points(net, frames, strides=strides))


def test_what_a_stream_keeps_does_not_grow(tiny_settings: ModelSettings) -> None:
    streamed = StreamedDetector(small_net(tiny_settings))
    run, state = run_torch(streamed), [one.numpy() for one in streamed.first_state()]
    frames, steps = np.zeros((50, 32, 32, 3), np.uint8), 0
    for _ in range(12):
        segments, _, *state = run([frames, np.zeros(0, np.uint8), *state])
        steps += len(segments)
        assert len(state[1]) <= 2 * (streamed.context_steps + streamed.strides[-1]) * streamed.stride
    assert steps > 0


def installed(form: ExportForm) -> None:
    missing = [] if form == "torch" else missing_packages("onnxruntime" if form == "onnx" else "openvino")
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}, of the extra export")


@pytest.mark.parametrize("form", FORMS)
def test_a_file_says_what_it_is_and_agrees_with_torch(
    form: ExportForm,
    tadkit: Callable[..., Any],
    tiny_settings: ModelSettings,
    tmp_path: Path,
    write_squares: WriteSquares,
) -> None:
    installed(form)
    net = small_net(tiny_settings)
    model, video = saved(net, tmp_path / "small.safetensors"), write_squares(tmp_path / "v.mp4", 2000, fps=10)
    out = tmp_path / f"out{SUFFIXES[form]}"
    ran = tadkit("export", model, "--to", form, "--out", out, "--video", video)
    assert ran.code == 0, ran.err
    assert "largest differences from torch in 600 frames of v.mp4" in ran.out
    assert sorted(path.name for path in tmp_path.iterdir() if "." in path.name and path.name[0] == ".") == []
    about = metadata(form, out)
    assert about["labels"] == ["slide", "rest"]
    assert (about["rate_hz"], about["size_hw"], about["stride_frames"]) == (5.0, [32, 32], net.student.backbone.stride)
    streamed = StreamedDetector(net)
    first = [np.zeros(one["shape"], one["dtype"]) for one in about["state"].values()]
    assert about["first_piece_frames"] < PIECE_FRAMES
    frames = np.random.default_rng(1).integers(0, 256, (300, 32, 32, 3), dtype=np.uint8)
    found = points_in_pieces(load_exported(form, out), frames, first, strides=streamed.strides, piece_frames=70)
    assert alike(found, torch_points(net, frames, strides=streamed.strides))


def metadata(form: ExportForm, out: Path) -> dict[str, Any]:
    match form:
        case "onnx":
            import onnxruntime

            text = onnxruntime.InferenceSession(str(out)).get_modelmeta().custom_metadata_map["tadkit"]
        case "openvino":
            import openvino

            text = str(openvino.Core().read_model(str(out)).get_rt_info("tadkit").value)
        case "torch":
            files = {"tadkit.json": ""}
            torch.jit.load(str(out), _extra_files=files)
            text = files["tadkit.json"]
    about: dict[str, Any] = json.loads(text)
    return about


def example_agrees(tadkit: Callable[..., Any], model: str | Path, folder: Path) -> None:
    out = folder / "model.onnx"
    assert tadkit("export", model, "--to", "onnx", "--out", out, "--video", ROOM).code == 0
    ran = subprocess.run([sys.executable, EXAMPLE, out, ROOM], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    ours = [Detection(*one["segment"], one["label"], one["score"]) for one in lines]
    path = None if model == BUNDLED else model
    overrides = {"video": {"reader": "pyav"}}
    expected = list(load_detector(path, device="cpu", engine="torch", overrides=overrides).detect(ROOM))
    assert len(expected) > 50
    assert lacking(ours, expected) == lacking(expected, ours) == []


def lacking(some: list[Detection], others: list[Detection]) -> list[Detection]:
    """Detections above the lowest scores that have no like among the others."""

    def same(a: Detection, b: Detection) -> bool:
        near = abs(a.start_s - b.start_s) < 0.05 and abs(a.end_s - b.end_s) < 0.05
        return a.label == b.label and near and abs(a.score - b.score) < 1e-3

    least = 1e-3 + min(one.score for one in (*some, *others))
    return [one for one in some if one.score > least and not any(same(one, other) for other in others)]


def test_the_example_finds_what_detect_finds(
    tadkit: Callable[..., Any], tiny_settings: ModelSettings, tmp_path: Path
) -> None:
    installed("onnx")
    example_agrees(tadkit, saved(small_net(tiny_settings), tmp_path / "small.safetensors"), tmp_path)


@pytest.mark.slow
def test_the_example_finds_what_detect_finds_with_the_bundled_model(tadkit: Callable[..., Any], tmp_path: Path) -> None:
    installed("onnx")
    example_agrees(tadkit, BUNDLED, tmp_path)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"fusion": {"kind": "cross-attention"}}, "cross-attention fusion is computed window by window"),
        ({"head": {"kind": "tadtr"}}, "its head, tadtr, predicts from whole windows"),
        ({"backbone": {"name": "s3d", "pretrained": False}}, "its backbone, s3d, reads windows of frames"),
    ],
    ids=["fusion", "head", "backbone"],
)
def test_what_cannot_be_exported_is_refused_in_a_line(
    tiny_settings: ModelSettings, changes: dict[str, dict[str, Any]], why: str
) -> None:
    plain = tiny_settings.model_dump(mode="json")
    whole = {name: change if name != "fusion" else {**plain[name], **change} for name, change in changes.items()}
    net = small_net(ModelSettings.model_validate({**plain, **whole}))
    with pytest.raises(UsageError, match=why) as caught:
        StreamedDetector(net)
    assert "\n" not in str(caught.value)


def test_wrong_files_are_refused_before_any_work(tadkit: Callable[..., Any], tiny_model: Path, tmp_path: Path) -> None:
    ran = tadkit("export", tiny_model, "--to", "torch", "--out", tmp_path / "model.onnx", "--video", ROOM)
    assert ran.code == UsageError.exit_code
    assert ran.err.count("\n") == 1
    assert "a file for --to torch ends in .pt" in ran.err
    ran = tadkit("export", tiny_model, "--to", "torch", "--out", tmp_path / "m.pt", "--video", tmp_path / "none.mp4")
    assert ran.code == 3
    assert list(tmp_path.iterdir()) == []
