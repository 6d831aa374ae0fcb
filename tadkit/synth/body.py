"""A jointed body in three dimensions: a few handles move fourteen rigid, rounded limbs.

World axes are in metres with z up and the floor at z = 0. A *state* is twelve 3-vectors (see :data:`HANDLES`):
positions of pelvis and feet, directions of spine and chest, and directions of the arms relative to the torso.
Two-bone inverse kinematics places the knees, so that a planted foot stays planted and every limb keeps its length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

Array = NDArray[np.float64]

PELVIS, SPINE, CHEST, FOOT_L, FOOT_R, KNEES, UPPER_L, UPPER_R, FORE_L, FORE_R, HEAD, SUPPORT = range(12)
HANDLES = 12
"""Rows of a state. PELVIS and FEET are positions; SPINE (to the neck), CHEST (facing) and KNEES (bending) are
world directions; UPPER and FORE arm and HEAD are directions in the torso's frame (chest, left, spine); the z of
SUPPORT is the height that no limb sinks below."""
POSITIONS = (PELVIS, FOOT_L, FOOT_R)
WORLD_DIRECTIONS = (SPINE, CHEST, KNEES)

LIMBS = (
    *("abdomen", "chest", "neck", "head", "upper_arm_l", "upper_arm_r", "forearm_l", "forearm_r"),
    *("thigh_l", "thigh_r", "shin_l", "shin_r", "foot_l", "foot_r"),
)
"""Names of the limbs, in the order of all arrays over limbs."""
_TORSO = slice(0, 2)
_HEAD = 3
_KNEE_FRAMES = 9
_CARRIED = [2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]


@dataclass(frozen=True)
class Body:
    """Size and build of one person.

    Attributes:
        height_m: standing height.
        build: scales the thickness of limbs; 1.0 is average.
    """

    height_m: float
    build: float

    @property
    def scale(self) -> float:
        """Size relative to 1.7 m."""
        return self.height_m / 1.7

    @property
    def leg_m(self) -> tuple[float, float]:
        """Length of thigh and of shin."""
        return 0.25 * self.height_m, 0.245 * self.height_m

    @property
    def ankle_m(self) -> float:
        """Height of the ankle above the sole."""
        return 0.045 * self.height_m

    @property
    def stand_m(self) -> float:
        """Height of the pelvis when standing at ease."""
        return 0.985 * sum(self.leg_m) + self.ankle_m

    def lengths_m(self) -> Float64[np.ndarray, " limbs"]:
        """Length of the axis of each limb, without its rounded ends."""
        thigh, shin = self.leg_m
        arm, fore = 0.17 * self.height_m, 0.19 * self.height_m
        torso = [0.13 * self.height_m, 0.10 * self.height_m, 0.06 * self.height_m, 0.03 * self.height_m]
        return np.array([*torso, arm, arm, fore, fore, thigh, thigh, shin, shin, *[0.11 * self.height_m] * 2])

    def radii_m(self) -> Float64[np.ndarray, "limbs 3"]:
        """Half thickness of each limb to the left, to the front, and along its axis (the rounded ends)."""
        b = self.build
        torso = [
            [0.095 * b, 0.068 * b, 0.06],
            [0.112 * b, 0.072 * b, 0.06],
            [0.034, 0.034, 0.03],
            [0.048, 0.058, 0.055],
        ]
        arms = [[0.030 * b] * 3] * 2 + [[0.024 * b] * 3] * 2
        legs = [[0.048 * b] * 3] * 2 + [[0.034 * b] * 3] * 2 + [[0.026, 0.026, 0.03]] * 2
        return np.array(torso + arms + legs) * self.height_m


@dataclass(frozen=True, eq=False)
class Limbs:
    """Position and rotation of every limb in every frame.

    Attributes:
        start_m: start of each limb's axis.
        rotation: columns are the limb's own axes (left, front, along) in the world.
    """

    start_m: Float64[np.ndarray, "frames limbs 3"]
    rotation: Float64[np.ndarray, "frames limbs 3 3"]


def unit(vectors: Array) -> Array:
    """Vectors scaled to length 1 along the last axis."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9))


