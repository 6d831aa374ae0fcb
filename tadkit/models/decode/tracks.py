"""Run any head on a track of any length, so that what it finds depends on a bounded stretch around it.

Heads with a halo run in chunks whose joined predictions equal one pass over the whole track. The others run in windows
that overlap by half, on a grid that begins with the track. Of an anchor-free head, whose windows are four times as long
as in training, each gives the predictions of its middle; of a head that sees a fixed window, the candidates there. A
head that has no halo and does not state such a length, such as one of another project, runs over the whole track.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tadkit.models.fusion import LateHead, LatePredictions
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

    Args:
        head: in evaluation mode.
        features: the whole track.
        mask: True where a step is real.
        core_steps: steps predicted per chunk, for heads with a halo; does not affect the result.
        min_score: lower-scoring candidates are dropped.
        limit: maximum number of candidates of each window, for heads that see a fixed window.
    """
    window = head.settings.fixed_window_steps
    if window is None:
        predictions = predict_in_chunks(head, features, mask, core_steps=core_steps)
        return head.candidates(predictions, min_score=min_score)
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

    A head with a halo gives the same as ``head(features, mask)`` up to rounding: each chunk is a core of
    ``core_steps``, rounded up to the coarsest stride, plus the halo that its predictions depend on. Activations thus
    take memory for ``core_steps + 2 * head.halo_steps`` steps, for tracks of any length.

    A head without a halo gives the predictions of the middle half of each of its windows
    (:attr:`tadkit.models.heads.head.HeadOf.window_steps`); the first and the last window also give those at the ends of
    the track. Without such windows, or if the track is no longer than one, it runs in one pass.

    Args:
        head: in evaluation mode (dropout would differ between chunks).
        features: the whole track.
        mask: True where a step is real.
        core_steps: steps predicted per chunk of a head with a halo; shorter tracks run in one pass.
    """
    if isinstance(head, LateHead):
        return LatePredictions(
            *(predict_in_chunks(part, x, mask, core_steps=core_steps) for part, x in head.parts(features))
        )
    parts = []
    for chunk in _chunks(head, features.shape[-1], core_steps=core_steps):
        span = slice(chunk.first, chunk.last)
        if chunk.stop - chunk.start == features.shape[-1]:
            return head(features, mask)  # type: ignore[no-any-return]
        parts.append(predict_core(head, features[..., span], mask[:, span], chunk))
    return HeadPredictions(*(_joined(field) for field in zip(*parts, strict=True)))


@torch.no_grad()
def predict_core(
    head: Head, features: Float[Tensor, "1 channels time"], mask: Bool[Tensor, "1 time"], chunk: Chunk
) -> Predictions:
    """Predictions of a chunk's core, from the features of its steps ``first`` to ``last``.

    Their positions count from the start of the core.
    """
    if isinstance(head, LateHead):
        return LatePredictions(*(predict_core(part, x, mask, chunk) for part, x in head.parts(features)))
    assert isinstance(head, AnchorFreeHead)
    start, stop = chunk.start - chunk.first, chunk.stop - chunk.first
    return _core_of(head(features, mask), head.strides, start=start, stop=stop)


class Chunk(NamedTuple):
    """Steps ``first`` to ``last`` that a head reads, and the core ``start`` to ``stop`` that it predicts; half open."""

    first: int
    start: int
    stop: int
    last: int


def _chunks(head: Head, time: int, *, core_steps: int) -> list[Chunk]:
    """The chunks of a track; all starts are multiples of the coarsest stride."""
    window = head.window_steps
    whole = time <= core_steps if head.halo_steps is not None else window is None or time <= window
    if whole:
        return [Chunk(0, 0, time, time)]
    chunks = [chunk_at(head, 0, time, core_steps=core_steps)]
    while chunks[-1].stop < time:
        chunks.append(chunk_at(head, chunks[-1].stop, time, core_steps=core_steps))
    return chunks


def chunk_at(head: Head, start: int, time: int, *, core_steps: int) -> Chunk:
    """The chunk of a track of ``time`` steps whose core begins at ``start``, where the one before it ends.

    ``core_steps`` is the length of a core of a head with a halo, before it is rounded up to the coarsest stride; other
    heads have windows.
    """
    assert isinstance(head, AnchorFreeHead)
    coarsest = head.strides[-1]
    if head.halo_steps is not None:
        core, margin = (-(-steps // coarsest) * coarsest for steps in (core_steps, head.halo_steps))
        stop = min(start + core, time)
        return Chunk(max(start - margin, 0), start, stop, min(stop + margin, time))
    assert head.window_steps is not None
    window = -(-head.window_steps // coarsest) * coarsest
    core = max(window // 2 // coarsest, 1) * coarsest
    margin = (window - core) // 2 // coarsest * coarsest
    final = max(-(-(time - window) // coarsest), 0) * coarsest  # start of the last window, which ends with the track
    first = max(min(start - margin, final), 0)
    return Chunk(first, start, min(start + core, time), min(first + window, time))


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
        limit: maximum number of candidates of each window.
    """
    parts, starts = [], window_starts(features.shape[-1], window=window, overlap=overlap)
    for start, (first, last) in zip(starts, window_cores(starts, window=window), strict=True):
        span = slice(start, start + window)
        core = (first - start, last - start)
        parts.append((start, core_candidates(head, features[..., span], mask[:, span], core, min_score, limit)))
    return merged(parts)


@torch.no_grad()
def core_candidates(
    head: Head,
    features: Float[Tensor, "1 channels time"],
    mask: Bool[Tensor, "1 time"],
    core: tuple[float, float],
    min_score: float,
    limit: int,
) -> Candidates:
    """Candidates of one window whose middle lies in ``core``, counted like their positions from the window's start."""
    found = head.candidates(head(features, mask), min_score=min_score, limit=limit)
    middle = found.positions.mean(axis=1)
    own = (middle >= core[0]) & (middle < core[1])
    return Candidates(*(field[own] for field in found))


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


def window_cores(starts: Sequence[int], *, window: int) -> list[tuple[float, float]]:
    """Range of positions that each window is responsible for; overlaps are split in half.

    Args:
        starts: those of :func:`window_starts`.
        window: length of a window.

    Returns:
        Half-open ranges, adjacent to each other and unbounded at the ends of the track.
    """
    edges = [(left + right + window) / 2 for left, right in itertools.pairwise(starts)]
    return list(itertools.pairwise((-np.inf, *edges, np.inf)))


def merged(parts: Iterable[tuple[int, Candidates]]) -> Candidates:
    """The candidates of all windows, best first, shifted by the first step of their window; may contain duplicates."""
    shifted = [(part.positions + start, part.scores, part.labels) for start, part in parts]
    positions, scores, labels = (np.concatenate(field) for field in zip(*shifted, strict=True))
    best = np.argsort(-scores, kind="stable")
    return Candidates(positions[best], scores[best], labels[best])
