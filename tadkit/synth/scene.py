"""Random rooms and pinhole cameras, and the picture of an empty room by ray casting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float32, Float64
from numpy.typing import NDArray

Array32 = NDArray[np.float32]
_CEILING_M = 2.7


@dataclass(frozen=True)
class Box:
    """Furniture standing on the floor: length along ``angle`` (radians), width across, and a back rest on one side."""

    x_m: float
    y_m: float
    angle: float
    length_m: float
    width_m: float
    height_m: float
    back_m: float = 0.0

    def local(self, x_m: float, y_m: float) -> tuple[float, float]:
        """A floor point in the box's axes, relative to its centre."""
        dx, dy, c, s = x_m - self.x_m, y_m - self.y_m, math.cos(self.angle), math.sin(self.angle)
        return dx * c + dy * s, dy * c - dx * s

    def holds(self, x_m: float, y_m: float, margin_m: float = 0.0) -> bool:
        """Whether a floor point is under the box, or within ``margin_m`` of it."""
        u, v = self.local(x_m, y_m)
        return abs(u) < self.length_m / 2 + margin_m and abs(v) < self.width_m / 2 + margin_m


@dataclass(frozen=True)
class Room:
    """A room: half its sides, half the sides of the walking area, radius of the stage, and the furniture."""

    half_m: tuple[float, float]
    walk_m: tuple[float, float]
    stage_m: float
    bed: Box
    chair: Box
    clutter: tuple[Box, ...]

    def random_spot(self, rng: np.random.Generator) -> tuple[float, float]:
        """A random point of the walking area."""
        return float(rng.uniform(-1, 1)) * self.walk_m[0], float(rng.uniform(-1, 1)) * self.walk_m[1]

    def on_stage(self, x_m: float, y_m: float) -> bool:
        """Whether a point is close enough to the middle for actions there to be visible."""
        return math.hypot(x_m, y_m) < self.stage_m

    def occupied(self, x_m: float, y_m: float, margin_m: float) -> bool:
        """Whether furniture too high to step on is at a point."""
        return any(b.height_m > 0.2 and b.holds(x_m, y_m, margin_m) for b in (self.bed, self.chair, *self.clutter))

    def inside(self, x_m: float, y_m: float) -> bool:
        """Whether a point lies within the walls."""
        return abs(x_m) < self.half_m[0] - 0.1 and abs(y_m) < self.half_m[1] - 0.1

    def crosses(self, a: tuple[float, float], b: tuple[float, float]) -> bool:
        """Whether the straight line from ``a`` to ``b`` meets furniture."""
        return any(
            self.occupied(a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, 0.15)
            for t in np.linspace(0.12, 0.88, 10).tolist()
        )


def random_room(rng: np.random.Generator, camera: Literal["side", "above"], *, mats: float = 0.6) -> Room:
    """A room with a mat (a share ``mats`` of rooms) or a bed near its middle, a chair, and clutter along the walls."""
    wide = 1.0 if camera == "above" else 1.15
    half = float(rng.uniform(1.8, 2.4)) * wide, float(rng.uniform(1.6, 2.2)) * wide
    angle = float(rng.choice([0.0, math.pi / 2]) + rng.normal(0, 0.12))
    shift = rng.normal(0, 0.15, 2).tolist()
    height = float(rng.uniform(0.03, 0.16)) if rng.random() < mats else float(rng.uniform(0.3, 0.5))
    length, width = float(rng.uniform(1.5, 2.0)), float(rng.uniform(0.6, 0.95))
    bed = Box(shift[0], shift[1], angle, length, width, height)
    chair = bed
    for _ in range(200):
        x, y = (rng.uniform(-1, 1, 2) * (1.0 if camera == "above" else 1.3)).tolist()
        if not bed.holds(x, y, 0.45 if rng.random() < 0.9 else 0.32):
            break
    facing = math.atan2(-y, -x) - math.pi / 2 + float(rng.normal(0, 0.5))
    back = float(rng.uniform(0.3, 0.45)) if rng.random() < 0.5 else 0.0
    size = float(rng.uniform(0.34, 0.46))
    chair = Box(x, y, facing, size, size * float(rng.uniform(0.9, 1.1)), float(rng.uniform(0.38, 0.48)), back)
    clutter = tuple(_clutter(rng, half) for _ in range(int(rng.integers(0, 4))))
    stage = 0.6 if camera == "above" else 1.2
    return Room(half, (min(half[0] - 0.45, 1.5), min(half[1] - 0.4, 1.3)), stage, bed, chair, clutter)


