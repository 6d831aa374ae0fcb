"""Write synthetic videos and their annotations to a folder; an interrupted run resumes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tadkit.config import SynthSource
from tadkit.errors import UsageError
from tadkit.files import digest_of, read_json, write_text
from tadkit.progress import Progress
from tadkit.records import Dataset, VideoRecord
from tadkit.records import write_dataset as write_annotations
from tadkit.synth.video import CameraKind, make_video
from tadkit.video.writer import write_video

_MAKER = 2
"""Increased whenever the same seed gives a different video, so that old ones are made again."""
_FPS = 25.0
"""Frame rate of all videos before there was a setting."""


def write_dataset(
    folder: Path,
    settings: SynthSource,
    *,
    progress: Progress,
    actions: Sequence[str] | None = None,
) -> Path:
    """Write ``videos/<name>.mp4`` and ``annotations.json`` and return the path of the latter.

    A complete video made from equal settings is kept.

    Args:
        folder: created if missing.
        settings: number, length, camera, looks, size and seed of the videos.
        progress: reports each video.
        actions: labels that may occur; None for all.

    Raises:
        UsageError: the folder cannot be written to, or the settings are invalid.
    """
    ledger = Ledger(folder / "made.json")
    records: dict[str, VideoRecord] = {}
    progress.start("synthetic videos", total=settings.count, unit="videos")
    for n in range(settings.count):
        camera, seed, size_hw = _camera(settings, n), settings.seed + n, settings.size_hw
        look = settings.seed + n % settings.looks if settings.looks else None
        video = make_video(
            seed=seed,
            duration_s=settings.duration_s,
            camera=camera,
            size_hw=size_hw,
            fps=settings.fps,
            actions=actions,
            look=look,
            many_falls=settings.many_falls,
        )
        name = f"synth_{camera}_{seed:06d}"
        path = folder / "videos" / f"{name}.mp4"
        made_from: tuple[Any, ...] = (_MAKER, seed, settings.duration_s, camera, size_hw, actions and tuple(actions))
        if look is not None or settings.fps != _FPS:  # newer settings: videos made without them are not made again
            made_from = (*made_from, look, settings.fps)
        if settings.many_falls:
            made_from = (*made_from, "many falls")
        if not ledger.holds(path, made_from):
            write_video(path, video.frames(), fps=video.fps)
            ledger.add(path, made_from)
        records[name] = VideoRecord(name, video.duration_s, settings.subset, video.annotations)
        progress.advance(note=name)
    write_annotations(folder / "annotations.json", Dataset(records))
    return folder / "annotations.json"


def _camera(settings: SynthSource, n: int) -> CameraKind:
    if settings.camera == "both":
        return "above" if n % 2 == 0 else "side"
    return settings.camera


class Ledger:
    """A JSON file that maps file names to digests of the settings they were made from."""

    def __init__(self, path: Path) -> None:
        """Read the ledger at ``path``; a missing one is empty.

        Raises:
            UsageError: the file is not a ledger.
        """
        self._path = path
        self._made: dict[str, str] = {}
        if path.exists():
            content = read_json(path, error=UsageError)
            if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
                raise UsageError(f"{path}: not a record of made files; remove it to make them again")
            self._made = content

    def holds(self, path: Path, made_from: Any) -> bool:
        """Whether ``path`` exists and was made from settings equal to ``made_from``."""
        return path.is_file() and self._made.get(path.name) == digest_of(made_from)

    def add(self, path: Path, made_from: Any) -> None:
        """Record that ``path`` was completed from ``made_from``."""
        self._made[path.name] = digest_of(made_from)
        write_text(self._path, json.dumps(self._made, indent=1, sort_keys=True) + "\n")
