"""``tadkit extract-features``: the student's motion and appearance features of videos, to HDF5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tadkit.checkpoint import Checkpoint, load_checkpoint, read_kind
from tadkit.config import FlowSettings, ModelSettings, VideoSettings, View
from tadkit.errors import VideoError
from tadkit.extraction.branch_features import branch_features
from tadkit.extraction.clips import Source, VideoFile
from tadkit.extraction.extract_flow import extract_flow_of
from tadkit.extraction.frozen_features import extract_frozen_features
from tadkit.extraction.motion_feature import feature_of_video
from tadkit.extraction.results import ExtractionResult
from tadkit.files import digest_of
from tadkit.flow import FlowMethod, build_flow
from tadkit.keys import features_key, flow_key
from tadkit.models.detector import build_detector, build_student, refuse_features
from tadkit.models.engines import Engine, build_engine
from tadkit.models.student import Student
from tadkit.models.teacher import MotionStream
from tadkit.progress import Progress, VideoProgress
from tadkit.runtime.devices import torch_device
from tadkit.store import TrackStore, open_store
from tadkit.video import SampledVideo
from tadkit.video.discovery import named
from tadkit.zoo import bundled_model


def extract_features(
    videos: Sequence[Path], out: Path, *, model: Path | None, device: str, progress: Progress
) -> ExtractionResult:
    """Write branch features of ``videos`` to the store ``out``, by a student, a detector, or the bundled one.

    They are what the detector's joint head reads: the motion of a two-stream detector is its teacher's feature, of flow
    that is computed on the way. For a model of frozen features (``[frozen]`` of a recipe) they are those that it reads
    instead of videos, with motion if it needs that; ``tadkit detect-features`` reads them.

    Raises:
        WeightsError: the model cannot be loaded.
        SettingsError: OpenCV lacks the flow method of a two-stream detector.
        StoreError: ``out`` is something else, or cannot be written.
    """
    path = model or bundled_model()
    flow: FlowStream | None = None
    if read_kind(path) == "student":
        checkpoint = load_checkpoint(path, kind="student")
        settings, student = build_student(checkpoint)
    else:
        checkpoint = load_checkpoint(path, kind="detector")
        detector = build_detector(checkpoint)
        settings, student = detector.settings, detector.student
        if detector.teacher is not None and settings.features is None:
            flow = FlowStream.of(detector.teacher, settings, device=device)
    if settings.frozen is not None:
        return _frozen_features(named(videos), out, settings=settings, device=device, progress=progress)
    refuse_features(settings, path=path)
    return extract_features_of(
        {name: VideoFile(video, settings.video) for name, video in named(videos).items()},
        out,
        student=student,
        video=settings.video,
        checkpoint=checkpoint,
        views=("original",),
        device=device,
        progress=progress,
        flow=flow,
    )


def _frozen_features(
    items: Mapping[str, Path], out: Path, *, settings: ModelSettings, device: str, progress: Progress
) -> ExtractionResult:
    assert settings.frozen is not None
    flow_store, failed = None, {}
    if settings.reads_flow:
        flow_store = out.with_name(f"{out.stem}-flow{out.suffix}")
        flow, video = settings.flow, settings.video
        failed = extract_flow_of(items, flow_store, flow=flow, video=video, device=device, progress=progress).failed
    result = extract_frozen_features(
        {name: path for name, path in items.items() if name not in failed},
        out,
        flow_store=flow_store,
        frozen=settings.frozen,
        flow=settings.flow,
        video=settings.video,
        device=device,
        progress=progress,
    )
    return ExtractionResult(result.done, result.reused, failed | result.failed)


class FlowStream(NamedTuple):
    """The motion of a two-stream detector: its teacher's stream, and the flow that it reads."""

    model: MotionStream
    settings: FlowSettings
    method: FlowMethod

    @classmethod
    def of(cls, model: MotionStream, settings: ModelSettings, *, device: str) -> FlowStream:
        """On a device.

        Raises:
            SettingsError: OpenCV lacks the method.
            WeightsError: the method's weights are missing or damaged.
        """
        target = torch_device(device)
        return cls(model.to(target).eval(), settings.flow, build_flow(settings.flow, device=target))


def extract_features_of(
    items: Mapping[str, Source],
    out: Path,
    *,
    student: Student,
    video: VideoSettings,
    checkpoint: Checkpoint,
    views: Sequence[View],
    device: str,
    progress: Progress,
    flow: FlowStream | None = None,
) -> ExtractionResult:
    """Write branch features of videos, or of their stored features, given by name, to the store ``out``.

    In every view; ``video`` is how a student of videos reads frames. With ``flow``, motion is that of a two-stream
    detector, of video files in the original view. The backbone runs in the fastest engine that is installed.
    """
    result = ExtractionResult()
    student = student.to(torch_device(device)).eval()
    engine = build_engine("auto", student.backbone)
    settings = {"model": checkpoint.digest, "video": video.model_dump(mode="json")}
    advances = VideoProgress(progress, "extract-features", videos=len(items))
    with open_store(out, kind="features", settings=settings, labels=checkpoint.labels) as store:
        for name, source in items.items():
            try:
                key = features_key(source.key, model=checkpoint.digest, video=video, views=views)
                if flow is not None:
                    key = digest_of([key, flow_key(source.key, flow.settings, video)])
                if store.has(name, key):
                    result.reused.append(name)
                else:
                    _features_of_video(
                        store,
                        name,
                        source,
                        key=key,
                        student=student,
                        views=views,
                        engine=engine,
                        flow=flow,
                        progress=advances,
                    )
                    result.done.append(name)
            except VideoError as error:
                result.failed[name] = error
            advances.end(name)
    return result


def _features_of_video(
    store: TrackStore,
    name: str,
    source: Source,
    *,
    key: str,
    student: Student,
    views: Sequence[View],
    engine: Engine | None,
    flow: FlowStream | None,
    progress: VideoProgress,
) -> None:
    with source.open() as (clip, attributes):
        progress.begin(name, frames=len(clip) * (1 if flow is None else 2))  # RGB and flow: once each
        steps = clip.timeline.strided(student.backbone.stride).centres_s
        with store.video(name, key=key, stamps_s=steps, attributes=attributes) as entry:
            found = branch_features(student, clip, views=views, engine=engine, advance=progress.advance)
            for view, tracks in found.items():
                entry.append(f"{view}/appearance", tracks.appearance)
                if tracks.motion is not None:
                    entry.append(f"{view}/motion", tracks.motion)
            if flow is not None:
                assert isinstance(clip, SampledVideo), "flow is computed from frames"
                assert tuple(views) == ("original",), views
                motion = feature_of_video(
                    flow.model, clip, flow=flow.settings, method=flow.method, advance=progress.advance
                )
                entry.append("original/motion", motion)
