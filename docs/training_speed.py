"""Seconds per training step of the student at the sizes of ``examples/room.toml``, in this or an earlier checkout.

    PYTHONPATH=CHECKOUT python docs/training_speed.py STEPS [kept] [bf16]

It imports ``tadkit`` of the checkout, 817049c or later (which needs ``accelerate``), and prints processor and wall
seconds of each step after the first. Batches are made beforehand, the same in each checkout. Run the checkouts in turn.
``kept``: frames are given as activations of the frozen blocks, as with ``colour_variants`` after many epochs.
``bf16``: mixed precision.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tadkit.config import TrainSettings
from tadkit.distill import Batch, StudentObjective, TeacherTargets, Truth
from tadkit.training import fit

CLASSES, FRAMES, DIM = 5, 128, 128


def module(*names: str) -> Any:
    """The first module that there is: they have moved since 817049c."""
    for name in names:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise ModuleNotFoundError(names[0])


def room() -> Any:
    """Settings of the model."""
    config = importlib.import_module("tadkit.config")
    backbone = getattr(config, "TemporalShiftSettings", None) or config.BackboneSettings
    return config.ModelSettings(
        video=config.VideoSettings(rate_hz=5.0, height_px=112, width_px=112),
        teacher_backbone=backbone(stride=1, frozen_blocks=3),
        backbone=backbone(stride=1, frozen_blocks=9),
    )


def batch(seed: int, levels: int) -> Batch:
    """Two windows with three actions each."""
    rng = np.random.default_rng(seed)

    def track(steps: int, channels: int) -> Tensor:
        return torch.from_numpy(rng.random((2, steps, channels), dtype=np.float32))

    starts = rng.uniform(0, 100, (2, 3))
    segments = [torch.from_numpy(np.stack([at, at + rng.uniform(10, 25, 3)], axis=1)).float() for at in starts]
    steps = [FRAMES >> level for level in range(levels)]
    predictions = module("tadkit.models.heads", "tadkit.heads").HeadPredictions(
        tuple(track(count, CLASSES) for count in steps),
        tuple(track(count, 2) for count in steps),
        tuple(torch.ones(2, count, dtype=torch.bool) for count in steps),
    )
    return Batch(
        inputs={"frames": torch.from_numpy(rng.integers(0, 256, (2, FRAMES, 112, 112, 3), dtype=np.uint8))},
        mask=torch.ones(2, FRAMES, dtype=torch.bool),
        truth=Truth(segments, [torch.from_numpy(rng.integers(CLASSES, size=3)) for _ in segments]),
        teacher=TeacherTargets(track(FRAMES, DIM).transpose(1, 2), predictions),
    )


class Source:
    """Two batches in turn, as one epoch."""

    validation = None

    def __init__(self, steps: int, batches: list[Batch]) -> None:
        self.steps_per_epoch, self.batches = steps, batches

    def batch(self, step: int) -> Batch:
        """Batch of a step."""
        return self.batches[step % len(self.batches)]


class Clock:
    """Processor and wall time at the end of each step."""

    def __init__(self) -> None:
        self.ended_s: list[tuple[float, float]] = []

    def start(self, *_: Any, **__: Any) -> None:
        """Nothing to do before the first step."""

    def advance(self, amount: float = 1.0, *, note: str = "") -> None:  # noqa: ARG002 - part of the protocol
        """Note when a step ended."""
        if amount:
            self.ended_s.append((time.process_time(), time.perf_counter()))


def main(steps: int, *, kept: bool, bf16: bool) -> None:
    """Print the times of ``steps`` steps after the first."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(0)
    model, train = room(), TrainSettings(epochs=1, checkpoint_s=1e6, precision="bf16" if bf16 else "no")
    student = module("tadkit.models.detector", "tadkit.detector").new_student(model, num_classes=CLASSES)
    batches = [batch(seed, model.head.levels) for seed in range(2)]
    for one in batches if kept else ():
        frames = one.inputs.pop("frames")
        one.inputs["activations"] = student.backbone.prefix(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        fit(
            StudentObjective(student, distill=model.distill, joint=None, colour_jitter=train.colour_jitter),
            Source(steps + 1, batches),
            train,
            folder=Path(folder),
            key="speed",
            device=torch.device("cpu"),
            progress=clock,
            task="speed",
        )
    took_s = np.diff(np.array(clock.ended_s[-steps - 1 :]), axis=0).round(3)
    print(json.dumps({"processor_s": took_s[:, 0].tolist(), "wall_s": took_s[:, 1].tolist(), "load": os.getloadavg()}))


if __name__ == "__main__":
    main(int(sys.argv[1]), kept="kept" in sys.argv[2:], bf16="bf16" in sys.argv[2:])
