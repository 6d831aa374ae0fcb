"""The parts of a story: actions, places, and phases."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

from tadkit.synth.scene import Box

ACTIONS = ("walk", "sitdown", "standup", "lying", "falling", "wave", "bend", "jump")
"""All actions; ``lying`` is the act of lying down."""
DURATIONS_S = {
    **{"walk": (3.0, 15.0), "sitdown": (2.0, 5.0), "standup": (2.0, 7.0), "lying": (3.0, 8.0)},
    **{"falling": (1.5, 5.0), "wave": (1.5, 4.0), "bend": (2.0, 4.0), "jump": (1.5, 4.0)},
}
"""Shortest and longest duration of each action."""
MANY_FALLS_S = {"falling": (2.0, 8.0)}
"""What differs in stories of many falls."""
Posture = Literal["stand", "sit", "lie"]


@dataclass(frozen=True)
class Place:
    """A spot on the floor and the direction the person faces there (radians from x)."""

    x_m: float
    y_m: float
    heading: float


@dataclass(frozen=True)
class Rest:
    """How the person sits or lies: pelvis position, height of the support, and direction of the head when lying."""

    x_m: float
    y_m: float
    support_m: float
    head: float = 0.0
    face: Literal["up", "down", "side"] = "up"


@dataclass(frozen=True)
class Phase:
    """One phase of the story; ``kind`` is an action or ``idle``; ``place`` and ``rest`` are those at its end."""

    kind: str
    start_s: float
    end_s: float
    posture: Posture
    place: Place
    rest: Rest | None = None
    path_m: tuple[tuple[float, float], ...] = ()


def seat(box: Box, side: int, shift_m: float) -> tuple[Place, Rest]:
    """Where the person stands before sitting down on a long side of ``box``, and where the pelvis rests then."""
    normal = box.angle + side * math.pi / 2
    out = _turned(normal)
    centre = np.array([box.x_m, box.y_m]) + shift_m * _turned(box.angle)
    on = centre + out * (box.width_m / 2 - min(0.2, box.width_m / 2))
    before = centre + out * (box.width_m / 2 + (0.16 if box.height_m > 0.25 else 0.3))
    return Place(float(before[0]), float(before[1]), normal), Rest(float(on[0]), float(on[1]), box.height_m)


def _turned(angle: float) -> Float64[np.ndarray, " 2"]:
    return np.array([math.cos(angle), math.sin(angle)])
