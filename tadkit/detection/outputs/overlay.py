"""The video with its detections drawn in: labels and scores while they last, and a bar of all of them below.

H.264 without sound, at the video's own frame times, at most :data:`MOST_PX` pixels on the longer side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from tadkit.detection.outputs.content import VideoContent, plain_text
from tadkit.flow.panels import write_text
from tadkit.progress import Progress
from tadkit.records import Detection
from tadkit.video import VideoReader, open_video, write_video

MOST_PX = 1280
SUFFIXES = (".mp4", ".mov", ".mkv")
_SMALLEST_TEXT_PX, _LARGEST_TEXT_PX, _LINES = 12, 28, 24
_LANE_PX, _MOST_LANES = 10, 16
_PAPER, _INK, _FAINT = (24, 24, 27), (245, 245, 245), (70, 70, 76)
_COLOURS = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)),
    *((0, 114, 178), (213, 94, 0), (204, 121, 167), (200, 200, 200)),
)
"""Okabe and Ito's colours, which colour-blind people can tell apart; the black is a grey here."""


def write_overlay(path: Path, video: VideoContent, *, labels: Sequence[str], progress: Progress) -> None:
    """Write a video with its detections drawn in.

    Args:
        path: .mp4, .mov or .mkv.
        video: its detections.
        labels: all labels, which get their colours in this order, so that videos written one by one agree.
        progress: counts the frames.

    Raises:
        VideoError: the video cannot be read, or its file is not known.
        UsageError: the folder cannot be written to.
    """
    with open_video(video.source, fallback_fps=video.fallback_fps) as whole:
        size_hw = _shown_hw(whole.size_hw)
    with open_video(video.source, size_hw=size_hw, fallback_fps=video.fallback_fps) as reader:
        stamps_s = reader.stamps_s
        progress.start("overlay", total=len(stamps_s), unit="frames")
        last_s = max(1e-3, reader.duration_s - float(stamps_s[-1]))
        pictures = _pictures(reader, _Overlay(video, labels, size_hw), progress)
        write_video(path, pictures, fps=1 / last_s, crf=23, stamps_s=stamps_s.tolist())


def _shown_hw(size_hw: tuple[int, int]) -> tuple[int, int]:
    """Even sides, the longer one at most :data:`MOST_PX`."""
    factor = min(1.0, MOST_PX / max(size_hw))
    height, width = (max(2, round(side * factor / 2) * 2) for side in size_hw)
    return height, width


def _pictures(
    reader: VideoReader, overlay: _Overlay, progress: Progress
) -> Iterator[UInt8[np.ndarray, "picture_height width 3"]]:
    for number, stamp_s in enumerate(reader.stamps_s.tolist()):
        yield overlay.picture(reader.read([number])[0], stamp_s)
        progress.advance(note=overlay.video.name)


class _Overlay:
    """Draws the detections of one video into its frames."""

    def __init__(self, video: VideoContent, labels: Sequence[str], size_hw: tuple[int, int]) -> None:
        self.video = video
        self._found = video.in_order
        self._size_hw = size_hw
        self._colours = {label: _COLOURS[place % len(_COLOURS)] for place, label in enumerate(labels)}
        self._lanes = {label: place % _MOST_LANES for place, label in enumerate(labels)}
        self._text_px = min(_LARGEST_TEXT_PX, max(_SMALLEST_TEXT_PX, size_hw[0] // _LINES))
        self._line_px = self._text_px * 3 // 2
        self._lines = lru_cache(maxsize=1)(self._drawn_lines)

    def picture(
        self, frame: UInt8[np.ndarray, "height width 3"], at_s: float
    ) -> UInt8[np.ndarray, "picture_height width 3"]:
        """The frame with the labels of what happens at ``at_s``, above the bar."""
        height, width = self._size_hw
        canvas = np.concatenate([frame, self._bar])
        lines = self._lines(tuple(d for d in self._found if d.start_s <= at_s < d.end_s))
        canvas[: len(lines), : lines.shape[1]] = lines
        clock = canvas[height : height + self._line_px]
        text = f"{int(at_s // 60)}:{at_s % 60:04.1f}"
        write_text(clock, text, left_px=4, base_px=self._text_px, colour=_INK, size_px=self._text_px)
        column = min(width - 2, int(width * at_s / max(self.video.duration_s, 1e-9)))
        canvas[height + self._line_px :, column : column + 2] = _INK
        return canvas

    def _drawn_lines(self, shown: tuple[Detection, ...]) -> UInt8[np.ndarray, "lines_height lines_width 3"]:
        """A line for each detection with the colour of its label; as many as the frame has room for, best first."""
        height, width = self._size_hw
        room = max(1, height // self._line_px)
        texts = [(d.label, f"{plain_text(d.label)} {d.score:.2f}") for d in sorted(shown, key=lambda d: -d.score)]
        longest = max((len(text) for _, text in texts[:room]), default=0)
        columns = min(width, self._line_px + longest * self._text_px * 3 // 4) if texts else 0
        lines = np.full((min(height, self._line_px * min(room, len(texts))), columns, 3), _PAPER, dtype=np.uint8)
        for place, (label, text) in enumerate(texts[:room]):
            line = lines[place * self._line_px : (place + 1) * self._line_px]
            line[2:-2, 2 : self._line_px - 4] = self._colours[label]
            write_text(
                line, text[:width], left_px=self._line_px, base_px=self._text_px, colour=_INK, size_px=self._text_px
            )
        return lines

    @cached_property
    def _bar(self) -> UInt8[np.ndarray, "bar_height width 3"]:
        """A lane for each label, with all detections of the video, below a line for the clock."""
        width = self._size_hw[1]
        lanes = max(self._lanes.values(), default=0) + 1
        rows = self._line_px + lanes * _LANE_PX
        bar = np.full((rows + rows % 2, width, 3), _PAPER, dtype=np.uint8)
        bar[self._line_px :: _LANE_PX] = _FAINT
        scale = width / max(self.video.duration_s, 1e-9)
        for d in self._found:
            top = self._line_px + self._lanes[d.label] * _LANE_PX
            left = min(width - 1, max(0, int(d.start_s * scale)))
            right = max(left + 1, int(d.end_s * scale))
            bar[top + 2 : top + _LANE_PX - 1, left:right] = self._colours[d.label]
        return bar
