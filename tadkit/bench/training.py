"""``tadkit bench training``: steps per second of each training stage on synthetic data of the room's size."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tadkit.bench.timing import machine_json
from tadkit.config import (
    HeadTrainSettings,
    ModelSettings,
    StageTraining,
    StudentTrainSettings,
    TeacherTrainSettings,
    TemporalShiftSettings,
    TrainSettings,
    VideoSettings,
    View,
)
from tadkit.distill import JointHeadObjective, StudentObjective, TeacherObjective
from tadkit.models.detector import new_joint_head, new_student, new_teacher
from tadkit.progress import Progress, Quiet
from tadkit.store import TrackReader, open_store, read_store
from tadkit.training import BatchSource, fit
from tadkit.training.batches import FeatureBatches, FlowBatches, FrameBatches
from tadkit.training.caches import FrameCache, PrefixCache
from tadkit.training.windows import TrainingVideo, WindowPlan
from tadkit.video import write_video

CLASSES = 5
MODEL = ModelSettings(
    video=VideoSettings(rate_hz=5.0, height_px=112, width_px=112),
    teacher_backbone=TemporalShiftSettings(stride=1, frozen_blocks=3),
    backbone=TemporalShiftSettings(stride=1, frozen_blocks=9),
)
_EIGHT: tuple[View, ...] = ("original", "mirror", "flip", "turn180", "turn90", "turn270", "transpose", "antitranspose")
_FOUR: tuple[View, ...] = ("original", "mirror", "turn90", "turn270")
TRAIN = StageTraining(
    teacher=TeacherTrainSettings(epochs=10, views=_EIGHT),
    student=StudentTrainSettings(epochs=8, views=_FOUR),
    head=HeadTrainSettings(epochs=40, window_s=76.8, views=_FOUR),
)
"""Sizes and schedules of ``examples/room.toml``."""
_STUDENTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("student", {}),
    ("student-kept", {"colour_variants": 1}),
    ("student-bf16", {"precision": "bf16"}),
    ("student-kept-bf16", {"colour_variants": 1, "precision": "bf16"}),
)
"""The student's stages, and what differs from :data:`TRAIN`.

``kept``: the activations of all frames are kept, as after many epochs with colour_variants = 1.
"""
_VIDEOS, _FRAMES, _ACTIONS = 4, 540, 12
_PLANNED_VIDEOS, _PLANNED_FRAMES = 10_000, (50, 1200)


@dataclass(frozen=True)
class StageFigures:
    """One stage's training steps.

    Attributes:
        steps_per_s: median over the rounds.
        steps_per_s_min: slowest round.
        steps_per_s_max: fastest round.
        waiting_share: share of the time that the loop waited for a batch, median over the rounds.
        window_frames: frames of a window; feature steps for the head.
        batch_windows: windows per step.
    """

    steps_per_s: float
    steps_per_s_min: float
    steps_per_s_max: float
    waiting_share: float
    window_frames: int
    batch_windows: int


@dataclass(frozen=True)
class PlanningFigures:
    """What it costs to choose the windows of a step from many videos.

    Attributes:
        ms_per_step: mean over ``steps`` steps of one epoch.
        steps: number of steps planned.
        videos: number of videos.
    """

    ms_per_step: float
    steps: int
    videos: int


@dataclass(frozen=True)
class TrainingBenchmark:
    """What was measured, and on what.

    Attributes:
        stages: figures by stage: teacher, student, the student with kept activations, in bfloat16 and with both, and
            head. Those in bfloat16 are left out where the processor does not multiply bfloat16.
        planning: cost of choosing the windows.
        peak_memory_mb: peak memory of the GPU or of the process in MiB; None if it is not known.
        steps: timed steps of teacher and student in a round; the head has ten times as many.
        rounds: how often each stage ran, in turn.
        threads: threads of torch.
        machine: see :func:`tadkit.bench.timing.machine_json`.
    """

    stages: Mapping[str, StageFigures]
    planning: PlanningFigures
    peak_memory_mb: float | None
    steps: int
    rounds: int
    threads: int
    machine: Mapping[str, Any]


@dataclass(frozen=True)
class _Stage:
    """The arguments of :func:`tadkit.training.fit` for a stage."""

    objective: nn.Module
    batches: BatchSource
    train: TrainSettings
    plan: WindowPlan
    times: int = 1
    """Factor on the number of timed steps; fast stages need more of them."""


def bench_training(
    *, steps: int, rounds: int, threads: int | None, device: torch.device, progress: Progress
) -> TrainingBenchmark:
    """Run a few steps of each stage, round after round, so that a drift in the machine's speed affects all of them.

    Videos and stores are synthetic. Frames are decoded before the timing starts, as they are after a run's first epoch.

    Args:
        steps: timed steps of a stage in a round, after one that is not timed; ten times as many for the head.
        rounds: how often each stage runs.
        threads: threads of torch; None does not change them.
        device: where to train.
        progress: advances with each run of a stage.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stores:
            stages = dict(_stages(Path(folder), stores, bfloat16=_multiplies_bfloat16(device)))
            progress.start("bench training", total=len(stages) * (rounds + 1), unit="runs")
            for name, stage in stages.items():
                for step in range(stage.times * steps + 1):
                    stage.batches.batch(step)
                progress.advance(note=f"{name}: data")
            runs: dict[str, list[tuple[float, float]]] = {name: [] for name in stages}
            for number in range(rounds):
                for name, stage in stages.items():
                    runs[name].append(_run(stage, stage.times * steps, device, Path(folder) / f"{name}-{number}"))
                    progress.advance(note=name)
        used = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    return TrainingBenchmark(
        stages={name: _figures(stage, runs[name], stage.times * steps) for name, stage in stages.items()},
        planning=planning(),
        peak_memory_mb=_peak_memory_mb(device),
        steps=steps,
        rounds=rounds,
        threads=used,
        machine=machine_json(device),
    )


