"""Which steps of the pyramid answer for which action (ActionFormer, Zhang, Wu, Li, ECCV 2022, section 3.4)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tadkit.config import AnchorFreeSettings

SAME_LENGTH_STEPS = 1e-3
"""Actions whose lengths differ by no more than this are all named where they overlap."""


class Targets(NamedTuple):
    """What each point should say; points are the steps of all levels, one level after the other, finest first.

    Attributes:
        classes: (batch, points, classes), 1.0 for each class that the point answers for.
        offsets: (batch, points, 2), distance to start and end in strides of the point's level; 0 at negative points.
        positive: (batch, points), True where the point answers for an action.
    """

    classes: Float[Tensor, "batch points classes"]
    offsets: Float[Tensor, "batch points 2"]
    positive: Bool[Tensor, "batch points"]


class Points(NamedTuple):
    """Position in feature steps, stride, and half-open range of regressed distances of each point."""

    position: Float[Tensor, " points"]
    stride: Float[Tensor, " points"]
    shortest: Float[Tensor, " points"]
    longest: Float[Tensor, " points"]


def regression_ranges(settings: AnchorFreeSettings) -> tuple[tuple[float, float], ...]:
    """Half-open range of the farther end's distance, in feature steps, that each level answers for."""
    if settings.ranges_steps:
        return settings.ranges_steps
    bounds = [0.0, *(settings.first_range_steps * 2**level for level in range(settings.levels - 1)), math.inf]
    return tuple(itertools.pairwise(bounds))


def assign_targets(
    lengths: Sequence[int],
    strides: Sequence[int],
    segments: Sequence[Float[Tensor, "actions 2"]],
    labels: Sequence[Int[Tensor, " actions"]],
    settings: AnchorFreeSettings,
    num_classes: int,
) -> Targets:
    """Targets of a batch by centre sampling and regression ranges.

    A point is positive for an action if it lies strictly inside it, within ``centre_radius`` strides of its centre
    (anywhere inside, if that is 0), and if its distance to the farther end is in its level's range (half open, so that
    one level answers; the paper's is closed, which is a setting). Where actions overlap the shortest wins, with the
    classes of all that are as short within 1e-3 steps.

    Args:
        lengths: steps of each level.
        strides: stride of each level in feature steps.
        segments: for each track, starts and ends as fractional positions on it, any order, possibly none.
        labels: for each track, the class of each segment.
        settings: ranges and radius.
        num_classes: classes.

    Returns:
        Targets on the device of the segments; masked points are assigned too and are the caller's to leave out.
    """
    device = segments[0].device if segments else torch.device("cpu")
    points = points_of(lengths, strides, regression_ranges(settings), device)
    assigned = [
        _assign_one(points, ends.to(torch.float32), label, settings, num_classes)
        for ends, label in zip(segments, labels, strict=True)
    ]
    return Targets(*(torch.stack(field) for field in zip(*assigned, strict=True)))


def points_of(
    lengths: Sequence[int], strides: Sequence[int], ranges: Sequence[tuple[float, float]], device: torch.device
) -> Points:
    """The points of all levels, one level after the other."""
    counts = torch.tensor(list(lengths))
    position = torch.cat([torch.arange(length) * stride for length, stride in zip(lengths, strides, strict=True)])
    rows = torch.tensor([(stride, *bounds) for stride, bounds in zip(strides, ranges, strict=True)])
    columns = (position, *rows.repeat_interleave(counts, dim=0).unbind(dim=1))
    return Points(*(column.to(device=device, dtype=torch.float32) for column in columns))


def _assign_one(
    points: Points, segments: Tensor, labels: Tensor, settings: AnchorFreeSettings, num_classes: int
) -> Targets:
    """Targets of one track, without the batch dimension."""
    count = len(points.position)
    if len(segments) == 0:
        blank = segments.new_zeros((count, num_classes + 2))
        return Targets(blank[:, 2:], blank[:, :2], blank.new_zeros(count, dtype=torch.bool))
    position, start, end = points.position[:, None], segments[:, 0], segments[:, 1]  # (points, 1), (actions,)
    to_ends = torch.stack((position - start, end - position), dim=-1)  # (points, actions, 2)
    inside = to_ends.amin(dim=-1) > 0
    reach = settings.centre_radius * points.stride[:, None] if settings.centre_radius > 0 else math.inf
    central = (position - (start + end) / 2).abs() < reach
    farther, longest = to_ends.amax(dim=-1), points.longest[:, None]
    in_range = (farther >= points.shortest[:, None]) & (farther < longest)
    if settings.closed_ranges:
        in_range |= farther == longest
    length = (end - start).expand(count, -1).masked_fill(~(inside & central & in_range), math.inf)
    shortest, winner = length.min(dim=1)
    positive = shortest.isfinite()
    chosen = (length <= shortest[:, None] + SAME_LENGTH_STEPS) & positive[:, None]
    one_hot = nnf.one_hot(labels.long(), num_classes).to(segments.dtype)
    offsets = to_ends[torch.arange(count, device=winner.device), winner] / points.stride[:, None]
    return Targets((chosen.to(segments.dtype) @ one_hot).clamp(max=1.0), offsets * positive[:, None], positive)
