"""Mistakes in annotations that the file alone shows, each with its video's name."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tadkit.annotations.findings import Finding
from tadkit.annotations.names import check_labels, check_name
from tadkit.annotations.presets import Preset
from tadkit.records import AMBIGUOUS, LONGEST_S
from tadkit.video.discovery import VIDEO_SUFFIXES

SUBSETS = ("training", "validation", "testing")
_SLACK_S = 0.01
"""Less than this past the end is rounding."""
_PUBLISHED = "published-past-end"
"""Kind of the finding for segments past the end that the published files have, too."""


@dataclass(frozen=True)
class Entry:
    """One video of one file, as raw JSON."""

    file: str
    name: str
    content: Any

    @property
    def subset(self) -> str:
        """Its subset; empty if it has none."""
        return str(self.content.get("subset", "")) if isinstance(self.content, dict) else ""

    @property
    def annotations(self) -> list[Any]:
        """Its annotations; none if they are not a list."""
        found = self.content.get("annotations", []) if isinstance(self.content, dict) else []
        return found if isinstance(found, list) else []

    @property
    def labels(self) -> list[str]:
        """Its text labels."""
        return [a["label"] for a in self.annotations if isinstance(a, dict) and isinstance(a.get("label"), str)]


def number_of(value: Any) -> float | None:
    """A number, also from text; None for anything else and for values beyond any video's length."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    return found if abs(found) <= LONGEST_S else None


def check_entries(entries: Sequence[Entry], preset: Preset | None) -> Iterator[Finding]:
    """Check annotations.

    Args:
        entries: videos of all files; a name may occur several times.
        preset: the dataset that they should match in classes, subsets and counts.
    """
    published: Counter[str] = Counter()
    for entry in entries:
        for finding in _check_entry(entry, preset):
            if finding.what == _PUBLISHED:
                published[entry.name] += 1
            else:
                yield finding
    if published and preset is not None:
        named = ", ".join(f"'{name}' ({count})" for name, count in published.items())
        said = f"{published.total()} actions lie past the end of their videos, as published for {preset.name}: {named}"
        yield Finding("warning", "", _PUBLISHED, said)
    yield from _splits(entries)
    yield from _spellings(entries)
    if preset is not None and entries:
        yield from _subsets_of(entries, preset)
        yield from _counts(entries, preset)


def _check_entry(entry: Entry, preset: Preset | None) -> Iterator[Finding]:
    yield from check_name(entry.name)
    if not isinstance(entry.content, dict):
        yield Finding("error", entry.name, "form", "is not an object with duration, subset and annotations")
        return
    duration_s = yield from _duration(entry)
    fps = entry.content.get("fps")
    if fps is not None and (number_of(fps) or 0) <= 0:
        yield Finding("error", entry.name, "fps", f"fps is {fps!r}; expected a positive number of frames per second")
    elif isinstance(fps, str):
        yield Finding("warning", entry.name, "text", f"fps is text, {fps!r}; expected a number")
    yield from _subset(entry)
    if not isinstance(entry.content.get("annotations", []), list):
        yield Finding("error", entry.name, "form", "has annotations that are not a list")
    yield from check_labels(entry.labels, entry.name)
    spans: Counter[tuple[float, float, str]] = Counter()
    for place, item in enumerate(entry.annotations):
        span = yield from _annotation(entry.name, place, item, duration_s, preset)
        if span is not None:
            spans[span] += 1
    for (start_s, end_s, label), count in spans.items():
        if count > 1:
            said = f"'{label}' [{start_s:g}, {end_s:g}] is listed {count} times"
            yield Finding("warning", entry.name, "duplicate", said)
    if preset is not None and preset.classes:
        unknown = sorted(set(entry.labels) - set(preset.classes) - set(preset.left_out))
        for label in unknown:
            yield Finding("error", entry.name, "label", f"label '{label}' is not a class of {preset.name}")


def _duration(entry: Entry) -> Any:
    value = entry.content.get("duration")
    duration_s = number_of(value)
    if value is None:
        yield Finding("error", entry.name, "duration", "has no duration; add it with tadkit data convert --videos DIR")
    elif duration_s is None or duration_s <= 0:
        yield Finding("error", entry.name, "duration", f"duration is {value!r}; expected a positive number of seconds")
        return None
    elif isinstance(value, str):
        yield Finding("warning", entry.name, "text", f"duration is text, {value!r}; expected a number")
    return duration_s


def _subset(entry: Entry) -> Iterator[Finding]:
    if not entry.subset:
        yield Finding("warning", entry.name, "subset", "has no subset")
    elif entry.subset not in SUBSETS:
        names = ", ".join(SUBSETS)
        said = f"unknown subset '{entry.subset}'; expected {names} (tadkit data convert translates other names)"
        yield Finding("error", entry.name, "subset", said)


