"""Findings about annotations, and how they are printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning"]
MOST_ERRORS = 50
"""Errors printed one by one; the rest are only counted."""
_ALONE = 3
"""Warnings of one kind printed one by one; more are merged into one line."""
_NAMED = 3


@dataclass(frozen=True)
class Finding:
    """One mistake or oddity.

    Attributes:
        level: an error is contradictory or unusable data; a warning is unusual data that is used as it is.
        video: name of the video; empty for a finding about the whole file.
        what: kind, in one word, such as ``negative``.
        message: what, where, and what was expected.
    """

    level: Level
    video: str
    what: str
    message: str

    def __str__(self) -> str:
        """One line."""
        where = f"'{self.video}': " if self.video else ""
        return f"{self.level}: {where}{self.message}"


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Lines to print, in order: one per error up to ``MOST_ERRORS``; many warnings of one kind share a line.

    A finding about a whole file always has its own line.
    """
    errors = [finding for finding in findings if finding.level == "error"]
    listed = set(map(id, errors[:MOST_ERRORS]))
    alike: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.level == "warning" and finding.video:
            alike.setdefault(finding.what, []).append(finding)
    for finding in findings:
        group = alike.get(finding.what, []) if finding.level == "warning" and finding.video else []
        if finding.level == "error":
            if id(finding) in listed:
                yield str(finding)
        elif len(group) <= _ALONE:
            yield str(finding)
        elif group[0] is finding:
            yield _together(group)
    if more := Counter(finding.what for finding in errors[MOST_ERRORS:]):
        kinds = ", ".join(f"{what} {count}" for what, count in more.most_common())
        yield f"error: {more.total()} more errors ({kinds}); --json lists all"


def _together(group: Sequence[Finding]) -> str:
    """One line for warnings of one kind."""
    names = list(dict.fromkeys(finding.video for finding in group))
    named = ", ".join(f"'{name}'" for name in names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    videos = "1 video" if len(names) == 1 else f"{len(names)} videos"
    first = group[0].message
    return f"warning: {len(group)} of kind {group[0].what} in {videos} ({named}; --json lists all); the first: {first}"
