"""What ``tadkit detect --live`` reads from: a camera, a pipe, a growing file or a URL."""

from __future__ import annotations

import stat
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from threading import Event
from typing import Any

from tadkit.errors import UsageError, VideoError
from tadkit.video.container import open_input, public, url_of
from tadkit.video.live.growing_file import GrowingFile

SILENT_S = 10.0
"""A URL that sends nothing for so long is lost."""
_DEVICES = {"linux": ("/dev/video{}", "v4l2"), "darwin": ("{}:none", "avfoundation")}
"""Name of a camera by its index, and FFmpeg's name for what reads it."""
_OPTIONS = {"rtsp_flags": "prefer_tcp", "reconnect": "1", "reconnect_delay_max": "4"}
"""FFmpeg's: RTSP over TCP where the server can, since UDP loses pictures; HTTP resumes files where they broke off."""


class LiveSource(ABC):
    """Where live video comes from.

    Attributes:
        name: for messages, without passwords.
        advice: what to do when it cannot be read.
        stopped: set it to end waiting for more.
    """

    def __init__(self, name: str, *, advice: str, stopped: Event) -> None:
        self.name, self.advice, self.stopped = name, advice, stopped

    @abstractmethod
    def open(self) -> tuple[Any, Any]:
        """PyAV's container and its video stream.

        Raises:
            VideoError: it cannot be opened.
        """

    @abstractmethod
    def cut(self, container: Any) -> str:
        """Why more may come after data has ended without an error; empty if the source has ended."""

    def may_return(self, container: Any) -> bool:  # noqa: ARG002 - others depend on it
        """Whether a connection that broke off can be opened again."""
        return True


class Camera(LiveSource):
    """A camera of this machine."""

    def __init__(self, number: int, *, stopped: Event) -> None:
        if sys.platform not in _DEVICES:
            raise UsageError(f"--live {number}: cameras cannot be read on {sys.platform}; name a URL, a file or -")
        name, self._format = _DEVICES[sys.platform]
        self._device = name.format(number)
        advice = f"check that {self._device} is there and that no other program uses it"
        super().__init__(f"camera {number}", advice=advice, stopped=stopped)

    def open(self) -> tuple[Any, Any]:
        """The camera's pictures."""
        return open_input(self._device, name=self.name, advice=self.advice, may_refer=True, format=self._format)

    def cut(self, container: Any) -> str:  # noqa: ARG002 - others depend on it
        """A camera has no end."""
        return "the camera has stopped"


class Pipe(LiveSource):
    """Encoded video on standard input or in a named pipe."""

    def __init__(self, path: Path | None, *, stopped: Event) -> None:
        super().__init__("stdin" if path is None else str(path), advice=_STREAMS, stopped=stopped)
        self._path = path

    def open(self) -> tuple[Any, Any]:
        """The stream in the pipe."""
        source = "pipe:0" if self._path is None else str(self._path)
        return open_input(source, name=self.name, advice=self.advice)

    def cut(self, container: Any) -> str:  # noqa: ARG002 - others depend on it
        """A pipe that its writer has closed has ended."""
        return ""

    def may_return(self, container: Any) -> bool:  # noqa: ARG002 - others depend on it
        """What was in the pipe is gone."""
        return False


class File(LiveSource):
    """A file that is being written."""

    def __init__(self, path: Path, *, patience_s: float, stopped: Event) -> None:
        super().__init__(str(path), advice=_STREAMS, stopped=stopped)
        self._path, self._patience_s = path, patience_s
        self._file: GrowingFile | None = None

    def open(self) -> tuple[Any, Any]:
        """The stream in the file, from its beginning."""
        if self._file is not None:
            self._file.close()
        try:
            self._file = GrowingFile(self._path, patience_s=self._patience_s, stopped=self.stopped)
        except OSError as error:
            raise VideoError(
                f"{self._path}: cannot be read ({error.strerror}); name the file that is written"
            ) from error
        return open_input(self._file, name=self.name, advice=self.advice)

    def may_return(self, container: Any) -> bool:  # noqa: ARG002 - others depend on it
        """It would come from its beginning again."""
        return False

    def cut(self, container: Any) -> str:  # noqa: ARG002 - others depend on it
        """A file that is written again from its beginning is another one."""
        assert self._file is not None
        return "the file was replaced" if self._file.replaced else ""


class Url(LiveSource):
    """Whatever FFmpeg reads by a URL: RTSP, HTTP, HLS, TCP, SRT ..."""

    def __init__(self, url: str, *, stopped: Event) -> None:
        advice = "check the address and the network, and that it is video"
        super().__init__(public(url), advice=advice, stopped=stopped)
        self._url = url

    def open(self) -> tuple[Any, Any]:
        """The stream at the URL."""
        how = {"options": dict(_OPTIONS), "timeout": (SILENT_S, SILENT_S)}
        return open_input(self._url, name=self.name, advice=self.advice, may_refer=True, **how)

    def cut(self, container: Any) -> str:
        """A file of known size ends; anything else was cut."""
        return "" if _has_end(container) else "the server has closed the connection"

    def may_return(self, container: Any) -> bool:
        """A file would come from its beginning again."""
        return not _has_end(container)


_STREAMS = (
    "expected a format that can be read while it is written: MPEG-TS, Matroska, fragmented MP4 or H.264 "
    "(other files are read by tadkit detect FILE)"
)


def _has_end(container: Any) -> bool:
    """Whether the size or the length of what is read is known, as of a file on an HTTP server."""
    return bool(container.size > 0) or bool(container.duration)


def live_source(source: str, *, patience_s: float, stopped: Event) -> LiveSource:
    """The source that a user names.

    Args:
        source: index of a camera, ``-`` for stdin, a URL, or the path of a file or a named pipe.
        patience_s: how long a file may stay as it is before it has ended.
        stopped: set it to end waiting for more.

    Raises:
        UsageError: cameras cannot be read on this system.
        VideoError: there is no such file.
    """
    if source == "-":
        return Pipe(None, stopped=stopped)
    if source.isdecimal():
        return Camera(int(source), stopped=stopped)
    if url_of(source) is not None:
        return Url(source, stopped=stopped)
    path = Path(source)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise VideoError(
            f"{path}: {error.strerror}; expected a camera's index, a file, a URL, or - for stdin"
        ) from error
    if stat.S_ISREG(mode):
        return File(path, patience_s=patience_s, stopped=stopped)
    return Pipe(path, stopped=stopped)
