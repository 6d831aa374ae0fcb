"""BORIS events: pairing starts with stops, and placing an observation's actions in the files that it plays.

An observation has one clock. Its first player plays one file or several in a row; a file begins on the clock where the
ones before it end, by their lengths. The other players show the same time from other views.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from tadkit.annotations.formats.chosen import listed
from tadkit.annotations.formats.frames import FrameTimes
from tadkit.annotations.formats.source import Known, Source, SourceVideo, described, name_of_file
from tadkit.errors import VideoError
from tadkit.records import Annotation

NO_SUBJECT = "No focal subject"
OTHER_VIEWS = "{where}: actions are those of the first player, not of {others}"
POINTS = "{where}: {points} point events become actions of zero length"
_DECIMALS = 6
_TOUCH_S = 1e-6
Status = Literal["START", "STOP", "POINT", ""]
"""What an event does; empty if only its place among the others of its kind says so."""


@dataclass(frozen=True)
class Event:
    """One event: seconds on the observation's clock, class, subject and modifiers that pairs share, and status."""

    seconds: float
    label: str
    shared: tuple[str, ...] = ()
    status: Status = ""


@dataclass(frozen=True)
class MediaFile:
    """A file that the first player plays; its length and rate are None if unknown."""

    file: str
    length_s: float | None = None
    fps: float | None = None

    @property
    def name(self) -> str:
        """Name of the video."""
        return name_of_file(self.file)


@dataclass(frozen=True)
class Observation:
    """What was read of one observation.

    Attributes:
        where: file and observation, for messages.
        name: the observation's id.
        files: files of the first player, in order.
        actions: actions in seconds on the observation's clock, which begins with the first file.
        subset: subset of its videos.
        remarks: assumptions.
        losses: events that were left out.
    """

    where: str
    name: str
    files: Sequence[MediaFile]
    actions: Sequence[Annotation]
    subset: str = ""
    remarks: Sequence[str] = ()
    losses: Sequence[str] = ()


@dataclass
class Seen:
    """Names in all files, for choices that fit none of them."""

    observations: set[str] = field(default_factory=set)
    subjects: set[str] = field(default_factory=set)


def on_clock(seconds: float, zero_s: float) -> float:
    """Seconds from the observation's start: BORIS adds the time offset to each event."""
    return round(seconds - zero_s, _DECIMALS) if zero_s else seconds


def paired(events: Iterable[Event], where: str) -> tuple[list[Annotation], list[str]]:
    """Actions sorted by start, and a line for each start or stop without its other end."""
    open_s: dict[tuple[str, tuple[str, ...]], float] = {}
    found, lost = [], []
    for event in sorted(events, key=lambda event: event.seconds):
        key, seconds = (event.label, event.shared), event.seconds
        if event.status == "POINT":
            found.append(Annotation(seconds, seconds, event.label))
        elif event.status == "START" or (event.status == "" and key not in open_s):
            if key in open_s:
                lost.append(_unstopped(where, event.label, open_s[key]))
            open_s[key] = seconds
        elif key in open_s:
            found.append(Annotation(open_s.pop(key), seconds, event.label))
        else:
            lost.append(
                f"{where} stops '{event.label}' at {seconds:g} s and never starts it; left out "
                "(it is cut where only an interval was exported)"
            )
    lost += [_unstopped(where, label, seconds) for (label, _), seconds in open_s.items()]
    return sorted(found, key=lambda a: (a.start_s, a.end_s)), lost


def _unstopped(where: str, label: str, seconds: float) -> str:
    return f"{where} starts '{label}' at {seconds:g} s and never stops it; left out (fix the pair in BORIS)"


def source_of(observed: Sequence[Observation], known: Known) -> Source:
    """The videos of observations.

    Observations of one video are read together if ``known`` chooses observations; else nothing says which is right, and
    the video is a loss.
    """
    remarks = [remark for one in observed for remark in one.remarks]
    losses = [loss for one in observed for loss in one.losses]
    of_video: dict[str, list[tuple[Observation, MediaFile, SourceVideo]]] = {}
    for one in observed:
        videos, said, lost = _placed(one, known)
        remarks += said
        losses += lost
        for media, video in zip(one.files, videos, strict=False):
            of_video.setdefault(video.name, []).append((one, media, video))
    kept = []
    for name, found in of_video.items():
        where, names = found[0][0].where, listed(one.name for one, _, _ in found)
        files = {media.file for _, media, _ in found}
        if len(found) == 1:
            kept.append(found[0][2])
        elif known.observations and len(files) == 1:
            kept.append(_together([video for _, _, video in found]))
            remarks.append(f"{where}: observations of the video '{name}' are read together: {names}")
        elif known.observations:
            losses.append(
                f"{where}: the chosen observations {names} are different files of one name, {listed(sorted(files))}; "
                "left out; choose one with --observation"
            )
        else:
            losses.append(
                f"{where}: several observations of the video '{name}' ({names}), which is left out; "
                "choose with --observation"
            )
    return Source(tuple(kept), tuple(remarks), tuple(losses))


def _together(videos: Sequence[SourceVideo]) -> SourceVideo:
    first = videos[0]
    said = {"subset": first.subset, "duration_s": first.duration_s, "fps": first.fps}
    return described(first.name, (a for video in videos for a in video.annotations), said, first.name)


def _placed(one: Observation, known: Known) -> tuple[list[SourceVideo], list[str], list[str]]:
    """The videos of one observation, remarks and losses."""
    if not one.files:
        return [], [], []
    if one.losses and not one.actions:
        return [], [], [f"{one.where}: no action is left, so {listed(media.name for media in one.files)} is left out"]
    starts_s = [0.0]
    for media in one.files[:-1]:
        try:
            length_s = media.length_s or known.frame_times.get(media.name, FrameTimes()).duration_s
        except VideoError as error:
            return [], [], [f"{one.where} is left out: {error}"]
        if length_s is None:
            why = f"plays {len(one.files)} files in a row, and the length of '{media.file}' is unknown"
            return [], [], [f"{one.where} {why}; it is left out; give --videos, or convert the project file"]
        starts_s.append(round(starts_s[-1] + length_s, _DECIMALS))
    ends_s = [*starts_s[1:], float("inf")]
    videos, crossing = [], set()
    for place, (media, start_s, end_s) in enumerate(zip(one.files, starts_s, ends_s, strict=True)):
        first_s = float("-inf") if place == 0 else start_s
        inside = [(n, a) for n, a in enumerate(one.actions) if _overlaps(a, first_s, end_s)]
        crossing |= {n for n, a in inside if a.end_s > end_s}
        pieces = [
            replace(
                a,
                start_s=on_clock(max(a.start_s, first_s), start_s),
                end_s=on_clock(min(a.end_s, end_s), start_s),
            )
            for _, a in inside
        ]
        said = {"subset": one.subset, "duration_s": media.length_s, "fps": media.fps}
        videos.append(described(media.name, pieces, said, one.where))
    remarks = []
    if len(one.files) > 1:
        names = listed(media.file for media in one.files)
        cut = f"; {len(crossing)} actions cross from one to the next and are split there" if crossing else ""
        remarks.append(f"{one.where} plays {len(one.files)} files in a row, on one clock ({names}){cut}")
    return videos, remarks, []


def _overlaps(action: Annotation, first_s: float, end_s: float) -> bool:
    """Whether an action, or a moment, is between two times; an action that only touches them is not."""
    if action.start_s == action.end_s:
        return first_s <= action.start_s < end_s
    return action.start_s < end_s - _TOUCH_S and action.end_s > first_s + _TOUCH_S