def _annotation(name: str, place: int, item: Any, duration_s: float | None, preset: Preset | None) -> Any:
    where = f"annotation {place}"
    if not isinstance(item, dict) or not isinstance(item.get("label"), str) or not item["label"].strip():
        yield Finding("error", name, "form", f"{where} has no text 'label'")
        return None
    segment, label = item.get("segment"), item["label"]
    numbers = [number_of(v) for v in segment] if isinstance(segment, list) and len(segment) == 2 else []
    if len(numbers) != 2 or numbers[0] is None or numbers[1] is None:
        yield Finding("error", name, "form", f"{where} ('{label}') has segment {segment!r}; expected [start, end]")
        return None
    start_s, end_s = numbers[0], numbers[1]
    where = f"{where} ('{label}' [{start_s:g}, {end_s:g}])"
    if any(isinstance(v, str) for v in segment or []):
        yield Finding("warning", name, "text", f"{where} has text instead of numbers")
    if start_s < 0:
        yield Finding("error", name, "negative", f"{where} starts before the video does")
    if end_s < start_s:
        yield Finding("error", name, "reversed", f"{where} ends before it starts")
    elif end_s == start_s:
        yield Finding("warning", name, "empty", f"{where} has no length")
    if duration_s is not None and start_s >= duration_s:
        said = f"{where} lies past the end of the video, {duration_s:g} s"
        if preset is not None and preset.lies_past_end(name, start_s):
            yield Finding("warning", name, _PUBLISHED, said)
        else:
            yield Finding("error", name, "past-end", said)
    elif duration_s is not None and end_s > duration_s + _SLACK_S:
        yield Finding("warning", name, "past-end", f"{where} ends past the end of the video, {duration_s:g} s")
    return start_s, end_s, label


def plain_name(name: str) -> str:
    """Name for comparison: without ``v_`` and suffix, in lower case."""
    stem = name.rsplit(".", 1)[0] if name.lower().endswith(VIDEO_SUFFIXES) else name
    return stem.casefold().removeprefix("v_")


def _splits(entries: Sequence[Entry]) -> Iterator[Finding]:
    """Videos in two splits, under one name or under names that differ only in ``v_``, suffix or case."""
    by_name: dict[str, list[Entry]] = {}
    for entry in entries:
        by_name.setdefault(plain_name(entry.name), []).append(entry)
    for same in by_name.values():
        if len(same) == 1:
            continue
        names = " and ".join(dict.fromkeys(f"'{entry.name}'" for entry in same))
        subsets = list(dict.fromkeys(entry.subset for entry in same))
        if len(subsets) > 1:
            said = f"the same video ({names}) is in {' and '.join(subset or '(none)' for subset in subsets)}"
            yield Finding("error", same[0].name, "two-splits", said)
        else:
            yield Finding(
                "error", same[0].name, "twice", f"is listed {len(same)} times ({names}); readers keep the last"
            )


def _spellings(entries: Iterable[Entry]) -> Iterator[Finding]:
    """Labels that differ only in case, spaces or joining characters."""
    first: dict[str, Entry] = {}
    counts: Counter[str] = Counter()
    for entry in entries:
        for label in entry.labels:
            first.setdefault(label, entry)
            counts[label] += 1
    by_plain: dict[str, list[str]] = {}
    for label in first:
        by_plain.setdefault("".join(label.casefold().replace("_", " ").replace("-", " ").split()), []).append(label)
    for alike in by_plain.values():
        if len(alike) > 1:
            rarest = min(alike, key=lambda label: counts[label])
            named = ", ".join(f"'{label}' ({counts[label]})" for label in alike)
            said = f"labels differ only in case, spaces or hyphens: {named}"
            yield Finding("warning", first[rarest].name, "label-spelling", said)
    for label in first:
        if label != label.strip():
            yield Finding("warning", first[label].name, "label-spelling", f"label {label!r} has spaces around it")


def published_form(entries: Sequence[Entry], preset: Preset, subset: str) -> str | None:
    """The published version of the dataset whose counts a subset matches, or None."""
    have = _videos_and_instances(entries, subset)
    return next((c.form for c in preset.counts[subset] if (c.videos, c.instances) == have), None)


def _videos_and_instances(entries: Sequence[Entry], subset: str) -> tuple[int, int]:
    """Numbers of videos with actions and of actions that are not ambiguous."""
    inside = [[label for label in e.labels if label != AMBIGUOUS] for e in entries if e.subset == subset]
    return sum(1 for labels in inside if labels), sum(map(len, inside))


def _subsets_of(entries: Sequence[Entry], preset: Preset) -> Iterator[Finding]:
    """Subsets of the dataset that the files lack, and subsets that the dataset does not have."""
    videos = Counter(entry.subset for entry in entries)
    for subset in preset.counts:
        if not videos[subset]:
            said = f"no video is in subset '{subset}' of {preset.name}; check files that belong together in one call"
            yield Finding("error", "", "absent-subset", said)
    names = ", ".join((*preset.counts, *preset.uncounted))
    for subset in SUBSETS:
        if videos[subset] and subset not in (*preset.counts, *preset.uncounted):
            said = f"{videos[subset]} videos are in subset '{subset}'; {preset.name} has only {names}"
            yield Finding("warning", "", "strange-subset", said)


def _counts(entries: Sequence[Entry], preset: Preset) -> Iterator[Finding]:
    """Counts that match no published version of the dataset."""
    for subset, published in preset.counts.items():
        there = any(entry.subset == subset for entry in entries)
        if there and published_form(entries, preset, subset) is None:
            videos, instances = _videos_and_instances(entries, subset)
            known = ", ".join(f"{c.videos}/{c.instances} ({c.form})" for c in published)
            said = f"{subset}: {videos} videos with {instances} instances; published counts: {known}"
            yield Finding("warning", "", "counts", said)
