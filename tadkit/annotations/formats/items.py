"""Reading items one by one, so that one that cannot be read never costs the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from tadkit.errors import AnnotationError
from tadkit.records import Annotation

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(items: Iterable[Item], read: Callable[[Item], Result], losses: list[str]) -> list[Result]:
    """What ``read`` gives for each item; the error of an item that cannot be read is added to ``losses``."""
    found = []
    for item in items:
        try:
            found.append(read(item))
        except AnnotationError as error:
            losses.append(str(error))
    return found


def actions_of(
    items: Iterable[Item], read: Callable[[Item], Annotation], losses: list[str], where: str
) -> tuple[Annotation, ...]:
    """As :func:`each`, for the actions of one video.

    Raises:
        AnnotationError: no item can be read, so that the video would pass for one without actions.
    """
    listed = list(items)
    found = tuple(each(listed, read, losses))
    if listed and not found:
        raise AnnotationError(f"{where}: no action is left, so the video is left out")
    return found
