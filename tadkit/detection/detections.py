"""Detections as a user holds them: lists that can be filtered, tabulated, written and looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from tadkit.detection.html_timeline import html_timeline
from tadkit.detection.outputs import Content, VideoContent, write_content
from tadkit.detection.outputs.content import fallback_fps_of
from tadkit.detection.outputs.tables import COLUMNS, json_text, records
from tadkit.errors import TadkitError, printable
from tadkit.records import HIGH_CONFIDENCE, Detection, shown_of

if TYPE_CHECKING:
    from pandas import DataFrame


class Detections(Sequence[Detection]):
    """The detections of one video, best score first.

    Attributes:
        video: its name.
        duration_s: its length in seconds.
        file: the video itself; None if it is not known.
    """

    def __init__(
        self,
        found: Sequence[Detection],
        *,
        video: str,
        duration_s: float,
        origin: Mapping[str, Any],
        file: Path | None = None,
    ) -> None:
        """``origin`` says which model and settings made them; it is written to JSON files."""
        self.video = video
        self.duration_s = duration_s
        self.file = file
        self._found = tuple(found)
        self._origin = origin

    @overload
    def __getitem__(self, index: int) -> Detection: ...

    @overload
    def __getitem__(self, index: slice) -> Detections: ...

    def __getitem__(self, index: int | slice) -> Detection | Detections:
        """One detection, or a part of them."""
        return self._with(self._found[index]) if isinstance(index, slice) else self._found[index]

    def __len__(self) -> int:
        """Number of detections."""
        return len(self._found)

    def __eq__(self, other: object) -> bool:
        """Whether the video and the detections are the same; a plain list of the same detections is equal, too."""
        if isinstance(other, Detections):
            return self.video == other.video and self._found == other._found
        return isinstance(other, list | tuple) and list(self._found) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def above(self, score: float) -> Detections:
        """Those that score ``score`` or more."""
        return self._with([detection for detection in self._found if detection.score >= score])

    @property
    def operating_points(self) -> Mapping[str, float]:
        """For some labels, the score from which detections are shown to a person; for others it is 0.3."""
        points: Mapping[str, float] = self._origin.get("operating_points", {})
        return points

    def shown(self, *, least: float | None = None, top: int | None = None, per_class: int | None = None) -> Detections:
        """Those that are shown to a person: their score reaches the operating point of their label.

        Args:
            least: score from which they are shown, in place of the operating points.
            top: show at most this number.
            per_class: show at most this number of each label.
        """
        return self._with(shown_of(self._found, self.operating_points, least=least, top=top, per_class=per_class))

    def in_order(self) -> Detections:
        """The same detections by start, as a person reads them."""
        return self._with(sorted(self._found, key=lambda d: (d.start_s, d.end_s)))

    def to_records(self) -> list[dict[str, Any]]:
        """A dictionary for each detection, with the keys ``video``, ``start_s``, ``end_s``, ``label`` and ``score``."""
        return [dict(zip(COLUMNS, (self.video, d.start_s, d.end_s, d.label, d.score), strict=True)) for d in self]

    def to_dataframe(self) -> DataFrame:
        """The records as a pandas DataFrame.

        Raises:
            TadkitError: pandas is not installed.
        """
        return _dataframe(self.to_records())

    def write(self, path: str | Path) -> None:
        """Write all of them to a file of the form that its suffix names (docs/formats.md), such as ``.json``.

        Raises:
            UsageError: no form has the suffix, or the file cannot be written.
            TadkitError: the form needs a package that is not installed.
        """
        VideoDetections({self.video: self}, origin=self._origin).write(path)

    def _with(self, found: Sequence[Detection]) -> Detections:
        return Detections(found, video=self.video, duration_s=self.duration_s, origin=self._origin, file=self.file)

    def __repr__(self) -> str:
        """The high-confidence detections, one a line, in the order of time."""
        shown = self.shown().in_order()
        lines = [f"  {d.start_s:7.1f} to {d.end_s:7.1f} s  {printable(d.label)}  {d.score:.2f}" for d in shown]
        count = f"{len(self)} detections in '{printable(self.video)}' ({self.duration_s:.1f} s)"
        least = "their label's operating point" if self.operating_points else f"{HIGH_CONFIDENCE:g}"
        return "\n".join([f"<{count}, {len(shown)} of them with a score of {least} or more>", *lines])

    def _repr_html_(self) -> str:
        """The timeline that a notebook shows."""
        points = self.operating_points
        return html_timeline(self, video=self.video, duration_s=self.duration_s, points=points)


class VideoDetections(Mapping[str, Detections]):
    """The detections of several videos, by name.

    Attributes:
        failed: the error of each video that could not be read.
        origin: which model and settings made them.
    """

    def __init__(
        self,
        videos: Mapping[str, Detections],
        *,
        origin: Mapping[str, Any],
        failed: Mapping[str, TadkitError] | None = None,
    ) -> None:
        """``origin`` says which model and settings made them; it is written to JSON files."""
        self._videos = dict(videos)
        self.origin = origin
        self.failed = dict(failed or {})

    def __getitem__(self, video: str) -> Detections:
        """The detections of one video."""
        return self._videos[video]

    def __iter__(self) -> Iterator[str]:
        """Names of the videos."""
        return iter(self._videos)

    def __len__(self) -> int:
        """Number of videos."""
        return len(self._videos)

    def shown(
        self, *, least: float | None = None, top: int | None = None, per_class: int | None = None
    ) -> VideoDetections:
        """Those of each video that are shown to a person (:meth:`Detections.shown`)."""
        kept = {name: found.shown(least=least, top=top, per_class=per_class) for name, found in self._videos.items()}
        return VideoDetections(kept, origin=self.origin, failed=self.failed)

    @property
    def content(self) -> Content:
        """What is written to a file."""
        fps = fallback_fps_of(self.origin)
        videos = (VideoContent(name, tuple(found), found.duration_s, found.file, fps) for name, found in self.items())
        return Content(tuple(videos), self.origin)

    def to_records(self) -> list[dict[str, Any]]:
        """The records of all videos, one after the other (:meth:`Detections.to_records`)."""
        return records(self.content)

    def to_dataframe(self) -> DataFrame:
        """The records as a pandas DataFrame.

        Raises:
            TadkitError: pandas is not installed.
        """
        return _dataframe(self.to_records())

    def to_json(self) -> str:
        """The text of a detections file (docs/formats.md)."""
        return json_text(self.content)

    def write(self, path: str | Path) -> None:
        """Write all detections to a file of the form that its suffix names (docs/formats.md), such as ``.json``.

        ``{video}`` in ``path`` stands for the name of each video, for one file a video.

        Raises:
            UsageError: no form has the suffix, a form that has one video is given several, or a file cannot be written.
            TadkitError: the form needs a package that is not installed.
        """
        write_content(Path(path), self.content)

    def __repr__(self) -> str:
        """How many detections each video has."""
        failed = f", {len(self.failed)} failed" if self.failed else ""
        lines = [f"  {printable(name)}: {len(found)} detections" for name, found in self._videos.items()]
        return "\n".join([f"<{len(self)} videos{failed}>", *lines])

    def _repr_html_(self) -> str:
        """The timelines that a notebook shows, one below the other."""
        return "".join(found._repr_html_() for found in self._videos.values())


def _dataframe(records: list[dict[str, Any]]) -> DataFrame:
    try:
        from pandas import DataFrame
    except ImportError as error:
        raise TadkitError("to_dataframe needs pandas: pip install 'tadkit[dataframe]', or use to_records()") from error
    return DataFrame.from_records(records, columns=list(COLUMNS))
