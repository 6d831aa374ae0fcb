"""Lines that report what was assumed, left out or lost, with places; and files that are malformed in any way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tadkit.errors import AnnotationError

_MOST_PLACES = 3
MALFORMED = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""Readers check for common mistakes; a file that is malformed in any other way raises one of these."""


def malformed(place: Path | str, form: str, cause: Exception) -> AnnotationError:
    """The error of a file that is not in its format."""
    said = " ".join(str(cause).split())[:100]
    return AnnotationError(f"{place}: not a valid '{form}' file ({type(cause).__name__}: {said})")


def counted(what: str, places: Sequence[str]) -> tuple[str, ...]:
    """One line with the number of ``places``, what is the matter with them, and the first three; none for none."""
    if not places:
        return ()
    first = ", ".join(places[:_MOST_PLACES])
    more = f" and {len(places) - _MOST_PLACES} more" if len(places) > _MOST_PLACES else ""
    return (f"{len(places)} {what}: {first}{more}",)


def named(names: Iterable[str]) -> str:
    """Names in quotation marks, sorted, for a message."""
    return ", ".join(f"'{name}'" for name in sorted(set(names)))
