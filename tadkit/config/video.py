"""How frames are read, and the views that training samples from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tadkit.config.base import Settings

View = Literal["original", "mirror", "flip", "turn180", "turn90", "turn270", "transpose", "antitranspose"]
SQUARE_VIEWS: frozenset[str] = frozenset({"turn90", "turn270", "transpose", "antitranspose"})


class VideoSettings(Settings):
    """How frames are read."""

    rate_hz: float = Field(10.0, ge=0.01, le=240)
    """Frames per second, sampled by time stamp independently of the video's frame rate."""
    height_px: int = Field(112, ge=16, le=2048)
    """Height to which the decoder scales frames."""
    width_px: int = Field(112, ge=16, le=2048)
    """Width to which the decoder scales frames."""
    reader: Literal["auto", "decord", "pyav"] = "auto"
    """Decoder; auto is PyAV. decord refuses files that it would read wrongly."""
    fallback_fps: float | None = Field(None, ge=0.01, le=1000)
    """Frame rate of files without time stamps, such as .h264; by default the one that they declare, else 25."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height_px, self.width_px