def _clutter(rng: np.random.Generator, half: tuple[float, float]) -> Box:
    length, width, height = rng.uniform((0.3, 0.25, 0.05), (1.2, 0.45, 1.0)).tolist()
    along_x = rng.random() < 0.5
    place = float(rng.uniform(-0.8, 0.8))
    side = float(rng.choice([-1.0, 1.0]))
    x, y = (
        (place * half[0], side * (half[1] - width / 2)) if along_x else (side * (half[0] - width / 2), place * half[1])
    )
    return Box(x, y, 0.0 if along_x else math.pi / 2, length, width, height)


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole: columns of ``rotation`` are right, down and forward in the world; the focal length is in pixels."""

    position_m: Float64[np.ndarray, " 3"]
    rotation: Float64[np.ndarray, "3 3"]
    focal_px: float
    size_hw: tuple[int, int]

    def rays(self) -> Float32[np.ndarray, "height width 3"]:
        """World directions through the pixel centres, of unit depth, so that a multiple of them is a depth."""
        h, w = self.size_hw
        y, x = np.mgrid[:h, :w]
        local = np.stack([(x - (w - 1) / 2) / self.focal_px, (y - (h - 1) / 2) / self.focal_px, np.ones((h, w))], -1)
        return np.asarray(local @ self.rotation.T, dtype=np.float32)

    def project(
        self, points_m: Float64[np.ndarray, "*n 3"]
    ) -> tuple[Float64[np.ndarray, "*n 2"], Float64[np.ndarray, "*n"]]:
        """Pixels (x, y) and depths in metres; points at or behind the pinhole count as 5 cm in front."""
        local = (points_m - self.position_m) @ self.rotation
        depth = np.maximum(local[..., 2], 0.05)
        h, w = self.size_hw
        return local[..., :2] / depth[..., None] * self.focal_px + np.array([(w - 1) / 2, (h - 1) / 2]), depth


def random_camera(rng: np.random.Generator, kind: Literal["side", "above"], size_hw: tuple[int, int]) -> Camera:
    """A ceiling camera that looks down, slightly tilted and turned, or a camera at the side of the room."""
    turn = float(rng.uniform(-math.pi, math.pi))
    if kind == "above":
        if rng.random() < 0.6:
            turn = float(rng.choice([-0.5, 0.0, 0.5, 1.0])) * math.pi + float(rng.normal(0, 0.15))
        position = np.array([*rng.normal(0, 0.12, 2), rng.uniform(2.2, 3.0)])
        target = np.array([*(0.5 * position[:2] + rng.normal(0, 0.14, 2)), 0.0])
        up = np.array([math.cos(turn), math.sin(turn), 0.0])
        across_m, far = float(rng.uniform(2.5, 3.7)), position[2]
    else:
        far = float(rng.uniform(3.4, 4.8))
        position = np.array([far * math.cos(turn), far * math.sin(turn), rng.uniform(0.7, 2.1)])
        target = np.array([*rng.normal(0, 0.15, 2), rng.uniform(0.5, 0.9)])
        up = np.array([*rng.normal(0, 0.03, 2), 1.0])
        across_m = float(rng.uniform(3.0, 4.2))
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, up) / np.linalg.norm(np.cross(forward, up))
    rotation = np.stack([right, np.cross(forward, right), forward], -1)
    return Camera(position, rotation, float(size_hw[1] * far / across_m), size_hw)


def empty_room(
    room: Room, camera: Camera, rng: np.random.Generator
) -> tuple[Float32[np.ndarray, "height width 3"], Float32[np.ndarray, "height width"]]:
    """The picture (0 to 255, linear light not modelled) and the depth in metres of a room without a person."""
    rays = camera.rays().astype(np.float64)
    lower, upper = np.array([-room.half_m[0], -room.half_m[1], 0.0]), np.array([*room.half_m, _CEILING_M])
    with np.errstate(divide="ignore", invalid="ignore"):
        leave = np.nanmax(np.stack([(lower - camera.position_m) / rays, (upper - camera.position_m) / rays]), 0)
    wall = leave.argmin(-1)
    depth = leave.min(-1)
    points = camera.position_m + rays * depth[..., None]
    floor = (wall == 2) & (points[..., 2] < 1.0)
    picture = np.where(floor[..., None], _paint_floor(points, rng), _paint_walls(points, wall, rng))
    boxes = [room.bed, room.chair, *room.clutter]
    if room.chair.back_m > 0:
        c = room.chair
        out = (c.angle - math.pi / 2, c.width_m / 2)
        x, y = c.x_m + out[1] * math.cos(out[0]), c.y_m + out[1] * math.sin(out[0])
        boxes.append(Box(x, y, c.angle, c.length_m, 0.05, c.height_m + c.back_m))
    for box in boxes:
        _paint_box(picture, depth, rays, camera, box, rng, pale=box is room.bed)
    return picture.astype(np.float32), depth.astype(np.float32)


def _paint_floor(points: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Boards, tiles or carpet in a random colour and direction, sometimes with a rug."""
    turn = float(rng.choice([0.0, math.pi / 2]) + rng.normal(0, 0.1))
    u = points[..., 0] * math.cos(turn) + points[..., 1] * math.sin(turn) + 50
    v = points[..., 1] * math.cos(turn) - points[..., 0] * math.sin(turn) + 50
    long_m, wide_m = {0: (1.0, 0.1), 1: (0.35, 0.35), 2: (50.0, 50.0)}[int(rng.integers(3))]
    row = np.floor(v / wide_m)
    cell = (np.floor(u / long_m + 0.37 * row) * 57 + row * 131) % 251
    tones = rng.uniform(0.82, 1.1, 251)
    seam = ((v / wide_m) % 1 < 0.06) | ((u / long_m) % 1 < 0.01 + 0.05 * (long_m == wide_m))
    base = _colour(rng, 60, 200, 0.45)
    value = tones[cell.astype(int)] * np.where(seam, 0.8, 1.0) * _grain(u, v, rng)
    picture = base * value[..., None]
    if rng.random() < 0.4:
        middle, half, angle = rng.normal(0, 0.7, 2), rng.uniform(0.3, 0.9, 2), float(rng.uniform(0, math.pi))
        dx, dy = points[..., 0] - middle[0], points[..., 1] - middle[1]
        along, across = dx * math.cos(angle) + dy * math.sin(angle), dy * math.cos(angle) - dx * math.sin(angle)
        inside = (abs(along) < half[0]) & (abs(across) < half[1])
        first, second = _colour(rng, 40, 220, 0.7), _colour(rng, 40, 220, 0.7)
        stripes = np.where(np.sin(along * float(rng.uniform(5, 40)))[..., None] > 0, first, second)
        picture[inside] = (stripes * _grain(u, v, rng)[..., None])[inside]
    return np.asarray(picture)


