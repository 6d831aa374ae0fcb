"""``tadkit bench detect``: how fast detectors are on a video and where they spend their time, all in one run.

The parts are measured one after the other. From end to end the next frames are decoded meanwhile, so that takes less
time than their sum where there is more than one core.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8
from torch import Tensor

from tadkit.bench import fresh_process
from tadkit.bench.timing import machine_json
from tadkit.bench.two_stream import OPENCV, TwoStreamFigures, two_stream_figures
from tadkit.config import DecodeSettings, ModelSettings, VideoSettings
from tadkit.detection.detect import Detector, detections_in_video, features_in_video, load_detector
from tadkit.detection.tail import CORE_STEPS, Track, detections_of
from tadkit.errors import UsageError
from tadkit.extraction.branch_features import CORE_FRAMES
from tadkit.extraction.motion_feature import feature_of_video
from tadkit.flow import FlowMethod, build_flow
from tadkit.models.decode.tracks import track_candidates
from tadkit.models.heads import Candidates, Head
from tadkit.models.teacher import Teacher
from tadkit.progress import Progress
from tadkit.runtime.engines import EngineChoice, EngineName
from tadkit.video import SampledVideo
from tadkit.video.index import build_index, forget_indices
from tadkit.video.pyav_reader import decode_frames

PARTS = ("decode", "flow", "backbone", "head", "suppression")
"""What is measured apart; ``backbone`` is that of every stream with its branches, ``head`` the fusion and the head."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class DetectorFigures:
    """What one detector cost.

    Attributes:
        frames: sampled frames of the video, or of its first seconds.
        seconds: of each part, the median over the rounds.
        frames_per_s: frames by the sum of the parts' seconds.
        relative: frames per second as a multiple of the first model's: the median over the rounds.
        shares: fraction of the sum that each part took.
        detect_fps: frames of the file by the seconds from end to end, as ``tadkit detect`` does it with the detector
            loaded: the median over the rounds.
        engine: what runs the backbone of RGB.
    """

    frames: int
    seconds: Mapping[str, float]
    frames_per_s: float
    relative: float
    shares: Mapping[str, float]
    detect_fps: float
    engine: EngineName


@dataclass(frozen=True)
class DetectBenchmark:
    """What was measured, and on what.

    Attributes:
        decode_fps: frames of the file a second by the fastest reader, PyAV, if all are decoded and nothing else is
            done: the median over the rounds.
        detect_fps: that of the first model.
        two_stream_ratio: how many times as fast the first model is as its two-stream form with OpenCV's TV-L1, or, if
            it reads RGB and a two-stream model is given, as that one; None if it reads flow itself, or there is none.
        two_stream: its two-stream forms by flow method, see :mod:`tadkit.bench.two_stream`.
        peak_rss_mb: most memory in MiB of a process that does nothing but detect with the first model; None if the
            system does not say.
        cold_start_s: seconds from the start of such a process to the detections of the first 10 s of the video.
        real_time_factor: seconds of video that the first model detects in within a second.
        engine: that of the first model.
        models: figures by model, as given.
        video: name of the file.
        rounds: how often each model ran, in turn.
        threads: threads of torch.
        machine: see :func:`tadkit.bench.timing.machine_json`.
    """

    decode_fps: float
    detect_fps: float
    two_stream_ratio: float | None
    two_stream: Mapping[str, TwoStreamFigures]
    peak_rss_mb: float | None
    cold_start_s: float
    real_time_factor: float
    engine: EngineName
    models: Mapping[str, DetectorFigures]
    video: str
    rounds: int
    threads: int
    machine: Mapping[str, Any]


