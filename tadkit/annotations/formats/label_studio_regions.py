"""The regions of one Label Studio annotation as actions.

A region is one or several results that share an ``id``: its time, its labels, and the answers given for it (by controls
that are ``perRegion``). Its time is one of

- ``ranges`` of frames (TimelineLabels), counted from 1, both ends included;
- a ``sequence`` of key frames (VideoRectangle), counted from 1: visible from one that is ``enabled`` up to and
  including the next that is not, or to the end of the video (VideoRegion.isInLifespan);
- ``start`` and ``end`` in seconds (Labels and other controls on the video's audio).

Frames count at the rate of the labelling interface, so frame n is shown at (n - 1) / rate seconds of playing time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tadkit.annotations.formats.source import number
from tadkit.errors import AnnotationError

Kind = Literal["frames", "seconds", "other", "answer"]
_ANSWERS = ("choices", "taxonomy", "textarea", "rating", "number", "datetime", "relation", "pairwise", "ranker")
_PATH = " / "
_NOT_OF_TIME = ("text", "startOffset", "globalOffsets", "instant")
_DIGITS = 3


@dataclass(frozen=True)
class Region:
    """One region: results with one id.

    Attributes:
        place: for messages.
        results: as exported.
        kind: how its time is given; ``answer`` belongs to the whole task.
        value: of the result that has the time.
    """

    place: str
    results: tuple[Mapping[str, Any], ...]
    kind: Kind
    value: Mapping[str, Any] = field(default_factory=dict)

    @property
    def controls(self) -> tuple[str, ...]:
        """Names of the controls that can hold its class."""
        return tuple(str(result.get("from_name")) for result in self.results if _classes(result))

    @property
    def described(self) -> str:
        """Its place and the types of its results."""
        kinds = ", ".join(dict.fromkeys(str(result.get("type")) for result in self.results))
        return f"{self.place} ({kinds})"

    def giving(self, attribute: str | None) -> tuple[str, ...]:
        """Controls that give its class."""
        kept = self._kept(attribute)
        return tuple(dict.fromkeys(str(result.get("from_name")) for result in kept))

    def lengths(self) -> Iterator[float]:
        """Lengths of the video or its sound in seconds, as the browser found them."""
        for result in self.results:
            length = _value(result).get("duration") if "sequence" in _value(result) else result.get("original_length")
            if isinstance(length, int | float) and length > 0:
                yield float(length)

    def classes(self, attribute: str | None) -> tuple[str, ...]:
        """Its classes: those of the control ``attribute``, else its labels, else its answers; none if it has none."""
        return tuple(dict.fromkeys(label for result in self._kept(attribute) for label in _classes(result)))

    def _kept(self, attribute: str | None) -> list[Mapping[str, Any]]:
        if attribute is not None:
            return [result for result in self.results if result.get("from_name") == attribute and _classes(result)]
        return [r for r in self.results if _is_labels(r)] or [r for r in self.results if _is_choice(r)]

    def unused(self, attribute: str | None) -> tuple[str, ...]:
        """Controls that have values for it and do not give its class."""
        if attribute is not None:
            return ()
        labelled = any(_is_labels(result) for result in self.results)
        return tuple(str(r.get("from_name")) for r in self.results if _is_choice(r) and labelled)

    def answered(self, attribute: str | None) -> tuple[str, ...]:
        """Controls other than labels that give its class without having been chosen."""
        if attribute is not None or any(_is_labels(result) for result in self.results):
            return ()
        return tuple(str(r.get("from_name")) for r in self.results if _is_choice(r))

    def frames(self, last: float | None) -> Iterator[tuple[float, float]]:
        """Spans of frames, counted from 0 and half open; ``last`` is the number of frames of the video.

        Raises:
            AnnotationError: an end is missing or not a number.
        """
        for one in self.value.get("ranges") or []:
            given = one if isinstance(one, Mapping) else {}
            first, end = (number(given.get(name), f"{self.place} {name}", unit="a frame") for name in ("start", "end"))
            yield first - 1, end
        yield from self._visible(last)

    def _visible(self, last: float | None) -> Iterator[tuple[float, float]]:
        start: float | None = None
        keys = [(number(key.get("frame"), f"{self.place} frame", unit="a frame"), key) for key in _sequence(self.value)]
        for frame, key in sorted(keys, key=lambda pair: pair[0]):
            start = frame if start is None else start
            if not key.get("enabled", True):
                yield start - 1, frame
                start = None
        if start is not None:
            count = self.value.get("framesCount") or last
            end = number(count, f"{self.place} framesCount, the end of its last visible stretch,", unit="a frame")
            yield start - 1, max(start, end)

    def rate_hz(self) -> float | None:
        """The rate of the labelling interface, from key frames with a time."""
        for key in _sequence(self.value):
            frame, seconds = key.get("frame"), key.get("time")
            if isinstance(frame, int) and isinstance(seconds, int | float) and frame > 0 and seconds > 0:
                return round(frame / seconds, _DIGITS)
        return None


def _sequence(value: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [key for key in value.get("sequence") or [] if isinstance(key, Mapping)]


def regions_of(results: Sequence[Any], data: Any, where: str) -> list[Region]:
    """Regions of an annotation, and what was answered for the whole task.

    Args:
        results: of the annotation.
        data: of the task; labels of one of its texts count characters, not seconds.
        where: for messages.

    Raises:
        AnnotationError: a result is not an object.
    """
    shown = data if isinstance(data, Mapping) else {}
    texts = {key for key, value in shown.items() if isinstance(value, str) and _is_text(value)}
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for place, result in enumerate(results):
        if not isinstance(result, Mapping):
            raise AnnotationError(f"{where} has a result that is not an object; export the task again")
        groups.setdefault(str(result.get("id") or f"#{place + 1}"), []).append(result)
    return [_region(tuple(found), f"{where} region {name}", texts) for name, found in groups.items()]


def _is_text(value: str) -> bool:
    return len(value.split()) > 1 and not value.lstrip().startswith("<") and "://" not in value.split()[0]


def _region(results: tuple[Mapping[str, Any], ...], place: str, texts: Collection[str]) -> Region:
    values = [(result, _value(result)) for result in results]
    for _, value in values:
        if isinstance(value.get("ranges"), list) or isinstance(value.get("sequence"), list):
            return Region(place, results, "frames", value)
    for result, value in values:
        of_text = result.get("to_name") in texts or str(result.get("type")).startswith("timeseries")
        if _has_seconds(value) and not of_text:
            return Region(place, results, "seconds", value)
    answers = all(result.get("type") in _ANSWERS and not _has_place(value) for result, value in values)
    return Region(place, results, "answer" if answers else "other")


def _value(result: Mapping[str, Any]) -> Mapping[str, Any]:
    value = result.get("value")
    return value if isinstance(value, Mapping) else {}


def _has_seconds(value: Mapping[str, Any]) -> bool:
    """Whether start and end are of time; those of text are characters or paragraphs."""
    return {"start", "end"} <= set(value) and not any(
        key in value and not (key == "text" and isinstance(value[key], list)) for key in _NOT_OF_TIME
    )


def _has_place(value: Mapping[str, Any]) -> bool:
    return bool({"start", "x", "points", "rle", "vertices"} & set(value))


def _is_labels(result: Mapping[str, Any]) -> bool:
    value = _value(result)
    return bool(_classes(result)) and any(key.endswith("labels") for key in value)


def _is_choice(result: Mapping[str, Any]) -> bool:
    return bool(_classes(result)) and not _is_labels(result) and result.get("type") in ("choices", "taxonomy")


def _classes(result: Mapping[str, Any]) -> tuple[str, ...]:
    """Values of a control that can be classes: labels, choices, leaves of a taxonomy, lines of text."""
    value, found = _value(result), []
    keys = [key for key in value if key.endswith("labels")] or ["choices", "taxonomy", "text"]
    for item in (item for key in keys for item in _listed(value.get(key))):
        text = _PATH.join(map(str, item)) if isinstance(item, list) else str(item)
        if text.strip():
            found.append(text.strip())
    return tuple(found)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
