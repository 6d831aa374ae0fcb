"""How the library reports its progress without printing."""

from __future__ import annotations

import logging
from typing import Protocol

from tadkit.errors import printable


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


class VideoProgress:
    """Progress through videos, of which a single one may take hours.

    One video is counted in frames. Of several each counts as one, in fractions, with its frames in the note.
    """

    def __init__(self, progress: Progress, task: str, *, videos: int) -> None:
        """Start ``task`` over ``videos`` videos."""
        self._progress, self._task, self._videos = progress, task, videos
        self._name, self._frames, self._done, self._reported = "", 0, 0, 0.0
        if videos != 1:
            progress.start(task, total=videos, unit="videos")

    def begin(self, name: str, *, frames: int) -> None:
        """Begin a video of ``frames`` sampled frames."""
        self._name, self._frames, self._done, self._reported = name, frames, 0, 0.0
        if self._videos == 1:
            self._progress.start(self._task, total=frames, unit="frames")

    def advance(self, frames: int) -> None:
        """Report ``frames`` more of the video as done."""
        self._done += frames
        if self._videos == 1:
            self._progress.advance(frames, note=self._name)
        else:
            share = min(frames / max(1, self._frames), 1 - self._reported)
            self._reported += share
            self._progress.advance(share, note=f"{self._name}: {self._done} of {self._frames} frames")

    def end(self, name: str) -> None:
        """End a video, done or failed."""
        if self._videos != 1:
            self._progress.advance(1 - self._reported, note=name)
        self._reported = 0.0