def bench_detect(
    video: Path,
    *,
    models: Sequence[str],
    seconds: float,
    rounds: int,
    threads: int | None,
    device: torch.device,
    progress: Progress,
    engine: EngineChoice = "auto",
    two_stream: bool = True,
) -> DetectBenchmark:
    """Measure models in turn, round after round, so that a drift in the machine's speed affects all of them.

    Args:
        video: the file; its frames are kept in memory once decoded.
        models: names or files of detectors; the others' speed is relative to the first.
        seconds: how much of the video, from its start.
        rounds: timed passes of each model, after an untimed one.
        threads: threads of torch; None does not change them.
        device: where to run.
        progress: advances with each pass.
        engine: runs the backbone of RGB.
        two_stream: also measure the two-stream forms of the first model.

    Raises:
        UsageError: a model is given twice, or the engine cannot run one.
        VideoError: the video cannot be read.
        WeightsError: a model cannot be loaded.
    """
    if len(set(models)) < len(models):
        raise UsageError(f"--model {max(models, key=list(models).count)}: give each model once")
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        detectors = {name: load_detector(name, device=str(device), engine=engine) for name in models}
        took: dict[str, list[Pass]] = {name: [] for name in models}
        detect_fps: dict[str, list[float]] = {name: [] for name in models}
        decode_fps: list[float] = []
        progress.start("detect", total=len(models) * (rounds + 1), unit="passes")
        for _ in range(rounds + 1):
            decode_fps.append(_decode_fps(video, seconds))
            for name, detector in detectors.items():
                detect_fps[name].append(_detect_fps(detector, video, seconds))
                took[name].append(detector_pass(detector, video, seconds))
                progress.advance(note=name)
        forms = two_stream_figures(detectors[models[0]], video, seconds, rate_of=_detect_fps) if two_stream else {}
        used = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    parts_s = {name: np.array([one.parts_s for one in passes[1:]]) for name, passes in took.items()}
    rates = {name: passes[0].frames / parts_s[name].sum(axis=1) for name, passes in took.items()}
    figures = {
        name: _figures(
            took[name][0].frames,
            parts_s[name],
            float(np.median(rates[name] / rates[models[0]])),
            float(np.median(detect_fps[name][1:])),
            detector.engine_name,
        )
        for name, detector in detectors.items()
    }
    first = figures[models[0]]
    given = [first.detect_fps / figures[name].detect_fps for name, one in detectors.items() if one.flow is not None]
    alone = fresh_process.measure(
        video, model=models[0], device=str(device), engine=first.engine, threads=used, seconds=seconds
    )
    return DetectBenchmark(
        decode_fps=float(np.median(decode_fps[1:])),
        detect_fps=first.detect_fps,
        two_stream_ratio=given[0] if given else forms[OPENCV].ratio if OPENCV in forms else None,
        two_stream=forms,
        peak_rss_mb=alone.peak_rss_mb,
        cold_start_s=alone.cold_start_s,
        real_time_factor=first.detect_fps * _frame_s(video, seconds),
        engine=first.engine,
        models=figures,
        video=video.name,
        rounds=rounds,
        threads=used,
        machine=machine_json(device),
    )


def report_json(result: DetectBenchmark) -> dict[str, Any]:
    """The result as plain JSON values."""
    return asdict(result)


def _figures(
    frames: int,
    parts_s: Float64[np.ndarray, "rounds parts"],
    relative: float,
    detect_fps: float,
    engine: EngineName,
) -> DetectorFigures:
    medians = np.median(parts_s, axis=0)
    total = float(medians.sum())
    seconds, shares = (dict(zip(PARTS, values.tolist(), strict=True)) for values in (medians, medians / total))
    return DetectorFigures(frames, seconds, frames / total, relative, shares, detect_fps, engine)


def _decode_fps(path: Path, seconds: float) -> float:
    """Frames a second of a full decode."""
    frames = _frames_in(path, seconds)
    start_s = time.perf_counter()
    return decode_frames(path, frames) / (time.perf_counter() - start_s)


def _detect_fps(detector: Detector, path: Path, seconds: float) -> float:
    """Frames of the file a second from end to end: the file is indexed, read and detected in."""
    frames = _frames_in(path, seconds)
    forget_indices()

    def detections() -> None:
        with fresh_process.first_seconds(path, detector.video, seconds) as video:
            detections_in_video(
                detector.net,
                video,
                name=path.stem,
                decoding=detector.decoding,
                flow=detector.flow,
                engine=detector.engine,
            )

    return frames / _timed(detections, detector.device)[1]


def _frame_s(path: Path, seconds: float) -> float:
    """Seconds of video for each frame of the file."""
    return min(build_index(path).duration_s, seconds) / _frames_in(path, seconds)


def _frames_in(path: Path, seconds: float) -> int:
    return max(1, int((build_index(path).stamps_s < seconds).sum()))


class Pass(NamedTuple):
    """One pass of a model over a video: its sampled frames, their length, and the seconds of each of :data:`PARTS`."""

    frames: int
    duration_s: float
    parts_s: Float64[np.ndarray, " parts"]


def detector_pass(detector: Detector, path: Path, seconds: float) -> Pass:
    """A pass of a detector over the first ``seconds`` of a video."""
    net, device, decoding = detector.net, detector.device, detector.decoding
    passes = 1 if detector.flow is None else 2
    decoded, decode_s = _timed(lambda: _decoded(path, detector.video, seconds, passes=passes), device)
    flow = None if detector.flow is None else _TimedFlow(detector.flow, device)
    features, streams_s = _timed(lambda: features_in_video(net, decoded, flow=flow, engine=detector.engine), device)
    flow_s = 0.0 if flow is None else flow.took_s

    @torch.inference_mode()
    def fused() -> Tensor:
        motion, appearance = (None if x is None else torch.from_numpy(x).T.to(device) for x in features)
        assert appearance is not None
        return net.fused(motion, appearance)

    tail_s = _tail_s(net.joint.head, fused, decoded, net.student.backbone.stride, net.labels, decoding, device)
    return Pass(len(decoded), decoded.duration_s, np.array([decode_s, flow_s, streams_s - flow_s, *tail_s]))


