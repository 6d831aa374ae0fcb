"""Lower precision of the bundled model's backbone: speed, and mean mAP on the 13 videos of the room.

    TADKIT_DATA=/path/to/data python docs/precision.py [VIDEOS] [NAME ...]

``VIDEOS`` limits the number of videos; 0 measures speed alone. Rows: float32 in torch, ONNX Runtime and OpenVINO,
bfloat16 in torch (autocast) and OpenVINO, int8 in ONNX Runtime and OpenVINO (static quantization of all convolutions,
weights by channel, ranges from 48 frames of each video; ``int8-percentile``: ranges of the 99.999th percentile).

Speed is processor milliseconds a frame of the backbone alone, one thread, the best of three passes over the same
frames. The model was trained on these videos, so what counts is the loss against float32, not the mAP.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime import quantization

import tadkit
from tadkit.detection.detect import Detector, load_detector
from tadkit.models.engines import Engine, GraphEngine, Kept, TorchEngine
from tadkit.video import open_sampled

ROOM = Path(os.environ["TADKIT_DATA"]) / "room"
VIDEOS = sorted((ROOM / "videos").glob("*.mp4"))
TIOU = "0.1:0.1:0.5"
PIECE, CALIBRATED = 16, 48
Run = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]


class AutocastEngine(TorchEngine):
    """Torch with mixed precision."""

    def piece(self, frames: torch.Tensor, kept: Kept, *, last: bool) -> tuple[torch.Tensor, Kept]:
        """The backbone's, as float32."""
        with torch.autocast("cpu", torch.bfloat16):
            features, keep = super().piece(frames, kept, last=last)
        return features.float(), keep


def run_onnx(content: bytes) -> Run:
    """ONNX Runtime with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    return lambda inputs: session.run(None, dict(zip(names, inputs, strict=True)))


def run_openvino(content: bytes, hint: str) -> Run:
    """OpenVINO with one thread."""
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": hint, "NUM_STREAMS": 1}
    compiled = core.compile_model(core.read_model(content, b""), "CPU", settings)

    def run(inputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        found = compiled(list(inputs))
        return [np.array(found[output]) for output in compiled.outputs]

    return run


class Inputs(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Inputs of the graph, one piece after the other."""

    def __init__(self, names: Sequence[str], inputs: Sequence[Sequence[np.ndarray]]) -> None:
        self._left = iter([dict(zip(names, one, strict=True)) for one in inputs])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next inputs."""
        return next(self._left, None)


def inputs_of(detector: Detector, backbone: Any) -> list[list[np.ndarray]]:
    """Inputs of the graph for the first frames of each video."""
    inputs: list[list[np.ndarray]] = []

    def load(content: bytes) -> Run:
        run = run_onnx(content)

        def kept(given: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
            inputs.append(list(given))
            return run(given)

        return kept

    engine = GraphEngine("onnxruntime", backbone, load)
    for video in VIDEOS:
        with open_sampled(video, detector.video) as sampled:
            features_of(engine, torch.from_numpy(sampled.frames(0, min(CALIBRATED, len(sampled)))))
    return inputs


def quantized(detector: Detector, content: bytes, *, percentile: bool) -> bytes:
    """The graph with int8 convolutions."""
    names = [one.name for one in onnx.load_from_string(content).graph.input]
    inputs = inputs_of(detector, detector.net.student.backbone)
    method = quantization.CalibrationMethod
    with TemporaryDirectory() as folder:
        source, out = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(content)
        quantization.quantize_static(
            str(source),
            str(out),
            Inputs(names, inputs),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            op_types_to_quantize=["Conv"],
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=method.Percentile if percentile else method.MinMax,
        )
        return out.read_bytes()


def engines(detector: Detector) -> dict[str, Callable[[], Engine]]:
    """Engines by name, built when they are called."""
    backbone: Any = detector.net.student.backbone
    int8 = cache(lambda content, percentile=False: quantized(detector, content, percentile=percentile))
    return {
        "torch": lambda: TorchEngine(backbone),
        "torch bf16": lambda: AutocastEngine(backbone),
        "onnxruntime": lambda: GraphEngine("onnxruntime", backbone, run_onnx),
        "onnxruntime int8": lambda: GraphEngine("onnxruntime", backbone, lambda c: run_onnx(int8(c))),
        "onnxruntime int8-percentile": lambda: GraphEngine("onnxruntime", backbone, lambda c: run_onnx(int8(c, True))),
        "openvino": lambda: GraphEngine("openvino", backbone, lambda c: run_openvino(c, "f32")),
        "openvino bf16": lambda: GraphEngine("openvino", backbone, lambda c: run_openvino(c, "bf16")),
        "openvino int8": lambda: GraphEngine("openvino", backbone, lambda c: run_openvino(int8(c), "f32")),
    }


@torch.inference_mode()
def features_of(engine: Engine, frames: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Features, and processor milliseconds a frame."""
    start_s, kept, parts = time.process_time(), (), []
    for at in range(0, len(frames), PIECE):
        part, kept = engine.piece(frames[at : at + PIECE], kept, last=at + PIECE >= len(frames))
        parts.append(part)
    return torch.cat(parts), 1000 * (time.process_time() - start_s) / len(frames)


def main() -> None:
    """Print a row for each engine."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    videos = VIDEOS[: int(sys.argv[1])] if len(sys.argv) > 1 else VIDEOS
    detector = load_detector(device="cpu", engine="torch")
    with open_sampled(VIDEOS[0], detector.video) as sampled:
        frames = torch.from_numpy(sampled.frames(0, 96))
    expected, _ = features_of(TorchEngine(detector.net.student.backbone), frames)  # type: ignore[arg-type]
    chosen = engines(detector)
    for name in sys.argv[2:] or chosen:
        engine = chosen[name]()
        passes = [features_of(engine, frames) for _ in range(4)]
        error = float((passes[0][0] - expected).norm() / expected.norm())
        print(f"{name}: {min(ms for _, ms in passes[1:]):.2f} ms a frame, features off by {error:.2%}", flush=True)
        if videos:
            detector.engine = engine
            found = detector.detect(videos)
            judged = tadkit.evaluate(found, ROOM / "annotations.json", tiou=TIOU, labels=detector.labels)
            print(f"{name}: mean mAP {100 * judged.average_map:.2f}", flush=True)


if __name__ == "__main__":
    main()
