"""``tadkit extract-features``: the student's motion and appearance features of videos, to HDF5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tadkit.checkpoint import Checkpoint, load_checkpoint, read_kind
from tadkit.config import VideoSettings, View
from tadkit.errors import UsageError, VideoError
from tadkit.extraction.branch_features import branch_features
from tadkit.extraction.clips import Source, VideoFile
from tadkit.extraction.results import ExtractionResult
from tadkit.keys import features_key
from tadkit.models.detector import build_detector, build_student, refuse_features
from tadkit.models.student import Student
from tadkit.progress import Progress, VideoProgress
from tadkit.runtime.devices import torch_device
from tadkit.store import TrackStore, open_store
from tadkit.video.discovery import named
from tadkit.zoo import bundled_model


def extract_features(
    videos: Sequence[Path], out: Path, *, model: Path | None, device: str, progress: Progress
) -> ExtractionResult:
    """Write branch features of ``videos`` to the store ``out``, by a student, a detector's student, or the bundled one.

    Raises:
        WeightsError: the model cannot be loaded.
        UsageError: the model is a two-stream detector.
        StoreError: ``out`` is something else, or cannot be written.
    """
    checkpoint, student, video = _student_of(model or bundled_model())
    return extract_features_of(
        {name: VideoFile(path, video) for name, path in named(videos).items()},
        out,
        student=student,
        video=video,
        checkpoint=checkpoint,
        views=("original",),
        device=device,
        progress=progress,
    )


def _student_of(path: Path) -> tuple[Checkpoint, Student, VideoSettings]:
    if read_kind(path) == "student":
        checkpoint = load_checkpoint(path, kind="student")
        settings, student = build_student(checkpoint)
        refuse_features(settings, path=path)
        return checkpoint, student, settings.video
    checkpoint = load_checkpoint(path, kind="detector")
    detector = build_detector(checkpoint)
    refuse_features(detector.settings, path=path)
    if detector.teacher is not None:
        raise UsageError(
            f"{path}: a two-stream detector, whose motion feature is that of flow and not of a student; "
            "name a student, or a detector that reads RGB alone"
        )
    return checkpoint, detector.student, detector.settings.video


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
) -> ExtractionResult:
    """Write branch features of videos, or of their stored features, given by name, to the store ``out``.

    In every view; ``video`` is how a student of videos reads frames.
    """
    result = ExtractionResult()
    student = student.to(torch_device(device)).eval()
    settings = {"model": checkpoint.digest, "video": video.model_dump(mode="json")}
    advances = VideoProgress(progress, "extract-features", videos=len(items))
    with open_store(out, kind="features", settings=settings, labels=checkpoint.labels) as store:
        for name, source in items.items():
            try:
                key = features_key(source.key, model=checkpoint.digest, video=video, views=views)
                if store.has(name, key):
                    result.reused.append(name)
                else:
                    _features_of_video(store, name, source, key=key, student=student, views=views, progress=advances)
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
    progress: VideoProgress,
) -> None:
    with source.open() as (clip, attributes):
        progress.begin(name, frames=len(clip))
        steps = clip.timeline.strided(student.backbone.stride).centres_s
        with store.video(name, key=key, stamps_s=steps, attributes=attributes) as entry:
            for view, tracks in branch_features(student, clip, views=views, advance=progress.advance).items():
                entry.append(f"{view}/appearance", tracks.appearance)
                if tracks.motion is not None:
                    entry.append(f"{view}/motion", tracks.motion)
