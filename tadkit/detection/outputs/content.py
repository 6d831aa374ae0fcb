"""What a writer is given, and how names and labels that came from files become harmless."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tadkit.errors import HIDDEN, VideoError
from tadkit.files import digest_of
from tadkit.records import Detection

LONGEST_NAME_PART_BYTES = 100
"""Of a name or label as part of a file name; file systems allow 255 bytes for all parts."""
_DIGEST_CHARACTERS = 8
_NOT_IN_NAMES = re.compile(rf'[<>:"/\\|?*\ufffe\uffff]|{HIDDEN.pattern}')
"""Separators, what Windows forbids, and what nobody can see."""
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that are devices on Windows."""
_NOT_IN_TEXT = re.compile(rf"[\ufffe\uffff]|{HIDDEN.pattern}")


@dataclass(frozen=True)
class VideoContent:
    """The detections of one video.

    Attributes:
        name: of the video.
        detections: best score first.
        duration_s: length in seconds.
        file: the video itself; None if it is not known.
        fallback_fps: frame rate by which the detections were found, if the file stores no time stamps.
    """

    name: str
    detections: tuple[Detection, ...]
    duration_s: float
    file: Path | None
    fallback_fps: float | None = None

    @property
    def source(self) -> Path:
        """The video itself.

        Raises:
            VideoError: it is not known.
        """
        if self.file is None:
            raise VideoError(
                f"'{self.name}': its file is not known; "
                "tadkit data export-detections finds it in the folder --videos DIR"
            )
        return self.file

    @property
    def in_order(self) -> list[Detection]:
        """The detections by start."""
        return sorted(self.detections, key=lambda d: (d.start_s, d.end_s))


@dataclass(frozen=True)
class Content:
    """What is written.

    Attributes:
        videos: in the order of the file.
        origin: which model and settings made the detections.
    """

    videos: tuple[VideoContent, ...]
    origin: Mapping[str, Any]

    @property
    def labels(self) -> list[str]:
        """All labels, sorted."""
        return sorted({d.label for video in self.videos for d in video.detections})


def fallback_fps_of(origin: Mapping[str, Any]) -> float | None:
    """The setting ``video.fallback_fps`` that detections were made with; None where a file does not say."""
    video = origin.get("video")
    fps = video.get("fallback_fps") if isinstance(video, dict) else None
    return float(fps) if isinstance(fps, int | float) and math.isfinite(fps) and fps > 0 else None


def safe_name(text: str) -> str:
    """A name or label as part of a file name: no separator, no control character, not too long, not empty.

    The end of a long one is replaced by a digest, so that names that differ in it only do not become alike.
    """
    plain = _NOT_IN_NAMES.sub("_", text).strip(" .")
    if len(plain.encode()) > LONGEST_NAME_PART_BYTES:
        end = f"-{digest_of(plain)[:_DIGEST_CHARACTERS]}"
        plain = plain.encode()[: LONGEST_NAME_PART_BYTES - len(end)].decode(errors="ignore") + end
    plain = plain or "unnamed"
    return f"_{plain}" if _DEVICE.fullmatch(plain) else plain


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """A file name for each of ``names``, without suffix; no two are alike, in any case or form of Unicode."""
    taken: set[str] = set()
    return {name: free_name(safe_name(name), taken) for name in names}


def free_name(plain: str, taken: set[str]) -> str:
    """``plain``, followed by a number if a name like it is taken, and taken from now on."""
    candidate, number = plain, 1
    while _folded(candidate) in taken:
        number += 1
        candidate = f"{plain}-{number}"
    taken.add(_folded(candidate))
    return candidate


def _folded(name: str) -> str:
    """What file systems that ignore case and forms of Unicode take a name for."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def plain_text(text: str) -> str:
    """A name or label as one line of text that people read; never empty."""
    return " ".join(_NOT_IN_TEXT.sub(" ", text).split()) or "unnamed"
