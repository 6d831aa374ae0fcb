"""Findings about annotations, and the lines in which a person reads many of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning"]
MOST_ERRORS = 50
"""Errors that are told one by one; the rest is counted."""
_ALONE = 3
"""Warnings of one kind that are told one by one; more share a line."""
_NAMED = 3


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        level: an error contradicts itself or cannot be used; a warning is unusual, and read as it stands.
        video: name of the video, empty where it is about the whole file.
        what: a word for the kind, such as ``negative``.
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
    """Findings in their order: an error a line, up to ``MOST_ERRORS``; warnings of one kind in a line where many are.

    What is about a whole file has a line of its own always.
    """
    errors = [finding for finding in findings if finding.level == "error"]
    told = set(map(id, errors[:MOST_ERRORS]))
    alike: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.level == "warning" and finding.video:
            alike.setdefault(finding.what, []).append(finding)
    for finding in findings:
        group = alike.get(finding.what, []) if finding.level == "warning" and finding.video else []
        if finding.level == "error":
            if id(finding) in told:
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
    return f"warning: {len(group)} of kind {group[0].what} in {videos} ({named}; --json lists all), the first: {first}"