def smoothed(values: Array, window: int) -> Array:
    """A moving average with a Hann window over ``window`` frames (odd) of the first axis; the ends are repeated."""
    kernel = np.hanning(window + 2)[1:-1]
    padded = np.pad(values, [(window // 2, window // 2)] + [(0, 0)] * (values.ndim - 1), mode="edge")
    views = np.lib.stride_tricks.sliding_window_view(padded, window, axis=0)
    return np.asarray(views @ (kernel / kernel.sum()))


def pose_limbs(states: Float64[np.ndarray, "frames handles 3"], body: Body) -> Limbs:
    """Place the limbs of ``body`` according to the handles."""
    spine = unit(states[:, SPINE])
    left = unit(np.cross(spine, states[:, CHEST]))
    front = np.cross(left, spine)
    torso = np.stack([front, left, spine], -1)
    starts, axes = np.zeros((2, len(states), len(LIMBS), 3))
    lengths = body.lengths_m()
    pelvis = states[:, PELVIS]
    bottom = states[:, SUPPORT, 2] + 0.03
    neck = pelvis + spine * 0.285 * body.height_m
    starts[:, 0], axes[:, 0] = pelvis + spine * 0.01 * body.height_m, spine
    starts[:, 1], axes[:, 1] = pelvis + spine * 0.145 * body.height_m, spine
    head = unit(np.einsum("tij,tj->ti", torso, states[:, HEAD]))
    starts[:, 2], axes[:, 2] = neck, head
    starts[:, 3], axes[:, 3] = neck + head * 0.085 * body.height_m, head
    for upper, fore, handle, side in ((4, 6, UPPER_L, 1.0), (5, 7, UPPER_R, -1.0)):
        starts[:, upper] = neck - spine * 0.02 * body.height_m + left * side * 0.108 * body.height_m
        hang, reach = (np.einsum("tij,tj->ti", torso, states[:, handle + i]) for i in (0, 2))
        axes[:, upper] = _kept_up(unit(hang), starts[:, upper], lengths[upper], bottom)
        starts[:, fore] = starts[:, upper] + axes[:, upper] * lengths[upper]
        axes[:, fore] = _kept_up(unit(reach), starts[:, fore], lengths[fore], bottom)
    for thigh, handle, side in ((8, FOOT_L, 1.0), (9, FOOT_R, -1.0)):
        hip = pelvis + left * side * 0.053 * body.height_m
        towards = unit(states[:, KNEES]) + 0.15 * side * left
        knee, ankle = _bend_knee(hip, states[:, handle], towards, body)
        sunk = np.maximum(bottom + 0.03 - knee[:, 2], 0.0)
        knee, ankle = _bend_knee(hip, states[:, handle], towards + sunk[:, None] * (0, 0, 12.0), body)
        starts[:, thigh], axes[:, thigh] = hip, unit(knee - hip)
        starts[:, thigh + 2], axes[:, thigh + 2] = knee, unit(ankle - knee)
        toes = _across(unit(states[:, KNEES]) + 0.2 * side * left, axes[:, thigh + 2])
        starts[:, thigh + 4], axes[:, thigh + 4] = ankle, unit(toes + 0.25 * axes[:, thigh + 2])
    return Limbs(starts, _rotations(axes, left, front))


def _across(vectors: Array, axis: Array) -> Array:
    """The component of ``vectors`` perpendicular to ``axis``, as unit vectors."""
    return unit(vectors - (vectors * axis).sum(-1, keepdims=True) * axis)


def _kept_up(axis: Array, start: Array, length_m: float, bottom_m: Array) -> Array:
    """``axis`` raised where its end would sink below ``bottom_m``."""
    lowest = np.clip((bottom_m - start[:, 2]) / length_m, -1.0, 0.9)
    up = np.maximum(axis[:, 2], lowest)
    flat = axis[:, :2] + 1e-6
    flat = flat / np.linalg.norm(flat, axis=-1, keepdims=True) * np.sqrt(1 - np.minimum(up**2, 1))[:, None]
    return np.concatenate([flat, up[:, None]], -1)


def _bend_knee(hip: Array, foot: Array, towards: Array, body: Body) -> tuple[Array, Array]:
    """Knee and ankle of a leg that reaches for ``foot`` and bends ``towards``; the foot may be out of reach."""
    thigh, shin = body.leg_m
    way = foot - hip
    distance = np.clip(np.linalg.norm(way, axis=-1, keepdims=True), 0.3 * thigh, 0.999 * (thigh + shin))
    along = unit(way)
    ahead = (thigh**2 - shin**2 + distance**2) / (2 * distance)
    aside = np.sqrt(np.maximum(thigh**2 - ahead**2, 0.0))
    # Where the leg points in the bending direction, the knee would flip; smoothing slows that down.
    bend = smoothed(towards - (towards * along).sum(-1, keepdims=True) * along, _KNEE_FRAMES)
    return hip + along * ahead + _across(bend, along) * aside, hip + along * distance


def _rotations(axes: Array, left: Array, front: Array) -> Array:
    """Rotations of all limbs: torso and head by where they face, the others transported without spin."""
    rotation = np.zeros((*axes.shape, 3))
    side = np.broadcast_to(left[:, None], axes.shape).copy()
    along_first = np.abs((axes[0] * left[0]).sum(-1)) > 0.9
    side[0, along_first] = front[0]
    carried = unit(
        side[0, _CARRIED] - (side[0, _CARRIED] * axes[0, _CARRIED]).sum(-1, keepdims=True) * axes[0, _CARRIED]
    )
    for k in range(len(axes)):
        axis = axes[k, _CARRIED]
        carried = _across(carried, axis)
        side[k, _CARRIED] = carried
    side[:, _TORSO] = left[:, None]
    side[:, _HEAD] = _across(left, axes[:, _HEAD])
    rotation[..., 0], rotation[..., 2] = side, axes
    rotation[..., 1] = np.cross(axes, side)
    return rotation
