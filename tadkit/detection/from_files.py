"""Detections files as a user holds them, to be written in other forms without detecting again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tadkit.detection.detections import Detections, VideoDetections
from tadkit.detection.outputs.content import fallback_fps_of
from tadkit.errors import AnnotationError, UsageError, VideoError
from tadkit.files import read_json
from tadkit.records import LONGEST_S, Detection, read_detections
from tadkit.video.discovery import find_video
from tadkit.video.index import build_index

_DURATIONS = "durations_s"


def detections_from(paths: Sequence[Path], *, videos: Path | None = None) -> VideoDetections:
    """Read detections files, such as those of several shards, as one.

    Args:
        paths: detections files, which have no video in common.
        videos: folder of the videos, to find the file of each by its name.

    Raises:
        AnnotationError: not a detections file, a video is in two of them, or they are not of the same model and
            settings.
        UsageError: ``videos`` is not a folder.
    """
    if videos is not None and not videos.is_dir():
        raise UsageError(f"{videos}: no such folder of videos")
    found: dict[str, Detections] = {}
    origin: Mapping[str, Any] | None = None
    for path in paths:
        own, durations_s = _external(path)
        if origin is not None and own != origin:
            raise AnnotationError(
                f"{path}: was made by another model or with other settings than {paths[0]}; write each by itself"
            )
        origin = own
        for name, detections in read_detections(path).items():
            if name in found:
                raise AnnotationError(f"{path}: '{name}' is in another of these files, too; leave one of them out")
            file = None if videos is None else find_video(name, videos)
            duration_s = _duration_s(durations_s.get(name), file, detections, fallback_fps_of(own))
            best = sorted(detections, key=lambda d: -d.score)
            found[name] = Detections(best, video=name, duration_s=duration_s, origin=own, file=file)
    return VideoDetections(found, origin=origin or {})


def _external(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a file says of its model and settings, and the durations of its videos; other projects' files may lack them.

    Raises:
        AnnotationError: the operating points are not numbers.
    """
    content = read_json(path, error=AnnotationError)
    external = content.get("external_data") if isinstance(content, dict) else None
    origin = dict(external) if isinstance(external, dict) else {}
    durations_s = origin.pop(_DURATIONS, None)
    points = origin.get("operating_points", {})
    if not isinstance(points, dict) or not all(isinstance(score, int | float) for score in points.values()):
        raise AnnotationError(f"{path}: operating_points are not {{label: score}}; leave them out")
    return origin, durations_s if isinstance(durations_s, dict) else {}


def _duration_s(said: Any, file: Path | None, detections: Sequence[Detection], fallback_fps: float | None) -> float:
    """The length of a video: as the file says, else that of the video, else the end of its last detection."""
    if isinstance(said, int | float) and 0 < said <= LONGEST_S:
        return float(said)
    if file is not None:
        try:
            return build_index(file, fallback_fps=fallback_fps).duration_s
        except VideoError:
            pass
    return max((d.end_s for d in detections), default=0.0)
