"""Results of single videos that a run has finished, so that the next one skips them (``tadkit detect --resume``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tadkit.detection.detections import Detections
from tadkit.errors import AnnotationError
from tadkit.files import digest_of, digest_of_file, encodable, read_json, write_text
from tadkit.keys import CODE
from tadkit.records import detections_json, read_detections
from tadkit.video.digests import source_key

_KEY_CHARACTERS = 40
_EXTERNAL = "external_data"


class FinishedVideos:
    """A folder with a detections file for each finished video.

    A file is named by the digest of all that its detections depend on: the bytes of the video, the model's digest, the
    settings, and the scores of whole videos. So a changed video, model or setting is computed again, a video that was
    renamed or moved is not, and runs of different shards may share the folder. Videos at URLs are never given
    to it: whether their content has changed is only known when they have been read.

    Attributes:
        folder: where the files are.
        reused: number of videos that were skipped.
    """

    def __init__(self, folder: Path, *, video_scores: Path | None = None) -> None:
        """``video_scores`` is the file of scores of whole videos that the detections depend on, if there is one."""
        self.folder = folder
        self.reused = 0
        self._video_scores = video_scores

    def kept(self, name: str, path: Path, origin: Mapping[str, Any]) -> tuple[str, Detections | None]:
        """The key of a video's detections, and the detections if an earlier run has finished it.

        Args:
            name: of the video.
            path: its file.
            origin: model and settings, as a detections file states them.

        Raises:
            VideoError: the video cannot be read.
        """
        key = self._key(name, path, origin)
        return key, _read(self._file(key), key, name, path, origin)

    def keep(self, key: str, found: Detections) -> None:
        """Keep the detections of a video by their key.

        Raises:
            UsageError: the folder cannot be written to.
        """
        durations_s = {encodable(found.video): found.duration_s}
        text = detections_json({found.video: found}, external={"key": key, "durations_s": durations_s})
        write_text(self._file(key), text)

    def _file(self, key: str) -> Path:
        return self.folder / f"{key[:_KEY_CHARACTERS]}.json"

    def _key(self, name: str, path: Path, origin: Mapping[str, Any]) -> str:
        model = {item: value for item, value in origin["model"].items() if item != "file"}
        made_by = {**origin, "model": model, "code": CODE, "source": source_key(path)}
        if self._video_scores is not None:
            made_by["video_scores"] = [name, digest_of_file(self._video_scores)]
        return digest_of(made_by)


def _read(file: Path, key: str, name: str, path: Path, origin: Mapping[str, Any]) -> Detections | None:
    """What a file holds; None if it is missing, damaged or another one."""
    try:
        external = read_json(file, error=AnnotationError)[_EXTERNAL]
        (found,) = read_detections(file).values()
        (duration_s,) = map(float, external["durations_s"].values())
        complete = external["key"] == key
    except (AnnotationError, AttributeError, KeyError, TypeError, ValueError):
        return None
    return Detections(found, video=name, duration_s=duration_s, origin=origin, file=path) if complete else None