def report_json(result: TrainingBenchmark) -> dict[str, Any]:
    """The result as plain JSON values."""
    return asdict(result)


def planning(*, steps: int | None = None) -> PlanningFigures:
    """Cost of the windows of ``steps`` steps, by default of a whole epoch, of 10,000 synthetic videos."""
    frames = np.random.default_rng(0).integers(*_PLANNED_FRAMES, _PLANNED_VIDEOS)
    videos = [_annotated(str(number), int(count), actions=0) for number, count in enumerate(frames)]
    plan = WindowPlan(videos, TRAIN.student, window_frames=128, align_frames=_align())
    steps = plan.steps_per_epoch if steps is None else steps
    start_s = time.perf_counter()
    for step in range(steps):
        plan.windows(step)
    return PlanningFigures(1e3 * (time.perf_counter() - start_s) / steps, steps, _PLANNED_VIDEOS)


def _figures(stage: _Stage, runs: list[tuple[float, float]], steps: int) -> StageFigures:
    took_s, waited_s = np.array(runs).T
    return StageFigures(
        steps_per_s=float(np.median(steps / took_s)),
        steps_per_s_min=float((steps / took_s).min()),
        steps_per_s_max=float((steps / took_s).max()),
        waiting_share=float(np.median(waited_s / took_s)),
        window_frames=stage.plan.window_frames,
        batch_windows=stage.train.batch_windows,
    )


def _run(stage: _Stage, steps: int, device: torch.device, folder: Path) -> tuple[float, float]:
    """Seconds that ``steps`` steps take after the first one, and the seconds of these spent waiting for batches."""
    clocked = _Clocked(stage.objective)
    clock = _Clock(steps, device)
    fit(
        clocked,
        _Few(stage.batches, steps + 1),
        stage.train.model_copy(update={"epochs": 1, "checkpoint_s": 1e6}),
        folder=folder,
        key="bench",
        device=device,
        progress=clock,
        task="bench",
    )
    waited_s = [start - end for end, start in zip(clock.ended_s, clocked.started_s[1:], strict=False)]
    return clock.ended_s[-1] - clock.ended_s[0], sum(waited_s)


