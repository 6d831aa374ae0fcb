"""What can run a backbone, and whether it is installed: an argument, and no setting that travels with a model."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

EngineName = Literal["torch", "onnxruntime", "openvino"]
EngineChoice = Literal["auto", "torch", "onnxruntime", "openvino"]

FASTEST_FIRST: tuple[EngineName, ...] = ("onnxruntime", "openvino", "torch")
"""The first two are about equally fast, and ONNX Runtime starts sooner (docs/results.md)."""


def missing_packages(name: EngineName) -> list[str]:
    """Packages that an engine needs and that are not installed."""
    return [] if name == "torch" else [package for package in ("onnx", name) if find_spec(package) is None]
