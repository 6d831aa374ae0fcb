"""Candidates of a track that grows, such as that of a live video: each once, as soon as no later step can change it.

They are those of :func:`tadkit.models.decode.tracks.track_candidates` on the whole track: the chunks and windows in
which a head reads a track are those of any longer track, except the last ones.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tadkit.models.decode.tracks import (
    Chunk,
    chunk_at,
    core_candidates,
    merged,
    predict_core,
    window_cores,
    window_starts,
)
from tadkit.models.fusion import LateHead
from tadkit.models.heads.head import Candidates, Head

Features = Callable[[int, int], Float[Tensor, "1 channels time"]]
"""From the first step and the one after the last to the features of these steps."""
NONE = Candidates(np.zeros((0, 2)), np.zeros(0), np.zeros(0, dtype=np.int64))
_FAR = 1 << 40
"""Length of a track whose end affects no chunk that begins now."""


class GrowingTrack:
    """What a head with known ``context_steps`` finds on a track that grows.

    Attributes:
        done: the candidates that the head predicts at the steps before this one have come; of a head that sees a fixed
            window, those whose middle lies before it.
        first_needed: the first step whose features may still be needed.
    """

    def __init__(self, head: Head, *, core_steps: int, min_score: float, limit: int) -> None:
        """Take a head in evaluation mode.

        Args:
            head: the head.
            core_steps: steps that a head with a halo predicts at a time.
            min_score: lower-scoring candidates are dropped.
            limit: maximum number of candidates of each window, for heads that see a fixed window.
        """
        self._head, self._core_steps = head, core_steps
        self._min_score, self._limit = min_score, limit
        self._window = head.settings.fixed_window_steps or 0
        self._hop = self._window - self._window // 2
        self._windows_done = 0
        self.done = self.first_needed = 0

    @property
    def lag_steps(self) -> int:
        """Most steps from ``done`` to the end of a track on which it stays."""
        if self._window:
            return self._window + self._hop
        first = self._chunk(0, _FAR)
        later = self._chunk(_FAR // 2, _FAR)
        return max(first.last, later.last - later.start)

    def more(self, features: Features, steps: int, *, last: bool) -> Candidates:
        """The candidates that have become final, best first.

        Args:
            features: gives features of steps from ``first_needed`` to ``steps``.
            steps: length of the track so far.
            last: whether it ends here.

        Raises:
            WeightsError: a prediction is not finite.
        """
        parts = [(0, NONE)]
        following = self._of_window if self._window else self._of_chunk
        while self.done < steps and (found := following(features, steps, last)) is not None:
            parts.append(found)
        return merged(parts)

    def _of_chunk(self, features: Features, steps: int, last: bool) -> tuple[int, Candidates] | None:
        """The next chunk's candidates and the step from which they count; None while they are not final."""
        chunk = self._chunk(self.done, steps)
        if not last and chunk != self._chunk(self.done, _FAR):
            return None
        read = features(chunk.first, chunk.last)
        self.done, self.first_needed = chunk.stop, chunk.first
        predictions = predict_core(self._head, read, _real(read), chunk)
        return chunk.start, self._head.candidates(predictions, min_score=self._min_score)

    def _chunk(self, start: int, time: int) -> Chunk:
        head = self._head.first if isinstance(self._head, LateHead) else self._head
        return chunk_at(head, start, time, core_steps=self._core_steps)

    def _of_window(self, features: Features, steps: int, last: bool) -> tuple[int, Candidates] | None:
        """The same of the next window; its core is known once it is known where the window after it begins."""
        before = self.first_needed
        starts = window_starts(steps - before, window=self._window, overlap=self._window - self._hop)
        number = min(self._windows_done, 1)
        start = starts[number]
        if not last and steps < before + start + self._hop + self._window:
            return None
        first, stop = window_cores(starts, window=self._window)[number]
        self._windows_done += 1
        self.done = steps if stop == np.inf else int(before + stop)
        self.first_needed = before + start
        read = features(before + start, min(before + start + self._window, steps))
        core = (first - start, stop - start)
        found = core_candidates(self._head, read, _real(read), core, self._min_score, self._limit)
        return before + start, found


def _real(features: Float[Tensor, "1 channels time"]) -> Bool[Tensor, "1 time"]:
    return torch.ones(1, features.shape[2], dtype=torch.bool, device=features.device)
