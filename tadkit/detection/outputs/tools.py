"""Annotation tools: ELAN, BORIS, Label Studio and VIA, by the writers of ``tadkit data convert``.

Scores are kept where a tool has a place for them: in the comment on BORIS's events, in Label Studio's regions, and as
VIA's attribute ``score``; ELAN has none. Corrected files are read by ``tadkit data convert``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from tadkit.annotations.formats import FrameTimes, Known, SourceVideo
from tadkit.annotations.formats.boris import write_boris
from tadkit.annotations.formats.elan import write_elan_file
from tadkit.annotations.formats.label_studio import write_label_studio
from tadkit.annotations.formats.via import write_via
from tadkit.annotations.video_times import frame_times_of
from tadkit.detection.outputs.content import Content, VideoContent, plain_text, safe_names


def _write_eaf(path: Path, content: Content) -> None:
    """Write the detections of one video as ELAN's annotations; without a video the file has none and names no media."""
    videos, known = _sources(content)
    write_elan_file(path, videos[0] if videos else None, known)


def _write_boris(path: Path, content: Content) -> None:
    """Write a project of BORIS."""
    write_boris(path, *_sources(content))


def _write_label_studio(path: Path, content: Content) -> None:
    """Write tasks of Label Studio, with the detections as predictions to correct.

    Videos whose files are known get timeline labels, which count frames; others get labels in seconds.

    Raises:
        VideoError: a video cannot be read.
    """
    model = content.origin.get("model")
    name = model.get("file") if isinstance(model, dict) else None
    videos, known = _sources(content, frames=True)
    write_label_studio(path, videos, known, predicted_by=plain_text(str(name or "tadkit")))


def _write_via(path: Path, content: Content) -> None:
    """Write a project of VIA 3."""
    write_via(path, *_sources(content))


WRITERS: Mapping[str, Callable[[Path, Content], None]] = {
    ".eaf": _write_eaf,
    ".boris": _write_boris,
    ".labelstudio.json": _write_label_studio,
    ".via.json": _write_via,
}
"""What writes the form of each suffix."""


def _sources(content: Content, *, frames: bool = False) -> tuple[list[SourceVideo], Known]:
    """The videos as the writers of annotations take them; with ``frames``, when their frames are shown."""
    names = safe_names(video.name for video in content.videos)
    videos = [
        SourceVideo(
            names[video.name],
            tuple(replace(d, label=plain_text(d.label)) for d in video.in_order),
            duration_s=video.duration_s or None,
        )
        for video in content.videos
    ]
    times = {
        names[video.name]: replace(
            frame_times_of(video.file, fallback_fps=video.fallback_fps) if frames else FrameTimes(), file=_file(video)
        )
        for video in content.videos
        if video.file is not None
    }
    return videos, Known(frame_times=times)


def _file(video: VideoContent) -> str:
    """The file that a tool looks for, relative to the folder of all videos: ``monday/cam1.mp4`` for ``monday/cam1``."""
    assert video.file is not None
    return plain_text(str(PurePosixPath(video.name).parent / video.file.name))
