"""The RGB path of a detector as one function with a state: pieces of frames in, candidates out, for export.

With the whole video as one piece it finds what ``tadkit detect`` finds; in pieces, the same, later.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor, nn

from tadkit.errors import UsageError
from tadkit.models.backbones import TemporalShiftBackbone, average_steps, step_mask
from tadkit.models.branches import BranchMapping
from tadkit.models.detector import DetectorNet
from tadkit.models.fusion import CrossAttentionFusion, LateHead
from tadkit.models.heads.anchor_free import AnchorFreeHead, HeadPredictions


class StreamedCandidates(NamedTuple):
    """What a piece makes known.

    Attributes:
        segments: (points, classes, 2), start and end as fractional positions on the feature track of the whole video.
        scores: (points, classes), in (0, 1).
        state: for the next piece.
    """

    segments: Float64[Tensor, "points classes 2"]
    scores: Float[Tensor, "points classes"]
    state: list[Tensor]


class StreamedDetector(nn.Module):
    """Frames in, candidates out; what later pieces need is state, and nothing else is kept.

    A step's candidates come once everything that they depend on is known, ``context_steps`` later, and with the last
    piece all that are left. Each piece runs the head over the steps that are kept, up to twice that many, and its own:
    pieces of some hundred frames cost little more than one pass.

    Attributes:
        context_steps: steps on either side that candidates of a step depend on.
        halo_frames: the first piece has more frames than this, or is the last.
    """

    def __init__(self, net: DetectorNet) -> None:
        """Take the parts of a detector in evaluation mode.

        Raises:
            UsageError: it has a part that cannot be exported.
        """
        super().__init__()
        if why_not := _obstacle(net):
            raise UsageError(f"this model cannot be exported: {why_not}")
        backbone, head, context = net.student.backbone, net.joint.head, net.joint.context_steps
        assert isinstance(backbone, TemporalShiftBackbone)
        assert context is not None
        self.student, self.joint = net.student, net.joint
        first = head.first if isinstance(head, LateHead) else head
        assert isinstance(first, AnchorFreeHead)
        self.strides, self.classes = first.strides, first.num_classes
        self.size_hw = net.settings.video.size_hw
        self.halo_frames, self.stride = backbone.halo_frames, backbone.stride
        self.context_steps = context + BranchMapping.halo_steps + 1  # the last step may lack some of its frames
        self._backbone = backbone

    @torch.no_grad()
    def first_state(self) -> list[Tensor]:
        """The state before the first piece: zeros, and no grey levels, where the net reads their changes."""
        frames = torch.zeros(self.halo_frames + 1, *self.size_hw, 3, dtype=torch.uint8)
        features, kept = self._backbone.piece(frames, (), last=False)
        track = features.new_zeros(0, features.shape[1])
        blocks = len(kept) - bool(self._backbone.changes_frames)
        first = [torch.zeros_like(one[: int(number < blocks)]) for number, one in enumerate(kept)]
        return [torch.zeros(2, dtype=torch.int64), track, *first]

    def forward(
        self,
        frames: UInt8[Tensor, "frames height width 3"],
        end: UInt8[Tensor, " zero_or_one"],
        place: Int64[Tensor, " 2"],
        track: Float[Tensor, "frames_kept channels"],
        *kept: Tensor,
    ) -> StreamedCandidates:
        """Candidates of the steps that ``frames`` make known.

        Args:
            frames: RGB, those that follow the last piece.
            end: one number with the last piece, else none.
            place: steps of ``track`` whose candidates have come, and the step of the video that it begins with.
            track: the backbone's features of the frames that are still needed.
            kept: of each block of the backbone that shifts, its last frames.
        """
        last = end.shape[0]
        features, keep = self._backbone.piece_before(frames, kept, zeros=last)
        track = torch.cat([track, features])
        real = torch.ones_like(track[None, :, 0], dtype=torch.bool)
        steps = average_steps(track[None], real, self.stride).transpose(1, 2)
        mask = step_mask(real, self.stride)
        motion, appearance = self.student.branches(steps, real)
        predicted = self.joint.head(self.joint.fused(motion, appearance, mask), mask)
        if isinstance(self.joint.head, LateHead):
            predicted = self.joint.head.first.average(*predicted)
        total = mask.sum()
        stop = torch.maximum(place[0], self._before(total))
        stop = stop + (total - stop) * last
        segments, scores = self._candidates(predicted, place, stop)
        first = self._before(stop)
        place = torch.stack([stop - first, place[1] + first])
        return StreamedCandidates(segments, scores, [place, track[first * self.stride :], *keep])

    def _before(self, step: Tensor) -> Tensor:
        """The last step that lies ``context_steps`` before and on which a step of every level lies."""
        coarsest = self.strides[-1]
        return (step - self.context_steps).clamp(min=0) // coarsest * coarsest

    def _candidates(self, predicted: HeadPredictions, place: Tensor, stop: Tensor) -> tuple[Tensor, Tensor]:
        """Segments and scores of the steps from ``place[0]`` to ``stop``, level by level."""
        segments, scores = [], []
        for logits, offsets, stride in zip(predicted.logits, predicted.offsets, self.strides, strict=True):
            span = slice(place[0] // stride, (stop + stride - 1) // stride)
            at = torch.arange(logits.shape[1], device=logits.device)[span] * stride + place[1]
            ends = int(offsets.shape[2])  # a traced constant
            reach = offsets[0, span].double().reshape(-1, ends // 2, 2) * stride
            found = torch.stack([at[:, None] - reach[..., 0], at[:, None] + reach[..., 1]], dim=2)
            segments.append(found.expand(-1, self.classes, -1))
            scores.append(logits[0, span].sigmoid())
        return torch.cat(segments), torch.cat(scores)


def _obstacle(net: DetectorNet) -> str:
    """Why a detector cannot be exported; empty if it can."""
    head, backbone = net.joint.head, net.student.backbone
    if net.teacher is not None:
        return "it reads optical flow, and only models that read RGB alone can"
    if not isinstance(backbone, TemporalShiftBackbone):
        return f"its backbone, {net.settings.backbone.name}, reads windows of frames; only temporal-shift backbones can"
    if isinstance(net.joint.fusion, CrossAttentionFusion):
        return "cross-attention fusion is computed window by window; the other fusions can"
    first = head.first if isinstance(head, LateHead) else head
    if not isinstance(first, AnchorFreeHead) or head.halo_steps is None:
        return (
            f"its head, {first.settings.kind}, predicts from whole windows; actionformer, tridet and temporal-maxer "
            "can, with settings by which a prediction depends on a few steps"
        )
    if net.joint.context_steps is None:
        return "it does not state the length of its training windows, over which the fusion averages"
    return ""
