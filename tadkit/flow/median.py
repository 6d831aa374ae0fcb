"""Median filter of flow fields, by a fixed network of minima and maxima: no sorting, the same on any device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional


def median_filter(
    field: Float32[Tensor, "*batch height width"], size_px: int
) -> Float32[Tensor, "*batch height width"]:
    """Median over a square of ``size_px`` (odd) with replicated borders.

    Source: the "forgetful selection" of the median: of the first half + 1 of the values neither the least nor the
    greatest can be the median; drop both, take the next value in, go on.
    """
    if size_px == 1:
        return field
    radius = size_px // 2
    height, width = field.shape[-2:]
    padded = functional.pad(field, (radius, radius, radius, radius), mode="replicate")
    values = [padded[..., y : y + height, x : x + width] for y in range(size_px) for x in range(size_px)]
    held, waiting = values[: len(values) // 2 + 2], values[len(values) // 2 + 2 :]
    held = _without_extremes(held)
    for value in waiting:
        held = _without_extremes([*held, value])
    (median,) = held
    return median


def _without_extremes(values: list[Tensor]) -> list[Tensor]:
    """The values of each pixel but for its least and its greatest, in any order.

    Pairs are ordered first, so that the least is among one half and the greatest among the other.
    """
    half = len(values) // 2
    pairs = list(zip(values[:half], values[half : 2 * half], strict=True))
    low = [torch.minimum(a, b) for a, b in pairs]
    high = [torch.maximum(a, b) for a, b in pairs]
    if len(values) % 2:
        odd = values[-1]
        low[0], odd = torch.minimum(low[0], odd), torch.maximum(low[0], odd)
        high[0], odd = torch.maximum(high[0], odd), torch.minimum(high[0], odd)
        return [*_swept(low, torch.minimum), *_swept(high, torch.maximum), odd]
    return [*_swept(low, torch.minimum), *_swept(high, torch.maximum)]


def _swept(values: list[Tensor], keep: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
    """All but the extreme value that ``keep`` keeps."""
    drop = torch.maximum if keep is torch.minimum else torch.minimum
    extreme, *others = values
    rest = []
    for value in others:
        rest.append(drop(extreme, value))
        extreme = keep(extreme, value)
    return rest
