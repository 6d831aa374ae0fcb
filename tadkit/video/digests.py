"""Digests of video files; each file is read once unless it changes."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tadkit.errors import VideoError
from tadkit.files import digest_of_file, write_text

_FORMAT = "tadkit-digests"
_VERSION = 1


class _Version(NamedTuple):
    """Identity of a file's content; editing or replacing the file changes at least one field."""

    path: str
    size: int
    changed_ns: int
    inode: int


_KNOWN: dict[_Version, str] = {}


def source_digest(path: Path) -> str:
    """SHA-256 of a video file.

    Raises:
        VideoError: it is not a file or cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise VideoError(f"{path}: not a file; expected a video")
        version = _Version(str(path.absolute()), status.st_size, status.st_mtime_ns, status.st_ino)
        if version not in _KNOWN:
            _KNOWN[version] = digest_of_file(path)
        return _KNOWN[version]
    except FileNotFoundError as error:
        raise VideoError(f"{path}: no such file; expected a video") from error
    except OSError as error:
        raise VideoError(f"{path}: cannot be read ({error.strerror}); expected a video") from error


@contextmanager
def digest_ledger(path: Path) -> Iterator[None]:
    """Keep digests in the JSON file ``path``, so that later processes do not read the videos again.

    A damaged ledger or one of another version is ignored and replaced.
    """
    before = _read(path)
    _KNOWN.update(before)
    try:
        yield
    finally:
        if _KNOWN.keys() - before.keys():
            rows = [[*version, digest] for version, digest in sorted(_KNOWN.items())]
            write_text(path, json.dumps({"format": _FORMAT, "version": _VERSION, "digests": rows}, indent=0) + "\n")


def _read(path: Path) -> dict[_Version, str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (content["format"], content["version"]) != (_FORMAT, _VERSION):
            return {}
        return {
            _Version(str(name), int(size), int(changed_ns), int(inode)): str(digest)
            for name, size, changed_ns, inode, digest in content["digests"]
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}
