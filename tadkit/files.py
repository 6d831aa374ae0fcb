"""Atomic writing of files, JSON reading, and digests of contents."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadkit.errors import TadkitError, UsageError

if TYPE_CHECKING:
    from filelock import FileLock

_READ_BYTES = 1 << 20
_SURROGATE = re.compile(r"[\ud800-\udfff]")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk that is full, and of files that are larger than a disk or a limit allows."""
LONGEST_NAME_BYTES = 240
"""Longest part of a name that may become a file's: file systems allow 255 bytes, of which a suffix needs some."""


@contextmanager
def whole_file(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path next to ``path`` and rename it to ``path`` on success.

    After a failure or a kill ``path`` is unchanged. The temporary file has the suffix of ``path``, because some writers
    choose the format by it.

    Args:
        path: the file.
        durable: wait for the disk, so that this also holds after a power failure; costs milliseconds per file.

    Raises:
        UsageError: the folder cannot be created or written to, the disk is full, or ``path`` is a folder or its name is
            too long.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:60]}.", suffix=path.suffix)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if durable:
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        _put(temporary, path)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UsageError(
            f"{path}: cannot be written ({error.strerror}); free some disk space, or choose another place"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def acquired(path: Path, *, refusal: TadkitError) -> FileLock:
    """Take the lock file ``path``, in an existing folder, for this process; release it after use.

    Raises:
        UsageError: the folder cannot be written to.
        TadkitError: ``refusal``, where another process has it.
    """
    from filelock import FileLock, Timeout  # slow to import, and few commands need it

    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise refusal from error
    except OSError as error:
        raise UsageError(f"{path.parent}: cannot be written ({error.strerror}); choose another place") from error
    return lock


def _put(temporary: Path, path: Path) -> None:
    try:
        os.replace(temporary, path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}); choose another place") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Write ``text`` as UTF-8, atomically; see :func:`whole_file`."""
    with whole_file(path, durable=durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


_OfPairs = Callable[[list[tuple[str, Any]]], Any]


def read_json(path: Path, *, error: type[TadkitError], distinct: bool = False, of_pairs: _OfPairs | None = None) -> Any:
    """Read a JSON file; a leading byte order mark is ignored.

    Args:
        path: the file.
        error: the class of error to raise.
        distinct: refuse objects with duplicate keys, of which JSON readers silently keep the last.
        of_pairs: builds an object from its pairs; None builds a dict.

    Raises:
        error: the file is missing, is not a file, or is not JSON; the message names the path.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = json.loads(text, object_pairs_hook=_distinct if distinct else of_pairs)
        if "\\ud" in text.lower():  # a lone surrogate could not be written back
            json.dumps(content, ensure_ascii=False).encode()
        return content
    except FileNotFoundError as cause:
        raise error(f"{path}: no such file") from cause
    except OSError as cause:
        raise error(f"{path}: cannot be read ({cause.strerror})") from cause
    except (ValueError, RecursionError) as cause:
        raise error(f"{path}: not JSON ({cause}); docs/formats.md has the files that tadkit reads") from cause


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        twice = next(name for number, (name, _) in enumerate(pairs) if name in dict(pairs[:number]))
        raise ValueError(f"'{twice}' appears twice in one object")
    return read


def encodable(text: str) -> str:
    r"""Text that UTF-8 can encode: undecodable bytes of file names are written as escapes such as ``\udcff``."""
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def canonical_json(value: Any) -> str:
    """JSON text that is identical for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_of(value: Any) -> str:
    """SHA-256 of the canonical JSON of ``value``, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal, read in constant memory."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            total.update(block)
    return total.hexdigest()


def leaves_folder(name: str) -> bool:
    """Whether ``name``, joined to a folder, may lead out of it: an absolute path, or one with a part ``..``."""
    parts = re.split(r"[/\\]", name)
    return ".." in parts or (len(parts) > 1 and (parts[0] == "" or re.fullmatch("[A-Za-z]:", parts[0]) is not None))
