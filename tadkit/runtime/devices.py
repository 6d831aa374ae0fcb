"""What is installed beside tadkit: the devices of torch, and torchvision, whose compiled operators may be missing.

torchvision's wheel on PyPI is linked against CUDA; beside a CPU build of torch its operators (``nms`` and others) are
missing and ``import torchvision`` raises while it describes them. tadkit uses only the nets written in Python, so
missing operators are ignored during that one import.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
import torch.library

from tadkit.errors import UsageError


def torch_device(name: str) -> torch.device:
    """The torch device called ``name``; ``auto`` is the GPU if there is one.

    Raises:
        UsageError: this machine has no such device.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()  # a meta tensor has no values to copy
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--device {name}: not usable here ({reason}); try --device auto") from error
    return device


def import_torchvision(name: str = "torchvision") -> ModuleType:
    """Import ``name`` (such as ``"torchvision.models.optical_flow"``), with or without compiled operators."""
    library: Any = torch.library
    original: Callable[..., Callable[..., Any]] = library.register_fake

    def lenient(op: Any, func: Any = None, /, **options: Any) -> Any:
        if not isinstance(op, str) or not op.startswith("torchvision::") or func is not None:
            return original(op, func, **options)

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            try:
                return original(op, function, **options)
            except RuntimeError as error:
                if "does not exist" not in str(error):
                    raise
                return function

        return register

    library.register_fake = lenient
    try:
        return importlib.import_module(name)
    finally:
        library.register_fake = original
