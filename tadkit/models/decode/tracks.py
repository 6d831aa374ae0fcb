"""Long tracks for heads that see a whole window at a time: overlapping windows, their candidates merged."""

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
    """Candidates of one track of any length by any head.

    Heads that see a window as a whole go by their settings' windows, each sharing half with the next; the others in
    chunks that do not show in the result, if they have a halo.

    Args:
        head: in evaluation mode.
        features: the whole track.
        mask: True where a step is real.
        core_steps: steps predicted at a time, for heads with a halo.
        min_score: candidates below it are left out.
        limit: most candidates of the whole track.
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

    Each chunk is a core of ``core_steps``, rounded up to the coarsest stride, with a halo of what its predictions can
    depend on; so activations take memory for ``core_steps + 2 * head.halo_steps`` steps, whatever the track's length.

    A head without a halo depends on the whole window and takes one pass.

    Args:
        head: in evaluation mode (dropout would differ from pass to pass).
        features: the whole track.
        mask: True where a step is real.
        core_steps: steps predicted at a time; a track no longer than that takes one pass.

    Returns:
        The same as ``head(features, mask)``, up to rounding.
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
    """Chunks of one field, joined level by level."""
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
    """Candidates of one track of any length, window by window; each from the window in whose core its middle lies.

    So an action in an overlap is found once, also by heads whose candidates are not suppressed.

    Args:
        head: in evaluation mode.
        features: the whole track.
        mask: True where a step is real.
        window: steps that the head sees at a time.
        overlap: steps that neighbouring windows share; an action longer than that may be cut in both.
        min_score: candidates below it are left out.
        limit: most candidates of the whole track.
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
    """First steps of windows over a track; the last window ends where the track ends, so that no tail is lost.

    Args:
        steps: of the track.
        window: steps of a window.
        overlap: steps that neighbours share at least, fewer than ``window``.
    """
    assert 0 <= overlap < window, (overlap, window)
    if steps <= window:
        return [0]
    return [*range(0, steps - window, window - overlap), steps - window]


def core_of(start: int, steps: int, *, window: int, overlap: int) -> tuple[float, float]:
    """Positions whose actions the window from ``start`` answers for: overlaps are shared half and half.

    Args:
        start: one of :func:`window_starts`.
        steps: of the track.
        window: steps of a window.
        overlap: as given to :func:`window_starts`.

    Returns:
        Half-open range that meets those of the neighbours; it is open to infinity at the ends of the track.
    """
    starts = window_starts(steps, window=window, overlap=overlap)
    index = starts.index(start)
    first = (start + starts[index - 1] + window) / 2 if index > 0 else -np.inf
    last = (starts[index + 1] + start + window) / 2 if index + 1 < len(starts) else np.inf
    return first, last


def merged(parts: Iterable[tuple[int, Candidates]], *, limit: int) -> Candidates:
    """The best candidates of all windows, each moved by the first step of its window; suppression sees to doubles."""
    moved = [(part.positions + start, part.scores, part.labels) for start, part in parts]
    positions, scores, labels = (np.concatenate(field) for field in zip(*moved, strict=True))
    best = np.argsort(-scores, kind="stable")[:limit]
    return Candidates(positions[best], scores[best], labels[best])
