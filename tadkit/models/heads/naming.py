"""Whether a head names what it finds, and the labels of what it finds."""

from __future__ import annotations

from tadkit.config import BmnSettings, HeadSettings

AGNOSTIC_LABEL = "action"
"""Label of what a head without classifier finds, where nothing else names it."""


def is_class_agnostic(head: HeadSettings) -> bool:
    """Whether a head has no classifier: all that it finds is of one class."""
    return isinstance(head, BmnSettings) and not head.classifier


def head_labels(head: HeadSettings, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Labels of a head's classes; a class-agnostic head has the only one of ``labels``, or :data:`AGNOSTIC_LABEL`."""
    return labels if len(labels) == 1 or not is_class_agnostic(head) else (AGNOSTIC_LABEL,)
