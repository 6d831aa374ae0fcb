"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from tadkit.errors import UsageError, VideoError

Function = TypeVar("Function", bound=Callable[..., Any])
VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg"})

PATH = click.Path(path_type=Path)
STDIN = Path("/dev/stdin")


def device_option(function: Function) -> Function:
    """``--device``."""
    return click.option(
        "--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps."
    )(function)


def set_option(function: Function) -> Function:
    """``--set``, any number of times."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="NAME=TOML",
        help="Set one setting (docs/settings.md), as in --set decode.keep=50. May be given again.",
    )(function)


def example(*commands: str) -> str:
    """The closing words of a help text: commands that run as they stand."""
    return "\b\nExample:\n" + "\n".join(f"  {command}" for command in commands)


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
        inside = sorted(path for path in source.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
        if not inside:
            raise VideoError(f"{source}: no video in this folder; looked for {' '.join(sorted(VIDEO_SUFFIXES))}")
        found.extend(inside)
    seen: set[Path] = set()
    for path in found:
        if path.resolve() in seen:
            raise UsageError(f"{path}: named twice; name each video once")
        seen.add(path.resolve())
    return found


def or_stdin(path: Path) -> Path:
    """``path``, or where standard input is read from if it is ``-``."""
    return STDIN if str(path) == "-" else path
