"""Frame times, duration and file name of annotated videos, read from their files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tadkit.annotations.formats import FrameTimes
from tadkit.annotations.formats.frames import RATE_DECIMALS
from tadkit.errors import UsageError
from tadkit.video.discovery import find_video, is_video
from tadkit.video.index import build_index
from tadkit.video.reader import warn_of_assumed_fps


class VideoTimes(Mapping[str, FrameTimes]):
    """Frame times of the videos in a folder, each read on first use."""

    def __init__(self, folder: Path) -> None:
        """Raise UsageError if ``folder`` is not a folder."""
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder of videos")
        self._folder = folder
        self._read: dict[str, FrameTimes] = {}

    def __getitem__(self, name: str) -> FrameTimes:
        """Stamps, duration and file name of a video.

        Raises:
            KeyError: no file has that name.
            VideoError: it cannot be read as a video.
        """
        if name not in self._read:
            path = find_video(name, self._folder)
            if path is None:
                raise KeyError(name)
            self._read[name] = frame_times_of(path)
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        """Whether a file has that name; it is not read."""
        return isinstance(name, str) and find_video(name, self._folder) is not None

    def __iter__(self) -> Iterator[str]:
        """Names of the videos, sorted."""
        return iter(sorted({path.stem for path in self._folder.iterdir() if is_video(path)}))

    def __len__(self) -> int:
        """Number of videos."""
        return sum(1 for _ in self)


def frame_times_of(path: Path, *, fallback_fps: float | None = None) -> FrameTimes:
    """Stamps, duration and file name of a video; ``fallback_fps`` as in :func:`tadkit.video.open_video`.

    Raises:
        VideoError: it cannot be read as a video.
    """
    index = build_index(path, fallback_fps=fallback_fps)
    if fallback_fps is None:
        warn_of_assumed_fps(path, index)
    steps = len(index) - 1
    shown_s = float(index.stamps_s[-1] - index.stamps_s[0])
    fps = steps / shown_s if steps else 1 / (index.duration_s - float(index.stamps_s[0]))
    return FrameTimes(index.stamps_s, round(fps, RATE_DECIMALS), path.name, index.duration_s)
