"""The one training loop: AdamW, warm-up and cosine, clipping, mixed precision, averaged weights, resume."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from tadkit.config import TrainSettings
from tadkit.errors import TadkitError
from tadkit.files import whole_file, write_text
from tadkit.progress import Progress
from tadkit.training.memory import keep_freed_memory
from tadkit.training.schedule import AveragedWeights, learning_rate, parameter_groups
from tadkit.training.state import load_state, save_state

_STATE = "last.safetensors"
_METRICS = "metrics.jsonl"


class BatchSource(Protocol):
    """Batches by number: one number is always one batch, so that a resumed run sees what it would have seen."""

    steps_per_epoch: int

    def batch(self, step: int) -> Any:
        """Batch of step ``step``, counted from 0 over all epochs."""


def fit(
    objective: nn.Module,
    batches: BatchSource,
    settings: TrainSettings,
    *,
    folder: Path,
    key: str,
    device: torch.device,
    progress: Progress,
    task: str,
) -> dict[str, Tensor]:
    """Train ``objective`` and return its averaged weights, on the CPU.

    Args:
        objective: a module whose ``forward(batch)`` returns named losses; the one called ``total`` is minimised.
        batches: where batches come from.
        settings: schedule and optimiser.
        folder: where the state to resume from and ``metrics.jsonl`` are kept.
        key: digest of all that the run depends on; a state with another key is not resumed.
        device: where to train.
        progress: told of every step.
        task: name of the work for ``progress``.

    Raises:
        TadkitError: the loss is no longer finite.
    """
    torch.manual_seed(settings.seed)
    accelerator = _accelerator(settings, device)
    optimizer = torch.optim.AdamW(parameter_groups(objective, settings), foreach=True)
    peaks = [group["lr"] for group in optimizer.param_groups]
    objective.to(accelerator.device)
    averaged = AveragedWeights(objective, decay=settings.ema)
    state = folder / _STATE
    first = load_state(state, module=objective, averaged=averaged, optimizer=optimizer, key=key)
    prepared, optimizer = accelerator.prepare(objective, optimizer)
    total_steps = settings.epochs * batches.steps_per_epoch
    progress.start(task, total=total_steps, unit="step")
    progress.advance(first)
    log = _MetricsLog(folder / _METRICS, first_step=first)
    prepared.train()
    saved_at = time.monotonic()
    for step, batch in _prefetched(batches, first, total_steps):
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = learning_rate(step, peak=peak, total_steps=total_steps, settings=settings)
        factor = optimizer.param_groups[0]["lr"] / peaks[0]
        torch.manual_seed(settings.seed * 1_000_003 + step)  # dropout of a resumed run is that of an undisturbed one
        losses = _one_step(accelerator, prepared, optimizer, batch, settings, step)
        averaged.update(accelerator.unwrap_model(prepared), step=step)
        log.write(step, epoch=step // batches.steps_per_epoch, factor=factor, losses=losses)
        progress.advance(note=f"loss {losses['total']:.3f}")
        last = step + 1 == total_steps
        if accelerator.is_main_process and (last or time.monotonic() - saved_at >= settings.checkpoint_s):
            log.flush()
            save_state(state, module=objective, averaged=averaged, optimizer=optimizer, step=step + 1, key=key)
            saved_at = time.monotonic()
    return {name: value.cpu() for name, value in averaged.items()}


def _one_step(
    accelerator: Accelerator,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Any,
    settings: TrainSettings,
    step: int,
) -> dict[str, float]:
    losses: Mapping[str, Tensor] = objective(batch)
    figures = {name: float(value.detach()) for name, value in losses.items()}
    if not math.isfinite(figures["total"]):
        parts = ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
        raise TadkitError(f"training: loss is not finite at step {step} ({parts}); lower lr or set precision = 'no'")
    optimizer.zero_grad(set_to_none=True)
    accelerator.backward(losses["total"])
    accelerator.clip_grad_norm_(objective.parameters(), settings.clip_norm)
    optimizer.step()
    return figures


def _prefetched(batches: BatchSource, first: int, total: int) -> Iterator[tuple[int, Any]]:
    """Steps and their batches, the next one being made while the current one trains."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(batches.batch, first) if first < total else None
        for step in range(first, total):
            assert coming is not None
            batch = coming.result()
            coming = pool.submit(batches.batch, step + 1) if step + 1 < total else None
            yield step, batch


def _accelerator(settings: TrainSettings, device: torch.device) -> Accelerator:
    """Each stage of a run has its own precision, where accelerate keeps the first one of a process for good."""
    if device.type == "cpu":
        keep_freed_memory()
    AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    return Accelerator(mixed_precision=settings.precision, cpu=device.type == "cpu")


class _MetricsLog:
    """One JSON line a step; lines of steps that will be done again are dropped."""

    def __init__(self, path: Path, *, first_step: int) -> None:
        self.path = path
        self.started = time.monotonic()
        self.pending: list[str] = []
        kept = path.read_text(encoding="utf-8").splitlines()[:first_step] if path.exists() else []
        write_text(path, "".join(line + "\n" for line in kept))

    def write(self, step: int, *, epoch: int, factor: float, losses: Mapping[str, float]) -> None:
        """Add a step's figures."""
        elapsed_s = round(time.monotonic() - self.started, 3)
        figures = {"step": step, "epoch": epoch, "rate": round(factor, 6), "elapsed_s": elapsed_s}
        self.pending.append(json.dumps(figures | {name: round(value, 6) for name, value in losses.items()}))

    def flush(self) -> None:
        """Append what is pending to the file."""
        with whole_file(self.path) as temporary:
            temporary.write_text(self.path.read_text(encoding="utf-8") + "".join(line + "\n" for line in self.pending))
        self.pending.clear()
