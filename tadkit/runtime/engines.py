"""What can run a backbone, and whether it is installed: an argument, and no setting that travels with a model."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

EngineName = Literal["torch", "onnxruntime", "openvino", "openvino-bf16"]
EngineChoice = Literal["auto", "torch", "onnxruntime", "openvino", "openvino-bf16"]

FASTEST_FIRST: tuple[EngineName, ...] = ("onnxruntime", "openvino", "torch")
"""The first two are about equally fast, and ONNX Runtime starts sooner (docs/results.md).

``openvino-bf16`` is faster, but gives other scores, so that it is never taken unasked.
"""


def missing_packages(name: EngineName) -> list[str]:
    """Packages that an engine needs and that are not installed."""
    packages = () if name == "torch" else ("onnx", name.removesuffix("-bf16"))
    return [package for package in packages if find_spec(package) is None]


def multiplies_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16, without which it is slower than float32; only Linux says."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
