"""Synthetic pairs of pictures whose flow is known exactly, from a tenth of a pixel to thirty.

A scene is a background and two objects that cover each other, each with a texture of its own and an affine motion. Both
pictures are samples of one continuous texture, so no picture is a resampled copy of the other. Textures are "dead
leaves" (Lee, Mumford, Huang, IJCV 41, 2001), which have the edges and the spectrum of natural pictures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from tadkit.flow.truth import BANDS_PX, TruthPair

Texture = Literal["rich", "poor"]
Condition = Literal["clean", "noise", "light"]
"""light: the second picture is brighter or darker, with a different gain on each side."""

CHOICE_SEED, HELD_OUT_SEED = 1, 2
"""Seeds of the pairs on which the presets of TV-L1 were chosen, and of those that ``tadkit bench flow`` measures."""
SIZES_HW = ((112, 112), (256, 340))
SAMPLES_PER_PX = 2
"""Samples of a texture per pixel of a picture."""
BLUR_PX = 0.5
"""Sigma of the blur of a picture, as by a lens and a sensor."""
LEAST_PX = 0.1
MOST_PX = 30.0
NOISE_GREY = 4.0
"""Standard deviation of the noise, of 255 grey levels."""

Points = Float64[np.ndarray, "height width 2"]


class _Layer(NamedTuple):
    """A textured background or ellipse; a point at x px from the centre moves to ``linear @ x + shift``."""

    texture: Float32[np.ndarray, "rows columns"]
    linear: Float64[np.ndarray, "2 2"]
    shift_px: Float64[np.ndarray, " 2"]
    ellipse: tuple[Float64[np.ndarray, " 2"], Float64[np.ndarray, " 2"], float] | None
    """Centre and half axes in px, and angle; None for the background."""

    def moved(self, points: Points) -> Points:
        """Where the points of the first picture are in the second."""
        there: Points = points @ self.linear.T + self.shift_px
        return there

    def origin(self, points: Points) -> Points:
        """Where the points of the second picture were in the first."""
        there: Points = (points - self.shift_px) @ np.linalg.inv(self.linear).T
        return there

    def grey(self, points: Points) -> Float64[np.ndarray, "height width"]:
        """Grey levels at points of the first picture."""
        rows, columns = self.texture.shape
        places = (points * SAMPLES_PER_PX + [(columns - 1) / 2, (rows - 1) / 2]).astype(np.float32)
        return cubic(self.texture, places)

    def cover(self, points: Points) -> Float64[np.ndarray, "height width"]:
        """Share, 0..1, of each pixel that the layer covers."""
        if self.ellipse is None:
            return np.ones(points.shape[:2])
        centre, half, angle = self.ellipse
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        away = (points - centre) @ turn
        radius = np.linalg.norm(away / half, axis=-1)
        slope = np.linalg.norm(away / half**2, axis=-1) / np.maximum(radius, 1e-6)
        share: Float64[np.ndarray, "height width"] = np.clip(0.5 + (1 - radius) / np.maximum(slope, 1e-6), 0, 1)
        return share


def made_up_pairs(
    seed: int, *, sizes_hw: Sequence[tuple[int, int]] = SIZES_HW, bands_px: Sequence[tuple[float, float]] = BANDS_PX
) -> Iterator[TruthPair]:
    """One pair of each band of displacement, texture, condition and size; pairs of other seeds are other pictures.

    Args:
        seed: of the pictures and motions.
        sizes_hw: heights and widths in pixels.
        bands_px: from and to which length most displacements are; in half of the pairs the background stands still.
    """
    choices = product(bands_px, get_args(Texture), get_args(Condition), sizes_hw)
    for number, (band_px, texture, condition, size_hw) in enumerate(choices):
        rng = np.random.default_rng([seed, number])
        name = f"{number:03d}-{band_px[0]:g}px-{texture}-{condition}-{size_hw[1]}x{size_hw[0]}"
        still = bool((number + number // len(sizes_hw)) % 2)
        yield made_up_pair(
            name, rng, band_px=band_px, texture=texture, condition=condition, size_hw=size_hw, still=still
        )


def made_up_pair(
    name: str,
    rng: np.random.Generator,
    *,
    band_px: tuple[float, float],
    texture: Texture,
    condition: Condition,
    size_hw: tuple[int, int],
    still: bool,
) -> TruthPair:
    """One pair; ``still``: the background does not move."""
    layers = _layers(rng, band_px, texture, size_hw, still=still)
    rows, columns = (np.arange(side) - (side - 1) / 2 for side in size_hw)
    points = np.stack(np.meshgrid(columns, rows, indexing="xy"), axis=-1)
    first = second = np.zeros(size_hw)
    flow = np.zeros((*size_hw, 2))
    for layer in layers:
        cover, origin = layer.cover(points), layer.origin(points)
        first = first + cover * (layer.grey(points) - first)
        flow = np.where(cover[..., None] > 0.5, layer.moved(points) - points, flow)
        second = second + layer.cover(origin) * (layer.grey(origin) - second)
    if condition == "light":
        ramp = rng.uniform(-0.08, 0.08) * points[..., 0] / columns[-1] + rng.uniform(-0.08, 0.08)
        second = second * (1 + ramp) + rng.uniform(-8, 8)
    frames = np.stack([first, second])
    if condition == "noise":
        frames = frames + rng.normal(0, NOISE_GREY, frames.shape)
    truth = np.moveaxis(flow, -1, 0).astype(np.float32)
    return TruthPair(name, _colour(frames), truth, np.ones(size_hw, bool))


def _layers(
    rng: np.random.Generator, band_px: tuple[float, float], texture: Texture, size_hw: tuple[int, int], *, still: bool
) -> list[_Layer]:
    height, width = size_hw
    layers = []
    for number in range(3):
        speed_px = math.exp(rng.uniform(math.log(max(band_px[0], LEAST_PX)), math.log(min(band_px[1], MOST_PX))))
        moves = number > 0 or not still
        direction = rng.uniform(0, 2 * math.pi)
        centre = rng.uniform(-0.3, 0.3, 2) * [width, height] * (number > 0)
        half = rng.uniform(0.12, 0.3, 2) * min(size_hw)
        # A turn and a zoom that change the displacement by up to a third within the layer.
        reach = half.max() if number else math.hypot(*size_hw) / 2
        turn, zoom = rng.uniform(-0.33, 0.33, 2) * speed_px / reach * moves
        linear = np.array([[1 + zoom, -turn], [turn, 1 + zoom]])
        shift = speed_px * moves * np.array([math.cos(direction), math.sin(direction)])
        shift = shift + centre - linear @ centre
        ellipse = (centre, half, rng.uniform(0, math.pi)) if number else None
        layers.append(_Layer(leaves(rng, texture, size_hw), linear, shift, ellipse))
    return layers


def leaves(rng: np.random.Generator, texture: Texture, size_hw: tuple[int, int]) -> Float32[np.ndarray, "rows columns"]:
    """Discs that cover each other, blurred; rich: small, with much contrast and grain; poor: large, with little."""
    margin_px = 2 * MOST_PX
    rows, columns = (int((side + 2 * margin_px) * SAMPLES_PER_PX) for side in size_hw)
    least_px, most_px, contrast, grain, count = (
        (1.5, 20.0, 50.0, 12.0, 4.0) if texture == "rich" else (6.0, 60.0, 22.0, 1.5, 1.0)
    )
    canvas = np.full((rows, columns), 128, np.float32)
    # Radii with density 1 / r^3 have the same look at any scale; the largest are drawn first.
    draws = int(count * rows * columns / (math.pi * (least_px * SAMPLES_PER_PX) ** 2) / 4)
    shares = rng.uniform(0, 1, draws)
    radii_px = (least_px**-2 + shares * (most_px**-2 - least_px**-2)) ** -0.5
    for radius_px in radii_px:
        centre = int(rng.integers(columns)), int(rng.integers(rows))
        cv2.circle(canvas, centre, int(radius_px * SAMPLES_PER_PX), float(rng.normal(128, contrast)), -1)
    shade = cv2.GaussianBlur(rng.normal(0, 1, (rows // 8, columns // 8)).astype(np.float32), (0, 0), 4)
    canvas += 0.3 * contrast / shade.std() * cv2.resize(shade, (columns, rows), interpolation=cv2.INTER_CUBIC)
    canvas += rng.normal(0, 2 * grain, canvas.shape).astype(np.float32)
    blurred: Float32[np.ndarray, "rows columns"] = cv2.GaussianBlur(
        np.clip(canvas, 5, 250), (0, 0), BLUR_PX * SAMPLES_PER_PX
    )
    return blurred


def cubic(
    texture: Float32[np.ndarray, "rows columns"], places: Float32[np.ndarray, "height width 2"]
) -> Float64[np.ndarray, "height width"]:
    """Catmull-Rom interpolation at (column, row); OpenCV's rounds places to 1/32."""
    whole = np.floor(places).astype(np.int64)
    part = (places - whole).astype(np.float64)
    rows, columns = texture.shape
    total = np.zeros(places.shape[:2])
    weights = [_catmull_rom(part[..., axis]) for axis in (0, 1)]
    for down, across in product(range(4), range(4)):
        row = np.clip(whole[..., 1] + down - 1, 0, rows - 1)
        column = np.clip(whole[..., 0] + across - 1, 0, columns - 1)
        total += weights[1][down] * weights[0][across] * texture[row, column]
    return total


def _catmull_rom(t: Float64[np.ndarray, "height width"]) -> list[Float64[np.ndarray, "height width"]]:
    return [
        ((2 - t) * t - 1) * t / 2,
        ((3 * t - 5) * t * t + 2) / 2,
        (((4 - 3 * t) * t + 1) * t) / 2,
        ((t - 1) * t * t) / 2,
    ]


def _colour(grey: Float64[np.ndarray, "2 height width"]) -> UInt8[np.ndarray, "2 height width 3"]:
    return np.repeat(np.clip(np.round(grey), 0, 255).astype(np.uint8)[..., None], 3, axis=-1)
