"""From a story to the motion of the body's handles, frame by frame.

Every action except walking is a sequence of key poses, joined by cubic curves; walking plants the feet along a smoothed
path.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float64

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
    SPINE,
    UPPER_L,
    UPPER_R,
    Array,
    Body,
    smoothed,
    unit,
)
from tadkit.synth.phases import Phase, Place, Rest
from tadkit.synth.poses import UP, Poser, changed, direction, to_world

Key = tuple[float, Array]


def perform(
    phases: Sequence[Phase], body: Body, *, fps: float, frames: int, rng: np.random.Generator
) -> Float64[np.ndarray, "frames handles 3"]:
    """The state of the body in each frame, at ``k / fps`` seconds (synthetic video has no other clock)."""
    poser = Poser(body, rng)
    state = poser.standing(phases[0].place)
    times_s = np.arange(frames) / fps
    states = np.zeros((frames, HANDLES, 3))
    before = phases[0]
    for phase in phases:
        inside = (
            (times_s >= phase.start_s) & (times_s < phase.end_s)
            if phase is not phases[-1]
            else times_s >= phase.start_s
        )
        share = (times_s[inside] - phase.start_s) / (phase.end_s - phase.start_s)
        if phase.kind == "walk":
            moved = walk(poser, state, before.place, phase, np.append(share, 1.0))
        else:
            moved = _curve([(0.0, state), *keys(poser, state, before, phase)], np.append(share, 1.0))
        states[inside], state, before = moved[:-1], moved[-1], phase
    return _enlivened(states, times_s, fps, rng)


def _enlivened(states: Array, times_s: Array, fps: float, rng: np.random.Generator) -> Array:
    """Smooth sudden turns, and add small movements of trunk, arms and head, but not of pelvis and feet."""
    turned = [SPINE, CHEST, KNEES, UPPER_L, UPPER_R, FORE_L, FORE_R, HEAD]
    window = max(1, round(0.11 * fps)) * 2 + 1
    states[:, turned] = smoothed(unit(states[:, turned]), window)
    calm = float(rng.uniform(0.2, 1.0))
    for handle, size in (
        (SPINE, 0.012),
        (UPPER_L, 0.03),
        (UPPER_R, 0.03),
        (FORE_L, 0.04),
        (FORE_R, 0.04),
        (HEAD, 0.04),
    ):
        for _ in range(3):
            rate, phase = float(rng.uniform(0.1, 0.9)), rng.uniform(0, 2 * math.pi, 3)
            states[:, handle] += calm * size * np.sin(2 * math.pi * rate * times_s[:, None] + phase)
    return states


def _curve(keys: Sequence[Key], at: Array) -> Array:
    """Cubic Hermite curve through key poses, at rest at both ends and where a pose is held."""
    t = np.array([k[0] for k in keys])
    p = np.stack([k[1] for k in keys])
    slope = np.diff(p, axis=0) / np.diff(t)[:, None, None]
    tangent = np.zeros_like(p)
    if len(keys) > 2:
        tangent[1:-1] = np.where(
            slope[:-1] * slope[1:] > 0,
            2 * slope[:-1] * slope[1:] / np.where(slope[:-1] + slope[1:] == 0, 1, slope[:-1] + slope[1:]),
            0,
        )
    i = np.clip(np.searchsorted(t, at, side="right") - 1, 0, len(t) - 2)
    width = (t[i + 1] - t[i])[:, None, None]
    u = ((at - t[i])[:, None, None]) / width
    return np.asarray(
        (2 * u**3 - 3 * u**2 + 1) * p[i]
        + (u**3 - 2 * u**2 + u) * width * tangent[i]
        + (3 * u**2 - 2 * u**3) * p[i + 1]
        + (u**3 - u**2) * width * tangent[i + 1]
    )


def keys(poser: Poser, state: Array, before: Phase, phase: Phase) -> list[Key]:
    """Key poses of one action, at fractions of its duration; ``state`` is the body's state at its start."""
    match phase.kind:
        case "sitdown":
            return _sit_down(poser, phase)
        case "standup":
            return _stand_up(poser, state, before, phase)
        case "lying":
            return _lie_down(poser, before, phase)
        case "falling":
            return _fall(poser, state, before, phase)
        case "wave":
            return list(_wave(poser, state, phase))
        case "bend":
            return _bend(poser, state, phase)
        case "jump":
            return list(_jump(poser, state, phase))
        case _:
            return _idle(poser, state, phase)


