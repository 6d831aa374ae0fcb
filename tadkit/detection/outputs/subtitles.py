"""SubRip (.srt) and WebVTT (.vtt; W3C): the label and score of each detection as a subtitle of one video.

Both keep milliseconds. Players obey tags, so labels are written without them: SubRip, which has no escapes, gets
look-alikes of brackets, and WebVTT gets character references.
"""

from __future__ import annotations

import html
import re
from pathlib import Path

from tadkit.detection.outputs.content import Content, plain_text
from tadkit.files import write_text

_INERT = str.maketrans({"<": "\u2039", ">": "\u203a", "{": "(", "}": ")", "\\": "/"})
"""Brackets of tags (HTML's, and those of SubStation Alpha, which players obey in .srt files) and look-alikes."""
_CLOCK = re.compile(r"(?<=\d):(?=\d)")
"""A colon of a time, by which some readers take a line of text for one of time spans."""
_RATIO = "\u2236"


def write_srt(path: Path, content: Content) -> None:
    """Write the detections of one video as SubRip; without a video the file is empty."""
    cues = [
        f"{number}\n{span.replace('.', ',')}\n{_CLOCK.sub(_RATIO, text.translate(_INERT))}\n\n"
        for number, (span, text) in enumerate(_cues(content), start=1)
    ]
    write_text(path, "".join(cues))


def write_vtt(path: Path, content: Content) -> None:
    """Write the detections of one video as WebVTT; without a video it has the heading alone."""
    cues = [f"\n{span}\n{html.escape(text, quote=False)}\n" for span, text in _cues(content)]
    write_text(path, "WEBVTT\n" + "".join(cues))


def _cues(content: Content) -> list[tuple[str, str]]:
    """Time span and text of each detection, by start; a span is at least a millisecond."""
    found = []
    for d in (d for video in content.videos for d in video.in_order):
        start_ms = max(0, round(d.start_s * 1000))
        end_ms = max(start_ms + 1, round(d.end_s * 1000))
        found.append((f"{_time(start_ms)} --> {_time(end_ms)}", f"{plain_text(d.label)} {d.score:.2f}"))
    return found


def _time(ms: int) -> str:
    seconds, ms = divmod(ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{ms:03d}"