def teacher_pass(
    teacher: Teacher, settings: ModelSettings, labels: tuple[str, ...], path: Path, seconds: float
) -> Pass:
    """A pass of a teacher by itself, which decodes frames for flow alone."""
    device = next(teacher.parameters()).device
    decoded, decode_s = _timed(lambda: _decoded(path, settings.video, seconds, passes=1), device)
    flow = _TimedFlow(build_flow(settings.flow, device=device), device)
    feature, stream_s = _timed(lambda: feature_of_video(teacher, decoded, flow=settings.flow, method=flow), device)

    def read() -> Tensor:
        return torch.from_numpy(feature).T[None].to(device)

    stride = teacher.backbone.stride
    tail_s = _tail_s(teacher.head, read, decoded, stride, labels, settings.decode, device)
    return Pass(len(decoded), decoded.duration_s, np.array([decode_s, flow.took_s, stream_s - flow.took_s, *tail_s]))


def _tail_s(
    head: Head,
    features: Callable[[], Tensor],
    decoded: SampledVideo,
    stride: int,
    labels: tuple[str, ...],
    decoding: DecodeSettings,
    device: torch.device,
) -> tuple[float, float]:
    """Seconds of the head, with what makes its ``features`` (1, channels, steps), and of suppression."""

    @torch.inference_mode()
    def candidates() -> Candidates:
        track = features()
        mask = torch.ones(1, track.shape[2], dtype=torch.bool, device=device)
        least, limit = decoding.min_score, decoding.top_candidates
        return track_candidates(head, track, mask, core_steps=CORE_STEPS, min_score=least, limit=limit)

    found, head_s = _timed(candidates, device)
    track = Track(decoded.path.stem, decoded.timeline.strided(stride), decoded.duration_s)
    _, suppression_s = _timed(lambda: detections_of(found, track, labels=labels, decoding=decoding), device)
    return head_s, suppression_s


def _timed(work: Callable[[], Result], device: torch.device) -> tuple[Result, float]:
    """What ``work`` gives, and its seconds until the device has finished."""
    start_s = time.perf_counter()
    result = work()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return result, time.perf_counter() - start_s


def _decoded(path: Path, video: VideoSettings, seconds: float, *, passes: int) -> SampledVideo:
    """The first ``seconds`` of a video in memory, decoded as often as the model does: for RGB, again for flow."""
    with fresh_process.first_seconds(path, video, seconds) as sampled:
        count = len(sampled)
        for _ in range(passes):
            starts = range(0, count, CORE_FRAMES)
            frames = np.concatenate([sampled.frames(at, min(at + CORE_FRAMES, count)) for at in starts])
        stamps_s, duration_s = sampled.stamps_s, min(sampled.duration_s, seconds)
    return SampledVideo(FramesInMemory(path, frames, stamps_s, duration_s), np.arange(count))


class FramesInMemory:
    """A :class:`tadkit.video.reader.VideoReader` of frames that are decoded already."""

    def __init__(
        self,
        path: Path,
        frames: UInt8[np.ndarray, "frames height width 3"],
        stamps_s: Float64[np.ndarray, " frames"],
        duration_s: float,
    ) -> None:
        self.path, self.stamps_s, self.duration_s = path, stamps_s, duration_s
        self.size_hw: tuple[int, int] = (frames.shape[1], frames.shape[2])
        self._frames = frames

    def read(self, indices: Sequence[int]) -> UInt8[np.ndarray, "n height width 3"]:
        """Copies of frames."""
        return self._frames[list(indices)]

    def close(self) -> None:
        """Keep the frames."""

    def __enter__(self) -> Self:
        """The reader itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Keep the frames."""


class _TimedFlow:
    """A flow method that adds up the seconds of its calls."""

    def __init__(self, method: FlowMethod, device: torch.device) -> None:
        self.channels, self.took_s = method.channels, 0.0
        self._method, self._device = method, device

    def __call__(
        self, frames: UInt8[Tensor, "frames height width 3"] | UInt8[np.ndarray, "frames height width 3"]
    ) -> Float32[Tensor, "pairs channels height width"]:
        """Motion of each frame to the next."""
        motion, took_s = _timed(lambda: self._method(frames), self._device)
        self.took_s += took_s
        return motion
