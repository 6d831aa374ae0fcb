"""The student's branch features of a video of any length, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32

from tadkit.config import View
from tadkit.models.student import Student
from tadkit.video import SampledVideo, windows
from tadkit.views import view_frames

CORE_FRAMES = 128
"""Sampled frames computed at a time; with the halo they bound the memory, and the result does not depend on them."""


class BranchFeatures(NamedTuple):
    """Tracks of one video in one view; ``motion`` is None where the student has one stream."""

    motion: Float32[np.ndarray, "steps channels"] | None
    appearance: Float32[np.ndarray, "steps channels"]


@torch.inference_mode()
def branch_features(
    student: Student,
    video: SampledVideo,
    *,
    views: Sequence[View] = ("original",),
    core_frames: int = CORE_FRAMES,
    advance: Callable[[int], None] | None = None,
) -> dict[View, BranchFeatures]:
    """Features of every view, decoding the video once.

    Windows have the halo that the student's shifts and mappings need, so the result equals that of one pass.
    ``advance`` is called with the number of frames that each of them adds.

    Raises:
        VideoError: a frame cannot be decoded.
    """
    device = next(student.parameters()).device
    stride, align = student.backbone.stride, student.backbone.align_frames
    parts: dict[View, list[BranchFeatures]] = {view: [] for view in views}
    for window in windows(len(video), core=-(-core_frames // align) * align, halo=student.halo_frames):
        frames = torch.from_numpy(video.frames(window.start, window.stop)).movedim(-1, 1)
        mask = torch.ones(1, len(frames), dtype=torch.bool, device=device)
        core = window.core_steps(stride)
        for view in views:
            seen = view_frames(frames, view).movedim(1, -1)[None].to(device)
            motion, appearance = (None if x is None else x[0, :, core].T.cpu().numpy() for x in student(seen, mask))
            assert appearance is not None
            parts[view].append(BranchFeatures(motion, appearance))
        if advance is not None:
            advance(window.core_stop - window.core_start)
    return {view: _joined(tracks) for view, tracks in parts.items()}


def _joined(parts: Sequence[BranchFeatures]) -> BranchFeatures:
    motions = [part.motion for part in parts if part.motion is not None]
    return BranchFeatures(
        motion=np.concatenate(motions) if motions else None,
        appearance=np.concatenate([part.appearance for part in parts]),
    )
