"""``tadkit detect``: from videos to detections, reading RGB only; two-stream detectors compute flow on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, overload

import numpy as np
import torch
from jaxtyping import Float32

from tadkit.checkpoint import load_checkpoint
from tadkit.config import DecodeSettings, ModelSettings, VideoSettings
from tadkit.config.base import merged
from tadkit.config.loading import check_settings, refuse_unused
from tadkit.detection.detect_workers import Detect, DetectJob, detections_of_jobs
from tadkit.detection.detections import Detections, VideoDetections
from tadkit.detection.finished import FinishedVideos
from tadkit.detection.tail import CORE_STEPS, Track, detections_in_features, reach_s, video_scores_for
from tadkit.errors import SettingsError, TadkitError, UsageError, VideoError
from tadkit.extraction.branch_features import BranchFeatures, branch_features, branch_stream, joined
from tadkit.extraction.motion_feature import CORE_FRAMES, feature_of_video
from tadkit.extraction.read_ahead import read_ahead
from tadkit.flow import FlowMethod, build_flow
from tadkit.models.decode.video_scores import VideoScoresFile
from tadkit.models.detector import DetectorNet, build_detector, refuse_features
from tadkit.models.engines import Engine, build_engine
from tadkit.progress import LogWarnings, Progress, VideoProgress
from tadkit.records import Detection
from tadkit.runtime.devices import torch_device
from tadkit.runtime.engines import EngineChoice, EngineName
from tadkit.timeline import Timeline
from tadkit.video import SampledVideo, open_sampled
from tadkit.video.container import public, url_of
from tadkit.video.discovery import named, videos_in
from tadkit.video.live import End, Sample, url_items
from tadkit.zoo import model_path

OnError = Literal["raise", "collect"]
_OF_THE_FILES = ("reader", "fallback_fps")
"""Settings under ``video`` that depend on the files, not on the model."""
_SAMPLES_AHEAD = 64
"""Sampled frames of a URL that are decoded before they are needed."""


class Detector:
    """A detector that is loaded and ready; :func:`load_detector` makes one.

    Attributes:
        name: stem of its file.
        labels: classes that it detects.
        net: student, fusion and joint head, and the teacher of a two-stream detector.
        flow: computes the flow that a two-stream detector reads; None for the others.
        video: how frames are read.
        decoding: from candidates to detections.
        device: where it runs.
        engine: what runs the student's backbone; None is torch, for backbones that read windows.
        operating_points: for some labels, the score from which detections are shown; for others it is 0.3.
        origin: model, settings, decoder and engine, as a detections file states them.
    """

    def __init__(self, path: Path, *, device: str, engine: EngineChoice, overrides: Mapping[str, Any]) -> None:
        """Load the detector of the checkpoint ``path``, and the flow method of a two-stream detector."""
        checkpoint = load_checkpoint(path, kind="detector")
        self.name = path.stem
        self.device = torch_device(device)
        self.net = build_detector(checkpoint).to(self.device)
        refuse_features(self.net.settings, path=path)
        self.engine = build_engine(engine, self.net.student.backbone)
        self.flow = flow_method_of(self.net)
        self.labels = self.net.labels
        self.video, self.decoding = _overridden(self.net, overrides)
        self.operating_points = checkpoint.operating_points
        self._load = partial(Detector, path, device=str(self.device), engine=self.engine_name, overrides=overrides)
        self.origin: dict[str, Any] = {
            "model": {
                "file": path.name,
                "sha256": checkpoint.digest,
                "labels": list(self.labels),
                "reach_s": self.reach_s,
            },
            "video": self.video.model_dump(mode="json"),
            "decode": self.decoding.model_dump(mode="json"),
            "engine": self.engine_name,
        }
        if self.flow is not None:
            self.origin["flow"] = self.net.settings.flow.model_dump(mode="json")

    @property
    def engine_name(self) -> EngineName:
        """What runs the student's backbone."""
        return "torch" if self.engine is None else self.engine.name

    @property
    def reach_s(self) -> float | None:
        """Seconds of video on either side of a detection that it depends on (docs/python.md); None: the whole video."""
        return reach_s(self.net.context_s, self.decoding)

    @overload
    def detect(  # type: ignore[overload-overlap]  # a str is an iterable, too; the first fits before
        self, videos: str | Path, *, video_scores: str | Path | None = None, progress: Progress | None = None
    ) -> Detections: ...

    @overload
    def detect(
        self,
        videos: Iterable[str | Path],
        *,
        video_scores: str | Path | None = None,
        on_error: OnError = "raise",
        progress: Progress | None = None,
    ) -> VideoDetections: ...

    def detect(
        self,
        videos: str | Path | Iterable[str | Path],
        *,
        video_scores: str | Path | None = None,
        on_error: OnError = "raise",
        progress: Progress | None = None,
    ) -> Detections | VideoDetections:
        """Detect actions in one video, or in several.

        Args:
            videos: one file gives its :class:`Detections`; several files, or folders of them, give
                :class:`VideoDetections`, each video named by its stem, or by more of its path where stems are alike.
            video_scores: JSON file of scores of whole videos, {video: {label: score}}, that weight the detections.
            on_error: with several videos, ``raise`` stops at the first that fails; ``collect`` goes through all and
                keeps the errors in ``failed``.
            progress: counts videos, or the frames of a single one.

        Raises:
            VideoError: a video cannot be read.
            AnnotationError: ``video_scores`` cannot be read or does not fit the model.
        """
        if on_error not in get_args(OnError):
            raise UsageError(f"on_error is {on_error!r}; expected 'raise' or 'collect'")
        scores = self._video_scores(video_scores)
        progress = progress or LogWarnings()
        if isinstance(videos, str | Path):
            single = VideoProgress(progress, "detect", videos=1)
            return self._detections(Path(videos).stem, Path(videos), single, scores=scores)
        failed: dict[str, TadkitError] = {}
        files: list[Path] = []
        for source in map(Path, videos):
            try:
                files += videos_in([source])
            except VideoError as error:
                if on_error == "raise":
                    raise
                failed[source.stem] = error
        items = named(videos_in(files))
        found = self.detect_named(items, video_scores=video_scores, on_error=on_error, progress=progress)
        return VideoDetections(found, origin=found.origin, failed=failed | found.failed)

    def detect_named(
        self,
        videos: Mapping[str, Path],
        *,
        video_scores: str | Path | None = None,
        on_error: OnError = "raise",
        progress: Progress | None = None,
        finished: FinishedVideos | None = None,
        workers: int = 1,
    ) -> VideoDetections:
        """Detect actions in files of given names, as :meth:`detect` does.

        Args:
            videos: file of each video by name.
            video_scores: as in :meth:`detect`.
            on_error: as in :meth:`detect`.
            progress: as in :meth:`detect`.
            finished: has the results of videos that are skipped, and is given those of the others.
            workers: processes, each for one video at a time with its share of the threads. Detections do not depend on
                their number with ONNX Runtime and OpenVINO, and only by rounding with torch.
        """
        scores = self._video_scores(video_scores)
        origin = self._origin(scores)
        found: dict[str, Detections] = {}
        failed: dict[str, TadkitError] = {}
        advances = VideoProgress(progress or LogWarnings(), "detect", videos=len(videos))
        outcomes = detections_of_jobs(
            [DetectJob(name, path, None if url_of(path) else finished, origin) for name, path in videos.items()],
            detect=partial(self._detections, scores=scores),
            load=partial(_detect_of, self._load, scores),
            workers=workers,
            progress=advances,
        )
        with closing(outcomes):
            for name, outcome in outcomes:
                advances.end(name)
                if not isinstance(outcome, TadkitError):
                    found[name] = outcome
                elif on_error == "raise":
                    raise outcome
                else:
                    failed[name] = outcome
        in_order = {name: found[name] for name in videos if name in found}
        return VideoDetections(
            in_order, origin=origin, failed={name: failed[name] for name in videos if name in failed}
        )

    def iter_detect(
        self, videos: Iterable[str | Path], *, video_scores: str | Path | None = None
    ) -> Iterator[Detections]:
        """Detections of one video after the other, as each is done: memory does not grow with their number.

        Raises:
            VideoError: a video cannot be read.
            AnnotationError: ``video_scores`` cannot be read or does not fit the model.
        """
        scores = self._video_scores(video_scores)
        for name, path in named(videos_in([Path(video) for video in videos])).items():
            yield self._detections(name, path, VideoProgress(LogWarnings(), "detect", videos=1), scores=scores)

    def _video_scores(self, path: str | Path | None) -> VideoScoresFile | None:
        file = None if path is None else Path(path)
        return video_scores_for(self.net.joint.head, self.labels, path=file, decoding=self.decoding)

    def _detections(
        self, name: str, path: Path, progress: VideoProgress, *, scores: VideoScoresFile | None
    ) -> Detections:
        if (url := url_of(path)) is not None:
            return self._detections_at(url, name, scores, progress)
        with open_sampled(path, self.video) as sampled:
            progress.begin(name, frames=len(sampled) * (1 if self.flow is None else 2))  # RGB and flow: once each
            found = detections_in_video(
                self.net,
                sampled,
                name=name,
                decoding=self.decoding,
                flow=self.flow,
                engine=self.engine,
                video_scores=scores,
                advance=progress.advance,
            )
            origin = self._origin(scores)
            return Detections(found, video=name, duration_s=sampled.duration_s, origin=origin, file=path)

    def _detections_at(
        self, url: str, name: str, scores: VideoScoresFile | None, progress: VideoProgress
    ) -> Detections:
        """Detections of a video at a URL, which is read once, as it comes."""
        if self.flow is not None or self.video.reader == "decord":
            what = "decord" if self.flow is None else "a model that reads flow"
            raise VideoError(f"{public(url)}: is a URL, and {what} reads files; download it first")
        progress.begin(name, frames=0)
        features, track = features_at_url(
            self.net, url, self.video, name=name, engine=self.engine, advance=progress.advance
        )
        found = detections_in_branches(self.net, features, track, decoding=self.decoding, video_scores=scores)
        return Detections(found, video=name, duration_s=track.duration_s, origin=self._origin(scores))

    def _origin(self, scores: VideoScoresFile | None) -> dict[str, Any]:
        """What made the detections; the operating points do not fit scores that are weighted by those of videos."""
        points = self.operating_points if scores is None else {}
        return self.origin | ({"operating_points": dict(points)} if points else {})

    def __repr__(self) -> str:
        """Name, classes and device."""
        return f"<Detector '{self.name}' on {self.device}: {', '.join(self.labels)}>"


