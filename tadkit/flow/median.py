"""Median filter of flow fields by a fixed network of minima and maxima: no sorting, the same on any device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn import functional

Flat = Float32[Tensor, " pixels"]
Network = Callable[[Flat, int], Flat]


def median_filter(
    field: Float32[Tensor, "*batch height width"], size_px: int, network: Network | None = None
) -> Float32[Tensor, "*batch height width"]:
    """Median over a square of ``size_px`` (1, 3 or 5) with replicated borders.

    Args:
        field: pictures, each filtered separately.
        size_px: side of the square.
        network: a compiled :func:`network_of` that size.
    """
    if size_px == 1:
        return field
    radius = size_px // 2
    height, width = field.shape[-2:]
    padded = functional.pad(field, (radius, radius, radius, radius), mode="replicate")
    # In flat memory the square around a pixel is a set of shifts. Squares that cross a border are cropped below.
    medians = (network or network_of(size_px))(padded.view(-1), padded.shape[-1])
    whole = functional.pad(medians, (0, padded.numel() - len(medians)))
    return whole.view(padded.shape)[..., :height, :width]


def network_of(size_px: int) -> Network:
    """Function of a flat picture and its row length: each pixel's median over the square to its right and below."""
    return _median_of_nine if size_px == 3 else lambda flat, row: _median_of_square(flat, row, size_px)


def _median_of_nine(flat: Flat, row: int) -> Flat:
    """Median over 3 x 3; each column is sorted once for the three squares it belongs to.

    Source: Smith, "Implementing median filters in XC4000E FPGAs", Xcell 23, 1996: the median of the greatest of the
    least, the median of the middle and the least of the greatest values of the three columns.
    """
    pixels = len(flat) - 2 * row
    top, middle, bottom = flat[:pixels], flat[row : row + pixels], flat[2 * row :]
    low, high = torch.minimum(top, middle), torch.maximum(top, middle)
    least, rest = torch.minimum(low, bottom), torch.maximum(low, bottom)
    between, greatest = torch.minimum(rest, high), torch.maximum(rest, high)
    of_least = torch.maximum(torch.maximum(least[:-2], least[1:-1]), least[2:])
    of_greatest = torch.minimum(torch.minimum(greatest[:-2], greatest[1:-1]), greatest[2:])
    of_between = _median_of_three(between[:-2], between[1:-1], between[2:])
    return _median_of_three(of_least, of_between, of_greatest)


def _median_of_three(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))


def _median_of_square(flat: Flat, row: int, size_px: int) -> Flat:
    """Median over a square of any odd size.

    "Forgetful selection": among the first half + 2 values neither the least nor the greatest can be the median; drop
    both, add the next value and repeat.
    """
    pixels = len(flat) - (size_px - 1) * (row + 1)
    starts = [y * row + x for y in range(size_px) for x in range(size_px)]
    values = [flat[start : start + pixels] for start in starts]
    held = _without_extremes(values[: len(values) // 2 + 2])
    for value in values[len(values) // 2 + 2 :]:
        held = _without_extremes([*held, value])
    (median,) = held
    return median


def _without_extremes(values: list[Tensor]) -> list[Tensor]:
    """The values of each pixel without its least and greatest, in any order.

    Pairs are ordered first, so that the least is in one half and the greatest in the other.
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
    """All values but the extreme that ``keep`` selects."""
    drop = torch.maximum if keep is torch.minimum else torch.minimum
    extreme, *others = values
    rest = []
    for value in others:
        rest.append(drop(extreme, value))
        extreme = keep(extreme, value)
    return rest
