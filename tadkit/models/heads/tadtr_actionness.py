"""Actionness of TadTR: how well each segment overlaps with an action, judged by what stands inside and around it.

After Liu et al., End-to-end temporal action detection with transformer (IEEE TIP 2022, section III-B).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tadkit.models.heads.tadtr_layers import sampled, three_layers


class Actionness(nn.Module):
    """Features of a segment and its surroundings, then a perceptron to the overlap that it may have with an action.

    Args:
        dim: channels of the memory.
        bins: parts that a segment is cut into.
        context: surroundings on either side, as a share of the segment's length.
    """

    def __init__(self, dim: int, *, bins: int, context: float) -> None:
        super().__init__()
        self.bins, self.context = bins, context
        self.mlp = three_layers(bins * dim, dim, 1)

    def forward(
        self,
        memory: Float[Tensor, "batch time dim"],
        segments: Float[Tensor, "batch queries 2"],
        length: Float[Tensor, "batch 1 1"],
    ) -> Float[Tensor, "batch queries"]:
        """Predicted overlap, in [0, 1].

        Args:
            memory: the track after the encoder; it learns from this, too.
            segments: starts and ends as fractional positions; they get no gradient from this.
            length: steps of each track that are read.
        """
        start, end = segments.detach().unbind(dim=-1)
        around = (end - start) * self.context
        spans = torch.stack((start - around, end + around), dim=-1)
        read = segment_features(memory, torch.minimum(spans.clamp(min=0), length), length, bins=self.bins)
        overlap: Tensor = self.mlp(read.flatten(2)).sigmoid()
        return overlap.squeeze(-1)


def segment_features(
    memory: Float[Tensor, "batch time dim"],
    spans: Float[Tensor, "batch queries 2"],
    length: Float[Tensor, "batch 1 1"],
    *,
    bins: int,
) -> Float[Tensor, "batch queries dim bins"]:
    """Mean features of ``bins`` equal parts of each span, read by linear interpolation (RoIAlign in one dimension).

    After He et al., Mask R-CNN (ICCV 2017, section 3), as TadTR and OpenTAD read segments: at least one step is read, a
    part at as many evenly spread places as it has steps, rounded up; a place before the first step or past the last
    reads that step. OpenTAD rounds features and spans to half precision first, which we do not.

    Args:
        memory: steps past ``length`` are never read.
        spans: starts and ends as fractional positions, from 0 to ``length``.
        length: real steps of each track, which come first.
        bins: parts.
    """
    start, end = spans.unbind(dim=-1)
    part = (end - start).clamp(min=1)[..., None, None] / bins
    number = part.ceil()
    nth = torch.arange(-(-memory.shape[1] // bins), device=memory.device)
    place = start[..., None, None] + part * (torch.arange(bins, device=memory.device)[:, None] + (nth + 0.5) / number)
    # Only a span of less than a step, made one, can reach past the track; the peers read zeros there.
    weight = ((nth < number) & (place <= length[..., None])) / number
    inside = torch.minimum(place.clamp(min=0), (length[..., None] - 1).clamp(min=0))
    read = sampled(memory.float()[:, :, None], inside.flatten(2)[:, :, None])[:, 0]  # half precision has no such places
    mean = (read.reshape(*read.shape[:3], bins, -1) * weight[:, None]).sum(dim=-1)
    return mean.transpose(1, 2).to(memory.dtype)
