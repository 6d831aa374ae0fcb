"""The one training loop: AdamW, warm-up and cosine, clipping, mixed precision, averaged weights, validation, resume.

A stage's folder holds ``last.safetensors`` (what a killed run resumes from), ``best.safetensors`` (the averaged weights
with the lowest validation loss) and ``metrics.jsonl`` (one line a step). Where several processes train together
(:mod:`tadkit.runtime.world`), all read the last weights, and the first one writes.
"""

from __future__ import annotations

import ctypes
import gc
import json
import logging
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from tadkit.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tadkit.config import TrainSettings
from tadkit.distill import WindowsObjective
from tadkit.errors import TadkitError, WeightsError
from tadkit.files import write_text
from tadkit.progress import Progress
from tadkit.runtime.world import world
from tadkit.training.schedule import AveragedWeights, learning_rate, parameter_groups

LAST, BEST, METRICS = "last.safetensors", "best.safetensors", "metrics.jsonl"
_DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_LOG = logging.getLogger(__name__)


class BatchSource(Protocol):
    """Batches by number: a number always stands for the same batch, so that a resumed run reads the same batches."""

    steps_per_epoch: int

    @property
    def validation(self) -> BatchSource | None:
        """Batches of the videos set aside for validation; None without validation."""

    def batch(self, step: int) -> Any:
        """Batch of step ``step``, counted from 0 over all epochs."""