def _detect_of(load: Callable[[], Detector], scores: VideoScoresFile | None) -> Detect:
    """What a worker detects with."""
    return partial(load()._detections, scores=scores)


def load_detector(
    name_or_path: str | Path | None = None,
    *,
    device: str = "auto",
    engine: EngineChoice = "auto",
    overrides: Mapping[str, Any] | None = None,
) -> Detector:
    """Load a detector.

    Args:
        name_or_path: name of a bundled model, or a detector's checkpoint; None is the bundled ``people-motion``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` ...
        engine: runs the backbone: ``torch``, ``onnxruntime`` or ``openvino``; ``auto`` is the fastest that is installed
            and can run it. All give the same detections, up to rounding. ``openvino-bf16`` rounds to 8 bits, which is
            faster on CPUs that compute in bfloat16 and changes scores by some hundredths.
        overrides: settings under ``decode``, ``video.reader`` and ``video.fallback_fps``, in place of the model's own,
            as in ``{"decode": {"min_score": 0.2}}``.

    Raises:
        WeightsError: there is no such model, or it cannot be loaded; or the weights of its flow method are missing.
        SettingsError: an override is unknown or wrong, or OpenCV lacks the flow method of a two-stream detector.
        UsageError: the device is not available, or the engine is not installed or cannot run the model there.
    """
    return Detector(model_path(name_or_path), device=device, engine=engine, overrides=overrides or {})


