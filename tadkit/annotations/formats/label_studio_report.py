"""What reading a Label Studio export assumed, left out and lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tadkit.annotations.formats.reports import counted
from tadkit.annotations.formats.source import Known

DEFAULT_HZ = 24.0
"""Label Studio's frame rate where the labelling configuration sets none."""


@dataclass
class Report:
    """What was assumed, set aside and lost, by kind, each with its places."""

    assumed: list[str] = field(default_factory=list)
    from_data: list[str] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    predicted: list[str] = field(default_factory=list)
    drafts: list[str] = field(default_factory=list)
    not_rater: list[str] = field(default_factory=list)
    not_chosen: list[str] = field(default_factory=list)
    drawn: list[str] = field(default_factory=list)
    other_videos: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    unused: dict[str, int] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)
    controls: dict[str, int] = field(default_factory=dict)
    giving: dict[str, int] = field(default_factory=dict)
    raters: set[str] = field(default_factory=set)
    without_class: list[str] = field(default_factory=list)
    without_time: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def lost_labels(self) -> int:
        """Number of labels that were not converted."""
        return len(self.without_class) + len(self.without_time) + len(self.lost)

    def remarks(self, known: Known) -> Iterator[str]:
        """What was assumed, or left out without losing a label."""
        yield from counted(
            f"videos count frames at an assumed rate of {DEFAULT_HZ:g} per second, Label Studio's default; if the "
            "labelling configuration sets frameRate, give it with --fps",
            self.assumed,
        )
        yield from counted(
            "videos count frames at the rate 'fps' of their data, assuming that the labelling configuration has "
            'frameRate="$fps"; otherwise give its rate with --fps',
            self.from_data,
        )
        yield from counted("unlabelled or skipped tasks are left out", self.unlabelled)
        yield from counted("cancelled annotations are not used", self.cancelled)
        yield from counted("tasks have predictions, which are not used", self.predicted)
        yield from counted("tasks have drafts, which are not used until they are submitted", self.drafts)
        yield from counted(f"tasks have no annotation of --rater {known.rater}", self.not_rater)
        yield from counted(f"regions have no value of --attribute {known.attribute} and are left out", self.not_chosen)
        yield from counted("tasks also show other videos", self.other_videos)
        yield from counted("answers about whole videos are left out", self.answers)
        yield from counted(
            "videos have the length that the browser found; --videos gives that of their files", self.drawn
        )
        for name, count in self.answered.items():
            yield f"{count} regions without labels have the answers of '{name}' as classes"
        for name, count in self.unused.items():
            yield f"{count} answers of '{name}' for single regions are not used; --attribute {name} makes them classes"
        if len(self.giving) > 1:
            found = ", ".join(f"'{name}' ({count})" for name, count in self.giving.items())
            yield f"classes come from several controls: {found}; --attribute NAME keeps one"

    def losses(self) -> Iterator[str]:
        """Labels that were not converted."""
        yield from counted("regions have no label", self.without_class)
        yield from counted("regions are not stretches of time", self.without_time)
        yield from self.lost
