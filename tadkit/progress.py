"""How the library reports its progress without printing."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

from tadkit.errors import printable

_NOTED = 3
"""Videos under way that a note names."""


class Progress(Protocol):
    """Receives progress reports; the command line draws them, a notebook may ignore them."""

    def start(self, task: str, *, total: float, unit: str) -> None:
        """Start a task named ``task`` of ``total`` ``unit``, such as 300 frames; 0 if the total is unknown."""

    def advance(self, amount: float = 1.0, *, note: str = "") -> None:
        """Report ``amount`` more of the current task as done; ``note`` is a short live figure such as a loss."""

    def warn(self, message: str) -> None:
        """Report something the user should know that does not stop the work."""


class Quiet:
    """A :class:`Progress` that shows nothing; it keeps warnings in ``warnings``."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def start(self, task: str, *, total: float, unit: str) -> None:
        """Do nothing."""

    def advance(self, amount: float = 1.0, *, note: str = "") -> None:
        """Do nothing."""

    def warn(self, message: str) -> None:
        """Keep the warning."""
        self.warnings.append(message)


class LogWarnings(Quiet):
    """A :class:`Progress` that logs warnings and shows nothing else: the default of the Python functions."""

    def warn(self, message: str) -> None:
        """Log the warning under the name ``tadkit``."""
        super().warn(message)
        logging.getLogger("tadkit").warning("%s", printable(message))


@dataclass
class _Video:
    """A video that is under way: its frames, those that are done, and the share of it that was reported."""

    frames: int
    done: int = 0
    reported: float = 0.0


class VideoProgress:
    """Progress through videos, of which a single one may take hours.

    One video is counted in frames. Of several each counts as one, in fractions; the note has the frames of the video,
    or the percentages of those that are under way at the same time.
    """

    def __init__(self, progress: Progress, task: str, *, videos: int) -> None:
        """Start ``task`` over ``videos`` videos."""
        self._progress, self._task, self._videos = progress, task, videos
        self._under_way: dict[str, _Video] = {}
        if videos != 1:
            progress.start(task, total=videos, unit="videos")

    def begin(self, name: str, *, frames: int) -> None:
        """Begin a video of ``frames`` sampled frames."""
        self._under_way[name] = _Video(frames)
        if self._videos == 1:
            self._progress.start(self._task, total=frames, unit="frames")

    def advance(self, frames: int, name: str | None = None) -> None:
        """Report ``frames`` more as done, of the video begun last or of the one called ``name``."""
        name = name or next(reversed(self._under_way))
        video = self._under_way[name]
        video.done += frames
        if self._videos == 1:
            self._progress.advance(frames, note=name)
        else:
            share = min(frames / max(1, video.frames), 1 - video.reported)
            video.reported += share
            self._progress.advance(share, note=self._note())

    def end(self, name: str) -> None:
        """End a video, done or failed."""
        video = self._under_way.pop(name, _Video(0))
        if self._videos != 1:
            self._progress.advance(1 - video.reported, note=self._note() or name)

    def _note(self) -> str:
        """Where the videos are that are under way."""
        shares = [f"{name} {video.reported:.0%}" for name, video in self._under_way.items()]
        if len(shares) == 1:
            return "".join(f"{name}: {one.done} of {one.frames} frames" for name, one in self._under_way.items())
        more = [f"{len(shares) - _NOTED} more"] if len(shares) > _NOTED else []
        return ", ".join(shares[:_NOTED] + more)
