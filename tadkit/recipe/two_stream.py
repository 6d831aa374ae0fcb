"""What the head of a two-stream row reads: the teacher's feature as motion, an RGB student's as appearance."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Shaped

from tadkit.files import digest_of
from tadkit.store import VideoTracks


class TwoStreams:
    """Reads a video's motion from the teacher's outputs, and its appearance from an RGB student's features."""

    def __init__(self, teacher: VideoTracks, student: VideoTracks) -> None:
        """Both have the same steps, because the strides of teacher and student are equal."""
        self._teacher, self._student = teacher, student

    def stamps_s(self, video: str) -> Float64[np.ndarray, " stamps"]:
        """Seconds of the steps of ``video``."""
        return self._student.stamps_s(video)

    def key(self, video: str) -> str:
        """Digest of everything that either feature depends on."""
        return digest_of([self._teacher.key(video), self._student.key(video)])

    def read(
        self, video: str, track: str, start: int = 0, stop: int | None = None
    ) -> Shaped[np.ndarray, "steps channels"]:
        """Steps ``start`` to ``stop`` (half open; None is the end) of ``VIEW/motion`` or ``VIEW/appearance``."""
        view, _, branch = track.rpartition("/")
        if branch == "motion":
            return self._teacher.read(video, f"{view}/feature", start, stop)
        return self._student.read(video, track, start, stop)
