"""Poses of the body, as rows of handles."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tadkit.synth.body import (
    CHEST,
    FOOT_L,
    FOOT_R,
    FORE_L,
    FORE_R,
    HANDLES,
    HEAD,
    KNEES,
    PELVIS,
    POSITIONS,
    SPINE,
    SUPPORT,
    UPPER_L,
    UPPER_R,
    WORLD_DIRECTIONS,
    Array,
    Body,
)
from tadkit.synth.phases import Place, Rest

UP = np.array([0.0, 0.0, 1.0])


def direction(angle: float) -> Array:
    """The horizontal unit vector at ``angle`` (radians from x)."""
    return np.array([math.cos(angle), math.sin(angle), 0.0])


def changed(state: Array, **handles: Sequence[float] | Array) -> Array:
    """A copy of ``state`` with some handles replaced, named in lower case."""
    out = state.copy()
    for name, value in handles.items():
        out[_INDEX[name]] = value
    return out


_INDEX = {
    **{
        "pelvis": PELVIS,
        "spine": SPINE,
        "chest": CHEST,
        "foot_l": FOOT_L,
        "foot_r": FOOT_R,
        "knees": KNEES,
        "head": HEAD,
    },
    **{"upper_l": UPPER_L, "upper_r": UPPER_R, "fore_l": FORE_L, "fore_r": FORE_R},
}


def to_world(local: Array, place: Place) -> Array:
    """A pose in the axes of ``place`` (front, left, up), converted to world axes."""
    c, s = math.cos(place.heading), math.sin(place.heading)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    out = local.copy()
    for handle in (*POSITIONS, *WORLD_DIRECTIONS):
        out[handle] = turn @ local[handle]
    for handle in POSITIONS:
        out[handle] += (place.x_m, place.y_m, 0.0)
    return out


class Poser:
    """The poses of one person, with their body and habits."""

    def __init__(self, body: Body, rng: np.random.Generator) -> None:
        self.body, self.rng = body, rng
        self.feet_m = float(rng.uniform(0.08, 0.14)) * body.scale
        self.swing = float(rng.uniform(0.25, 0.6))
        self.stoop = float(rng.uniform(0.0, 0.14))

    def local_standing(self) -> Array:
        """Standing at ease, in the axes of the place."""
        b, pose = self.body, np.zeros((HANDLES, 3))
        pose[PELVIS] = (0, 0, b.stand_m)
        pose[SPINE], pose[CHEST], pose[KNEES], pose[HEAD] = (self.stoop, 0, 1), (1, 0, 0), (1, 0, 0), (0.12, 0, 1)
        for side, foot, upper, fore in ((1, FOOT_L, UPPER_L, FORE_L), (-1, FOOT_R, UPPER_R, FORE_R)):
            pose[foot] = (0.02, side * self.feet_m, b.ankle_m)
            pose[upper], pose[fore] = (0.03, 0.16 * side, -1), (0.2, 0.05 * side, -1)
        return pose

    def standing(self, place: Place) -> Array:
        """Standing at ease at ``place``."""
        return to_world(self.local_standing(), place)

    def sitting(self, place: Place, rest: Rest) -> Array:
        """Sitting on ``rest``, feet on the floor in front, with random lean and hands."""
        r, low = self.rng, rest.support_m < 0.25
        state = self.standing(place)
        front = direction(place.heading)
        left = np.array([-front[1], front[0], 0])
        state[PELVIS] = (rest.x_m, rest.y_m, rest.support_m + 0.105 * self.body.scale)
        reach = float(r.uniform(0.35, 0.7) if low else r.uniform(0.3, 0.48)) * self.body.scale
        for side, foot in ((1, FOOT_L), (-1, FOOT_R)):
            state[foot] = (
                state[PELVIS] + front * (reach + r.normal(0, 0.04)) + left * side * (self.feet_m + r.uniform(0, 0.1))
            )
            on = rest.support_m if low and reach < 0.2 else 0.0
            state[foot, 2] = on + self.body.ankle_m
        state[SPINE], state[KNEES] = (
            front * r.uniform(-0.05, 0.65 if low else 0.45) + UP,
            front * 0.6 + UP,
        )
        for side, upper, fore in ((1, UPPER_L, FORE_L), (-1, UPPER_R, FORE_R)):
            state[upper] = (r.uniform(0.2, 0.7), side * r.uniform(0.1, 0.35), -1)
            state[fore] = (1, side * r.uniform(-0.5, 0.2), r.uniform(-0.6, 0.1))
        state[HEAD] = (r.uniform(0.0, 0.5), r.normal(0, 0.1), 1)
        return state

    def lying(self, rest: Rest, heading: float) -> Array:
        """Lying on ``rest``: on the back, the front, or the side that faces ``heading``."""
        r, b, state = self.rng, self.body, np.zeros((HANDLES, 3))
        along = direction(rest.head)
        aside = np.array([-along[1], along[0], 0])
        aside *= 1 if aside @ direction(heading) >= 0 else -1
        up = np.array([0.0, 0, 1])
        chest = {"up": up, "down": -up, "side": aside + 0.35 * up}[rest.face]
        state[PELVIS] = (rest.x_m, rest.y_m, rest.support_m + (0.15 if rest.face == "side" else 0.11) * b.scale)
        state[SPINE], state[CHEST] = along + 0.06 * up, chest
        state[KNEES] = {"up": up + 0.3 * aside, "down": aside + 0.2 * up, "side": chest}[rest.face]
        legs = sum(b.leg_m)
        spread = -np.cross(along, chest / np.linalg.norm(chest))
        for side, foot in ((-1, FOOT_L), (1, FOOT_R)):
            reach = legs * float(r.uniform(0.6, 0.99))
            state[foot] = state[PELVIS] - along * reach + spread * side * -float(r.uniform(0.05, 0.25))
            if rest.face == "side":
                state[foot] += aside * (legs - reach) * 0.6
            state[foot, 2] = rest.support_m + b.ankle_m + (0.06 if rest.face == "side" and side == 1 else 0.0)
        for side, upper, fore in ((1, UPPER_L, FORE_L), (-1, UPPER_R, FORE_R)):
            raised = r.random() < 0.25
            state[upper] = (r.uniform(0.02, 0.3), side * r.uniform(0.2, 1.0), 0.8 if raised else -r.uniform(0.2, 1.0))
            state[fore] = (r.uniform(0.0, 0.6), side * r.uniform(-0.9, 0.7), r.uniform(-1.0, 0.6))
        state[HEAD] = (r.uniform(0, 0.25), r.normal(0, 0.15), 1)
        state[SUPPORT] = (0, 0, rest.support_m)
        return state

    def crouching(self, place: Place, height_m: float, lean: float) -> Array:
        """Crouching: knees bent, trunk forward, hands ahead."""
        front = direction(place.heading)
        state = self.standing(place)
        state[PELVIS, 2] = height_m
        state[PELVIS] -= front * 0.12 * lean
        state[SPINE], state[KNEES] = front * lean + UP, front + 0.4 * UP
        for side, upper, fore in ((1, UPPER_L, FORE_L), (-1, UPPER_R, FORE_R)):
            state[upper] = (0.8, side * self.rng.uniform(0.0, 0.4), -1)
            state[fore] = (0.9, side * self.rng.uniform(-0.5, 0.1), -0.7)
        return state
