"""Timing of calls, and a description of the machine."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from tadkit.flow.opencv import OPENCV_VERSION
from tadkit.progress import Progress

Calls = Sequence[Callable[[], object]]


def seconds_of(calls: Calls, device: torch.device) -> float:
    """Seconds that ``calls`` take in sequence, until the device has finished."""
    start_s = time.perf_counter()
    for call in calls:
        call()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - start_s


def interleaved_s(
    calls: Mapping[str, Calls], *, rounds: int, device: torch.device, progress: Progress
) -> dict[str, Float64[np.ndarray, " rounds"]]:
    """Seconds of each of the named ``calls`` in each round.

    A round goes once through all names, so that a drift in the machine's speed affects all of them: compare within a
    round. ``progress`` advances with each name in each round.
    """
    took_s = {name: np.zeros(rounds) for name in calls}
    for number in range(rounds):
        for name in calls:
            took_s[name][number] = seconds_of(calls[name], device)
            progress.advance(note=name)
    return took_s


def machine_json(device: torch.device) -> dict[str, Any]:
    """What timings depend on besides threads; ``compiler`` is None if torch.compile finds none for the CPU."""
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "opencv": OPENCV_VERSION,
        "compiler": shutil.which(compiler),
    }


def _cpu_model() -> str | None:
    """Model name from /proc/cpuinfo on Linux, else from the platform module."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or None)
