"""Draw the person into the room by ray casting, so that depth, shading, texture and flow are exact."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64, Int8, UInt8
from numpy.typing import NDArray

from tadkit.synth.body import LIMBS, Body, Limbs
from tadkit.synth.scene import Camera

Array32 = NDArray[np.float32]
_HEAD = LIMBS.index("head")
_NEAR_M = 0.12


@dataclass(frozen=True, eq=False)
class Clothes:
    """Colours of each limb: ``first`` up to ``change`` (share of its length from the start), then ``second``."""

    first: Float32[np.ndarray, "limbs 3"]
    second: Float32[np.ndarray, "limbs 3"]
    change: Float32[np.ndarray, " limbs"]
    weave: Float32[np.ndarray, "64 64"]
    contrast: float
    stripes: tuple[float, float]
    hair: Float32[np.ndarray, " 3"]


@dataclass(frozen=True, eq=False)
class Light:
    """Lamp and camera: everything that affects the whole picture.

    Attributes:
        towards: unit vector to the lamp.
        ambient: share of ambient light.
        tint: brightness of each pixel and channel (vignette, light spot, colour cast, exposure).
        shadow: darkness of the person's shadow.
        flicker: brightness of the whole picture in each frame.
        screen: a rectangle (top, left, bottom, right) that flickers like a TV, or None.
        screen_colour: colour added there in each frame.
        noise: standard deviation of the camera noise in grey levels.
        blur_px: standard deviation of the lens blur.
        jpeg: quality of the camera's compression, or None.
    """

    towards: Float64[np.ndarray, " 3"]
    ambient: float
    tint: Float32[np.ndarray, "height width 3"]
    shadow: float
    flicker: Float32[np.ndarray, " frames"]
    screen: tuple[int, int, int, int] | None
    screen_colour: Float32[np.ndarray, "frames 3"]
    noise: float
    blur_px: float
    jpeg: int | None


def random_clothes(rng: np.random.Generator) -> Clothes:
    """Shirt, trousers or shorts, shoes or bare feet, skin and hair at random."""
    skin = np.array([224, 172, 140]) * rng.uniform(0.35, 1.08) + rng.normal(0, 6, 3)
    shirt, legs = (
        np.clip(rng.uniform(15, 235) + rng.uniform(0, 1) * rng.uniform(-120, 120, 3), 8, 245) for _ in range(2)
    )
    if rng.random() < 0.35:
        shirt = np.full(3, rng.uniform(12, 45)) + rng.normal(0, 5, 3)
    shoes = skin if rng.random() < 0.4 else rng.uniform(10, 230, 3)
    sleeve, hem = float(rng.choice([0.0, 0.6, 1.1])), float(rng.choice([0.15, 0.9, 1.1]))
    upper = (shirt, skin, 9.0 if sleeve else 0.15)
    fore = (shirt if sleeve > 1 else skin, skin, 0.75)
    if sleeve == 0.6:
        upper = (shirt, skin, 0.6)
    thigh = (legs, skin, 9.0)
    shin = (legs if hem > 0.5 else skin, skin, min(hem, 0.95))
    rows = [(legs, shirt, 0.45), (shirt, shirt, 9.0), (skin, skin, 9.0), (skin, skin, 9.0), upper, upper, fore, fore]
    rows += [thigh, thigh, shin, shin, (shoes, shoes, 9.0), (shoes, shoes, 9.0)]
    hair = rng.choice([[25, 20, 18], [60, 40, 25], [120, 90, 50], [150, 150, 150]]) * rng.uniform(0.6, 1.2)
    weave = cv2.GaussianBlur(rng.normal(0, 1, (64, 64)).astype(np.float32), (0, 0), 1.0, borderType=cv2.BORDER_REFLECT)
    stripes = (float(rng.uniform(20, 90)), float(rng.uniform(0.1, 0.5)) if rng.random() < 0.4 else 0.0)
    first, second, change = (np.array([row[i] for row in rows], dtype=np.float32) for i in range(3))
    return Clothes(
        first, second, change, weave / weave.std(), float(rng.uniform(0.04, 0.2)), stripes, hair.astype(np.float32)
    )


def random_light(rng: np.random.Generator, size_hw: tuple[int, int], frames: int, fps: float) -> Light:
    """Random lamp and camera defects, and sometimes a TV."""
    h, w = size_hw
    y, x = (np.mgrid[:h, :w] - np.array([h / 2, w / 2])[:, None, None]) / w
    spot = rng.uniform(-0.4, 0.4, 2)
    near = np.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / float(rng.uniform(0.15, 0.8)))
    exposure = float(rng.uniform(0.55, 1.15)) if rng.random() < 0.8 else float(rng.uniform(0.14, 0.45))
    dim = float(rng.uniform(0.0, 0.55))
    tint = exposure * ((1 - dim) + dim * near)[..., None] * (1 + rng.uniform(-0.13, 0.13, 3))
    t = np.arange(frames) / fps
    hum = sum(
        rng.uniform(0, 0.012) * np.sin(2 * math.pi * rate * t + rng.uniform(0, 6)) for rate in rng.uniform(0.05, 9, 4)
    )
    turn, high = float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(0.9, 2.5))
    towards = np.array([math.cos(turn), math.sin(turn), high])
    screen, colours = None, np.zeros((frames, 3))
    if rng.random() < 0.25:
        top, left = int(rng.integers(0, h - h // 8)), int(rng.integers(0, w - w // 8))
        screen = (top, left, top + int(rng.integers(h // 12, h // 4)), left + int(rng.integers(w // 12, w // 4)))
        cuts = np.cumsum(rng.random(frames) < rng.uniform(0.3, 2.5) / fps)
        colours = rng.uniform(-60, 60, (int(cuts[-1]) + 1, 3))[cuts] + rng.normal(0, 4, (frames, 1))
    noise = float(rng.uniform(0.5, 4.0)) + (3.0 if exposure < 0.45 else 0.0)
    jpeg = int(rng.integers(35, 92)) if rng.random() < 0.5 else None
    blur = float(rng.uniform(0.45, 1.0)) * w / 320 + 0.15
    shadow = float(rng.uniform(0.1, 0.5))
    flicker = np.asarray(1 + hum, dtype=np.float32)
    tint32, colours32 = tint.astype(np.float32), colours.astype(np.float32)
    return Light(
        towards / np.linalg.norm(towards),
        float(rng.uniform(0.35, 0.75)),
        tint32,
        shadow,
        flicker,
        screen,
        colours32,
        noise,
        blur,
        jpeg,
    )


class Renderer:
    """One room, camera, light and person; draws any frame by its index."""

    def __init__(
        self, picture: Array32, depth: Array32, camera: Camera, light: Light, clothes: Clothes, body: Body, limbs: Limbs
    ) -> None:
        self._picture, self._depth, self._camera, self._light, self._clothes = picture, depth, camera, light, clothes
        self._limbs = limbs
        self._rays = camera.rays()
        self._radii = body.radii_m()
        self._lengths = body.lengths_m()

    def clean(self, k: int) -> Float32[np.ndarray, "height width 3"]:
        """Frame ``k`` with shading, shadow and light but without camera defects, 0 to 255."""
        limb, depth = self._cast(k)
        picture = self._picture * self._shadow(k)[..., None]
        at = limb >= 0
        picture[at] = self._colours(k, limb[at], depth[at], self._rays[at])
        picture *= self._light.tint * self._light.flicker[k]
        if self._light.screen is not None:
            top, left, bottom, right = self._light.screen
            patch = picture[top:bottom, left:right]
            patch += self._light.screen_colour[k] * (limb[top:bottom, left:right, None] < 0)
        blur = self._light.blur_px
        return np.asarray(cv2.GaussianBlur(picture, (0, 0), blur), dtype=np.float32)

    def frame(self, k: int, *, rng: np.random.Generator) -> UInt8[np.ndarray, "height width 3"]:
        """Frame ``k`` as the camera gives it."""
        picture = self.clean(k)
        h, w = picture.shape[:2]
        grain = np.empty((h, w, 3), np.float32)
        cv2.setRNGSeed(int(rng.integers(2**31)))
        cv2.randn(grain, (0.0, 0.0, 0.0), (self._light.noise,) * 3)
        shown = np.clip(picture + grain, 0, 255).astype(np.uint8)
        if self._light.jpeg is not None:
            coded = cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, self._light.jpeg])[1]
            shown = np.asarray(cv2.imdecode(coded, cv2.IMREAD_UNCHANGED), dtype=np.uint8)
        return shown

    def flow(self, k: int) -> Float32[np.ndarray, "2 height width"]:
        """Exact motion in pixels (x, then y) from frame ``k`` to ``k + 1``; zero for the room."""
        limb, depth = self._cast(k)
        at = limb >= 0
        out = np.zeros((2, *limb.shape), np.float32)
        which = limb[at]
        local, _ = self._local(k, which, depth[at], self._rays[at])
        moved = np.einsum("nij,nj->ni", self._limbs.rotation[k + 1][which], local) + self._limbs.start_m[k + 1][which]
        pixels, _ = self._camera.project(moved)
        y, x = np.nonzero(at)
        out[:, at] = (pixels - np.stack([x, y], -1)).T
        return out

    def _cast(self, k: int) -> tuple[Int8[np.ndarray, "height width"], Array32]:
        """The limb that each pixel shows (-1: the room) and its depth."""
        depth = self._depth.copy()
        limb = np.full(depth.shape, -1, np.int8)
        start, rotation = self._limbs.start_m[k], self._limbs.rotation[k]
        ends = np.stack([start, start + rotation[:, :, 2] * self._lengths[:, None]])
        pixels, far = self._camera.project(ends)
        reach = self._radii.max(-1)
        size = self._camera.focal_px * reach / np.maximum(far - reach, 0.05) + 1
        low, high = np.floor((pixels - size[..., None]).min(0)), np.ceil((pixels + size[..., None]).max(0))
        h, w = depth.shape
        for i in range(len(LIMBS)):
            x0, y0 = np.clip(low[i], 0, (w, h)).astype(int)
            x1, y1 = np.clip(high[i] + 1, 0, (w, h)).astype(int)
            if x1 > x0 and y1 > y0:
                rays = self._rays[y0:y1, x0:x1]
                hit = self._hit(rays, start[i], rotation[i], i)
                near = (hit > _NEAR_M) & (hit < depth[y0:y1, x0:x1])
                depth[y0:y1, x0:x1][near] = hit[near]
                limb[y0:y1, x0:x1][near] = i
        return limb, depth

    def _hit(self, rays: Array32, start: NDArray[np.float64], rotation: NDArray[np.float64], i: int) -> Array32:
        """Depth at which rays enter a rounded limb (after I. Quilez, capsule intersection); infinite for a miss."""
        squeeze = rotation / self._radii[i]
        ox, oy, oz = ((self._camera.position_m - start) @ squeeze).astype(np.float32).tolist()
        d = rays @ squeeze.astype(np.float32)
        dx, dy, dz = d[..., 0], d[..., 1], d[..., 2]
        length = float(self._lengths[i] / self._radii[i, 2])
        a = np.maximum(dx * dx + dy * dy, np.float32(1e-9))
        b = ox * dx + oy * dy
        root = b * b - a * np.float32(ox * ox + oy * oy - 1)
        t = (-b - np.sqrt(np.maximum(root, 0))) / a
        z = oz + t * dz
        cap = np.where(z < 0, np.float32(oz), np.float32(oz - length))
        a2 = a + dz * dz
        b2 = b + cap * dz
        root2 = b2 * b2 - a2 * (np.float32(ox * ox + oy * oy - 1) + cap * cap)
        t2 = (-b2 - np.sqrt(np.maximum(root2, 0))) / a2
        inside = (z >= 0) & (z <= length)
        found = np.where(inside, t, np.where(root2 >= 0, t2, np.float32(np.inf)))
        return np.where(root >= 0, found, np.float32(np.inf))

    def _local(
        self, k: int, which: NDArray[np.int8], depth: Array32, rays: Array32
    ) -> tuple[Float64[np.ndarray, "pixels 3"], Float64[np.ndarray, "pixels 3"]]:
        """Points on the limbs in the limbs' own axes (metres), and the world normals there."""
        points = self._camera.position_m + rays.astype(np.float64) * depth[:, None]
        rotation = self._limbs.rotation[k][which]
        local = np.einsum("nji,nj->ni", rotation, points - self._limbs.start_m[k][which])
        radii = self._radii[which]
        core = local.copy()
        core[:, 2] -= np.clip(local[:, 2], 0, self._lengths[which])
        normal = np.einsum("nij,nj->ni", rotation, core / radii**2)
        return local, normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)

    def _colours(self, k: int, which: NDArray[np.int8], depth: Array32, rays: Array32) -> Array32:
        """Lit colours of limb pixels; the pattern moves with the limb."""
        if len(which) == 0:
            return np.zeros((0, 3), np.float32)
        local, normal = self._local(k, which, depth, rays)
        c = self._clothes
        share = local[:, 2] / self._lengths[which]
        colour = np.where((share < c.change[which])[:, None], c.first[which], c.second[which])
        u = (local[:, 2] * 60 + which * 7 + 20) % 62
        v = ((local[:, 0] + 0.7 * local[:, 1]) * 60 + 31) % 62
        pattern = cv2.remap(c.weave, u[:, None].astype(np.float32), v[:, None].astype(np.float32), cv2.INTER_LINEAR)[
            :, 0
        ]
        bare = np.abs(colour - c.first[_HEAD]).sum(-1) < 1
        value = (
            1
            + np.where(bare, 0.03, c.contrast) * pattern
            + np.where(bare, 0, c.stripes[1]) * np.sin(c.stripes[0] * local[:, 2])
        )
        head = which == _HEAD
        hair = head & ((local[:, 1] < 0.01) | (local[:, 2] > 0.09))
        colour[hair] = c.hair
        lit = self._light.ambient + (1 - self._light.ambient) * np.maximum(normal @ self._light.towards, 0)
        return np.asarray(colour * (value * lit)[:, None], dtype=np.float32)

    def _shadow(self, k: int) -> Array32:
        """Soft shadow on the floor as a factor for each pixel, drawn at quarter size."""
        h, w = self._depth.shape
        start, axis = self._limbs.start_m[k], self._limbs.rotation[k][:, :, 2]
        ends = np.stack([start, start + axis * self._lengths[:, None]])
        ends = ends - self._light.towards * (ends[..., 2:] / self._light.towards[2])
        ends[..., 2] = 0.0
        pixels, far = self._camera.project(ends)
        mask = np.zeros((h // 4, w // 4), np.uint8)
        for i in range(len(LIMBS)):
            if far[:, i].min() > 0.3:
                a, b = (np.clip(pixels[j, i] / 4, -2000, 2000).astype(int).tolist() for j in (0, 1))
                thick = max(1, int(1.6 * self._camera.focal_px * self._radii[i].mean() / far[:, i].mean() / 4))
                cv2.line(mask, a, b, 255, min(thick, 60))
        soft = cv2.GaussianBlur(mask, (0, 0), 0.012 * w).astype(np.float32)
        return 1 - self._light.shadow / 255 * np.asarray(cv2.resize(soft, (w, h)), dtype=np.float32)