def _overridden(detector: DetectorNet, overrides: Mapping[str, Any]) -> tuple[VideoSettings, DecodeSettings]:
    video = overrides.get("video", {})
    strange = [name for name in overrides if name not in ("decode", "video")]
    strange += [f"video.{name}" for name in video if name not in _OF_THE_FILES] if isinstance(video, Mapping) else []
    if strange:
        raise SettingsError(
            f"--set {strange[0]}: fixed when the model was trained; "
            "detect takes decode.*, video.reader and video.fallback_fps"
        )
    own = detector.settings.model_dump(mode="json")
    changed = check_settings(ModelSettings, merged(own, overrides), name="--set")
    refuse_unused(changed.decode, detector.settings.decode, name="--set decode.")
    return changed.video, changed.decode


def detections_in_video(
    detector: DetectorNet,
    video: SampledVideo,
    *,
    name: str,
    decoding: DecodeSettings,
    flow: FlowMethod | None = None,
    video_scores: VideoScoresFile | None = None,
    engine: Engine | None = None,
    core_frames: int | None = None,
    core_steps: int = CORE_STEPS,
    advance: Callable[[int], None] | None = None,
) -> list[Detection]:
    """Detections of one open video, best score first; the result does not depend on the sizes of windows.

    ``flow`` is the method of a two-stream detector (:func:`flow_method_of`), ``engine`` runs the student's backbone
    (:func:`tadkit.models.engines.build_engine`; None is torch). ``advance`` is called with each number of sampled
    frames that is done: once for each frame, and in two-stream detectors once more for its flow.
    """
    return detections_in_branches(
        detector,
        features_in_video(detector, video, flow=flow, engine=engine, core_frames=core_frames, advance=advance),
        Track(name, video.timeline.strided(detector.student.backbone.stride), video.duration_s),
        decoding=decoding,
        video_scores=video_scores,
        core_steps=core_steps,
    )


