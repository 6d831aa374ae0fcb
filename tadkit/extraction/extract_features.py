"""``tadkit extract-features``: the student's motion and appearance features of videos, to HDF5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tadkit.checkpoint import Checkpoint, load_checkpoint, read_kind
from tadkit.config import VideoSettings, View
from tadkit.errors import UsageError, VideoError
from tadkit.extraction.branch_features import branch_features
from tadkit.extraction.results import ExtractionResult, description
from tadkit.keys import features_key
from tadkit.models.detector import build_detector, build_student
from tadkit.models.student import Student
from tadkit.progress import Progress, VideoProgress
from tadkit.runtime.devices import torch_device
from tadkit.store import TrackStore, open_store
from tadkit.video import open_sampled
from tadkit.video.digests import source_key
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
        named(videos),
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
        return checkpoint, student, settings.video
    checkpoint = load_checkpoint(path, kind="detector")
    detector = build_detector(checkpoint)
    if detector.teacher is not None:
        raise UsageError(
            f"{path}: a two-stream detector, whose motion feature is that of flow and not of a student; "
            "name a student, or a detector that reads RGB alone"
        )
    return checkpoint, detector.student, detector.settings.video


def extract_features_of(
    items: Mapping[str, Path],
    out: Path,
    *,
    student: Student,
    video: VideoSettings,
    checkpoint: Checkpoint,
    views: Sequence[View],
    device: str,
    progress: Progress,
) -> ExtractionResult:
    """Write branch features of videos, given by name, to the store ``out``, in every view."""
    result = ExtractionResult()
    student = student.to(torch_device(device)).eval()
    settings = {"model": checkpoint.digest, "video": video.model_dump(mode="json")}
    advances = VideoProgress(progress, "extract-features", videos=len(items))
    with open_store(out, kind="features", settings=settings, labels=checkpoint.labels) as store:
        for name, path in items.items():
            try:
                key = features_key(source_key(path), model=checkpoint.digest, video=video, views=views)
                if store.has(name, key):
                    result.reused.append(name)
                else:
                    _features_of_video(
                        store, name, path, key=key, student=student, video=video, views=views, progress=advances
                    )
                    result.done.append(name)
            except VideoError as error:
                result.failed[name] = error
            advances.end(name)
    return result


def _features_of_video(
    store: TrackStore,
    name: str,
    path: Path,
    *,
    key: str,
    student: Student,
    video: VideoSettings,
    views: Sequence[View],
    progress: VideoProgress,
) -> None:
    with open_sampled(path, video) as sampled:
        progress.begin(name, frames=len(sampled))
        steps = sampled.timeline.strided(student.backbone.stride).centres_s
        with store.video(name, key=key, stamps_s=steps, attributes=description(sampled)) as entry:
            for view, tracks in branch_features(student, sampled, views=views, advance=progress.advance).items():
                entry.append(f"{view}/appearance", tracks.appearance)
                if tracks.motion is not None:
                    entry.append(f"{view}/motion", tracks.motion)