@dataclass(frozen=True)
class TrainedWeights:
    """What a training run returns.

    Attributes:
        tensors: averaged weights, on the CPU.
        provenance: which these are: ``weights`` is ``best`` or ``last``, ``step`` counts the steps done, and
            ``validation_loss`` is there for the best.
    """

    tensors: dict[str, Tensor]
    provenance: dict[str, Any]


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
) -> TrainedWeights:
    """Train ``objective``; return the averaged weights of the best validation, or without validation the last ones.

    Where memory does not hold a step, half as many windows pass through the backbone at once, with the same result.

    Args:
        objective: a module whose ``forward(batch)`` returns named losses; the one called ``total`` is minimised.
        batches: source of the batches.
        settings: schedule and optimiser.
        folder: of the stage; keeps the last and the best weights and ``metrics.jsonl``.
        key: digest of all that the run depends on; a state with another key is not resumed.
        device: where to train, index included.
        progress: receives every step.
        task: name of the work for ``progress``.

    Raises:
        TadkitError: the loss is no longer finite, memory does not hold one window, or processes that train together do
            not see the same files.
        ReleasedError: in all processes but the first, once they have trained together.
    """
    torch.manual_seed(settings.seed)
    run = _Run(objective, settings, batches.steps_per_epoch, device, folder, key)
    first = run.resume_together()
    progress.start(task, total=run.total_steps, unit="step")
    progress.advance(first)
    log = _MetricsLog(folder / METRICS, first_step=first) if run.writes else None
    validation, saved_at = batches.validation, time.monotonic()
    # One thread reads all batches, training and validation alike: stores and caches need not be thread-safe.
    with ThreadPoolExecutor(max_workers=1) as reader:
        for step, batch in _prefetched(reader, batches, first, run.total_steps):
            rate, losses = run.step_in_memory(step, batch, progress)
            last = step + 1 == run.total_steps
            figures: dict[str, Any] = {"step": step, "epoch": step // batches.steps_per_epoch, "rate": round(rate, 6)}
            if validation is not None and (last or (step + 1) % run.validate_every_steps == 0):
                figures["validation"] = run.validate(step, reader, validation)
            if log is None:
                continue
            log.add(figures, losses)
            if last or (step + 1) % settings.log_every == 0:
                log.flush()
            progress.advance(note=log.note)
            if last or time.monotonic() - saved_at >= settings.checkpoint_s:
                log.flush(durable=True)
                run.save(step + 1)
                saved_at = time.monotonic()
    world().release()
    trained = run.result(use_best=validation is not None)
    _LOG.info("%s: weights used: %s", task, trained.provenance)
    progress.advance(0, note=f"used the {trained.provenance['weights']} weights, of step {trained.provenance['step']}")
    return trained


class _Run:
    """Everything that changes while training, apart from the log."""

    def __init__(
        self,
        objective: nn.Module,
        settings: TrainSettings,
        steps_per_epoch: int,
        device: torch.device,
        folder: Path,
        key: str,
    ) -> None:
        if device.type == "cpu":
            _keep_freed_memory()
        self.objective, self.settings, self.device = objective.to(device).train(), settings, device
        self.processes = world()
        self.stepped = objective
        if self.processes.size > 1:  # what a method does not train has no gradient
            self.stepped = DistributedDataParallel(objective, find_unused_parameters=True)
        self.folder, self.key = folder, key
        self.total_steps = settings.epochs * steps_per_epoch
        self.validate_every_steps = max(1, settings.validate_every) * steps_per_epoch
        on_cpu = device.type == "cpu"  # where one pass over the weights is faster than one for each operation
        groups = parameter_groups(objective, settings)
        self.optimizer = torch.optim.AdamW(groups, foreach=not on_cpu, fused=on_cpu)
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.averaged = AveragedWeights(objective, decay=settings.ema)
        self.scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")

    @property
    def writes(self) -> bool:
        """Whether this process writes the files."""
        return self.processes.first

    def step_in_memory(self, step: int, batch: Any, progress: Progress) -> tuple[float, dict[str, Tensor]]:
        """A step that is taken again, with fewer windows in the backbone at once, where memory did not hold it."""
        while True:
            try:
                return self.step(step, batch)
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                reason = str(error).splitlines()[0]
            gc.collect()  # the error held the activations, and what it went through may hold the error
            alone, objective = self.processes.size == 1, self.objective
            fewer = objective.halve(batch) if alone and isinstance(objective, WindowsObjective) else 0
            if not fewer:
                raise TadkitError(
                    f"training: out of memory at step {step} ({reason}); set backbone_windows = 1, or lower window_s "
                    "or batch_windows"
                )
            progress.warn(
                f"out of memory at step {step}: from now on windows pass through the backbone {fewer} at a time"
            )

    def step(self, step: int, batch: Any) -> tuple[float, dict[str, Tensor]]:
        """One update; returns the share of the peak learning rate, and the losses, still on the device."""
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = learning_rate(step, peak=peak, total_steps=self.total_steps, settings=self.settings)
        torch.manual_seed(self.settings.seed * 1_000_003 + step)  # a resumed run draws the same dropout
        with self._autocast():
            losses: Mapping[str, Tensor] = self.stepped(batch)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self.scaler.scale(losses["total"].float()))
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.objective.parameters(), self.settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.averaged.update(self.objective, step=step)
        factor = self.optimizer.param_groups[0]["lr"] / self.peaks[0]
        return factor, {name: value.detach() for name, value in losses.items()}

    def _autocast(self) -> torch.autocast:
        precision = self.settings.precision
        return torch.autocast(self.device.type, dtype=_DTYPES[precision], enabled=precision != "no")

    @torch.no_grad()
    def validate(self, step: int, reader: ThreadPoolExecutor, batches: BatchSource) -> dict[str, float]:
        """Mean losses of the averaged weights over one epoch of ``batches``; keeps the weights if they are the best."""
        self.objective.eval()
        sums: dict[str, Tensor] = {}
        for _, batch in _prefetched(reader, batches, 0, batches.steps_per_epoch):
            with self._autocast():
                losses = torch.func.functional_call(self.objective, self.averaged.tensors, (batch,))
            sums = {name: value + sums.get(name, 0) for name, value in losses.items()}
        self.objective.train()
        means = {name: float(value) / batches.steps_per_epoch for name, value in sums.items()}
        best = self._read(BEST)
        lowest = math.inf if best is None else best.provenance["validation_loss"]
        if self.writes and means["total"] < lowest:
            provenance = {"step": step + 1, "key": self.key, "validation_loss": means["total"]}
            self._write(BEST, dict(self.averaged.items()), provenance)
        return {name: round(value, 6) for name, value in means.items()}

    def result(self, *, use_best: bool) -> TrainedWeights:
        """The weights to use; the last where no validation gave a finite loss."""
        best = self._read(BEST) if use_best else None
        if best is None:
            tensors = {name: value.cpu() for name, value in self.averaged.items()}
            return TrainedWeights(tensors, {"weights": "last", "step": self.total_steps})
        used = {name: best.provenance[name] for name in ("step", "validation_loss")}
        return TrainedWeights(dict(best.tensors), {"weights": "best", **used})

    def save(self, steps: int) -> None:
        """Write weights, averaged weights and optimiser moments after ``steps`` steps."""
        tensors: dict[str, Tensor] = {f"module.{name}": value for name, value in self.objective.state_dict().items()}
        tensors |= {f"averaged.{name}": value for name, value in self.averaged.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
        provenance: dict[str, Any] = {"step": steps, "key": self.key}
        if self.scaler.is_enabled():
            provenance["scaler"] = self.scaler.state_dict()
        self._write(LAST, tensors, provenance)

    def resume_together(self) -> int:
        """Restore the last state in all processes; returns the steps done.

        Raises:
            TadkitError: this process has another state than the first.
        """
        own = self.resume()
        first = self.processes.from_first(own)
        if own != first:
            raise TadkitError(
                f"{self.folder}: process {self.processes.rank} has a state of step {own}, the first one of step "
                f"{first}; all processes need the same folder"
            )
        return first

    def resume(self) -> int:
        """Restore the last state; returns the steps done, 0 where there is no state of this run."""
        saved = self._read(LAST)
        if saved is None:
            return 0
        parts: dict[str, dict[str, Tensor]] = {"module": {}, "averaged": {}, "optimizer": {}}
        for name, value in saved.tensors.items():
            part, rest = name.split(".", 1)
            parts[part][rest] = value
        self.objective.load_state_dict(parts["module"])
        for name, value in parts["averaged"].items():
            self.averaged.tensors[name].copy_(value)
        state: dict[int, dict[str, Any]] = {}
        for name, value in parts["optimizer"].items():
            index, moment = name.split(".", 1)
            state.setdefault(int(index), {})[moment] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})
        if self.scaler.is_enabled() and "scaler" in saved.provenance:
            self.scaler.load_state_dict(dict(saved.provenance["scaler"]))
        return int(saved.provenance["step"])

    def _write(self, name: str, tensors: Mapping[str, Tensor], provenance: Mapping[str, Any]) -> None:
        kept = Checkpoint(kind="training", settings={}, labels=(), tensors=tensors, provenance=provenance)
        save_checkpoint(self.folder / name, kept)

    def _read(self, name: str) -> Checkpoint | None:
        """A file of this run; None where it is missing, damaged, or of another run."""
        try:
            saved = load_checkpoint(self.folder / name, kind="training")
        except WeightsError:
            return None
        return saved if saved.provenance.get("key") == self.key else None


