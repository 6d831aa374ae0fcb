"""Temporal intersection over union (tIoU) of segments [start, end]; a segment of zero length overlaps nothing."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor


class Spans(NamedTuple):
    """Segments as columns, for comparing the same ones repeatedly."""

    start: Float64[np.ndarray, "*n"]
    end: Float64[np.ndarray, "*n"]
    length: Float64[np.ndarray, "*n"]


def spans_of(segments: Float64[np.ndarray, "*n 2"]) -> Spans:
    """The columns of segments."""
    start, end = (np.ascontiguousarray(segments[..., edge]) for edge in (0, 1))
    return Spans(start, end, end - start)


def spans_iou(one: Spans, other: Spans) -> Float64[np.ndarray, "*n"]:
    """IoU of spans whose shapes broadcast; 0 if they do not overlap, never NaN."""
    overlap: Float64[np.ndarray, "*n"] = np.minimum(one.end, other.end)
    overlap -= np.maximum(one.start, other.start)
    np.maximum(overlap, 0.0, out=overlap)
    union = one.length + other.length
    union -= overlap
    np.maximum(union, np.finfo(union.dtype).tiny, out=union)
    overlap /= union
    return overlap


def temporal_iou(one: Float64[np.ndarray, "*#n 2"], other: Float64[np.ndarray, "*#n 2"]) -> Float64[np.ndarray, "*n"]:
    """IoU of segments whose leading dimensions broadcast; ``one[:, None]`` and ``other[None]`` give all pairs."""
    return spans_iou(spans_of(one), spans_of(other))


def tensor_iou(one: Float[Tensor, "*#n 2"], other: Float[Tensor, "*#n 2"], *, eps: float = 1e-6) -> Float[Tensor, "*n"]:
    """:func:`temporal_iou` of tensors, differentiable; unions are clamped to at least ``eps``."""
    intersection = torch.minimum(one[..., 1], other[..., 1]) - torch.maximum(one[..., 0], other[..., 0])
    intersection = intersection.clamp(min=0)
    union = (one[..., 1] - one[..., 0]) + (other[..., 1] - other[..., 0]) - intersection
    return intersection / union.clamp(min=eps)