def _sit_down(poser: Poser, phase: Phase) -> list[Key]:
    assert phase.rest is not None
    seated = poser.sitting(phase.place, phase.rest)
    low = phase.rest.support_m < 0.25
    down = poser.crouching(phase.place, 0.62 * poser.body.stand_m, 0.6)
    down[:, 2][PELVIS] = max(down[PELVIS, 2], phase.rest.support_m + 0.15)
    keys = [(float(poser.rng.uniform(0.3, 0.42)), down)]
    if low:
        lower = poser.crouching(phase.place, 0.36 * poser.body.stand_m, 0.75)
        lower[PELVIS, :2] = 0.5 * (lower[PELVIS, :2] + seated[PELVIS, :2])
        keys.append((float(poser.rng.uniform(0.5, 0.62)), lower))
    touch = seated.copy()
    touch[SPINE] += direction(phase.place.heading) * 0.3
    keys += [(float(poser.rng.uniform(0.72, 0.85)), touch), (1.0, seated)]
    return keys


def _lie_down(poser: Poser, before: Phase, phase: Phase) -> list[Key]:
    assert phase.rest is not None
    final = poser.lying(phase.rest, phase.place.heading)
    keys: list[Key] = []
    start = 0.0
    if before.posture == "stand":
        heading = phase.place.heading
        spot = Rest(
            0.75 * final[PELVIS, 0] + 0.25 * phase.place.x_m,
            0.75 * final[PELVIS, 1] + 0.25 * phase.place.y_m,
            phase.rest.support_m,
        )
        keys.append(
            (0.22, poser.crouching(Place(phase.place.x_m, phase.place.y_m, heading), 0.5 * poser.body.stand_m, 0.7))
        )
        keys.append((0.42, poser.sitting(phase.place, spot)))
        start = 0.42
    half = final.copy()
    half[SPINE] = unit(final[SPINE]) + 0.9 * UP
    half[PELVIS, 2] += 0.03
    half[[FOOT_L, FOOT_R], 2] += 0.08
    half[[UPPER_L, UPPER_R]] = (-0.4, 0.4, -1), (-0.4, -0.4, -1)
    keys.append((start + (1 - start) * float(poser.rng.uniform(0.4, 0.55)), half))
    keys.append((start + (1 - start) * float(poser.rng.uniform(0.75, 0.88)), changed(final, head=(0.4, 0, 1))))
    return [*keys, (1.0, final)]


