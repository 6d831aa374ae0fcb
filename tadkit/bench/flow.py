"""``tadkit bench flow``: compare flow methods on pairs with known flow and on a real video."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8

from tadkit.bench.timing import interleaved_s, machine_json, seconds_of
from tadkit.config import (
    FlowSettings,
    OpencvDisSettings,
    OpencvTvl1Settings,
    RaftSettings,
    TemporalGradientSettings,
    Tvl1Settings,
    VideoSettings,
)
from tadkit.errors import UsageError
from tadkit.flow import FlowMethod, build_flow
from tadkit.flow.opencv import same_threads
from tadkit.flow.truth import FlowError, TruthPair, end_point_distance, flow_error, read_truth
from tadkit.progress import Progress
from tadkit.runtime.devices import import_torchvision, torch_device
from tadkit.synth.flow_pairs import HELD_OUT_SEED, made_up_pairs
from tadkit.video import open_sampled

REFERENCE = "opencv-tvl1"
WEIGHTLESS: Mapping[str, FlowSettings] = {
    "tvl1-fast": Tvl1Settings(preset="fast"),
    "tvl1-faster": Tvl1Settings(preset="faster"),
    "tvl1-reference": Tvl1Settings(preset="reference"),
    "tvl1-fast-eager": Tvl1Settings(preset="fast", compile="never"),
    "tvl1-reference-eager": Tvl1Settings(preset="reference", compile="never"),
    REFERENCE: OpencvTvl1Settings(),
    "opencv-dis": OpencvDisSettings(method="opencv-dis"),
    "temporal-gradient": TemporalGradientSettings(),
}
"""Methods that are compared by default."""
RaftName = Literal["raft-small", "raft-large"]
RAFT: tuple[RaftName, ...] = ("raft-small", "raft-large")
RANDOM = "random"
MADE_UP = "synthetic pairs, on which no setting was chosen"

Frames = UInt8[np.ndarray, "frames height width 3"]
Flow = Float32[np.ndarray, "pairs channels height width"]


class Timing(NamedTuple):
    """How long a method takes; warm figures are the median, minimum and maximum over the rounds.

    Attributes:
        cold_s: the first call in this process, compilation included, except what earlier methods have loaded or
            compiled, or an earlier process has left in the compile cache.
        speedup_over_opencv_tvl1: median over the rounds of the ratio within a round; None if opencv-tvl1 was not
            measured.
    """

    cold_s: float
    ms_per_pair: float
    ms_per_pair_min: float
    ms_per_pair_max: float
    pairs_per_s: float
    speedup_over_opencv_tvl1: float | None


class Agreement(NamedTuple):
    """End-point difference from opencv-tvl1, over all pixels of all pairs."""

    mean_difference_px: float
    median_difference_px: float


@dataclass(frozen=True)
class MethodFigures:
    """Figures of one method; ``weights`` is a file, ``"random"``, or None if the method has no weights."""

    method: str
    weights: str | None
    timing: Timing
    quality: FlowError | Agreement | None
    """None if it cannot be measured: random weights, grey levels, or no opencv-tvl1 to compare with."""


@dataclass(frozen=True)
class VideoFigures:
    """The methods on one run of adjacent frames, passed to each in one call."""

    video: str
    start_s: float
    rate_hz: float
    pairs: int
    size_hw: tuple[int, int]
    methods: tuple[MethodFigures, ...]


@dataclass(frozen=True)
class FlowBenchmark:
    """The methods on ground-truth pairs, one call per pair; and on a video, if one was given."""

    truth: str
    pairs: int
    sizes_hw: tuple[tuple[int, int], ...]
    methods: tuple[MethodFigures, ...]
    video: VideoFigures | None
    threads: int
    rounds: int
    machine: Mapping[str, Any]


@dataclass(frozen=True)
class _Candidate:
    name: str
    weights: str | None
    flow: FlowMethod

    @property
    def measurable(self) -> bool:
        """Whether its output is meaningful flow in pixels."""
        return self.flow.channels == 2 and self.weights != RANDOM


def bench_flow(
    truth: Path | None,
    *,
    video: Path | None,
    methods: Sequence[str] = (),
    with_raft: bool = False,
    raft_weights: Mapping[RaftName, Path] | None = None,
    pairs: int,
    frames: VideoSettings,
    rounds: int,
    threads: int | None,
    device: str,
    progress: Progress,
) -> FlowBenchmark:
    """Measure flow methods in turn, round after round, so that a drift in the machine's speed affects all of them.

    Args:
        truth: folder that :func:`tadkit.flow.truth.read_truth` reads, or None for synthetic pairs; each pair is one
            call with two frames.
        video: also measure on adjacent frames from the middle of this video, all in one call.
        methods: names; by default all methods without weights.
        with_raft: add both RAFT nets.
        raft_weights: state-dict files; a net without one gets random weights, which is enough to time it.
        pairs: frame pairs of the video.
        frames: how frames of the video are read.
        rounds: warm calls of each method on the same frames.
        threads: threads of torch and of OpenCV; None is one per core.
        device: for the methods in torch.
        progress: advances with each call.

    Raises:
        UsageError: the truth cannot be used, a method is unknown, or the video is shorter than ``pairs``.
        VideoError: the video cannot be read.
        WeightsError: a weights file is missing, damaged or does not fit.
    """
    threads = threads or os.cpu_count() or 1
    raft_weights = raft_weights or {}
    names = _names(methods, RAFT if with_raft else tuple(raft_weights))
    truths = list(made_up_pairs(HELD_OUT_SEED)) if truth is None else read_truth(truth)
    clip = None if video is None else _middle(video, frames, pairs)
    where = torch_device(device)
    with same_threads(threads):
        candidates = _build(names, raft_weights, where)
        on_truth = _on_truth(candidates, truths, rounds, where, progress)
        on_video = None
        if video is not None and clip is not None:
            rows = _on_video(candidates, clip[1], rounds, where, progress)
            on_video = VideoFigures(str(video), clip[0], frames.rate_hz, pairs, frames.size_hw, rows)
    sizes = tuple(sorted({(pair.flow.shape[1], pair.flow.shape[2]) for pair in truths}))
    return FlowBenchmark(
        MADE_UP if truth is None else str(truth),
        len(truths),
        sizes,
        on_truth,
        on_video,
        threads,
        rounds,
        machine_json(where),
    )


def report_json(result: FlowBenchmark) -> dict[str, Any]:
    """The result as plain JSON values; figures that were not measured are null."""
    content = asdict(result) | {"methods": [_row(figures, FlowError._fields) for figures in result.methods]}
    if result.video is not None:
        content["video"]["methods"] = [_row(figures, Agreement._fields) for figures in result.video.methods]
    return content


def _row(figures: MethodFigures, quality: Sequence[str]) -> dict[str, Any]:
    measured = dict.fromkeys(quality) | (figures.quality._asdict() if figures.quality else {})
    return {"method": figures.method, "weights": figures.weights} | figures.timing._asdict() | measured


def _names(methods: Sequence[str], raft: Sequence[str]) -> list[str]:
    known = (*WEIGHTLESS, *RAFT)
    for name in methods:
        if name not in known:
            raise UsageError(f"--method {name}: no such method; choose from {', '.join(known)}")
    return list(dict.fromkeys([*(methods or WEIGHTLESS), *raft]))


def _build(names: Sequence[str], raft_weights: Mapping[RaftName, Path], device: torch.device) -> list[_Candidate]:
    candidates = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            settings, weights = WEIGHTLESS.get(name), None
            if settings is None:
                (net,) = (raft for raft in RAFT if raft == name)
                path = raft_weights.get(net)
                weights = RANDOM if path is None else str(path)
                settings = RaftSettings(method=net, weights=path or _random_weights(net, Path(folder)))
            candidates.append(_Candidate(name, weights, build_flow(settings, device=device)))
    return candidates


def _random_weights(name: RaftName, folder: Path) -> Path:
    """The state dict of a freshly initialised net."""
    module = import_torchvision("torchvision.models.optical_flow")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = module.raft_large() if name == "raft-large" else module.raft_small()
    path = folder / f"{name}.pth"
    torch.save(net.state_dict(), path)
    return path


def _middle(path: Path, settings: VideoSettings, pairs: int) -> tuple[float, Frames]:
    """``pairs`` + 1 adjacent frames around the middle, preceded by the time of the first one in seconds."""
    with open_sampled(path, settings) as video:
        if len(video) <= pairs:
            raise UsageError(
                f"{path}: has {len(video)} frames at {settings.rate_hz:g} Hz, but {pairs} pairs take {pairs + 1}; "
                f"give a longer video, or fewer with --pairs"
            )
        start = (len(video) - pairs - 1) // 2
        return float(video.stamps_s[start]), video.frames(start, start + pairs + 1)


def _on_truth(
    candidates: Sequence[_Candidate], truths: Sequence[TruthPair], rounds: int, device: torch.device, progress: Progress
) -> tuple[MethodFigures, ...]:
    progress.start("truth", total=len(candidates) * (rounds + 1), unit="runs")
    timings, flows = _measure(candidates, [pair.frames for pair in truths], rounds, device, progress)
    return tuple(
        MethodFigures(
            candidate.name,
            candidate.weights,
            timings[candidate.name],
            flow_error([flow[0] for flow in flows[candidate.name]], truths) if candidate.measurable else None,
        )
        for candidate in candidates
    )


def _on_video(
    candidates: Sequence[_Candidate], frames: Frames, rounds: int, device: torch.device, progress: Progress
) -> tuple[MethodFigures, ...]:
    progress.start("video", total=len(candidates) * (rounds + 1), unit="runs")
    timings, flows = _measure(candidates, [frames], rounds, device, progress)
    rows = []
    for candidate in candidates:
        agreement = None
        if candidate.measurable and REFERENCE in flows:
            difference_px = end_point_distance(flows[candidate.name][0], flows[REFERENCE][0])
            agreement = Agreement(float(difference_px.mean(dtype=np.float64)), float(np.median(difference_px)))
        rows.append(MethodFigures(candidate.name, candidate.weights, timings[candidate.name], agreement))
    return tuple(rows)


def _measure(
    candidates: Sequence[_Candidate], clips: Sequence[Frames], rounds: int, device: torch.device, progress: Progress
) -> tuple[dict[str, Timing], dict[str, list[Flow]]]:
    """Timings and motions by method; each clip is one call."""
    cold_s, flows, calls = {}, {}, {}
    for candidate in candidates:
        calls[candidate.name] = [partial(candidate.flow, clip) for clip in clips]
        cold_s[candidate.name] = seconds_of(calls[candidate.name][:1], device)
        # Run each picture size once before the warm timing: a method may compile for it.
        flows[candidate.name] = [call().cpu().numpy() for call in calls[candidate.name]]
        progress.advance(note=candidate.name)
    warm_s = interleaved_s(calls, rounds=rounds, device=device, progress=progress)
    pairs = sum(len(clip) - 1 for clip in clips)
    return {name: _timing(cold_s[name], warm_s[name], warm_s.get(REFERENCE), pairs) for name in calls}, flows


def _timing(
    cold_s: float,
    warm_s: Float64[np.ndarray, " rounds"],
    reference_s: Float64[np.ndarray, " rounds"] | None,
    pairs: int,
) -> Timing:
    ms_per_pair = 1e3 * warm_s / pairs
    return Timing(
        cold_s=cold_s,
        ms_per_pair=float(np.median(ms_per_pair)),
        ms_per_pair_min=float(ms_per_pair.min()),
        ms_per_pair_max=float(ms_per_pair.max()),
        pairs_per_s=float(1e3 / np.median(ms_per_pair)),
        speedup_over_opencv_tvl1=None if reference_s is None else float(np.median(reference_s / warm_s)),
    )
