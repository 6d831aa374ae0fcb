"""Placing converted actions in their videos: another clock's zero, and times that are not in the video at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tadkit.annotations.formats import Format, SourceVideo, read_table
from tadkit.annotations.formats.clock import CALENDAR_S, moment
from tadkit.annotations.formats.reports import counted
from tadkit.errors import AnnotationError
from tadkit.records import Annotation

AS_LABELLED: tuple[Format, ...] = ("boris", "elan", "cvat", "label-studio", "via", "csv")
"""Formats of a person's own labels; published datasets keep their known actions past the end (docs/data.md)."""
_SLACK_S = 0.001
_LATE_S = 1.0
_DECIMALS = 6


def read_starts(path: Path) -> dict[str, float]:
    """What the clock of the labels shows at each video's first frame, from a csv with columns video and start.

    Raises:
        AnnotationError: it lacks these columns, a value is not a time, or a video is listed with two.
    """
    found: dict[str, float] = {}
    for row in read_table(path, "video", "start"):
        start_s = moment(row["start"], f"{path}: '{row['video']}' start")
        if found.setdefault(row["video"], start_s) != start_s:
            raise AnnotationError(f"{path}: '{row['video']}' is listed twice, with two starts; keep one")
    return found


def started(videos: Sequence[SourceVideo], starts: Mapping[str, float], path: Path) -> list[SourceVideo]:
    """The videos with each one's start subtracted from its times.

    Raises:
        AnnotationError: ``starts`` has a video that the annotations lack.
    """
    if strange := sorted(set(starts) - {video.name for video in videos}):
        raise AnnotationError(f"{path}: '{strange[0]}' is not a video of the annotations")
    return [
        replace(video, annotations=tuple(_moved(a, starts[video.name]) for a in video.annotations))
        if video.name in starts
        else video
        for video in videos
    ]


def _moved(action: Annotation, zero_s: float) -> Annotation:
    start_s, end_s = (round(seconds - zero_s, _DECIMALS) for seconds in (action.start_s, action.end_s))
    return replace(action, start_s=start_s, end_s=end_s)


def inside(videos: Sequence[SourceVideo], form: Format, source: Path) -> tuple[list[SourceVideo], list[str], list[str]]:
    """The videos without actions that are not in them, a loss for each of those, and remarks on others.

    The remarks are on actions that run late, and on those of zero length.

    A video of which no action is left would pass for one without actions, and is left out as well.
    Times of the calendar are in no video. The others are checked where a person labelled with a tool: an action begins
    before its video ends, and not before the video begins.
    """
    kept, losses, late = [], [], []
    points: list[str] = []
    for video in videos:
        right = []
        for action in video.annotations:
            what = f"{source}: '{video.name}': '{action.label}' [{action.start_s:.15g}, {action.end_s:.15g}]"
            if wrong := _wrong(action, video.duration_s, form):
                losses.append(f"{what} {wrong}; left out")
            else:
                right.append(action)
                if form in AS_LABELLED and action.start_s == action.end_s:
                    points.append(f"'{video.name}' '{action.label}' at {action.start_s:.15g} s")
                if form in AS_LABELLED and video.duration_s and action.end_s > video.duration_s + _LATE_S:
                    late.append(f"{what} ends past the end of the video, {video.duration_s:g} s; kept")
        if right or not video.annotations:
            kept.append(replace(video, annotations=tuple(right)))
        else:
            losses.append(f"{source}: no action of '{video.name}' is left, so the video is left out")
    lasting_nothing = counted("actions of zero length are kept", points)
    return kept, losses, [*late, *(f"{source}: {one}" for one in lasting_nothing)]


def _wrong(action: Annotation, duration_s: float | None, form: Format) -> str:
    """Why an action is not in its video; empty if it is."""
    if max(abs(action.start_s), abs(action.end_s)) >= CALENDAR_S:
        return "is a time of the calendar, not of the video; say with --starts when each video starts"
    if form not in AS_LABELLED:
        return ""
    if action.start_s < -_SLACK_S:
        return "begins before the video"
    if duration_s is not None and action.start_s > duration_s + _SLACK_S:
        return f"begins past the end of the video, {duration_s:g} s"
    if duration_s is not None and action.end_s > 2 * duration_s + _LATE_S:
        return f"ends far past the end of the video, {duration_s:g} s"
    return ""
