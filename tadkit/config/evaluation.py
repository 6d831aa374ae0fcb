"""How detections are judged, and which rows are compared."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tadkit.config.base import Settings

ComparedRow = Literal["teacher", "decomposed", "direct", "rgb", "rgb-matched"]


class EvaluationSettings(Settings):
    """How detections are judged."""

    protocol: Literal["activitynet", "thumos14"] = "activitynet"
    """activitynet is the official evaluator; thumos14 the kit of that challenge."""
    tiou: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field((0.1, 0.2, 0.3, 0.4, 0.5), min_length=1)
    """Thresholds of temporal intersection over union."""
