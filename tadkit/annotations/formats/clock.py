"""Times as text: seconds, hh:mm:ss and dates; and what is never a time within a video."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from tadkit.annotations.formats.source import number
from tadkit.errors import AnnotationError

CALENDAR_S = 1e8
"""From this many seconds (three years), a time is one of the calendar, counted from 1970, and not of a video."""
_DECIMALS = 9
_CLOCK = re.compile(r"(-?)(?:(\d+):)?(\d+):(\d+(?:\.\d*)?)")
_DATE = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d*)?)?")


def from_clock(text: str, where: str) -> float:
    """Seconds of ``hh:mm:ss.ss``, ``mm:ss`` or plain seconds.

    Raises:
        AnnotationError: anything else, such as a time code ``hh:mm:ss:ff`` with frames.
    """
    text = text.strip()
    if ":" not in text:
        return round(number(text, where, unit="a time such as 00:01:23.45"), _DECIMALS)
    match = _CLOCK.fullmatch(text)
    if match is None or float(match[4]) >= 60 or (match[2] and int(match[3]) >= 60):
        raise AnnotationError(f"{where} is {text[:80]!r}; expected a time such as 00:01:23.45")
    seconds = int(match[2] or 0) * 3600 + int(match[3]) * 60 + float(match[4])
    return round(-seconds if match[1] else seconds, _DECIMALS)


def moment(text: str, where: str) -> float:
    """As :func:`from_clock`; a date such as ``2024-05-02 09:00:00`` gives seconds since 1970, beyond ``CALENDAR_S``.

    Raises:
        AnnotationError: anything else, such as a date with a time zone, which could not be compared with one without.
    """
    text = text.strip()
    if re.match(r"\d{4}-\d\d-\d\d", text) is None:
        return from_clock(text, where)
    try:
        if _DATE.fullmatch(text) is None:
            raise ValueError
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except ValueError as cause:
        raise AnnotationError(
            f"{where} is {text[:80]!r}; expected a date such as 2024-05-02 09:00:00, without a time zone"
        ) from cause
