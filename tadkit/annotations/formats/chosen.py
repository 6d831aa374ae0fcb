"""Choosing by option what of a source is read, and refusing choices that fit nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from tadkit.annotations.formats.source import Source
from tadkit.errors import AnnotationError

_MOST_NAMED = 12


def fits(name: str, patterns: Collection[str]) -> bool:
    """Whether a name is one of ``patterns`` or matches one with ``*`` or ``?``; without patterns, every name fits."""
    return not patterns or any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)


def listed(names: Iterable[str]) -> str:
    """Names in quotes; of many, the first and the number of the others."""
    quoted = [f"'{name}'" for name in names]
    more = f" and {len(quoted) - _MOST_NAMED} more" if len(quoted) > _MOST_NAMED else ""
    return ", ".join(quoted[:_MOST_NAMED]) + more


def check_chosen(kind: str, patterns: Collection[str], names: Collection[str], path: Path) -> None:
    """Check that each choice fits a name of the source.

    Raises:
        AnnotationError: one fits none; the message lists the names.
    """
    for pattern in patterns:
        if not any(fits(name, (pattern,)) for name in names):
            raise AnnotationError(f"{path}: no {kind} '{pattern}'; expected {listed(sorted(names)) or 'none at all'}")


def once_each(source: Source, path: Path, way_out: str) -> Source:
    """The source without videos that are annotated several times, since nothing says which is right: a loss each."""
    counts = Counter(video.name for video in source.videos)
    losses = tuple(
        f"{path}: the video '{name}' is annotated {count} times and left out; {way_out}"
        for name, count in counts.items()
        if count > 1
    )
    kept = tuple(video for video in source.videos if counts[video.name] == 1)
    return Source(kept, source.remarks, (*source.losses, *losses))
