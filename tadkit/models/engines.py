"""Engines that run a backbone over a video in pieces: torch itself, ONNX Runtime and OpenVINO, the last two on the CPU.

All compute the same function, up to rounding, which is to 8 bits in bfloat16 (``openvino-bf16``). What follows the
backbone costs little and stays in torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, assert_never, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from tadkit.errors import UsageError
from tadkit.models.backbones import Backbone, StreamedBackbone, TemporalShiftBackbone
from tadkit.runtime.engines import FASTEST_FIRST, EngineChoice, EngineName, missing_packages

_INSTALL = "pip install 'tadkit[export]'"
_GRAPH_BACKBONE = "efficientnet-lite0"

Kept = Sequence[Any]
Run = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]
"""From a graph's inputs to its outputs, both in the order of the graph."""


class Engine(ABC):
    """Runs a backbone over the pieces of a video, see :class:`tadkit.models.backbones.StreamedBackbone`.

    Attributes:
        name: what it is called.
        piece_pixels: pixels of the frames of a piece: so many that the activations stay in a core's cache.
    """

    name: EngineName
    piece_pixels: int

    @abstractmethod
    def piece(
        self, frames: UInt8[Tensor, "frames height width 3"], kept: Kept, *, last: bool
    ) -> tuple[Float[Tensor, "frames_done channels"], Kept]:
        """Features of single frames and what the next piece needs; ``kept`` is empty for the first piece."""


class TorchEngine(Engine):
    """The backbone as it is, on any device."""

    name = "torch"

    def __init__(self, backbone: StreamedBackbone) -> None:
        self._backbone = backbone
        on_cpu = next(backbone.parameters()).device.type == "cpu"
        self.piece_pixels = (16 if on_cpu else 128) * 112 * 112

    def piece(
        self, frames: UInt8[Tensor, "frames height width 3"], kept: Kept, *, last: bool
    ) -> tuple[Float[Tensor, "frames_done channels"], Kept]:
        """The backbone's."""
        return self._backbone.piece(frames, kept, last=last)


class GraphEngine(Engine):
    """A backbone as an ONNX graph, which is built for each size of frames when the first of them come."""

    piece_pixels = 8 * 112 * 112

    def __init__(self, name: EngineName, backbone: TemporalShiftBackbone, load: Callable[[bytes], Run]) -> None:
        """Run ``backbone`` by what ``load`` makes of the graph's bytes."""
        self.name = name
        self._backbone, self._load = backbone, load
        self._runs: dict[tuple[int, int], tuple[Run, list[np.ndarray]]] = {}

    def piece(
        self, frames: UInt8[Tensor, "frames height width 3"], kept: Kept, *, last: bool
    ) -> tuple[Float[Tensor, "frames_done channels"], Kept]:
        """The graph's outputs."""
        run, first = self._run_of(frames.shape[1], frames.shape[2])
        read, grey, shifted = frames, list[Tensor](), kept or first
        if self._backbone.changes_frames:
            read, grey = self._backbone.read(frames, kept[-1:])
            shifted = kept[:-1] or first
        before = [np.zeros(int(last), dtype=np.uint8), *shifted] if first else []
        features, *keep = run([read.numpy(force=True), *before])
        return torch.from_numpy(features), [*keep, *grey]

    def _run_of(self, height: int, width: int) -> tuple[Run, list[np.ndarray]]:
        """The loaded graph for frames of a size, and what it has kept before the first piece."""
        if (height, width) not in self._runs:
            from tadkit.models.onnx_graph import streamed_graph

            graph = streamed_graph(self._backbone, size_hw=(height, width))
            first = [np.zeros((1, *shape), dtype=np.float32) for shape in graph.kept_shapes]
            self._runs[height, width] = self._load(graph.content), first
        return self._runs[height, width]


def build_engine(choice: EngineChoice, backbone: Backbone) -> Engine | None:
    """The engine for a backbone; None for backbones that read windows, which torch runs.

    ``auto`` is the fastest that is installed and can run the backbone where it is.

    Raises:
        UsageError: the chosen engine is not installed, or cannot run this backbone or on its device.
    """
    if choice == "auto":
        return _built(next(name for name in FASTEST_FIRST if not _obstacle(name, backbone)), backbone)
    if why_not := _obstacle(choice, backbone):
        raise UsageError(f"--engine {choice}: {why_not}")
    return _built(choice, backbone)


def _obstacle(name: EngineName, backbone: Backbone) -> str:
    """Why an engine cannot run a backbone; empty if it can, as torch always can."""
    if name == "torch":
        return ""
    if not (isinstance(backbone, TemporalShiftBackbone) and backbone.name == _GRAPH_BACKBONE):
        return f"only runs {_GRAPH_BACKBONE}, and this model has another backbone; use auto or torch"
    if (device := next(backbone.parameters()).device).type != "cpu":
        return f"runs on the CPU, not on {device}; add --device cpu, or use auto or torch"
    if missing := missing_packages(name):
        return f"{' and '.join(missing)} not installed; {_INSTALL}"
    if name == "openvino-bf16" and not _has_bf16():
        return "this CPU does not compute in bfloat16, which would be no faster; use auto or openvino"
    return ""


def _has_bf16() -> bool:
    """Whether OpenVINO says that the CPU computes in bfloat16."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _built(name: EngineName, backbone: Backbone) -> Engine | None:
    match name:
        case "torch":
            return TorchEngine(backbone) if isinstance(backbone, StreamedBackbone) else None
        case "onnxruntime":
            return GraphEngine(name, cast("TemporalShiftBackbone", backbone), _load_onnxruntime)
        case "openvino":
            return GraphEngine(name, cast("TemporalShiftBackbone", backbone), partial(_load_openvino, precision="f32"))
        case "openvino-bf16":
            return GraphEngine(name, cast("TemporalShiftBackbone", backbone), partial(_load_openvino, precision="bf16"))
        case _:
            assert_never(name)


def _load_onnxruntime(content: bytes) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    # Threads that wait by spinning would take the cores from the decoder.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]

    def run(inputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        outputs: list[np.ndarray] = session.run(None, dict(zip(names, inputs, strict=True)))
        return outputs

    return run


def _load_openvino(content: bytes, *, precision: Literal["f32", "bf16"]) -> Run:
    import openvino

    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": precision,  # if not stated, bf16 is taken where the CPU has it
        "NUM_STREAMS": 1,
    }
    compiled = core.compile_model(core.read_model(content, b""), "CPU", settings)

    def run(inputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        found = compiled(list(inputs))
        return [np.array(found[output]) for output in compiled.outputs]

    return run
