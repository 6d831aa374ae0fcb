"""How frames are read, and the views of them that training draws from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tadkit.config.base import Settings

View = Literal["original", "mirror", "flip", "turn180", "turn90", "turn270", "transpose", "antitranspose"]
SQUARE_VIEWS: frozenset[str] = frozenset({"turn90", "turn270", "transpose", "antitranspose"})


class VideoSettings(Settings):
    """How frames are read."""

    rate_hz: float = Field(10.0, ge=0.01, le=240)
    """Frames per second that are sampled, by time stamp, whatever the video's own rate."""
    height_px: int = Field(112, ge=16, le=2048)
    """Height that the decoder scales frames to."""
    width_px: int = Field(112, ge=16, le=2048)
    """Width that the decoder scales frames to."""
    reader: Literal["auto", "decord", "pyav"] = "auto"
    """Decoder; auto takes decord where it is installed and copes, up to 640x480, else PyAV."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height_px, self.width_px
