"""Several teachers as one: their features side by side along channels, their predictions averaged.

Ours; the method has one teacher (docs/method.md). Both classes read like those of one teacher, so that batches, methods
and losses are the same for one and for several. The order of the teachers is that of their channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Shaped
from torch import Tensor, nn

from tadkit.files import digest_of
from tadkit.models.heads import Head, HeadPredictions, Predictions, average_of_teachers
from tadkit.store import VideoTracks


class EnsembleTracks:
    """Reads the stored outputs of several teachers as those of one."""

    def __init__(self, teachers: Sequence[VideoTracks]) -> None:
        """All have the same steps, because the strides of all teachers are equal."""
        self._teachers = tuple(teachers)

    def stamps_s(self, video: str) -> Float64[np.ndarray, " stamps"]:
        """Seconds of the steps of ``video``."""
        return self._teachers[0].stamps_s(video)

    def key(self, video: str) -> str:
        """Digest of everything that the outputs of any teacher depend on."""
        return digest_of([teacher.key(video) for teacher in self._teachers])

    def read(
        self, video: str, track: str, start: int = 0, stop: int | None = None
    ) -> Shaped[np.ndarray, "steps channels"]:
        """Steps ``start`` to ``stop`` (half open; None is the end) of ``VIEW/feature`` or of the predictions.

        Those of level l are ``VIEW/logits_l`` and ``VIEW/offsets_l``, averaged by :func:`average_of_teachers`.
        """
        view, _, field = track.rpartition("/")
        name, _, level = field.partition("_")
        if name == "feature":
            return np.concatenate([teacher.read(video, track, start, stop) for teacher in self._teachers], axis=1)
        predictions = [
            [_tensor(teacher.read(video, f"{view}/{each}_{level}", start, stop)) for each in ("logits", "offsets")]
            for teacher in self._teachers
        ]
        real = torch.ones(predictions[0][0].shape[:2], dtype=torch.bool)
        averaged = average_of_teachers([HeadPredictions((one,), (two,), (real,)) for one, two in predictions])
        values: np.ndarray = (averaged.logits if name == "logits" else averaged.offsets)[0][0].numpy()
        return values


def _tensor(values: Shaped[np.ndarray, "steps channels"]) -> Float[Tensor, "1 steps channels"]:
    return torch.from_numpy(values).float()[None]


class EnsembleHead(nn.Module):
    """The heads of several teachers: each reads its own channels, and their predictions are averaged."""

    def __init__(self, heads: Sequence[Head]) -> None:
        """``heads`` are of one kind, in the order of the teachers' channels."""
        super().__init__()
        self.first = heads[0]
        self.heads = nn.ModuleList(heads)

    def forward(self, feature: Float[Tensor, "batch channels time"], mask: Bool[Tensor, "batch time"]) -> Predictions:
        """The average of every head's predictions for its teacher's feature."""
        parts = torch.split(feature, self.first.in_channels, dim=1)
        predictions = [head(part, mask) for head, part in zip(self.heads, parts, strict=True)]
        averaged: Predictions = self.first.average_teachers(*predictions)
        return averaged
