"""How detections are judged, and which rows are compared."""

from __future__ import annotations

from typing import Literal

from tadkit.config.base import Settings

ComparedRow = Literal["teacher", "decomposed", "direct", "rgb", "rgb-matched"]


class EvaluationSettings(Settings):
    """How detections are judged."""

    protocol: Literal["activitynet", "thumos14"] = "activitynet"
    """activitynet is the official evaluator; thumos14 the kit of that challenge."""
    tiou: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5)
    """Thresholds of temporal intersection over union."""