def _paint_walls(points: NDArray[np.float64], wall: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Walls with faint stripes and up to three pictures."""
    along = np.where(wall == 0, points[..., 1], points[..., 0])
    value = 1 + float(rng.uniform(0, 0.12)) * np.sign(np.sin(along * float(rng.uniform(8, 40))))
    picture = (
        _colour(rng, 90, 220, 0.25)
        * (value * _grain(along, points[..., 2], rng) * np.array([1.0, 0.88, 1.1])[wall])[..., None]
    )
    for _ in range(int(rng.integers(0, 4))):
        face, at, high = int(rng.integers(2)), float(rng.uniform(-1.4, 1.4)), float(rng.uniform(0.9, 1.8))
        size = rng.uniform(0.15, 0.5, 2)
        inside = (wall == face) & (abs(along - at) < size[0]) & (abs(points[..., 2] - high) < size[1])
        picture[inside] = _colour(rng, 20, 230, 0.8)
    return np.asarray(picture)


def _paint_box(
    picture: NDArray[np.float64],
    depth: NDArray[np.float64],
    rays: NDArray[np.float64],
    camera: Camera,
    box: Box,
    rng: np.random.Generator,
    *,
    pale: bool,
) -> None:
    """Draw a box over ``picture`` and ``depth`` where it is the nearest."""
    c, s = math.cos(box.angle), math.sin(box.angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    origin, ray = (camera.position_m - np.array([box.x_m, box.y_m, box.height_m / 2])) @ turn, rays @ turn
    half = np.array([box.length_m, box.width_m, box.height_m]) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = (-half - origin) / ray, (half - origin) / ray
    enter, leave = np.minimum(a, b), np.maximum(a, b)
    near, face = enter.max(-1), enter.argmax(-1)
    hit = (near < leave.min(-1)) & (near > 0.05) & (near < depth)
    points = origin + ray * near[..., None]
    shade = np.array([0.75, 0.85, 1.0])[face] * _grain(points[..., 0] * 2 + 9, points[..., 1] * 2 + 9, rng)
    base = _colour(rng, 150, 245, 0.15) if pale and rng.random() < 0.6 else _colour(rng, 40, 220, 0.7)
    if rng.random() < 0.4:
        period, turned = rng.uniform(8, 40), rng.uniform(-1, 1, 2)
        shade = shade * (1 + float(rng.uniform(0.05, 0.35)) * np.sin(period * (points[..., :2] @ turned)))
    picture[hit] = (base * shade[..., None])[hit]
    depth[hit] = near[hit]


def _grain(u: NDArray[np.float64], v: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Smooth random brightness (about 1) fixed to the surface coordinates ``u``, ``v`` in metres."""
    noise = rng.normal(1, float(rng.uniform(0.04, 0.18)), (64, 64)).astype(np.float32)
    scale, squeeze = float(rng.uniform(4, 22)), float(rng.uniform(0.3, 1.0))
    at_u, at_v = (u * scale % 62).astype(np.float32), (v * scale * squeeze % 62).astype(np.float32)
    return np.asarray(cv2.remap(noise, at_u, at_v, cv2.INTER_LINEAR), dtype=np.float64)


def _colour(rng: np.random.Generator, low: float, high: float, vivid: float) -> NDArray[np.float64]:
    """A random colour between two brightnesses; ``vivid`` 0 is grey."""
    grey = rng.uniform(low, high)
    return np.asarray(np.clip(grey + vivid * rng.uniform(-110, 110, 3), 5, 250))
