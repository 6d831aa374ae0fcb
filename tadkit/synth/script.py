"""Random but plausible stories for one person in one room: what happens where and when.

The timing follows the real recordings that these videos imitate (walk 3-15 s, sitdown 2-5 s, lying 3-8 s, standup
2-7 s, falling 1.5-5 s); standing up only follows sitting, lying down or falling. With ``many_falls``, people often come
in from the edge of the picture, fall onto the mat and stay there for a while, as in those recordings; falls last 2-8 s,
of which the drop takes about one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import numpy as np

from tadkit.errors import UsageError
from tadkit.synth.phases import ACTIONS, DURATIONS_S, MANY_FALLS_S, Phase, Place, Posture, Rest, seat
from tadkit.synth.scene import Box, Room

_WEIGHTS = {
    "stand": {"walk": 3.0, "sitdown": 2.0, "lying": 1.2, "falling": 2.4, "wave": 0.7, "bend": 0.9, "jump": 0.6},
    "sit": {"standup": 3.0, "lying": 1.5, "falling": 0.8, "wave": 0.5},
    "lie": {"standup": 1.0},
}
_LOW_M = 0.2
_MANY_FALLS_WEIGHT = 3.4
_FALLS_FROM_EDGE = 0.4
"""With many falls: share of the falls of a standing person that start at the edge of the picture."""


def write_script(
    room: Room,
    duration_s: float,
    rng: np.random.Generator,
    actions: Sequence[str] | None = None,
    *,
    many_falls: bool = False,
) -> tuple[Phase, ...]:
    """Fill ``duration_s`` with actions and pauses.

    Args:
        room: furniture to sit and lie on.
        duration_s: length of the story; the last action ends before it.
        rng: random generator.
        actions: those that may occur; None for all.
        many_falls: more falls, also from the edge of the picture, and rest after them.

    Raises:
        UsageError: an unknown action, no action, or actions that go down without ``standup``.
    """
    allowed = _checked(actions)
    writer = _Writer(room, duration_s, rng, allowed, many_falls=many_falls)
    writer.pause(float(rng.uniform(0.3, 3.0)))
    while (kind := writer.choose()) is not None and writer.perform(kind):
        if many_falls and writer.now.kind == "falling" and rng.random() < 0.6:
            writer.pause(float(rng.uniform(1.0, 7.0)))
        elif rng.random() < 0.55:
            writer.pause(float(rng.uniform(0.3, 3.5)))
    writer.pause(duration_s)
    return tuple(writer.phases)


def _checked(actions: Sequence[str] | None) -> tuple[str, ...]:
    allowed = tuple(ACTIONS if actions is None else actions)
    if unknown := [a for a in allowed if a not in ACTIONS]:
        raise UsageError(f"unknown actions for synthetic video: {', '.join(unknown)}; choose from {', '.join(ACTIONS)}")
    if not allowed:
        raise UsageError(f"no actions for synthetic video; choose from {', '.join(ACTIONS)}")
    if {"sitdown", "lying", "falling"} & set(allowed) and "standup" not in allowed:
        raise UsageError("sitdown, lying and falling need standup to follow; add 'standup' to the actions")
    if not set(allowed) & set(_WEIGHTS["stand"]):
        raise UsageError("standup alone cannot happen: the story starts standing; add another action such as 'sitdown'")
    return allowed


class _Writer:
    def __init__(
        self,
        room: Room,
        duration_s: float,
        rng: np.random.Generator,
        allowed: tuple[str, ...],
        *,
        many_falls: bool,
    ) -> None:
        self.room, self.duration_s, self.rng, self.allowed = room, duration_s, rng, allowed
        self.many_falls = many_falls
        self.durations_s = DURATIONS_S | MANY_FALLS_S if many_falls else DURATIONS_S
        self.phases: list[Phase] = []
        self.clock_s = 0.0
        self.goal = self._seats()[0]
        self.stays = "walk" not in allowed
        start = self.goal[0] if self.stays else self._free_place()
        self.now = Phase("idle", 0.0, 0.0, "stand", start)

    def choose(self) -> str | None:
        """The next action, or None if none can follow."""
        options = {k: w for k, w in _WEIGHTS[self.now.posture].items() if k in self.allowed}
        if self.many_falls and self.now.posture == "stand" and "falling" in options:
            options["falling"] = _MANY_FALLS_WEIGHT
        off_stage = not self.stays and not self.room.on_stage(self.now.place.x_m, self.now.place.y_m)
        if self.now.posture == "stand" and off_stage:
            unseen = ("wave", "bend", "jump") if self.many_falls else ("falling", "wave", "bend", "jump")
            options = {k: w for k, w in options.items() if k not in unseen} or {"walk": 1.0}
        elif self.now.posture == "stand" and len(options) > 1 and self.phases[-1].kind == "walk":
            options.pop("walk", None)
        if self.now.rest is not None and self.now.posture == "sit" and not self._on_bed():
            options.pop("lying", None)
        if not options:
            return None
        weights = np.array(list(options.values()))
        return str(self.rng.choice(list(options), p=weights / weights.sum()))

    def pause(self, length_s: float) -> None:
        """Add an idle phase."""
        end_s = min(self.clock_s + length_s, self.duration_s)
        if end_s > self.clock_s:
            self.phases.append(replace(self.now, kind="idle", start_s=self.clock_s, end_s=end_s, path_m=()))
            self.clock_s = end_s

    def perform(self, kind: str) -> bool:
        """Add the action, with a walk to the seat if needed; False when time is up."""
        match kind:
            case "walk":
                return self._walk(self._free_place())
            case "sitdown":
                return self._reach_seat(beds_only=False) and self._sit()
            case "lying":
                return self._lie_down()
            case "falling":
                return self._reach_edge() and self._fall()
            case "standup":
                return self._stand_up()
            case _:
                return self._add(kind, self.now.posture, self.now.place, self.now.rest)

    def _add(
        self,
        kind: str,
        posture: Posture,
        place: Place,
        rest: Rest | None,
        path: tuple[tuple[float, float], ...] = (),
        length_s: float = 0.0,
    ) -> bool:
        low, high = self.durations_s[kind]
        end_s = self.clock_s + (length_s or float(low + (high - low) * self.rng.beta(1.6, 2.4)))
        if end_s > self.duration_s - 0.2:
            return False
        self.now = Phase(kind, self.clock_s, end_s, posture, place, rest, path)
        self.phases.append(self.now)
        self.clock_s = end_s
        return True

    def _walk(self, goal: Place) -> bool:
        low, high = DURATIONS_S["walk"]
        speed = float(self.rng.uniform(0.45, 1.1))
        wish_m = speed * float(self.rng.uniform(low, 0.8 * high))
        path = self._route((self.now.place.x_m, self.now.place.y_m), (goal.x_m, goal.y_m), wish_m)
        length_s = float(np.clip(_length(path) / speed, low, high))
        return self._add("walk", "stand", goal, None, path, length_s)

    def _route(
        self, start: tuple[float, float], goal: tuple[float, float], wish_m: float
    ) -> tuple[tuple[float, float], ...]:
        """A polyline around the furniture, about ``wish_m`` long; through it if no way around is found."""
        best: tuple[tuple[float, float], ...] = (start, goal)
        best_cost = math.inf
        for trial in range(60):
            middle = [self.room.random_spot(self.rng) for _ in range(int(self.rng.integers(0, 5)))]
            path = (start, *middle, goal)
            blocked = sum(self.room.crosses(a, b) for a, b in pairwise(path))
            blocked += sum(self.room.occupied(x, y, 0.15) for x, y in middle)
            cost = 10.0 * blocked + abs(_length(path) - wish_m) + 1.5 * _sharp_turns(path)
            if cost < best_cost:
                best, best_cost = path, cost
            if trial > 20 and best_cost < 1.0:
                break
        return best

    def _free_place(self) -> Place:
        anywhere = self.rng.random() < 0.25
        for _ in range(200):
            x, y = self.room.random_spot(self.rng)
            if not self.room.occupied(x, y, 0.25) and (anywhere or self.room.on_stage(x, y)):
                break
        return Place(x, y, float(self.rng.uniform(-math.pi, math.pi)))

    def _seats(self) -> list[tuple[Place, Rest]]:
        return [
            seat(box, side, float(shift))
            for box in (self.room.bed, self.room.chair)
            for side, shift in _sides(box, self.rng)
        ]

    def _reach_seat(self, *, beds_only: bool) -> bool:
        if self.stays:
            return True
        seats = [s for s in self._seats() if not beds_only or self.room.bed.holds(s[1].x_m, s[1].y_m)]
        seats = [s for s in seats if not self.room.occupied(s[0].x_m, s[0].y_m, 0.02)] or seats
        self.goal = seats[int(self.rng.integers(len(seats)))]
        return self._walk(self.goal[0])

    def _sit(self) -> bool:
        place, rest = self.goal
        return self._add("sitdown", "sit", place, rest)

    def _on_bed(self) -> bool:
        return self.now.rest is not None and self.room.bed.holds(self.now.rest.x_m, self.now.rest.y_m)

    def _lie_down(self) -> bool:
        face: Literal["up", "side"] = "up" if self.rng.random() < 0.6 else "side"
        if self.now.posture == "stand" and self.rng.random() < 0.35:
            place = self.now.place
            head = place.heading + math.pi + float(self.rng.normal(0, 0.4))
            rest = self._rest_near(place, head, 0.3, face)
            if rest is not None:
                return self._add("lying", "lie", place, rest)
        if self.now.posture == "stand" and not self._reach_seat(beds_only=True):
            return False
        bed, place = self.room.bed, self.now.place
        head = bed.angle + (0.0 if self.rng.random() < 0.5 else math.pi) + float(self.rng.normal(0, 0.12))
        drift = 0.5 * float(self.rng.normal(0, 0.25))
        x, y = bed.x_m + drift * math.cos(bed.angle), bed.y_m + drift * math.sin(bed.angle)
        return self._add("lying", "lie", place, Rest(x, y, bed.height_m, head, face))

    def _reach_edge(self) -> bool:
        """Before some falls, walk to where the camera hardly sees the person; False when time is up."""
        if not self.many_falls or self.stays or self.now.posture != "stand":
            return True
        if self.rng.random() >= _FALLS_FROM_EDGE:
            return True
        bed = self.room.bed
        for _ in range(60):
            turn, away_m = float(self.rng.uniform(-math.pi, math.pi)), float(self.rng.uniform(0.9, 1.5))
            x, y = bed.x_m + away_m * math.cos(turn), bed.y_m + away_m * math.sin(turn)
            inside = abs(x) < self.room.walk_m[0] and abs(y) < self.room.walk_m[1]
            if inside and not self.room.occupied(x, y, 0.15) and not self.room.on_stage(x, y):
                return self._walk(Place(x, y, turn + math.pi + float(self.rng.normal(0, 0.5))))
        return True

    def _fall(self) -> bool:
        place, rest = self.now.place, None
        if self.many_falls and not self.stays and not self.room.on_stage(place.x_m, place.y_m):
            return self._fall_in()
        for _ in range(24):
            way = (
                float(self.rng.uniform(-math.pi, math.pi))
                if self.now.posture == "stand"
                else float(self.rng.normal(0, 0.9))
            )
            turned = abs(math.remainder(way, 2 * math.pi))
            face: Literal["up", "down", "side"] = "down" if turned < 0.8 else "up" if turned > 2.3 else "side"
            rest = self._rest_near(place, place.heading + way, float(self.rng.uniform(0.35, 0.65)), face)
            if rest is not None:
                break
        if rest is None:
            rest = Rest(place.x_m, place.y_m, 0.0, place.heading, "down")
        return self._add("falling", "lie", place, rest)

    def _fall_in(self) -> bool:
        """Fall from outside the stage onto it; if furniture or a wall is in the way, walk or stand up instead."""
        place, bed = self.now.place, self.room.bed
        dx, dy = bed.x_m - place.x_m, bed.y_m - place.y_m
        for _ in range(24):
            head = math.atan2(dy, dx) + float(self.rng.normal(0, 0.35))
            away_m = min(max(math.hypot(dx, dy) + float(self.rng.uniform(-0.5, 0.2)), 0.35), 1.2)
            turned = abs(math.remainder(head - place.heading, 2 * math.pi))
            face: Literal["up", "down", "side"] = "down" if turned < 0.8 else "up" if turned > 2.3 else "side"
            rest = self._rest_near(place, head, away_m, face)
            if rest is not None:
                return self._add("falling", "lie", place, rest)
        return self._walk(self._free_place()) if self.now.posture == "stand" else self._stand_up()

    def _rest_near(self, place: Place, head: float, away_m: float, face: Literal["up", "down", "side"]) -> Rest | None:
        """Where the body comes to lie with its head towards ``head``; None if furniture or a wall is in the way."""
        c, s = math.cos(head), math.sin(head)
        x, y = place.x_m + away_m * c, place.y_m + away_m * s
        ends = [(x + d * c, y + d * s) for d in (-0.8, -0.3, 0.0, 0.4, 0.8)]
        hidden = not self.stays and not self.room.on_stage(x, y)
        if hidden or any(self.room.occupied(a, b, 0.1) for a, b in ends) or not self.room.inside(*ends[-1]):
            return None
        low = self.room.bed.holds(x, y) and self.room.bed.height_m < _LOW_M
        return Rest(x, y, self.room.bed.height_m if low else 0.0, head, face)

    def _stand_up(self) -> bool:
        place, rest = self.now.place, self.now.rest
        away = self.now.posture == "lie" and not self.stays
        if away and rest is not None and not (self._on_bed() and self.room.bed.height_m >= _LOW_M):
            heading = rest.head if rest.face == "down" else rest.head + math.pi
            heading += float(self.rng.normal(0, 0.4))
            place = Place(rest.x_m + 0.2 * math.cos(heading), rest.y_m + 0.2 * math.sin(heading), heading)
        return self._add("standup", "stand", place, None)


def _sharp_turns(path: Sequence[tuple[float, float]]) -> int:
    """Number of near reversals along a path."""
    courses = [math.atan2(b[1] - a[1], b[0] - a[0]) for a, b in pairwise(path)]
    return sum(abs(math.remainder(b - a, 2 * math.pi)) > 2.0 for a, b in pairwise(courses))


def _length(path: Sequence[tuple[float, float]]) -> float:
    return sum(math.dist(a, b) for a, b in pairwise(path))


def _sides(box: Box, rng: np.random.Generator) -> list[tuple[int, float]]:
    """Sides to sit on, each with a shift along it in metres."""
    if box.back_m > 0:
        return [(1, 0.0)]
    return [(side, float(rng.uniform(-0.3, 0.3)) * max(box.length_m - 0.6, 0.0)) for side in (1, -1)]
