"""What reading CVAT files assumed, left out and lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from tadkit.annotations.formats.cvat_tracks import users
from tadkit.annotations.formats.frames import FrameTimes
from tadkit.annotations.formats.reports import counted, named

_LEAST_FRAMES = 2
"""Fewer frames at an end are rounding."""


@dataclass
class Report:
    """Places by kind; ``attribute`` is the one that the user chose, if any."""

    attribute: str | None
    attributes: dict[str, set[str]] = field(default_factory=dict)
    unnamed: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    stepped: list[str] = field(default_factory=list)
    partly: list[str] = field(default_factory=list)
    single: list[str] = field(default_factory=list)
    never: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def note(self, label: str, attributes: Iterable[ElementTree.Element]) -> None:
        """Note the attributes that a shape, tag or track has values of."""
        for name in users(str(item.get("name")) for item in attributes if (item.text or "").strip()):
            self.attributes.setdefault(name, set()).add(label)

    def uncovered(self, name: str, covered: Sequence[tuple[int, int | None]], times: FrameTimes, count: int) -> None:
        """Note the stretches of a video of ``count`` frames that none of its tasks or jobs shows."""
        at, missing = 0, []
        for first, end in (*covered, (count, count)):
            if min(first, count) - at >= _LEAST_FRAMES:
                missing.append(f"{times.seconds(at):g} to {times.seconds(min(first, count)):g} s")
            at = count if end is None else max(at, end)
        if missing:
            self.partly.append(f"'{name}' ({', '.join(missing)})")

    def remarks(self, path: Path) -> tuple[str, ...]:
        """What was assumed, or left out without losing a label."""
        unused = sorted(self.attributes) if self.attribute is None else []
        found = [
            *counted("videos are named like their files, which do not name a video", self.unnamed),
            *counted("tasks are pictures, taken for the frames of a video one after another", self.pictures),
            *counted("videos are assumed to end where they are labelled to; --videos gives their length", self.ends),
            *counted("videos are not labelled from their beginning, which counts as background", self.late),
            *counted("videos show only some frames; an action may end up to a step earlier or later", self.stepped),
            *counted("videos have stretches without labels, which count as background", self.partly),
            *counted(
                "files have shapes of single frames, which are joined where frames follow one another", self.single
            ),
            *counted("tracks never show a class", self.never),
            *(
                f"attribute '{name}' of {named(self.attributes[name])} is not used; --attribute {name} takes the "
                "classes from it"
                for name in unused
            ),
        ]
        return tuple(f"{path}: {one}" for one in found)

    def losses(self, path: Path) -> tuple[str, ...]:
        """Labels that were not converted."""
        return tuple(one if one.startswith(str(path)) else f"{path}: {one}" for one in self.lost)
