"""Digests of video files, and keys of what is read from them; each file is read once unless it changes."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tadkit.errors import VideoError
from tadkit.files import digest_of, digest_of_file, write_text
from tadkit.video.index import build_index

_FORMAT = "tadkit-digests"
_VERSION = 2
_READING = 2
"""Increased when other frames or stamps are read from some files; version 0.1.0 of tadkit had 1."""


class _Version(NamedTuple):
    """Identity of a file's content; editing or replacing the file changes at least one field."""

    path: str
    size: int
    changed_ns: int
    inode: int


class _Digests(NamedTuple):
    """Digest of a file's bytes, and key of what is read from it; the key is empty until it is asked for."""

    source: str
    key: str = ""


_KNOWN: dict[_Version, _Digests] = {}


def source_digest(path: Path) -> str:
    """SHA-256 of a video file.

    Raises:
        VideoError: it is not a file or cannot be read.
    """
    return _KNOWN[_known(path)].source


def source_key(path: Path) -> str:
    """What stored results of a video depend on: the digest of its bytes, and how its frames and stamps are read.

    It is the digest alone for files that version 0.1.0 of tadkit read alike, so that results of that version are kept,
    and for files that are no videos.

    Raises:
        VideoError: it is not a file or cannot be read.
    """
    version = _known(path)
    source, key = _KNOWN[version]
    if key:
        return key
    try:
        key = digest_of([source, _READING]) if build_index(path).read_otherwise else source
    except VideoError:
        return source
    _KNOWN[version] = _Digests(source, key)
    return key


def _known(path: Path) -> _Version:
    """Which version of a file it is; its digest is in ``_KNOWN`` then."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise VideoError(f"{path}: not a file; expected a video")
        version = _Version(str(path.absolute()), status.st_size, status.st_mtime_ns, status.st_ino)
        if version not in _KNOWN:
            _KNOWN[version] = _Digests(digest_of_file(path))
        return version
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
        if _KNOWN.items() - before.items():
            rows = [[*version, *digests] for version, digests in sorted(_KNOWN.items())]
            write_text(path, json.dumps({"format": _FORMAT, "version": _VERSION, "digests": rows}, indent=0) + "\n")


def _read(path: Path) -> dict[_Version, _Digests]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (content["format"], content["version"]) != (_FORMAT, _VERSION):
            return {}
        return {
            _Version(str(name), int(size), int(changed_ns), int(inode)): _Digests(str(source), str(key))
            for name, size, changed_ns, inode, source, key in content["digests"]
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}
