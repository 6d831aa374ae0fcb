"""What can run a backbone, and whether it is installed: an argument, and no setting that travels with a model."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

EngineName = Literal["torch", "onnxruntime", "openvino", "openvino-bf16"]
EngineChoice = Literal["auto", "torch", "onnxruntime", "openvino", "openvino-bf16"]

FASTEST_FIRST: tuple[EngineName, ...] = ("onnxruntime", "openvino", "torch")
"""The first two are about equally fast, and ONNX Runtime starts sooner (docs/results.md); bfloat16 has to be chosen."""


def missing_packages(name: EngineName) -> list[str]:
    """Packages that an engine needs and that are not installed."""
    if name == "torch":
        return []
    return [package for package in ("onnx", name.removesuffix("-bf16")) if find_spec(package) is None]
