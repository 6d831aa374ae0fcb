"""How long converted videos are: from the source, from csv files, from the videos themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tadkit.annotations.formats import (
    Format,
    FrameTimes,
    Known,
    SourceVideo,
    first_losses,
    guess,
    read_annotations,
    read_table,
)
from tadkit.annotations.formats.source import number
from tadkit.annotations.placing import AS_LABELLED
from tadkit.errors import AnnotationError, VideoError

_NAMES = ("video", "name", "id", "video_id")
_SECONDS = ("seconds", "duration", "duration_s", "duration_second", "length")
_FPS_SHARE = 0.005
_FRAMES = ("count", "frames", "numFrame", "duration_frame")


def read_durations(path: Path, known: Known) -> dict[str, float]:
    """Durations in seconds by video, from annotations or from a csv.

    A csv has a column of names and either one of seconds or two: frames and ``fps``.

    Raises:
        AnnotationError: it lacks these columns, or a value is not a number.
    """
    if path.suffix.lower() != ".csv":
        videos = read_annotations(path, guess(path), known).videos
        return {video.name: video.duration_s for video in videos if video.duration_s is not None}
    rows = read_table(path)
    columns = list(rows[0]) if rows else []
    name, seconds, frames = (next((c for c in known if c in columns), None) for known in (_NAMES, _SECONDS, _FRAMES))
    if name is None or (seconds is None and (frames is None or "fps" not in columns)):
        raise AnnotationError(f"{path}: expected columns 'video' and 'seconds', or 'video', 'count' and 'fps'")
    found: dict[str, float] = {}
    for row in rows:
        where = f"{path}: '{row[name]}'"
        if seconds is not None:
            length_s = _positive(number(row[seconds], f"{where} {seconds}"), f"{where} {seconds}")
        else:
            fps = _positive(number(row["fps"], f"{where} fps", unit="frames per second"), f"{where} fps")
            length_s = number(row[frames or ""], f"{where} {frames}", unit="a number of frames") / fps
        if found.setdefault(row[name], length_s) != length_s:
            raise AnnotationError(f"{where} is listed twice, with {found[row[name]]:g} and {length_s:g} s; keep one")
    return found


def _positive(value: float, where: str) -> float:
    if value <= 0:
        raise AnnotationError(f"{where} is {value:g}; expected a number above 0")
    return value


def completed(
    video: SourceVideo, lengths: Mapping[str, float], known: Known, form: Format, remarks: list[str]
) -> SourceVideo:
    """Fill in a missing duration from the csv files or from the video file, and a missing rate from the video file.

    Of what a person labelled with a tool, the duration and rate of the video file count, since the tool may have shown
    another cut or copy.
    """
    duration_s = lengths.get(video.name) if video.duration_s is None else video.duration_s
    if form not in AS_LABELLED and duration_s is not None and video.fps is not None:
        return replace(video, duration_s=duration_s)
    try:
        times = known.frame_times.get(video.name, FrameTimes())
    except VideoError as error:  # a video that cannot be read costs no other
        remarks.append(str(error))
        times = FrameTimes()
    length_s = times.duration_s
    if duration_s is not None and length_s is not None and abs(duration_s - length_s) > max(1.0, 0.01 * length_s):
        said = f"'{video.name}' has {duration_s:g} s in the source and {length_s:g} s in its file"
        remarks.append(f"{said}, which counts; is it the video that was labelled?")
    fps = video.fps or times.fps
    if form in AS_LABELLED:
        duration_s, fps = length_s or duration_s, times.fps or fps
        if video.fps and fps and abs(video.fps - fps) > _FPS_SHARE * fps:
            said = f"'{video.name}' has {video.fps:.6g} frames per second in the source and {fps:.6g} in its file"
            remarks.append(f"{said}, which counts; is it the video that was labelled?")
    return replace(video, duration_s=duration_s or length_s, fps=fps)


def with_durations(
    videos: Sequence[SourceVideo], source: Path, folder: Path | None, losses: list[str]
) -> list[SourceVideo]:
    """Videos of known duration; the others are losses, unless there is no other."""
    kept = [video for video in videos if video.duration_s is not None]
    unknown = [video for video in videos if video.duration_s is None]
    if not unknown:
        return kept
    others = f" ({len(unknown)} videos in all)" if len(unknown) > 1 else ""
    if not kept:
        first = unknown[0].name
        raise AnnotationError(
            "; ".join(
                (f"{source}: '{first}'{others} has no duration; {_way_out(first, folder)}", *first_losses(losses))
            )
        )
    losses += [
        f"{source}: '{video.name}' has no duration and is left out with its {len(video.annotations)} actions; "
        f"{_way_out(video.name, folder)}"
        for video in unknown
    ]
    return kept


def _way_out(name: str, folder: Path | None) -> str:
    no_file = "or --videos DIR" if folder is None else f"or put {name}.mp4 into {folder}"
    return f"give --durations FILE.csv (columns video,seconds) {no_file}"
