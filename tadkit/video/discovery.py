"""Finding video files: in folders, and by the names that annotations give them."""

from __future__ import annotations

import codecs
import logging
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from tadkit.errors import UsageError, VideoError
from tadkit.files import leaves_folder

VIDEO_SUFFIXES = (
    *(".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"),  # first, where a video has several files
    *(".ts", ".mts", ".m2ts", ".m2t", ".flv", ".f4v", ".wmv", ".asf", ".3gp", ".3g2", ".ogv", ".divx"),
    *(".vob", ".mpe", ".m2v", ".mxf", ".dv", ".rm", ".rmvb", ".wtv", ".nut", ".y4m", ".gif", ".ivf", ".obu"),
    *(".h264", ".264", ".h265", ".265", ".hevc", ".mjpg", ".mjpeg", ".qt"),
)
"""Suffixes, in lower case, of the files in a folder that count as videos; case is ignored."""
_APPLE_DOUBLE = "._"
"""Begins the names of files in which macOS keeps a file's attributes on other file systems."""
_NAMED_SUFFIXES = 5
_SETTLED_NS = 2_000_000_000
"""A folder that was changed more recently may change again without a new time of change."""

_log = logging.getLogger(__name__)


def is_video(path: Path) -> bool:
    """Whether a file's name is that of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(_APPLE_DOUBLE)


def find_video(name: str, folder: Path) -> Path | None:
    """The file of the video ``name`` in ``folder``, or None; ``a/b`` is in its sub-folder ``a``.

    ActivityNet's files begin with ``v_``, which its annotations omit and other formats keep. Either is found. A name
    that leads out of the folder is never looked for. Names of videos that share a stem have the suffix (:func:`named`).
    """
    if leaves_folder(name) or "\0" in name or not name:
        return None
    folder = (folder / name).parent
    try:
        changed_ns = folder.stat().st_mtime_ns
        settled = time.time_ns() - changed_ns > _SETTLED_NS
        files = _remembered(folder, changed_ns) if settled else _by_stem(folder)
    except OSError:
        return None
    stem = name.rpartition("/")[2]
    other = stem.removeprefix("v_") if stem.startswith("v_") else f"v_{stem}"
    found = files.get(stem) or files.get(other) or folder / stem
    return found if is_video(found) and found.is_file() else None


@lru_cache(maxsize=64)
def _remembered(folder: Path, changed_ns: int) -> Mapping[str, Path]:
    """:func:`_by_stem` of a folder that was last changed at ``changed_ns``."""
    del changed_ns
    return _by_stem(folder)


def _by_stem(folder: Path) -> Mapping[str, Path]:
    """The videos of a folder by name without suffix."""
    videos = sorted((path for path in folder.iterdir() if is_video(path)), key=_preference, reverse=True)
    return {path.name[: -len(path.suffix)]: path for path in videos}


def _preference(path: Path) -> tuple[int, str]:
    return VIDEO_SUFFIXES.index(path.suffix.lower()), path.name


def videos_in(sources: Iterable[Path], *, recursive: bool = False) -> list[Path]:
    """The given videos, with folders replaced by the videos in them, sorted by name.

    Files in a folder that are no videos are counted in a warning.

    Args:
        sources: files, of any suffix, and folders.
        recursive: search the folders' sub-folders, too.

    Raises:
        UsageError: the same video is named twice.
        VideoError: a folder contains no video, or cannot be read.
    """
    found: list[Path] = []
    for source in sources:
        found += _inside(source, recursive=recursive) if source.is_dir() else [source]
    seen: set[Path] = set()
    for path in found:
        if path.resolve() in seen:
            raise UsageError(f"{path}: named twice; name each video once")
        seen.add(path.resolve())
    return found


def listed_videos(path: Path) -> list[Path]:
    """The paths in a list: one a line, or separated by NUL as ``find -print0`` writes them.

    Relative paths are relative to the current folder; empty lines are skipped.

    Raises:
        UsageError: the list cannot be read, is empty, or is in UTF-16, which editors on Windows call Unicode.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: this list of videos cannot be read ({error.strerror})") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UsageError(f"{path}: this list of videos is in UTF-16; save it as UTF-8")
    content = content.removeprefix(codecs.BOM_UTF8)
    lines = content.split(b"\0" if b"\0" in content else b"\n")
    names = [os.fsdecode(line.rstrip(b"\r\n")) for line in lines]
    found = [Path(name) for name in names if name.strip()]
    if not found:
        raise UsageError(f"{path}: this list names no video; expected a path in each line")
    return found