def _fall(poser: Poser, state: Array, before: Phase, phase: Phase) -> list[Key]:
    assert phase.rest is not None
    r, final, keys = poser.rng, poser.lying(phase.rest, phase.place.heading), list[Key]()
    way = direction(phase.rest.head)
    begin = float(r.uniform(0.15, 0.4))
    seconds = phase.end_s - phase.start_s
    drop = min(float(r.uniform(0.5, 1.1)) / seconds, 0.92 - begin)
    if before.posture == "stand":
        reel = state.copy()
        reel[[PELVIS, FOOT_R]] -= way * float(r.uniform(-0.08, 0.08))
        reel[SPINE] += -way * float(r.uniform(-0.2, 0.25))
        reel[[UPPER_L, UPPER_R]] = (0.3, 0.5, -0.8), (0.3, -0.5, -0.8)
        keys.append((begin, reel))
    buckle = state.copy()
    buckle[[FOOT_L, FOOT_R], :2] += way[:2] * 0.06
    buckle[PELVIS] += 0.55 * (final[PELVIS] - state[PELVIS]) * (1, 1, float(r.uniform(0.7, 1.1)))
    buckle[SPINE] = unit(state[SPINE]) + way * float(r.uniform(0.7, 1.2))
    buckle[CHEST] = unit(state[CHEST]) + 0.6 * final[CHEST]
    buckle[[UPPER_L, UPPER_R]] = (0.9, r.uniform(0.2, 0.9), -0.1), (0.9, -r.uniform(0.2, 0.9), -0.1)
    buckle[[FORE_L, FORE_R]] = (1, 0.2, 0.0), (1, -0.2, 0.0)
    impact = final.copy()
    impact[SPINE] = unit(final[SPINE]) + 0.12 * UP
    impact[PELVIS, 2] += 0.03
    impact[[FOOT_L, FOOT_R]] = 0.5 * (final[[FOOT_L, FOOT_R]] + state[[FOOT_L, FOOT_R]]) + 0.05 * UP
    impact[[UPPER_L, UPPER_R]] = 0.5 * (final[[UPPER_L, UPPER_R]] + buckle[[UPPER_L, UPPER_R]])
    return [*keys, (begin + 0.55 * drop, buckle), (begin + drop, impact), (1.0, final)]


def _stand_up(poser: Poser, state: Array, before: Phase, phase: Phase) -> list[Key]:
    r, place, keys, start = poser.rng, phase.place, list[Key](), 0.0
    front = direction(place.heading)
    support_m = before.rest.support_m if before.rest is not None else 0.0
    if before.posture == "lie":
        push = state.copy()
        push[SPINE] = unit(state[SPINE]) + float(r.uniform(0.5, 0.9)) * UP
        push[[UPPER_L, UPPER_R]] = (-0.2, 0.6, -0.8), (-0.2, -0.6, -0.8)
        keys.append((float(r.uniform(0.2, 0.3)), push))
        back = place.x_m - 0.35 * front[0], place.y_m - 0.35 * front[1]
        prone = before.rest is not None and before.rest.face == "down"
        x_m, y_m = back if support_m < 0.25 else (0.5 * (state[PELVIS, :2] + back)).tolist()
        spot = Rest(x_m, y_m, support_m)
        keys.append(
            (float(r.uniform(0.42, 0.52)), _kneeling(poser, state, front) if prone else poser.sitting(place, spot))
        )
        start = 0.5
    else:
        keys.append((0.25, changed(state, spine=front * 0.7 + UP, chest=front)))
        start = 0.25
    crouch = poser.crouching(place, max(0.42 * poser.body.stand_m, support_m + 0.2), 0.8)
    keys.append((start + (0.95 - start) * float(r.uniform(0.4, 0.5)), crouch))
    final = poser.standing(place)
    keys.append((float(r.uniform(0.86, 0.95)), changed(final, spine=front * 0.15 + UP)))
    return [*keys, (1.0, final)]


def _kneeling(poser: Poser, state: Array, front: Array) -> Array:
    """On hands and knees, on the way up from lying face down."""
    kneel = state.copy()
    kneel[PELVIS, 2] += 0.34 * poser.body.scale
    kneel[[FOOT_L, FOOT_R]] = 0.55 * state[[FOOT_L, FOOT_R]] + 0.45 * state[PELVIS]
    kneel[[FOOT_L, FOOT_R], 2] = state[[FOOT_L, FOOT_R], 2]
    kneel[SPINE], kneel[CHEST], kneel[KNEES] = front + 0.3 * UP, 0.3 * front - UP, 0.5 * front - UP
    kneel[[UPPER_L, UPPER_R]] = kneel[[FORE_L, FORE_R]] = (1, 0.1, 0.2), (1, -0.1, 0.2)
    return kneel


