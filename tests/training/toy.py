"""A toy run for the tests of the training loop; run as a program it may kill itself at a step."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tadkit.config import TrainSettings
from tadkit.progress import Progress, Quiet
from tadkit.training import BatchSource, TrainedWeights, fit

STEPS_PER_EPOCH = 5
SETTINGS = TrainSettings(epochs=3, lr=0.02, backbone_lr=0.01, checkpoint_s=0.0, ema=0.8, seed=4)


class Objective(nn.Module):
    """Regression by a net with dropout and batch norm, so that both random state and buffers matter."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(16, 1))

    def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        x, y = batch
        error = (self.head(self.backbone(x))[:, 0] - y).square().mean()
        size = 1e-3 * self.head[1].weight.square().sum()
        return {"error": error, "size": size, "total": error + size}


class Source:
    """Batches by number; at step ``stop`` it raises, or kills the process."""

    steps_per_epoch = STEPS_PER_EPOCH

    def __init__(self, stop: int | None = None, *, kill: bool = False, validation: BatchSource | None = None) -> None:
        self.validation = validation
        self.stop = stop
        self.kill = kill
        self.requested: list[int] = []

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        self.requested.append(step)
        if step == self.stop:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt
        x = torch.randn(12, 4, generator=torch.Generator().manual_seed(step))
        return x, x @ torch.tensor([1.0, -2.0, 0.5, 0.0])


def train(
    folder: Path,
    source: Source,
    *,
    settings: TrainSettings = SETTINGS,
    key: str = "key",
    objective: nn.Module | None = None,
    progress: Progress | None = None,
    device: str = "cpu",
) -> TrainedWeights:
    """One training run, always from the same weights."""
    torch.set_num_threads(1)  # sums of another number of threads differ in the last bit
    torch.manual_seed(1)
    objective, where = objective or Objective(), torch.device(device)
    progress = progress or Quiet()
    return fit(objective, source, settings, folder=folder, key=key, device=where, progress=progress, task="toy")


def run(folder: Path, source: Source, **options: Any) -> dict[str, Tensor]:
    """The weights of :func:`train`."""
    return train(folder, source, **options).tensors


if __name__ == "__main__":
    run(Path(sys.argv[1]), Source(int(sys.argv[2]), kill=True))
