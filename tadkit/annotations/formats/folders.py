"""Folders as sources: which of their files are read, and several files read as one source."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from tadkit.annotations.formats.reports import counted
from tadkit.annotations.formats.source import Source
from tadkit.errors import AnnotationError

_OF_LABELS = (".boris", ".csv", ".eaf", ".json", ".ods", ".tsv", ".txt", ".xls", ".xlsx", ".xml", ".zip")
"""Suffixes of files that may be annotations, of any tool."""


def files_of(path: Path, *patterns: str) -> list[Path]:
    """The file itself, or the files of a folder that match one of ``patterns`` in any case, sorted.

    Raises:
        AnnotationError: the folder has no such file.
    """
    if not path.is_dir():
        return [path]
    wanted = [pattern.lower() for pattern in patterns]
    files = sorted(
        file
        for file in path.iterdir()
        if any(fnmatchcase(file.name.lower(), pattern) for pattern in wanted) and file.is_file()
    )
    if not files:
        raise AnnotationError(f"{path}: no file {' or '.join(patterns)} in this folder")
    return files


def not_read(path: Path, read: Collection[Path]) -> Source:
    """A remark on the files of a folder, and of its sub-folders, that may be annotations and are not among ``read``."""
    if not path.is_dir():
        return Source(())
    files = (*sorted(path.iterdir()), *sorted(path.glob("*/*")))
    known = set(read)
    others = [str(file.relative_to(path)) for file in files if file not in known and _may_be_labels(file)]
    said = counted("files of this folder are not read; name each in a call of its own, if it is wanted", others)
    return Source((), tuple(f"{path}: {one}" for one in said))


def _may_be_labels(file: Path) -> bool:
    return file.suffix.lower() in _OF_LABELS and not file.name.startswith(".") and file.is_file()


def read_each(files: Sequence[Path], read: Callable[[Path], Source]) -> Source:
    """Read files of a folder; one that cannot be read is a loss, unless none can be read.

    Raises:
        AnnotationError: no file can be read.
    """
    found: list[Source] = []
    failed: list[str] = []
    for file in files:
        try:
            found.append(read(file))
        except AnnotationError as error:
            failed.append(str(error))
    if not found:
        raise AnnotationError(failed[0] if len(failed) == 1 else f"{failed[0]} (and {len(failed) - 1} more files)")
    return merged([*found, Source((), losses=tuple(failed))])


def merged(sources: Iterable[Source]) -> Source:
    """Several sources as one."""
    listed = list(sources)
    return Source(
        tuple(video for source in listed for video in source.videos),
        tuple(remark for source in listed for remark in source.remarks),
        tuple(loss for source in listed for loss in source.losses),
    )
