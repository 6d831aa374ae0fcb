"""Files that other programs run: :class:`~tadkit.models.streamed.StreamedDetector` as ONNX, OpenVINO or TorchScript.

All three are made of one trace. What the numbers mean is in the file, as JSON under the name :data:`METADATA`.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, assert_never

import numpy as np
import torch
from torch import Tensor

from tadkit.errors import UsageError
from tadkit.files import encodable
from tadkit.models.streamed import StreamedDetector
from tadkit.version import __version__

ExportForm = Literal["onnx", "openvino", "torch"]
SUFFIXES: Mapping[ExportForm, str] = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt"}
METADATA = "tadkit"
"""Name of the metadata: of a property (ONNX), of runtime information (OpenVINO), or of an extra file (TorchScript)."""
OPSET = 17
_PACKAGES: Mapping[ExportForm, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxruntime"),
    "openvino": ("onnx", "openvino"),
    "torch": (),
}
_TRACED_FRAMES = 24

Run = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
"""From inputs to outputs, both in order."""


def refuse_form(form: ExportForm, out: Path) -> None:
    """Refuse a form that cannot be written here, before any work.

    Raises:
        UsageError: a package is missing, or the file's suffix is not that of the form.
    """
    if missing := [package for package in _PACKAGES[form] if find_spec(package) is None]:
        raise UsageError(f"--to {form}: {' and '.join(missing)} not installed; pip install 'tadkit[export]'")
    if out.suffix != SUFFIXES[form]:
        raise UsageError(f"--out {out}: a file for --to {form} ends in {SUFFIXES[form]}")


def files_of(form: ExportForm, out: Path) -> list[Path]:
    """The files that are written: OpenVINO keeps weights in a second one."""
    return [out, out.with_suffix(".bin")] if form == "openvino" else [out]


def state_names(net: StreamedDetector) -> list[str]:
    """Names of the state, in order."""
    return ["place", "track", *(f"kept_{number}" for number in range(len(net.first_state()) - 2))]


def write_exported(net: StreamedDetector, form: ExportForm, out: Path, metadata: Mapping[str, Any]) -> None:
    """Trace ``net`` and write it to ``out``, into a folder for which the caller answers."""
    text = encodable(json.dumps(metadata, ensure_ascii=False))
    match form:
        case "onnx":
            out.write_bytes(_onnx(net, text))
        case "openvino":
            _write_openvino(_onnx(net, text), text, out)
        case "torch":
            with _quiet(), torch.no_grad():
                traced = torch.jit.trace(net, _example(net), check_trace=False)  # type: ignore[no-untyped-call]
            traced.save(str(out), _extra_files={f"{METADATA}.json": text})
        case _:
            assert_never(form)


def load_exported(form: ExportForm, out: Path) -> Run:
    """What runs a written file, with as many threads as torch has."""
    threads = torch.get_num_threads()
    match form:
        case "onnx":
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads, options.log_severity_level = threads, 3
            session = onnxruntime.InferenceSession(str(out), options, providers=["CPUExecutionProvider"])
            names = [node.name for node in session.get_inputs()]
            return lambda inputs: session.run(None, dict(zip(names, inputs, strict=True)))
        case "openvino":
            import openvino

            settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
            compiled = openvino.Core().compile_model(str(out), "CPU", settings)

            def run(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
                found = compiled(list(inputs))
                return [np.array(found[output]) for output in compiled.outputs]

            return run
        case "torch":
            net: Any = torch.jit.load(str(out))  # type: ignore[no-untyped-call]

            def run_torch(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
                with torch.inference_mode():
                    segments, scores, state = net(*map(torch.from_numpy, inputs))
                return [one.numpy() for one in (segments, scores, *state)]

            return run_torch
        case _:
            assert_never(form)


def _example(net: StreamedDetector) -> tuple[Tensor, ...]:
    """Inputs for a trace; nothing in the graph depends on their sizes."""
    frames = torch.zeros(net.halo_frames + _TRACED_FRAMES, *net.size_hw, 3, dtype=torch.uint8)
    return frames, torch.zeros(1, dtype=torch.uint8), *net.first_state()


def _onnx(net: StreamedDetector, text: str) -> bytes:
    """The graph, with the metadata as a property."""
    import onnx

    state = state_names(net)
    inputs = ["frames", "end", *state]
    outputs = ["segments", "scores", *(f"next_{name}" for name in state)]
    sized = {name: {0: f"{name}_count"} for name in (*inputs, *outputs) if not name.endswith("place")}
    with TemporaryDirectory() as folder, _quiet(), torch.no_grad():
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            net,
            _example(net),
            str(path),
            dynamo=False,  # the newer exporter fixes lengths of 0 and 1, which the first piece has
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=sized,
        )
        model = onnx.load(str(path))
    model.producer_name, model.producer_version = "tadkit", __version__
    onnx.helper.set_model_props(model, {METADATA: text})
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _write_openvino(content: bytes, text: str, out: Path) -> None:
    import openvino

    model = openvino.Core().read_model(content, b"")
    model.set_rt_info(text, METADATA)
    openvino.save_model(model, str(out), compress_to_fp16=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings: tracing warns of each size that it takes for constant, and those are."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
