"""Run any head on a track of any length.

Heads with a halo run in chunks whose joined predictions equal one pass over the whole track. Heads that need a whole
window run in overlapping windows, whose candidates are merged.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tadkit.models.heads.anchor_free import AnchorFreeHead, HeadPredictions
from tadkit.models.heads.head import Candidates, Head, Predictions


@torch.no_grad()
def track_candidates(
    head: Head,
    features: Float[Tensor, "1 channels time"],
    mask: Bool[Tensor, "1 time"],
    *,
    core_steps: int,
    min_score: float,
    limit: int,
) -> Candidates:
    """Candidates of one track of any length, by any head.

    Heads with a fixed window run in windows that overlap by half; the others run in chunks if they have a halo, which
    does not affect the result, and else in one pass.

    Args:
        head: in evaluation mode.
        features: the whole track.
        mask: True where a step is real.
        core_steps: steps predicted per chunk, for heads with a halo.
        min_score: lower-scoring candidates are dropped.
        limit: maximum number of candidates of the whole track.
    """
    window = head.settings.fixed_window_steps
    if window is None:
        predictions = predict_in_chunks(head, features, mask, core_steps=core_steps)
        return head.candidates(predictions, min_score=min_score, limit=limit)
    return candidates_in_windows(
        head, features, mask, window=window, overlap=window // 2, min_score=min_score, limit=limit
    )


@torch.no_grad()
def predict_in_chunks(
    head: Head,
    features: Float[Tensor, "1 channels time"],
    mask: Bool[Tensor, "1 time"],
    *,
    core_steps: int,
) -> Predictions:
    """Predictions of one long track, without gradients.

    Each chunk is a core of ``core_steps``, rounded up to the coarsest stride, plus the halo that its predictions depend
    on. Activations thus take memory for ``core_steps + 2 * head.halo_steps`` steps, for tracks of any length.

    A head without a halo depends on the whole track and runs in one pass.

    Args:
        head: in evaluation mode (dropout would differ between chunks).
        features: the whole track.
        mask: True where a step is real.
        core_steps: steps predicted per chunk; shorter tracks run in one pass.

    Returns:
        The same as ``head(features, mask)`` up to rounding.
    """
    time = features.shape[-1]
    if time <= core_steps or head.halo_steps is None:
        whole: Predictions = head(features, mask)
        return whole
    assert isinstance(head, AnchorFreeHead)
    coarsest = head.strides[-1]
    core = -(-core_steps // coarsest) * coarsest
    halo = -(-head.halo_steps // coarsest) * coarsest
    parts = []
    for start in range(0, time, core):
        stop = min(start + core, time)
        first, last = max(start - halo, 0), min(stop + halo, time)
        predicted = head(features[..., first:last], mask[:, first:last])
        parts.append(_core_of(predicted, head.strides, start=start - first, stop=stop - first))
    return HeadPredictions(*(_joined(field) for field in zip(*parts, strict=True)))


def _core_of(predictions: HeadPredictions, strides: tuple[int, ...], *, start: int, stop: int) -> HeadPredictions:
    """The steps of every level whose positions lie in ``[start, stop)``; ``start`` is a multiple of all strides."""
    spans = [slice(start // stride, -(-stop // stride)) for stride in strides]
    return HeadPredictions(
        *(tuple(x[:, span].clone() for x, span in zip(field, spans, strict=True)) for field in predictions)
    )


def _joined(parts: tuple[tuple[Tensor, ...], ...]) -> tuple[Tensor, ...]:
    """The chunks of one field, concatenated level by level."""
    return tuple(torch.cat(level, dim=1) for level in zip(*parts, strict=True))


@torch.no_grad()
def candidates_in_windows(
    head: Head,
    features: Float[Tensor, "1 channels time"],
    mask: Bool[Tensor, "1 time"],
    *,
    window: int,
    overlap: int,
    min_score: float,
    limit: int,
) -> Candidates:
    """Candidates of one track of any length, window by window.

    A candidate is kept only if its middle lies in the core of its window, so that an action in an overlap is found once
    even by heads that need no suppression.

    Args:
        head: in evaluation mode.
        features: the whole track.
        mask: True where a step is real.
        window: length of a window in steps.
        overlap: steps shared by neighbouring windows; a longer action may be cut off in both.
        min_score: lower-scoring candidates are dropped.
        limit: maximum number of candidates of the whole track.
    """
    parts, steps = [], features.shape[-1]
    for start in window_starts(steps, window=window, overlap=overlap):
        span = slice(start, start + window)
        predicted = head(features[..., span], mask[:, span])
        found = head.candidates(predicted, min_score=min_score, limit=limit)
        first, last = core_of(start, steps, window=window, overlap=overlap)
        middle = found.positions.mean(axis=1) + start
        own = (middle >= first) & (middle < last)
        parts.append((start, Candidates(*(field[own] for field in found))))
    return merged(parts, limit=limit)


def window_starts(steps: int, *, window: int, overlap: int) -> list[int]:
    """First steps of the windows over a track; the last window ends with the track, so that no tail is lost.

    Args:
        steps: length of the track.
        window: length of a window.
        overlap: minimum overlap of neighbouring windows, less than ``window``.
    """
    assert 0 <= overlap < window, (overlap, window)
    if steps <= window:
        return [0]
    return [*range(0, steps - window, window - overlap), steps - window]


def core_of(start: int, steps: int, *, window: int, overlap: int) -> tuple[float, float]:
    """Range of positions that the window at ``start`` is responsible for; overlaps are split in half.

    Args:
        start: one of :func:`window_starts`.
        steps: length of the track.
        window: length of a window.
        overlap: as given to :func:`window_starts`.

    Returns:
        Half-open range, adjacent to those of the neighbours and unbounded at the ends of the track.
    """
    starts = window_starts(steps, window=window, overlap=overlap)
    index = starts.index(start)
    first = (start + starts[index - 1] + window) / 2 if index > 0 else -np.inf
    last = (starts[index + 1] + start + window) / 2 if index + 1 < len(starts) else np.inf
    return first, last


def merged(parts: Iterable[tuple[int, Candidates]], *, limit: int) -> Candidates:
    """The best candidates of all windows, shifted by the first step of their window; may contain duplicates."""
    shifted = [(part.positions + start, part.scores, part.labels) for start, part in parts]
    positions, scores, labels = (np.concatenate(field) for field in zip(*shifted, strict=True))
    best = np.argsort(-scores, kind="stable")[:limit]
    return Candidates(positions[best], scores[best], labels[best])
