"""A run whose steps need more memory than there is: python little_memory.py FOLDER SPARE_MB, 0 for no limit."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from tadkit.config import TrainSettings
from tadkit.distill import Batch, Truth, WindowsObjective
from tadkit.progress import Quiet
from tadkit.training import fit

WINDOWS, STEPS, WIDTH, LAYERS = 4, 64, 50_000, 8
"""Activations of a window take WIDTH * STEPS * LAYERS * 4 bytes: 98 MiB."""


class Wide(WindowsObjective):
    """A backbone with large activations and few weights."""

    def __init__(self) -> None:
        super().__init__(at_once=0)
        self.backbone = nn.Linear(1, 1)

    def _features(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.backbone(x).expand(-1, -1, WIDTH)
        for _ in range(LAYERS):
            x = torch.tanh(x)
        return x.mean(2) * mask

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Mean square of the features."""
        return {"total": self.features(self._features, batch.inputs["frames"], batch).square().mean()}


class Source:
    """The same batch in every step."""

    steps_per_epoch = 3
    validation = None

    def batch(self, _step: int) -> Batch:
        """Windows of whole numbers."""
        frames = torch.arange(WINDOWS * STEPS).float().view(WINDOWS, STEPS, 1) / STEPS
        return Batch({"frames": frames}, torch.ones(WINDOWS, STEPS, dtype=torch.bool), Truth([], []))


class Told(Quiet):
    """Prints warnings."""

    def warn(self, message: str) -> None:
        """Print it."""
        print(message)


def _limit(spare_mb: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (spare_mb << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    settings = TrainSettings(epochs=1, lr=0.1, backbone_lr=0.1, ema=0.0)
    if int(sys.argv[2]):
        _limit(int(sys.argv[2]))
    weights = fit(
        Wide(),
        Source(),
        settings,
        folder=Path(sys.argv[1]),
        key="key",
        device=torch.device("cpu"),
        progress=Told(),
        task="wide",
    )
    print({name: value.flatten().tolist() for name, value in weights.tensors.items()})