def flow_method_of(detector: DetectorNet) -> FlowMethod | None:
    """The flow method of a two-stream detector, on the detector's device; None for the others.

    Raises:
        SettingsError: OpenCV lacks the method.
        WeightsError: the method's weights are missing or damaged.
    """
    if detector.teacher is None:
        return None
    return build_flow(detector.settings.flow, device=next(detector.parameters()).device)


def features_in_video(
    detector: DetectorNet,
    video: SampledVideo,
    *,
    flow: FlowMethod | None,
    engine: Engine | None = None,
    core_frames: int | None = None,
    advance: Callable[[int], None] | None = None,
) -> BranchFeatures:
    """Motion and appearance of one open video, as the joint head reads them.

    A two-stream detector decodes the video twice, for RGB and for flow, so that neither waits for the other's windows.
    """
    own = branch_features(detector.student, video, core_frames=core_frames, engine=engine, advance=advance)["original"]
    if detector.teacher is None:
        return own
    assert flow is not None, "a two-stream detector needs its flow method"
    motion = feature_of_video(
        detector.teacher,
        video,
        flow=detector.settings.flow,
        method=flow,
        core_frames=core_frames or CORE_FRAMES,
        advance=advance,
    )
    return BranchFeatures(motion=motion, appearance=own.appearance)


def features_at_url(
    detector: DetectorNet,
    url: str,
    settings: VideoSettings,
    *,
    name: str,
    engine: Engine | None,
    advance: Callable[[int], None],
) -> tuple[BranchFeatures, Track]:
    """Motion and appearance of a video at a URL, and its track; those of a file of the same frames, in one pass.

    Raises:
        VideoError: it cannot be opened or breaks off.
    """
    stream, stamps_s, duration_s = branch_stream(detector.student, engine), list[float](), 0.0
    parts: list[BranchFeatures] = []
    held: Sample | None = None
    with read_ahead(url_items(url, settings), depth=_SAMPLES_AHEAD) as items:
        for item in items:
            if isinstance(item, End):
                duration_s = item.duration_s
                continue
            if held is not None:
                parts += stream.more(torch.from_numpy(held.frames), last=False)
            held = item
            stamps_s.append(item.stamp_s)
            advance(1)
    assert held is not None, "a part has a sample"
    parts += stream.more(torch.from_numpy(held.frames), last=True)
    timeline = Timeline(np.array(stamps_s)).strided(detector.student.backbone.stride)
    return joined(parts), Track(name, timeline, duration_s)


def detections_in_branches(
    detector: DetectorNet,
    features: BranchFeatures,
    track: Track,
    *,
    decoding: DecodeSettings,
    video_scores: VideoScoresFile | None = None,
    core_steps: int = CORE_STEPS,
) -> list[Detection]:
    """Detections of one video, best score first, from its branch features."""
    device = next(detector.parameters()).device

    def channels_first(x: Float32[np.ndarray, "steps channels"]) -> torch.Tensor:
        return torch.from_numpy(x).T.to(device)

    motion = None if features.motion is None else channels_first(features.motion)
    return detections_in_features(
        detector.joint.head,
        detector.fused(motion, channels_first(features.appearance)),
        track,
        labels=detector.labels,
        decoding=decoding,
        video_scores=video_scores,
        core_steps=core_steps,
    )
