"""The options that say what detections are written to, for the commands that have some to write."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tadkit.cli.console import TerminalProgress, print_line, print_note
from tadkit.cli.options import PATH, refuse_input, refuse_output
from tadkit.errors import TadkitError, UsageError
from tadkit.records import HIGH_CONFIDENCE

if TYPE_CHECKING:
    from tadkit.detection.detections import VideoDetections
    from tadkit.progress import Progress

STDOUT = Path("-")
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
        from tadkit.detection.outputs.clips import INDEX
        from tadkit.detection.outputs.overlay import SUFFIXES

        self.refuse_files(*inputs, *files)
        self._refuse_urls(files)
        read = {path.resolve() for path in (*inputs, *files) if path is not None}
        given: list[Path] = []
        for out in self.files:
            refuse_form(out, videos=len(names))
            given += per_video(out, names)
        if self.overlay is not None and self.overlay.suffix.lower() in SUFFIXES:
            given.append(self.overlay)
            if len(names) > 1:
                raise UsageError(f"--overlay {self.overlay}: is one file for {len(names)} videos; name a folder")
        taken: set[Path] = set() if self.clips is None else {(self.clips / INDEX).resolve()}
        for path in given:
            refuse_input(path, read)
            refuse_output(path)
            if path.resolve() in taken:
                raise UsageError(f"--out {path}: is written twice; name each output once")
            taken.add(path.resolve())
        for option, folder in (("--clips", self.clips), ("--overlay", self.overlay)):
            if folder is not None and folder not in given:
                _refuse_folder(folder, files, option)

    def refuse_files(self, *inputs: Path | None) -> None:
        """Refuse, before anything is read, files of ``--out`` that cannot be written or would replace an input.

        Raises:
            UsageError: there is one.
        """
        for out in self.files:
            refuse_output(out, *inputs)

    def _refuse_urls(self, files: Iterable[Path]) -> None:
        from tadkit.video.container import public, url_of

        reads = [name for name, given in (("--clips", self.clips), ("--overlay", self.overlay)) if given is not None]
        for url in (url_of(path) for path in files if reads):
            if url is not None:
                raise UsageError(f"{reads[0]}: reads the video again, and {public(url)} is a URL; download it first")

    def shown(self, found: VideoDetections) -> VideoDetections:
        """The detections that are shown."""
        return found.shown(least=self.least, top=self.top, per_class=self.per_class)

    def write(self, found: VideoDetections) -> list[TadkitError]:
        """Write everything, and print what was written.

        Returns:
            The errors of outputs that could not be written; the others are.
        """
        shown = self.shown(found)
        done = _Written(print_note if self.on_stdout else print_line)
        self._write_files(found, shown, done)
        with TerminalProgress() as progress:
            if self.clips is not None:
                self._write_clips(self.clips, shown, progress, done)
            if self.overlay is not None:
                self._write_overlays(self.overlay, shown, progress, done)
        for line in done.lines:
            done.say(line)
        return done.failed

    def _write_files(self, found: VideoDetections, shown: VideoDetections, done: _Written) -> None:
        from tadkit.detection.outputs import has_all, write_content

        total, count = (sum(map(len, videos.values())) for videos in (found, shown))
        more = f", {total - count} more than shown" if total > count else ""
        for out in self.files:
            what = f"{total} detections{more}" if has_all(out) else f"{count} shown detections"
            with done.part(f"{out}: {what}"):
                write_content(out, (found if has_all(out) else shown).content)

    def _write_clips(self, folder: Path, shown: VideoDetections, progress: Progress, done: _Written) -> None:
        from tadkit.detection.outputs.clips import write_clips

        try:
            failed = write_clips(folder, shown.content, progress=progress)
        except TadkitError as error:
            done.failed.append(error)
            return
        done.failed.extend(failed.values())
        count = sum(len(found) for name, found in shown.items() if name not in failed)
        done.lines.append(f"{folder}: {count} clips, encoded again, without sound")

    def _write_overlays(self, place: Path, shown: VideoDetections, progress: Progress, done: _Written) -> None:
        from tadkit.detection.outputs.content import safe_names
        from tadkit.detection.outputs.overlay import SUFFIXES, write_overlay

        content = shown.content
        names = safe_names(shown)
        for video in content.videos:
            is_file = place.suffix.lower() in SUFFIXES
            path = place if is_file else place / f"{names[video.name]}-overlay.mp4"
            with done.part(f"{path}: {len(video.detections)} shown detections drawn in, without sound"):
                write_overlay(path, video, labels=content.labels, progress=progress)


@dataclass(frozen=True)
class _Written:
    """What was written, a line each, and the errors of what could not be."""

    say: Callable[[str], None]
    lines: list[str] = field(default_factory=list)
    failed: list[TadkitError] = field(default_factory=list)

    @contextmanager
    def part(self, line: str) -> Iterator[None]:
        """Keep ``line`` if the block succeeds, else its error."""
        try:
            yield
        except TadkitError as error:
            self.failed.append(error)
        else:
            self.lines.append(line)


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
