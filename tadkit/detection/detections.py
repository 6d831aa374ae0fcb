"""Detections as a user holds them: lists that can be filtered, tabulated, written and looked at."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from tadkit.detection.html_timeline import html_timeline
from tadkit.errors import TadkitError, UsageError, printable
from tadkit.files import write_text
from tadkit.records import HIGH_CONFIDENCE, Detection, detections_json, is_shown

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ("video", "start_s", "end_s", "label", "score")
"""Fields of a record."""
SUFFIXES = (".json", ".jsonl", ".csv")
"""Forms that detections are written in: ActivityNet-style JSON, and one record a line."""


class Detections(Sequence[Detection]):
    """The detections of one video, best score first.

    Attributes:
        video: its name.
        duration_s: its length in seconds.
    """

    def __init__(self, found: Sequence[Detection], *, video: str, duration_s: float, origin: Mapping[str, Any]) -> None:
        """``origin`` says which model and settings made them; it is written to JSON files."""
        self.video = video
        self.duration_s = duration_s
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

    def shown(self) -> Detections:
        """Those that are shown to a person: their score reaches the operating point of their label."""
        return self._with([detection for detection in self._found if is_shown(detection, self.operating_points)])

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
        """Write all of them to a file of the form that its suffix names: ``.json``, ``.jsonl`` or ``.csv``.

        Raises:
            UsageError: the suffix is another, or the file cannot be written.
        """
        VideoDetections({self.video: self}, origin=self._origin).write(path)

    def _with(self, found: Sequence[Detection]) -> Detections:
        return Detections(found, video=self.video, duration_s=self.duration_s, origin=self._origin)

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

    def to_records(self) -> list[dict[str, Any]]:
        """The records of all videos, one after the other (:meth:`Detections.to_records`)."""
        return [record for found in self._videos.values() for record in found.to_records()]

    def to_dataframe(self) -> DataFrame:
        """The records as a pandas DataFrame.

        Raises:
            TadkitError: pandas is not installed.
        """
        return _dataframe(self.to_records())

    def to_json(self) -> str:
        """The text of a detections file (docs/formats.md)."""
        durations_s = {name: found.duration_s for name, found in self._videos.items()}
        return detections_json(self._videos, external={**self.origin, "durations_s": durations_s})

    def write(self, path: str | Path) -> None:
        """Write all detections to a file of the form that its suffix names: ``.json``, ``.jsonl`` or ``.csv``.

        Raises:
            UsageError: the suffix is another, or the file cannot be written.
        """
        path = Path(path)
        forms: Mapping[str, Callable[[], str]] = {".json": self.to_json, ".jsonl": self._jsonl, ".csv": self._csv}
        write_text(path, forms[written_suffix(path)]())

    def _jsonl(self) -> str:
        return "".join(json.dumps(record) + "\n" for record in self.to_records())

    def _csv(self) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.to_records())
        return text.getvalue()

    def __repr__(self) -> str:
        """How many detections each video has."""
        failed = f", {len(self.failed)} failed" if self.failed else ""
        lines = [f"  {printable(name)}: {len(found)} detections" for name, found in self._videos.items()]
        return "\n".join([f"<{len(self)} videos{failed}>", *lines])

    def _repr_html_(self) -> str:
        """The timelines that a notebook shows, one below the other."""
        return "".join(found._repr_html_() for found in self._videos.values())


def written_suffix(path: Path) -> str:
    """The suffix of a file that detections can be written to, in lower case.

    Raises:
        UsageError: it is none of :data:`SUFFIXES`.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path}: detections are written as {', '.join(SUFFIXES)}; choose one of these suffixes")
    return suffix


def _dataframe(records: list[dict[str, Any]]) -> DataFrame:
    try:
        from pandas import DataFrame
    except ImportError as error:
        raise TadkitError("to_dataframe needs pandas: pip install 'tadkit[dataframe]', or use to_records()") from error
    return DataFrame.from_records(records, columns=list(COLUMNS))
