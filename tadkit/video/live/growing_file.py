"""A file that is read while another program writes it."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Event

_LOOK_EVERY_S = 0.1


class GrowingFile:
    """What PyAV reads: at the end of the file, :meth:`read` waits for more.

    It cannot be searched, so that FFmpeg reads the file as a stream.

    Attributes:
        replaced: whether it ended because the file was written again from its beginning, or by another one.
    """

    def __init__(self, path: Path, *, patience_s: float, stopped: Event) -> None:
        """Open the file; it has ended when it stays as it is for ``patience_s``, or when ``stopped`` is set."""
        self._path, self._patience_s, self._stopped = path, patience_s, stopped
        self._file = path.open("rb")
        self._inode = path.stat().st_ino
        self.replaced = False

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; none at the end."""
        since_s = time.monotonic()
        while not (content := self._file.read(size)):
            if self._is_replaced():
                self.replaced = True
                break
            if time.monotonic() - since_s > self._patience_s or self._stopped.wait(_LOOK_EVERY_S):
                break
        return content

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _is_replaced(self) -> bool:
        try:
            status = self._path.stat()
        except OSError:
            return False  # removed: what is open can still be read, and a new one may follow
        return status.st_ino != self._inode or status.st_size < self._file.tell()
