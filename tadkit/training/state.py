"""What a killed training run goes on from: one safetensors file, whole or absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tadkit.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tadkit.errors import WeightsError
from tadkit.training.schedule import AveragedWeights


def save_state(
    path: Path,
    *,
    module: nn.Module,
    averaged: AveragedWeights,
    optimizer: torch.optim.Optimizer,
    step: int,
    key: str,
) -> None:
    """Write weights, averaged weights and optimiser moments after ``step`` steps of the run named by ``key``."""
    tensors: dict[str, Tensor] = {f"module.{name}": value for name, value in module.state_dict().items()}
    tensors |= {f"averaged.{name}": value for name, value in averaged.items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    save_checkpoint(
        path,
        Checkpoint(kind="training", settings={}, labels=(), tensors=tensors, provenance={"step": step, "key": key}),
    )


def load_state(
    path: Path, *, module: nn.Module, averaged: AveragedWeights, optimizer: torch.optim.Optimizer, key: str
) -> int:
    """Restore the state of the run named by ``key``; returns the steps done, 0 where there is nothing to go on from."""
    if not path.exists():
        return 0
    try:
        saved = load_checkpoint(path, kind="training")
    except WeightsError:
        return 0
    if saved.provenance.get("key") != key:
        return 0
    parts: dict[str, dict[str, Tensor]] = {"module": {}, "averaged": {}, "optimizer": {}}
    for name, value in saved.tensors.items():
        part, rest = name.split(".", 1)
        parts[part][rest] = value
    module.load_state_dict(parts["module"])
    for name, value in parts["averaged"].items():
        averaged.tensors[name].copy_(value)
    state: dict[int, dict[str, Any]] = {}
    for name, value in parts["optimizer"].items():
        index, moment = name.split(".", 1)
        state.setdefault(int(index), {})[moment] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
    return int(saved.provenance["step"])
