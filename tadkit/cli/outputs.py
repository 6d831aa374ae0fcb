"""The options that say what detections are written to, for the commands that have some to write."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tadkit.cli.console import TerminalProgress, print_line, print_note
from tadkit.cli.options import PATH, refuse_output
from tadkit.errors import TadkitError, UsageError
from tadkit.records import HIGH_CONFIDENCE

if TYPE_CHECKING:
    from tadkit.detection.detections import VideoDetections

STDOUT = Path("-")
MOVIES = (".mp4", ".mov", ".mkv")
"""Suffixes of an overlay that is a file and not a folder."""

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Outputs:
    """What the user asked for.

    Attributes:
        outs: files by ``--out``; ``-`` is stdout.
        clips: folder of clips.
        overlay: file or folder of overlay videos.
        least: score from which detections are shown; None takes the operating points.
        top: at most this number of each video is shown.
        per_class: at most this number of each label of each video is shown.
    """

    outs: tuple[Path, ...]
    clips: Path | None
    overlay: Path | None
    least: float | None
    top: int | None
    per_class: int | None

    @property
    def on_stdout(self) -> bool:
        """Whether stdout is for JSON alone."""
        return STDOUT in self.outs

    @property
    def files(self) -> list[Path]:
        """The files of ``--out``."""
        return [out for out in self.outs if out != STDOUT]

    def refuse(self, names: Collection[str], *, inputs: Iterable[Path | None], files: Iterable[Path] = ()) -> None:
        """Refuse, before any work, what cannot be written or would replace an input.

        Args:
            names: of the videos.
            inputs: files that are read.
            files: those of the videos.

        Raises:
            UsageError: an unknown suffix, an input, a folder that cannot be written to, or the same file twice.
            TadkitError: a form needs a package that is not installed.
        """
        from tadkit.detection.outputs import per_video, refuse_form

        read = [*inputs, *files]
        given: list[Path] = []
        for out in self.files:
            refuse_form(out, videos=len(names))
            given += per_video(out, names)
        if self.overlay is not None and self.overlay.suffix.lower() in MOVIES:
            given.append(self.overlay)
            if len(names) > 1:
                raise UsageError(f"--overlay {self.overlay}: is one file for {len(names)} videos; name a folder")
        for path in given:
            refuse_output(path, *read)
        if twice := [path for path in given if given.count(path) > 1]:
            raise UsageError(f"--out {twice[0]}: is written twice; name each output once")
        for option, folder in (("--clips", self.clips), ("--overlay", self.overlay)):
            if folder is not None and folder not in given:
                _refuse_folder(folder, files, option)

    def shown(self, found: VideoDetections) -> VideoDetections:
        """The detections that are shown."""
        return found.shown(least=self.least, top=self.top, per_class=self.per_class)

    def write(self, found: VideoDetections, progress: TerminalProgress) -> list[TadkitError]:
        """Write everything, and say what was written.

        Returns:
            The errors of outputs that could not be written; the others are.
        """
        from tadkit.detection.outputs import has_all, write_content

        say = print_note if self.on_stdout else print_line
        shown = self.shown(found)
        total, count = (sum(map(len, videos.values())) for videos in (found, shown))
        failed: list[TadkitError] = []
        for out in self.files:
            try:
                write_content(out, (found if has_all(out) else shown).content)
            except TadkitError as error:
                failed.append(error)
            else:
                more = f", {total - count} more than shown" if total > count else ""
                say(f"{out}: {total} detections{more}" if has_all(out) else f"{out}: {count} shown detections")
        failed += self._write_clips(shown, say, progress)
        failed += self._write_overlays(shown, say, progress)
        return failed

    def _write_clips(
        self, shown: VideoDetections, say: Callable[[str], None], progress: TerminalProgress
    ) -> list[TadkitError]:
        if self.clips is None:
            return []
        from tadkit.detection.outputs.clips import write_clips

        try:
            failed = write_clips(self.clips, shown.content, progress=progress)
        except TadkitError as error:
            return [error]
        count = sum(len(found) for name, found in shown.items() if name not in failed)
        say(f"{self.clips}: {count} clips, encoded again, without sound")
        return list(failed.values())

    def _write_overlays(
        self, shown: VideoDetections, say: Callable[[str], None], progress: TerminalProgress
    ) -> list[TadkitError]:
        if self.overlay is None:
            return []
        from tadkit.detection.outputs.content import safe_names
        from tadkit.detection.outputs.overlay import write_overlay

        failed: list[TadkitError] = []
        content = shown.content
        names = safe_names(shown)
        for video in content.videos:
            one = self.overlay.suffix.lower() in MOVIES
            path = self.overlay if one else self.overlay / f"{names[video.name]}-overlay.mp4"
            try:
                write_overlay(path, video, labels=content.labels, progress=progress)
            except TadkitError as error:
                failed.append(error)
            else:
                say(f"{path}: {len(video.detections)} shown detections over the video, without sound")
        return failed


def _refuse_folder(folder: Path, files: Iterable[Path], option: str) -> None:
    """Refuse a folder that cannot be written to, or whose files could replace a video that is read."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{option} {folder}: is a file; name a folder")
    refuse_output(folder / "video.mp4", option=option)
    if any(file.resolve().parent == folder.resolve() for file in files):
        raise UsageError(f"{option} {folder}: has videos that are read here; name another folder")


def output_options(*, videos: bool) -> Callable[[Function], Function]:
    """``--out`` and what is shown; with ``videos``, ``--clips`` and ``--overlay``, too.

    The command gets them as ``outputs``, an :class:`Outputs`.
    """

    def add(function: Function) -> Function:
        @wraps(function)
        def command(*arguments: Any, **values: Any) -> Any:
            own: Mapping[str, Any] = {name: values.pop(name, None) for name in Outputs.__dataclass_fields__}
            return function(*arguments, outputs=Outputs(**own), **values)

        for option in reversed([*_OF_FILES, *(_OF_VIDEOS if videos else ()), *_OF_SHOWN]):
            command = option(command)
        return command  # type: ignore[return-value] # options are added to it, and one argument less is asked for

    return add


_OF_FILES = (
    click.option(
        "-o",
        "--out",
        "outs",
        type=PATH,
        multiple=True,
        metavar="PATH",
        help="Write detections to a file, by its suffix: all of them to .json, .jsonl, .csv, .parquet and "
        ".fiftyone.json, those that are shown to .srt, .vtt, .eaf, .boris, .labelstudio.json, .via.json and "
        ".ffconcat. {video} in PATH gives a file for each video; - is JSON on stdout. May be repeated.",
    ),
)
_OF_VIDEOS = (
    click.option(
        "--clips", type=PATH, metavar="DIR", help="Write a short video of each detection that is shown, encoded again."
    ),
    click.option(
        "--overlay",
        type=PATH,
        metavar="PATH",
        help="Write the video with the detections that are shown drawn in: a .mp4 file, or a folder.",
    ),
)
_OF_SHOWN = (
    click.option(
        "--show-score",
        "--min-score",
        "least",
        type=click.FloatRange(0, 1),
        help="Lowest score that is shown; by default each label's operating point in the model, or "
        f"{HIGH_CONFIDENCE:g} for labels without one. Files with all detections have lower ones, too, down to "
        "decode.min_score.",
    ),
    click.option("--top", type=click.IntRange(min=1), metavar="N", help="Show at most the N best of each video."),
    click.option(
        "--per-class",
        type=click.IntRange(min=1),
        metavar="N",
        help="Show at most the N best of each label of each video.",
    ),
)
