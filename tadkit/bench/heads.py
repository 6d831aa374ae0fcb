"""``tadkit bench heads``: time of a forward pass and of a training step of each head on THUMOS14-like features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from tadkit.bench.timing import interleaved_s, machine_json
from tadkit.config import (
    ActionFormerSettings,
    BmnSettings,
    HeadSettings,
    TadtrSettings,
    TagsSettings,
    TemporalMaxerSettings,
    TriDetSettings,
)
from tadkit.errors import UsageError
from tadkit.models.heads import Head, build_head
from tadkit.progress import Progress
from tadkit.synth.tracks import make_track

CHANNELS, CLASSES, STEPS, BATCH = 2048, 20, 2304, 2
"""The authors' for THUMOS14: two-stream I3D features, 20 classes, windows of 2304 steps, two a batch."""

_AUTHORS: dict[str, Any] = {
    "dim": 512,
    "levels": 6,
    "stem_layers": 2,
    "head_layers": 3,
    "dropout": 0.0,
    "drop_path": 0.1,
    "layer_scale": True,
    "normaliser": "running",
}
HEADS: dict[str, HeadSettings] = {
    "actionformer": ActionFormerSettings(attention_heads=4, attention_window=19, **_AUTHORS),
    "tridet": TriDetSettings(mlp_dim=768, input_noise=0.0005, **_AUTHORS),
    "temporal-maxer": TemporalMaxerSettings(**{**_AUTHORS, "stem_layers": 0}),
    "tadtr": TadtrSettings(),
    "bmn": BmnSettings(),
    "tags": TagsSettings(),
}
"""Heads by name: the pyramids at their authors' sizes, the whole-window heads at tadkit's defaults."""


@dataclass(frozen=True)
class HeadFigures:
    """One head's cost in milliseconds: median and minimum over the rounds.

    Attributes:
        forward_ms: forward pass of one track, in evaluation mode without gradients; all its windows at once.
        forward_ms_min: fastest round of the forward pass.
        step_ms: forward, losses and backward of a batch, without the optimiser.
        step_ms_min: fastest round of the step.
        parameters: number of parameters.
    """

    forward_ms: float
    forward_ms_min: float
    step_ms: float
    step_ms_min: float
    parameters: int


@dataclass(frozen=True)
class HeadsBenchmark:
    """What was measured, and on what.

    Attributes:
        heads: figures by name.
        steps: feature steps of a window.
        batch: windows per training step.
        rounds: how often each head ran, in turn.
        threads: threads of torch.
        machine: see :func:`tadkit.bench.timing.machine_json`.
    """

    heads: Mapping[str, HeadFigures]
    steps: int
    batch: int
    rounds: int
    threads: int
    machine: Mapping[str, Any]


def bench_heads(
    *, heads: Sequence[str], steps: int, rounds: int, threads: int | None, device: torch.device, progress: Progress
) -> HeadsBenchmark:
    """Measure heads in turn, round after round, so that a drift in the machine's speed affects all of them.

    Args:
        heads: names in :data:`HEADS`; empty for all.
        steps: feature steps of a window.
        rounds: timed runs of each head, after an untimed one.
        threads: threads of torch; None does not change them.
        device: where to run.
        progress: advances with each run.

    Raises:
        UsageError: an unknown head.
    """
    names = tuple(dict.fromkeys(heads)) or tuple(HEADS)
    unknown = [name for name in names if name not in HEADS]
    if unknown:
        raise UsageError(f"--head {unknown[0]}: no such head; choose from {', '.join(HEADS)}")
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        built = {name: _built(name, device) for name in names}
        calls = {f"{name} forward": [_forward(head, steps)] for name, head in built.items()}
        calls |= {f"{name} step": [_training_step(head, steps)] for name, head in built.items()}
        progress.start("heads", total=len(calls) * (rounds + 1), unit="runs")
        took_ms = {
            name: 1e3 * seconds[1:]
            for name, seconds in interleaved_s(calls, rounds=rounds + 1, device=device, progress=progress).items()
        }
        used = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    figures = {
        name: _figures(head, took_ms[f"{name} forward"], took_ms[f"{name} step"]) for name, head in built.items()
    }
    return HeadsBenchmark(figures, steps, BATCH, rounds, used, machine_json(device))


def report_json(result: HeadsBenchmark) -> dict[str, Any]:
    """The result as plain JSON values."""
    return asdict(result)


def _built(name: str, device: torch.device) -> Head:
    torch.manual_seed(0)
    return build_head(HEADS[name], in_channels=CHANNELS, num_classes=CLASSES).to(device)


def _figures(head: Head, forward_ms: np.ndarray[Any, Any], step_ms: np.ndarray[Any, Any]) -> HeadFigures:
    return HeadFigures(
        forward_ms=float(np.median(forward_ms)),
        forward_ms_min=float(forward_ms.min()),
        step_ms=float(np.median(step_ms)),
        step_ms_min=float(step_ms.min()),
        parameters=sum(parameter.numel() for parameter in head.parameters()),
    )


def _windows(head: Head, steps: int, tracks: int) -> tuple[int, int]:
    """Number of windows in ``tracks`` tracks, and the steps of each."""
    window = head.settings.fixed_window_steps
    return (tracks, steps) if window is None else (tracks * -(-steps // window), window)


def _forward(head: Head, steps: int) -> Callable[[], None]:
    """Forward pass of one track in evaluation mode."""
    device, (batch, length) = next(head.parameters()).device, _windows(head, steps, 1)
    features = torch.randn(batch, CHANNELS, length, device=device)
    mask = torch.ones(batch, length, dtype=torch.bool, device=device)

    @torch.no_grad()
    def run() -> None:
        head.eval()(features, mask)

    return run


def _training_step(head: Head, steps: int) -> Callable[[], None]:
    """Forward, losses and backward of a batch of synthetic tracks."""
    device, (batch, length) = next(head.parameters()).device, _windows(head, steps, BATCH)
    tracks = [make_track(seed, length, CHANNELS, CLASSES) for seed in range(batch)]
    features = torch.stack([torch.from_numpy(track.features.T) for track in tracks]).to(device)
    mask = torch.ones(batch, length, dtype=torch.bool, device=device)
    segments = [torch.from_numpy(track.segments).to(device) for track in tracks]
    labels = [torch.from_numpy(track.labels).to(device) for track in tracks]

    def run() -> None:
        head.train().zero_grad(set_to_none=True)
        torch.autograd.backward(head.loss(head(features, mask), segments, labels).total)

    return run