def _prefetched(reader: ThreadPoolExecutor, batches: BatchSource, first: int, stop: int) -> Iterator[tuple[int, Any]]:
    """Steps and their batches; ``reader`` makes the next one while the current one trains."""
    coming = reader.submit(batches.batch, first) if first < stop else None
    for step in range(first, stop):
        assert coming is not None
        batch = coming.result()
        coming = reader.submit(batches.batch, step + 1) if step + 1 < stop else None
        yield step, batch


class _MetricsLog:
    """One JSON line a step, appended to a file; losses stay on the device until a flush copies them all at once.

    Attributes:
        note: the latest loss that was copied, for people to read.
    """

    def __init__(self, path: Path, *, first_step: int) -> None:
        """Keep the whole lines of steps before ``first_step``; drop those of steps that will be run again."""
        self.path = path
        self.note = ""
        self.started = time.monotonic()
        self.pending: list[tuple[dict[str, Any], dict[str, Tensor]]] = []
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        write_text(path, "".join(f"{line}\n" for line in lines if _step_of(line) < first_step))

    def add(self, figures: Mapping[str, Any], losses: Mapping[str, Tensor]) -> None:
        """Add a step; its line starts with ``figures``."""
        elapsed_s = round(time.monotonic() - self.started, 3)
        self.pending.append(({**figures, "elapsed_s": elapsed_s}, dict(losses)))

    def flush(self, *, durable: bool = False) -> None:
        """Append what is pending; ``durable`` waits for the disk.

        Raises:
            TadkitError: a loss is not finite; the lines of the steps before it are written.
        """
        if self.pending:
            scalars = [value.float() for _, losses in self.pending for value in losses.values()]
            values = iter(torch.stack(scalars).tolist())
            rows = [(figures, {name: next(values) for name in losses}) for figures, losses in self.pending]
            self.pending.clear()
            with self.path.open("a", encoding="utf-8") as file:
                for figures, losses in rows:
                    _refuse_not_finite(figures["step"], losses)
                    rounded = {name: round(value, 6) for name, value in losses.items()}
                    file.write(json.dumps(figures | rounded) + "\n")
            self.note = f"loss {rows[-1][1]['total']:.3f}"
        if durable:
            with self.path.open("rb") as file:
                os.fsync(file.fileno())


def _out_of_memory(error: RuntimeError) -> bool:
    """Whether memory did not hold what was asked for: of an accelerator, or of the machine."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _refuse_not_finite(step: int, losses: Mapping[str, float]) -> None:
    if not math.isfinite(losses["total"]):
        parts = ", ".join(f"{name} {value:.3g}" for name, value in losses.items())
        raise TadkitError(f"training: loss is not finite at step {step} ({parts}); lower lr or set precision = 'no'")


def _step_of(line: str) -> float:
    """Step of a line of the log; infinite for one that a kill has cut short."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def _keep_freed_memory() -> None:
    """Ask glibc to keep freed memory for the next step instead of giving it back to the kernel.

    A step allocates and frees gigabytes of activations in large blocks. By default each block is mapped afresh and its
    pages are cleared at first touch: four steps of the room's teacher took 12.9 s of system time beside 17.8 s of user
    time, and 4.7 s beside 18.7 s with this. Memory is held until the process ends. Other systems than Linux with glibc
    are left alone.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