def shard_of(videos: Mapping[str, Path], number: int, count: int) -> dict[str, Path]:
    """The videos of shard ``number`` (from 1) of ``count``: every ``count``-th in the order of their names.

    All shards together have every video once. Names, and so the shards, are the same wherever the folders are.
    """
    return {name: videos[name] for name in sorted(videos)[number - 1 :: count]}


def _inside(folder: Path, *, recursive: bool) -> list[Path]:
    """The videos in a folder."""
    files: list[Path] = []
    folders = 0
    for parent, below, names in os.walk(folder, onerror=_unreadable):
        files += [Path(parent) / name for name in sorted(names)]
        if not recursive:
            folders = len(below)
            break
    videos = sorted(path for path in files if is_video(path))
    others = [path for path in files if not is_video(path)]
    if not videos:
        deeper = f"; --recursive searches its {_counted(folders, 'sub-folder')}, too" if folders else ""
        only = f" (only {_kinds(others)})" if others else ""
        raise VideoError(
            f"{folder}: no video in this folder{only}{deeper}; expected suffixes such as "
            f"{' '.join(VIDEO_SUFFIXES[:4])}, or name a file of another suffix itself"
        )
    left_out = [_kinds(others)] if others else []
    left_out += [f"{_counted(folders, 'sub-folder')} (--recursive searches them, too)"] if folders else []
    if left_out:
        _log.warning("%s: %s taken; skipped %s", folder, _counted(len(videos), "video"), " and ".join(left_out))
    return videos


def _unreadable(error: OSError) -> None:
    raise VideoError(f"{error.filename}: this folder cannot be read ({error.strerror}); check its permissions")


def _kinds(files: Sequence[Path]) -> str:
    """Number and suffixes of files that are no videos."""
    kinds = Counter("._*" if path.name.startswith(_APPLE_DOUBLE) else path.suffix or path.name for path in files)
    named = [f"{kind}" for kind, _ in kinds.most_common(_NAMED_SUFFIXES)]
    more = ", ..." if len(kinds) > _NAMED_SUFFIXES else ""
    return f"{_counted(len(files), 'other file')}: {', '.join(named)}{more}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def named(videos: Sequence[Path]) -> dict[str, Path]:
    """A unique name for each video: its stem, preceded by as many of its folders as needed.

    Videos that differ only in the suffix keep it, and no other video has the name that they share without it.
    """
    given = {path.absolute(): path for path in reversed(videos)}
    paths = list(given)[::-1]
    alike = Counter(path.with_suffix("") for path in paths)
    last = {path: path.stem if alike[path.with_suffix("")] == 1 else path.name for path in paths}
    names: dict[Path, str] = {}
    depth = 1
    while len(names) < len(paths):
        folders = {path: path.parts[1:][-depth:-1] for path in paths}
        candidates = {path: "/".join((*folders[path], last[path])) for path in paths}
        shared = ["/".join((*folders[path], path.stem)) for path in paths if last[path] == path.name]
        counts = Counter([*names.values(), *shared, *(candidates[path] for path in paths if path not in names)])
        deepest = depth > max(len(path.parts) for path in paths)
        for path in [path for path in paths if path not in names]:
            if deepest or counts[candidates[path]] == 1:
                names[path] = str(path) if deepest else candidates[path]
        depth += 1
    return {names[path]: given[path] for path in paths}
