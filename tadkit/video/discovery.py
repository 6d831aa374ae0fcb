"""Finding video files: in folders, and by the names that annotations give them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tadkit.errors import UsageError, VideoError

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
"""Suffixes of the files in a folder that are taken for videos, in lower case; the case does not matter."""


def is_video(path: Path) -> bool:
    """Whether a file's suffix is that of a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def find_video(name: str, folder: Path) -> Path | None:
    """The file of the video ``name`` in ``folder``, None if there is none.

    ActivityNet's annotations leave out the ``v_`` that its files begin with; some forms have it. Either is found.
    """
    suffixes = (*VIDEO_SUFFIXES, *map(str.upper, VIDEO_SUFFIXES))
    stems = (name, name.removeprefix("v_") if name.startswith("v_") else f"v_{name}")
    candidates = (folder / (stem + suffix) for stem in stems for suffix in suffixes)
    return next((path for path in candidates if path.is_file()), None)


def videos_in(sources: Sequence[Path]) -> list[Path]:
    """Videos as named, folders replaced by the videos in them, in the order of their names.

    Raises:
        UsageError: the same video is named twice.
        VideoError: a folder holds no video.
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
