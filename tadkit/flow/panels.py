"""One picture of motion: the frame, its flow in colour and a legend in a row, with a line of text below."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache, cached_property

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageDraw, ImageFont

from tadkit.flow.colour import flow_to_colour, gradient_to_grey, wheel_picture

PANEL_PX = 448
"""Small motion is enlarged by an integer factor that brings its longer side closest to this."""
MARGIN_PX = 16
FOOTER_PX = 38
LEGEND_PX = 158
WHEEL_PX = 96
LINE_PX = 22
TEXT_PX = 13
PAPER = (252, 252, 252)
INK = (30, 30, 30)
FAINT_INK = (120, 120, 120)


@dataclass(frozen=True)
class Panels:
    """How the pictures of one preview are laid out.

    Attributes:
        size_hw: of the motion, in pixels.
        full_px: motion shown in full colour, in pixels; None for the temporal gradient, which has no wheel.
        notes: lines at the top of the legend, such as the method's name.
        with_frame: whether a frame is shown left of the motion.
    """

    size_hw: tuple[int, int]
    full_px: float | None
    notes: tuple[str, ...]
    with_frame: bool

    @property
    def panel_hw(self) -> tuple[int, int]:
        """(height, width) in pixels of frame and motion as shown: the motion's own size times an integer."""
        factor = max(1, round(PANEL_PX / max(self.size_hw)))
        return self.size_hw[0] * factor, self.size_hw[1] * factor

    def picture(
        self,
        motion: Float32[np.ndarray, "channels height width"],
        *,
        frame: UInt8[np.ndarray, "panel_height panel_width 3"] | None,
        caption: str,
    ) -> UInt8[np.ndarray, "picture_height picture_width 3"]:
        """One RGB picture; both of its sides are even.

        Args:
            motion: flow in pixels, or the temporal gradient in grey levels.
            frame: of the size ``panel_hw``; None where the panels have none.
            caption: text below on the left.
        """
        assert (frame is not None) == self.with_frame
        height, width = self.panel_hw
        shown = [panel for panel in (frame, self._coloured(motion)) if panel is not None]
        legend = self._legend
        rows = len(legend) + MARGIN_PX + FOOTER_PX
        columns = MARGIN_PX + len(shown) * (width + MARGIN_PX) + LEGEND_PX + MARGIN_PX
        canvas = np.full((rows + rows % 2, columns + columns % 2, 3), PAPER, dtype=np.uint8)
        left = MARGIN_PX
        for panel in shown:
            canvas[MARGIN_PX : MARGIN_PX + height, left : left + width] = panel
            _outline(canvas, left, MARGIN_PX, width, height)
            left += width + MARGIN_PX
        canvas[MARGIN_PX : MARGIN_PX + len(legend), left : left + LEGEND_PX] = legend
        write_text(canvas, caption, left_px=MARGIN_PX, base_px=MARGIN_PX + len(legend) + 24, colour=INK)
        return canvas

    def _coloured(
        self, motion: Float32[np.ndarray, "channels height width"]
    ) -> UInt8[np.ndarray, "panel_height panel_width 3"]:
        """The motion as a picture; the field is interpolated, not its colours, so that edges keep true hues."""
        height, width = self.panel_hw
        field = np.ascontiguousarray(np.moveaxis(motion, 0, -1), dtype=np.float32)
        fine = cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR)
        fields = np.moveaxis(fine, -1, 0)[None]
        if self.full_px is None:
            picture: np.ndarray = gradient_to_grey(fields)[0]
        else:
            picture = flow_to_colour(fields, full_px=self.full_px)[0]
        return picture

    @cached_property
    def _legend(self) -> UInt8[np.ndarray, "height width 3"]:
        """Notes at the top and the wheel in the lower corner; at least as high as the panels."""
        needed = LINE_PX * len(self.notes) + (WHEEL_PX + LINE_PX if self.full_px is not None else 0)
        legend = np.full((max(self.panel_hw[0], needed), LEGEND_PX, 3), PAPER, dtype=np.uint8)
        for number, note in enumerate(self.notes):
            ink = FAINT_INK if number else INK
            write_text(legend, note, left_px=0, base_px=14 + number * LINE_PX, colour=ink)
        if self.full_px is not None:
            wheel, inside = wheel_picture(WHEEL_PX)
            corner = legend[-WHEEL_PX:, :WHEEL_PX]
            corner[:] = np.rint(inside[..., None] * wheel + (1 - inside[..., None]) * np.array(PAPER))
            middle = len(legend) - WHEEL_PX // 2
            write_text(legend, f"{self.full_px:.3g} px", left_px=WHEEL_PX + 8, base_px=middle, colour=INK)
            write_text(legend, "at rim", left_px=WHEEL_PX + 8, base_px=middle + LINE_PX - 4, colour=FAINT_INK)
        return legend


def _outline(canvas: UInt8[np.ndarray, "height width 3"], left: int, top: int, width: int, height: int) -> None:
    """A thin frame around a panel: flow without motion is as white as the background."""
    cv2.rectangle(canvas, (left - 1, top - 1), (left + width, top + height), (215, 215, 215), 1)


def write_text(
    canvas: UInt8[np.ndarray, "height width 3"],
    text: str,
    *,
    left_px: int,
    base_px: int,
    colour: tuple[int, int, int],
    size_px: int = TEXT_PX,
) -> None:
    """Write a line of ``text`` into ``canvas`` in place; what does not fit is cut off.

    The font has ASCII letters only: accents are dropped, and other letters become question marks.
    """
    letters = (letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    plain = "".join(letters).encode("ascii", "replace").decode()
    picture = Image.fromarray(canvas)
    ImageDraw.Draw(picture).text((left_px, base_px), plain, fill=colour, font=_font(size_px), anchor="ls")
    canvas[:] = np.asarray(picture)


@cache
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, which is the same on every machine."""
    return ImageFont.load_default(size=size_px)


def encoded(picture: UInt8[np.ndarray, "height width 3"], suffix: str) -> bytes:
    """An RGB picture as the bytes of a file; the suffix (.png, .jpg) selects the format."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, 88] if suffix != ".png" else []
    written, data = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), quality)
    assert written, suffix
    return bytes(data)