class _Clocked(nn.Module):
    """Records when the loop passes a batch to the objective."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__()
        self.objective = objective
        self.started_s: list[float] = []

    def forward(self, batch: Any) -> dict[str, Tensor]:
        """Losses of the objective."""
        self.started_s.append(time.perf_counter())
        losses: dict[str, Tensor] = self.objective(batch)
        return losses


class _Clock(Quiet):
    """Records when each step ends; the first and the last one wait for the device."""

    def __init__(self, steps: int, device: torch.device) -> None:
        super().__init__()
        self.steps, self.device = steps, device
        self.ended_s: list[float] = []

    def advance(self, amount: float = 1.0, *, note: str = "") -> None:  # noqa: ARG002 - part of the protocol
        """Record the time of a step; before the first and after the last step the loop reports an amount of zero."""
        if not amount:
            return
        if self.device.type != "cpu" and len(self.ended_s) in (0, self.steps):
            torch.accelerator.synchronize(self.device)
        self.ended_s.append(time.perf_counter())


class _Few:
    """The first batches of a source, as an epoch of their own."""

    validation = None

    def __init__(self, batches: BatchSource, steps: int) -> None:
        self.batches, self.steps_per_epoch = batches, steps

    def batch(self, step: int) -> Any:
        """Batch of the source."""
        return self.batches.batch(step)


def _align() -> int:
    """Frames of a step of the head's coarsest level."""
    return MODEL.head.strides[-1]


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is a way to train faster: without instructions for it a step takes minutes on a CPU."""
    if device.type != "cpu":
        return True
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _stages(folder: Path, stores: ExitStack, *, bfloat16: bool) -> Iterator[tuple[str, _Stage]]:
    """The stages on synthetic data in ``folder``; their stores are closed by ``stores``."""
    names = [f"video {number}" for number in range(_VIDEOS)]
    videos = [_annotated(name, _FRAMES, actions=_ACTIONS, seed=seed) for seed, name in enumerate(names)]
    torch.manual_seed(0)
    plan = _plan(videos, TRAIN.teacher)
    flow = stores.enter_context(_flow_store(folder / "flow.h5", names))
    teacher = TeacherObjective(new_teacher(MODEL, num_classes=CLASSES))
    yield "teacher", _Stage(teacher, FlowBatches(plan, stride=1, flow=flow), TRAIN.teacher, plan)

    dim = MODEL.distill.dim
    heights = {f"logits_{level}": (stride, CLASSES) for level, stride in enumerate(MODEL.head.strides)}
    heights |= {f"offsets_{level}": (stride, 2) for level, stride in enumerate(MODEL.head.strides)}
    tracks = _tracks_store(folder / "teacher.h5", names, {"feature": (1, dim), **heights})
    outputs, paths = stores.enter_context(tracks), _write_videos(folder, names)
    for name, changed in _STUDENTS:
        train = TRAIN.student.model_copy(update=changed)
        if train.precision == "bf16" and not bfloat16:
            continue
        student = StudentObjective(
            new_student(MODEL, num_classes=CLASSES),
            distill=MODEL.distill,
            joint=None,
            colour_jitter=train.colour_jitter,
        )
        backbone, cache = student.model.backbone, FrameCache(MODEL.video, limit_bytes=train.cache_mb << 20)
        frames = FrameBatches(
            _plan(videos, train),
            stride=1,
            cache=cache,
            paths=paths,
            teacher_outputs=outputs,
            strides=MODEL.head.strides,
            prefix=PrefixCache.of(backbone, cache),
        )
        yield name, _Stage(student, frames, train, frames.plan)

    plan = _plan(videos, TRAIN.head)
    features = _tracks_store(folder / "features.h5", names, {"motion": (1, dim), "appearance": (1, dim)})
    batches = FeatureBatches(plan, features=stores.enter_context(features), tracks=("motion", "appearance"))
    head = JointHeadObjective(new_joint_head(MODEL, num_classes=CLASSES))
    yield "head", _Stage(head, batches, TRAIN.head, plan, times=10)


def _plan(videos: list[TrainingVideo], train: TrainSettings) -> WindowPlan:
    align = _align()
    frames = -(-round(train.window_s * MODEL.video.rate_hz) // align) * align
    return WindowPlan(videos, train, window_frames=frames, align_frames=align)


def _annotated(name: str, frames: int, *, actions: int, seed: int = 0) -> TrainingVideo:
    """A video with actions of 3 to 10 s."""
    rng = np.random.default_rng(seed)
    starts = rng.uniform(0, frames - 50, actions)
    segments = np.stack([starts, starts + rng.uniform(15, 50, actions)], axis=1).reshape(-1, 2)
    return TrainingVideo(name, frames, segments, rng.integers(CLASSES, size=actions))


def _flow_store(path: Path, names: list[str]) -> TrackReader:
    rng, (height, width) = np.random.default_rng(0), MODEL.video.size_hw
    with open_store(path, kind="flow", settings={}) as store:
        for name in names:
            with store.video(name, key="bench", stamps_s=_stamps_s(), attributes={}) as entry:
                flow = rng.integers(-10, 11, (_FRAMES - 1, 2, height, width), dtype=np.int8)
                entry.append("motion", flow, bound=20.0)
    return read_store(path, kind="flow")


def _tracks_store(path: Path, names: list[str], tracks: Mapping[str, tuple[int, int]]) -> TrackReader:
    """A feature store; ``tracks`` holds the spacing in steps and the channels of every track."""
    rng = np.random.default_rng(0)
    with open_store(path, kind="features", settings={}) as store:
        for name in names:
            with store.video(name, key="bench", stamps_s=_stamps_s(), attributes={}) as entry:
                for view in _FOUR:
                    for track, (scale, channels) in tracks.items():
                        values = rng.random((-(-_FRAMES // scale), channels), dtype=np.float32)
                        entry.append(f"{view}/{track}", values.astype(np.float16))
    return read_store(path, kind="features")


def _write_videos(folder: Path, names: list[str]) -> dict[str, Path]:
    rng, (height, width) = np.random.default_rng(0), MODEL.video.size_hw
    paths = {name: folder / f"{name}.mp4" for name in names}
    for path in paths.values():
        frames = (rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for _ in range(_FRAMES))
        write_video(path, frames, fps=MODEL.video.rate_hz)
    return paths


def _stamps_s() -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.arange(_FRAMES) / MODEL.video.rate_hz


def _peak_memory_mb(device: torch.device) -> float | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM:")), None)
