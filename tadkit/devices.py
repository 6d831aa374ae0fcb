"""The device that torch computes on."""

from __future__ import annotations

import torch

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
