"""Makes docs/result.jpg: frames of the example video, and below them the detections of the bundled model.

Run from the repository root: python docs/result_picture.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import tadkit
from tadkit.config import VideoSettings
from tadkit.video import open_sampled

VIDEO = Path("examples/room.mp4")
FRAMES, SCALE = 8, 2
"""Pictures in the strip; everything is drawn at twice its size, for sharp text on dense screens."""
WIDTH, MARGIN, LABEL, LANE, GAP = 1000, 12, 84, 22, 5
COLOURS = {"walk": "#3b82d6", "lying": "#d9772b", "standup": "#2aa65a", "falling": "#9b3fd1", "sitdown": "#d14372"}
INK, PAPER, TRACK = "#1d2430", "#ffffff", "#eef0f3"


def main() -> None:
    """Detect, draw, save."""
    found = tadkit.detect(VIDEO).shown().in_order()
    strip = film_strip()
    lanes = list(dict.fromkeys(detection.label for detection in found))
    height = strip.height // SCALE + 2 * MARGIN + len(lanes) * (LANE + GAP) + 34
    picture = Image.new("RGB", (WIDTH * SCALE, height * SCALE), PAPER)
    picture.paste(strip, (LABEL * SCALE, MARGIN * SCALE))
    draw = ImageDraw.Draw(picture)
    top = strip.height // SCALE + 2 * MARGIN
    for number, label in enumerate(lanes):
        draw_lane(draw, label, found, top_px=top + number * (LANE + GAP))
    bottom = top + len(lanes) * (LANE + GAP)
    for second in range(0, int(found.duration_s) + 1, 5):
        text(draw, x_px(second, found.duration_s), bottom + 4, f"{second} s", anchor="ma", size_px=13)
    picture.save("docs/result.jpg", quality=88)


def film_strip() -> Image.Image:
    """Frames at equal distances, side by side."""
    with open_sampled(VIDEO, VideoSettings(rate_hz=5.0, height_px=240, width_px=240)) as video:
        middles = (np.arange(FRAMES) + 0.5) / FRAMES * len(video)
        frames = [video.frames(int(at), int(at) + 1)[0] for at in middles]
    side = (WIDTH - LABEL - MARGIN) * SCALE // FRAMES
    strip = Image.new("RGB", (side * FRAMES, side), PAPER)
    for number, frame in enumerate(frames):
        strip.paste(Image.fromarray(frame).resize((side - 2 * SCALE, side)), (number * side, 0))
    return strip


def draw_lane(draw: ImageDraw.ImageDraw, label: str, found: tadkit.Detections, *, top_px: float) -> None:
    """One label's detections as bars with their scores."""
    text(draw, MARGIN, top_px + LANE / 2, label, anchor="lm", size_px=15)
    whole = (x_px(0, found.duration_s), top_px, x_px(found.duration_s, found.duration_s), top_px + LANE)
    box(draw, whole, TRACK)
    for detection in (detection for detection in found if detection.label == label):
        left, right = (x_px(at_s, found.duration_s) for at_s in (detection.start_s, detection.end_s))
        box(draw, (left, top_px, right - 1, top_px + LANE), COLOURS[label])
        text(draw, left + 5, top_px + LANE / 2, f"{detection.score:.2f}", anchor="lm", size_px=12, fill=PAPER)


def x_px(at_s: float, duration_s: float) -> float:
    """Where a second lies."""
    return LABEL + at_s / duration_s * (WIDTH - LABEL - MARGIN)


def box(draw: ImageDraw.ImageDraw, corners_px: tuple[float, float, float, float], fill: str) -> None:
    """A rounded rectangle."""
    draw.rounded_rectangle([SCALE * corner for corner in corners_px], radius=4 * SCALE, fill=fill)


def text(
    draw: ImageDraw.ImageDraw, x: float, y: float, words: str, *, anchor: str, size_px: float, fill: str = INK
) -> None:
    """Words in Pillow's own font."""
    font = ImageFont.load_default(size=size_px * SCALE)
    draw.text((x * SCALE, y * SCALE), words, fill=fill, font=font, anchor=anchor)


if __name__ == "__main__":
    main()
