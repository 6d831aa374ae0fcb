"""Long tracks for heads that see a whole window at a time: overlapping windows, their candidates merged."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tadkit.heads.families import candidates
from tadkit.heads.head import Candidates, Head


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


def merged(parts: Iterable[tuple[int, Candidates]], *, limit: int) -> Candidates:
    """The best candidates of all windows, each moved by the first step of its window; suppression sees to doubles."""
    moved = [(part.positions + start, part.scores, part.labels) for start, part in parts]
    positions, scores, labels = (np.concatenate(field) for field in zip(*moved, strict=True))
    best = np.argsort(-scores, kind="stable")[:limit]
    return Candidates(positions[best], scores[best], labels[best])


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

    Args:
        head: in evaluation mode.
        features: the whole track.
        mask: True where a step is real.
        window: steps that the head sees at a time.
        overlap: steps that neighbouring windows share; an action longer than that may be cut in both.
        min_score: candidates below it are left out.
        limit: most candidates of the whole track.
    """
    parts = []
    for start in window_starts(features.shape[-1], window=window, overlap=overlap):
        span = slice(start, start + window)
        predicted = head(features[..., span], mask[:, span])
        parts.append((start, candidates(head, predicted, min_score=min_score, limit=limit)))
    return merged(parts, limit=limit)
