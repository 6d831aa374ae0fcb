"""Finding video files: in folders, and by the names that annotations give them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tadkit.errors import UsageError, VideoError
from tadkit.files import leaves_folder

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
"""Suffixes, in lower case, of the files in a folder that count as videos; case is ignored."""


def is_video(path: Path) -> bool:
    """Whether a file's suffix is that of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def find_video(name: str, folder: Path) -> Path | None:
    """The file of the video ``name`` in ``folder``, or None.

    ActivityNet's files begin with ``v_``, which its annotations omit and other formats keep. Either is found. A name
    that leads out of the folder is never looked for.
    """
    if leaves_folder(name) or "\0" in name:
        return None
    suffixes = (*VIDEO_SUFFIXES, *map(str.upper, VIDEO_SUFFIXES))
    stems = (name, name.removeprefix("v_") if name.startswith("v_") else f"v_{name}")
    candidates = (folder / (stem + suffix) for stem in stems for suffix in suffixes)
    return next((path for path in candidates if path.is_file()), None)


def videos_in(sources: Sequence[Path]) -> list[Path]:
    """The given videos, with folders replaced by the videos in them, sorted by name.

    Raises:
        UsageError: the same video is named twice.
        VideoError: a folder contains no video.
    """
    found: list[Path] = []
    for source in sources:
        if not source.is_dir():
            found.append(source)
            continue
        inside = sorted(path for path in source.iterdir() if is_video(path))
        if not inside:
            raise VideoError(f"{source}: no video in this folder; looked for {' '.join(sorted(VIDEO_SUFFIXES))}")
        found.extend(inside)
    seen: set[Path] = set()
    for path in found:
        if path.resolve() in seen:
            raise UsageError(f"{path}: named twice; name each video once")
        seen.add(path.resolve())
    return found


def named(videos: Sequence[Path]) -> dict[str, Path]:
    """A unique name for each video: its stem, preceded by as many of its folders as needed.

    Videos that differ only in the suffix keep it.
    """
    given = {path.absolute(): path for path in reversed(videos)}
    paths = list(given)[::-1]
    alike = Counter(path.with_suffix("") for path in paths)
    last = {path: path.stem if alike[path.with_suffix("")] == 1 else path.name for path in paths}
    names: dict[Path, str] = {}
    depth = 1
    while len(names) < len(paths):
        candidates = {path: "/".join((*path.parts[1:][-depth:-1], last[path])) for path in paths}
        counts = Counter([*names.values(), *(candidates[path] for path in paths if path not in names)])
        deepest = depth > max(len(path.parts) for path in paths)
        for path in [path for path in paths if path not in names]:
            if deepest or counts[candidates[path]] == 1:
                names[path] = str(path) if deepest else candidates[path]
        depth += 1
    return {names[path]: given[path] for path in paths}
