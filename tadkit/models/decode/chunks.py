"""Runs a head over a track of any length in constant memory, with the same result as in one pass."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tadkit.models.heads.anchor_free import AnchorFreeHead, HeadPredictions
from tadkit.models.heads.families import Predictions
from tadkit.models.heads.head import Head


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
