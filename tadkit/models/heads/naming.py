"""Whether a head names what it finds, and the labels of what it finds."""

from __future__ import annotations

from tadkit.config import BmnSettings, HeadSettings

UNNAMED = "action"
"""Label of what a head without classifier finds, where nothing else names it."""


def is_nameless(head: HeadSettings) -> bool:
    """Whether a head has no classifier: all that it finds is of one class."""
    return isinstance(head, BmnSettings) and not head.classifier


def head_labels(head: HeadSettings, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Labels of a head's classes: ``labels``; without classifier :data:`UNNAMED`, unless there is but one label."""
    return labels if len(labels) == 1 or not is_nameless(head) else (UNNAMED,)
