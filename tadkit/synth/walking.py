"""Walking: feet planted in turn along a smoothed path."""

from __future__ import annotations

import math

import numpy as np

from tadkit.synth.body import (
    FOOT_L,
    FOOT_R,
    FORE_L,
    FORE_R,
    HANDLES,
    PELVIS,
    SPINE,
    UPPER_L,
    UPPER_R,
    Array,
    smoothed,
)
from tadkit.synth.phases import Phase, Place
from tadkit.synth.poses import Poser, to_world

_STRIDE_M = 1.15


def walk(poser: Poser, state: Array, start: Place, phase: Phase, share: Array) -> Array:
    """Along ``phase.path_m``, feet planted in turn; turns where one stands at both ends."""
    seconds = phase.end_s - phase.start_s
    fine = np.linspace(0, 1, 400)
    xy, heading = _ground(phase, start, fine)
    speed = np.linalg.norm(np.gradient(xy, fine, axis=0), axis=-1) / seconds
    turning = np.abs(np.gradient(heading, fine)) / seconds
    reach = np.clip(np.sqrt(speed), 0.3, 1.0)
    rate = np.maximum(speed / (_STRIDE_M * poser.body.scale * reach), 0.35 * np.minimum(turning, 2.5))
    steps = np.concatenate([[0], np.cumsum(0.5 * (rate[1:] + rate[:-1]) * np.diff(fine) * seconds)])
    size = np.interp(share, fine, reach * np.minimum(1, np.minimum(fine, 1 - fine) * seconds / 0.4))
    phase_of_step = np.interp(share, fine, steps)
    x, y, facing = (np.interp(share, fine, v) for v in (xy[:, 0], xy[:, 1], heading))
    lift = np.minimum(1.0, np.interp(share, fine, rate) / 0.5)
    out = np.zeros((len(share), HANDLES, 3))
    for k in range(len(share)):
        local = _step(poser, float(phase_of_step[k]), float(size[k]), float(lift[k]))
        out[k] = to_world(local, Place(float(x[k]), float(y[k]), float(facing[k])))
    blend = np.clip(share * seconds / 0.35, 0, 1)[:, None, None]
    arms = slice(UPPER_L, None)
    out[:, arms] = blend * out[:, arms] + (1 - blend) * state[arms]
    return out


def _step(poser: Poser, cycle: float, size: float, lift: float) -> Array:
    """One instant of walking in the walker's axes; ``size`` scales the stride, ``lift`` the raised foot."""
    pose = poser.local_standing()
    half = 0.3 * _STRIDE_M * poser.body.scale * size
    for side, foot, offset in ((1, FOOT_L, 0.0), (-1, FOOT_R, 0.5)):
        at = (cycle + offset) % 1
        swing = (at - 0.6) / 0.4
        pose[foot, 0] += half * (1 - 2 * at / 0.6) if at < 0.6 else -half * math.cos(math.pi * swing)
        pose[foot, 2] += 0.0 if at < 0.6 else 0.09 * lift * math.sin(math.pi * swing)
        arm = -math.cos(2 * math.pi * (cycle + offset)) * poser.swing * size
        upper, fore = (UPPER_L, FORE_L) if side == 1 else (UPPER_R, FORE_R)
        pose[upper, 0] += arm
        pose[fore, 0] += arm + 0.25 * size
    pose[PELVIS, 2] -= 0.025 * size * (1 + math.cos(4 * math.pi * cycle))
    pose[PELVIS, 1] += 0.02 * size * math.sin(2 * math.pi * cycle)
    pose[SPINE, 0] += 0.06 * size
    return pose


def _ground(phase: Phase, start: Place, share: Array) -> tuple[Array, Array]:
    """Floor position and heading along a walk: eased at both ends, corners rounded, turning to the goal at the end."""
    path = np.array(phase.path_m)
    legs = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=-1))])
    seconds = phase.end_s - phase.start_s
    edge = min(0.7 / seconds, 0.3)
    pace = np.clip(np.minimum(share - 0.3 * edge, 1 - edge - share) / edge, 0, 1)
    gone = np.cumsum(pace) / pace.sum() * legs[-1]
    xy = np.stack([np.interp(gone, legs, path[:, i]) for i in (0, 1)], -1)
    window = max(3, int(0.35 / seconds * len(share)) | 1)
    xy = smoothed(xy, window)
    ahead = np.gradient(xy, axis=0)
    moving = np.linalg.norm(ahead, axis=-1) > 1e-5
    heading = np.full(len(share), start.heading)
    if moving.any():
        course = np.unwrap(np.arctan2(ahead[:, 1], ahead[:, 0])[moving])
        heading = np.interp(share, share[moving], course)
    heading = smoothed(heading, 4 * window + 1)
    first = start.heading + 2 * math.pi * round((heading[0] - start.heading) / (2 * math.pi))
    last = phase.place.heading + 2 * math.pi * round((heading[-1] - phase.place.heading) / (2 * math.pi))
    at_first = np.clip(1 - share / (1.2 * edge), 0, 1)
    at_last = np.clip(1 - (1 - share) / (1.4 * edge), 0, 1)
    ease = [a * a * (3 - 2 * a) for a in (at_first, at_last)]
    heading = (1 - ease[0]) * heading + ease[0] * first
    return xy, np.asarray((1 - ease[1]) * heading + ease[1] * last)