def _wave(poser: Poser, state: Array, phase: Phase) -> Iterator[Key]:
    left = poser.rng.random() < 0.5
    side, upper, fore = (1, UPPER_L, FORE_L) if left else (-1, UPPER_R, FORE_R)
    seconds = phase.end_s - phase.start_s
    lift = min(0.5 / seconds, 0.25)
    beats = max(2, round((seconds - 1.0) * float(poser.rng.uniform(2.5, 5))))
    height, wide = float(poser.rng.uniform(0.0, 0.5)), float(poser.rng.uniform(0.4, 0.8))
    for beat in range(beats + 1):
        raised = state.copy()
        raised[upper] = (0.25, side * 0.9, height)
        raised[fore] = (0.2, side * (0.15 + wide * (1 if beat % 2 else -1)), 1)
        yield lift + (1 - 2 * lift) * beat / beats, raised
    yield 1.0, state


def _bend(poser: Poser, state: Array, phase: Phase) -> list[Key]:
    front = direction(phase.place.heading)
    down = state.copy()
    down[SPINE] = front + float(poser.rng.uniform(-0.35, 0.1)) * UP
    down[CHEST] = front * 0.3 - UP
    down[PELVIS] -= front * 0.16 + float(poser.rng.uniform(0.02, 0.18)) * UP
    down[[UPPER_L, UPPER_R]] = (1, 0.15, -0.1), (1, -0.15, -0.1)
    down[[FORE_L, FORE_R]] = (1, 0.0, 0.1), (1, 0.0, 0.1)
    down[HEAD] = (0.0, 0, 1)
    hold = float(poser.rng.uniform(0.02, 0.2))
    return [(0.5 - hold, down), (0.5 + hold, down), (1.0, state)]


def _jump(poser: Poser, state: Array, phase: Phase) -> Iterator[Key]:
    seconds = phase.end_s - phase.start_s
    hops = max(1, round(seconds / float(poser.rng.uniform(0.8, 1.4))))
    high, star = float(poser.rng.uniform(0.12, 0.35)), poser.rng.random() < 0.5
    low = poser.crouching(phase.place, 0.75 * poser.body.stand_m, 0.5)
    top = state.copy()
    top[[PELVIS, FOOT_L, FOOT_R], 2] += high
    if star:
        left = np.cross((0.0, 0, 1), direction(phase.place.heading))
        top[FOOT_L] += left * 0.2
        top[FOOT_R] -= left * 0.2
        top[[UPPER_L, UPPER_R]] = top[[FORE_L, FORE_R]] = (0.1, 1, 0.7), (0.1, -1, 0.7)
    for hop in range(hops):
        at = [hop / hops + share / hops for share in (0.3, 0.45, 0.62, 0.8, 1.0)]
        yield from zip(at, (low, state, top, state, low if hop < hops - 1 else state), strict=True)


def _idle(poser: Poser, state: Array, phase: Phase) -> list[Key]:
    """Idle: an arm or the head moves occasionally."""
    keys: list[Key] = []
    seconds = phase.end_s - phase.start_s
    for at in np.arange(0.6, seconds - 0.5, 1.3):
        pose = state.copy()
        if poser.rng.random() < 0.35:
            arm = [UPPER_L, FORE_L] if poser.rng.random() < 0.5 else [UPPER_R, FORE_R]
            pose[arm] = unit(pose[arm]) + np.abs(poser.rng.normal(0, 0.35, (2, 3))) * (1, 0, 1)
            pose[HEAD] += poser.rng.normal(0, 0.15, 3)
        keys.append((float(at) / seconds, pose))
    return [*keys, (1.0, state)]


_STRIDE_M = 1.15


def walk(poser: Poser, state: Array, start: Place, phase: Phase, share: Array) -> Array:
    """Walk along ``phase.path_m``, planting the feet in turn; turn on the spot at both ends."""
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
    """One instant of walking in the walker's axes; ``size`` scales the stride, ``lift`` the raised foot's height."""
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
    """Floor position and heading along a walk: eased at both ends, corners rounded, turning to the goal's heading."""
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
