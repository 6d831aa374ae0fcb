"""The student's branch features of a video of any length, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped, UInt8
from torch import Tensor

from tadkit.config import View
from tadkit.extraction.clips import Clip
from tadkit.extraction.read_ahead import read_ahead
from tadkit.models.backbones import average_steps
from tadkit.models.branches import BranchMapping
from tadkit.models.engines import Engine, Kept, build_engine
from tadkit.models.student import Student, StudentFeatures
from tadkit.video import Window, windows
from tadkit.views import view_frames

CORE_FRAMES = 128
"""Frames of a window of backbones that read windows; with the halo they bound the memory."""
AHEAD = 8
"""Windows or pieces that are decoded before they are needed."""
_STEPS_AT_ONCE = 128
"""Feature steps that the branches read at a time."""


class BranchFeatures(NamedTuple):
    """Tracks of one video in one view; ``motion`` is None where the student has one stream."""

    motion: Float32[np.ndarray, "steps channels"] | None
    appearance: Float32[np.ndarray, "steps channels"]


Tracks = dict[View, list[BranchFeatures]]


@torch.inference_mode()
def branch_features(
    student: Student,
    video: Clip,
    *,
    views: Sequence[View] = ("original",),
    core_frames: int | None = None,
    engine: Engine | None = None,
    advance: Callable[[int], None] | None = None,
) -> dict[View, BranchFeatures]:
    """Features of every view, decoding the video once, in another thread; stored features have the original view only.

    A backbone that can read a video in pieces does, and remembers what it needs of those before; others read windows
    with the halo that the student's shifts and mappings need. So the result equals that of one pass.

    Args:
        student: the net.
        video: its frames, or the steps of its features.
        views: views of the picture.
        core_frames: frames computed at a time, which the result does not depend on; None takes what is fastest.
        engine: runs the backbone; None is torch.
        advance: called with each number of frames that are done.

    Raises:
        VideoError: a frame cannot be decoded.
    """
    engine = engine or build_engine("torch", student.backbone)
    done = advance or _ignore
    if engine is None:
        tracks = _of_windows(student, video, views, core_frames or CORE_FRAMES, done)
    else:
        tracks = _of_pieces(student, engine, video, views, core_frames, done)
    return {view: joined(parts) for view, parts in tracks.items()}


def _ignore(frames: int) -> None:
    """Report nothing."""


def _of_windows(
    student: Student, video: Clip, views: Sequence[View], core_frames: int, advance: Callable[[int], None]
) -> Tracks:
    tracks: Tracks = {view: [] for view in views}
    cut = list(windows(len(video), core=_aligned(student, core_frames), halo=student.halo_frames))
    with read_ahead((video.frames(window.start, window.stop) for window in cut), depth=1) as decoded:
        for window, frames in zip(cut, decoded, strict=True):
            for view in views:
                tracks[view].append(_of_window(student, _seen(frames, view), window))
            advance(window.core_stop - window.core_start)
    return tracks


def _aligned(student: Student, core_frames: int) -> int:
    """A length of cores at multiples of which windows may start."""
    align = student.backbone.align_frames
    return -(-core_frames // align) * align


def _of_window(student: Student, frames: Tensor, window: Window) -> BranchFeatures:
    device = next(student.parameters()).device
    mask = torch.ones(1, len(frames), dtype=torch.bool, device=device)
    return _of_core(student(frames[None].to(device), mask), window.core_steps(student.backbone.stride))


def _of_pieces(
    student: Student,
    engine: Engine,
    video: Clip,
    views: Sequence[View],
    core_frames: int | None,
    advance: Callable[[int], None],
) -> Tracks:
    streams = {view: _PieceStream(student, engine, piece_frames=1, steps_at_once=_STEPS_AT_ONCE) for view in views}
    tracks: Tracks = {view: [] for view in views}
    cut = _pieces(video, engine, core_frames, least=student.backbone.halo_frames + 1)
    with read_ahead(cut, depth=AHEAD) as decoded:
        for frames, last in decoded:
            for view in views:
                tracks[view] += streams[view].more(_seen(frames, view), last=last)
            advance(len(frames))
    return tracks


def _pieces(
    video: Clip, engine: Engine, core_frames: int | None, *, least: int
) -> Iterator[tuple[UInt8[np.ndarray, "frames height width 3"], bool]]:
    """The frames of a video in order, the first ``least`` or more at once; and whether they are the last."""
    start, size = 0, max(core_frames or 1, least)
    while start < len(video):
        stop = min(start + size, len(video))
        frames = video.frames(start, stop)
        yield frames, stop == len(video)
        start, size = stop, core_frames or max(1, engine.piece_pixels // (frames.shape[1] * frames.shape[2]))


class BranchStream(Protocol):
    """The branch features of a video whose frames come one after the other; they do not depend on how many at once.

    Attributes:
        lag_frames: frames after those of a feature step, at most, until it is known, if a size of pieces was chosen.
    """

    lag_frames: int

    def more(self, frames: UInt8[Tensor, "frames height width 3"], *, last: bool) -> list[BranchFeatures]:
        """Stretches of steps that have become known, in order; with ``last`` all that are left."""


def branch_stream(student: Student, engine: Engine | None, *, piece_frames: int | None = None) -> BranchStream:
    """The stream of a student on a video that is not known to its end.

    Args:
        student: the net.
        engine: runs the backbone; None is torch, for backbones that read windows.
        piece_frames: frames computed at a time, which the result does not depend on, so that features come soon; None
            takes what is fastest.
    """
    if engine is None:
        return _WindowStream(student, core_frames=piece_frames or CORE_FRAMES)
    steps = _STEPS_AT_ONCE if piece_frames is None else 1
    return _PieceStream(student, engine, piece_frames=piece_frames, steps_at_once=steps)


class _WindowStream:
    """A backbone that reads windows; frames are kept until no window needs them."""

    def __init__(self, student: Student, *, core_frames: int) -> None:
        self._student, self._core = student, _aligned(student, core_frames)
        self._frames, self._first, self._done = torch.zeros(0), 0, 0
        self.lag_frames = self._core + student.halo_frames

    @torch.inference_mode()
    def more(self, frames: UInt8[Tensor, "frames height width 3"], *, last: bool) -> list[BranchFeatures]:
        self._frames = torch.cat([self._frames, frames]) if len(self._frames) else frames
        total, halo = self._first + len(self._frames), self._student.halo_frames
        found = []
        while self._done < total and (last or self._done + self._core + halo <= total):
            stop = min(self._done + self._core, total)
            window = Window(max(self._done - halo, 0), min(stop + halo, total), self._done, stop)
            read = self._frames[window.start - self._first : window.stop - self._first]
            found.append(_of_window(self._student, read, window))
            self._done = stop
        first = max(self._done - halo, 0)
        self._frames, self._first = self._frames[first - self._first :].clone(), first
        return found


class _PieceStream:
    """A backbone that remembers what it needs of the frames before, and the branches behind it."""

    def __init__(self, student: Student, engine: Engine, *, piece_frames: int | None, steps_at_once: int) -> None:
        self._student, self._engine = student, engine
        self._stride, self._steps_at_once = student.backbone.stride, steps_at_once
        self._device = next(student.parameters()).device
        self._piece, self._least = piece_frames or 0, student.backbone.halo_frames + 1
        self._waiting: list[Tensor] = []
        self._kept: Kept = ()
        self._frames: list[Tensor] = []
        self._count = 0
        self._steps: Tensor | None = None
        self._done = 0  # of the steps, those at the start that are kept for their neighbours only
        later = BranchMapping.halo_steps + steps_at_once
        self.lag_frames = self._piece + student.backbone.halo_frames + later * self._stride

    @torch.inference_mode()
    def more(self, frames: UInt8[Tensor, "frames height width 3"], *, last: bool) -> list[BranchFeatures]:
        """What is known after some more frames: everything with the last, else now and then a stretch."""
        self._waiting.append(frames)
        self._piece = self._piece or max(1, self._engine.piece_pixels // (frames.shape[1] * frames.shape[2]))
        if not last and sum(map(len, self._waiting)) < max(self._piece, self._least):
            return []
        piece = torch.cat(self._waiting) if len(self._waiting) > 1 else frames
        self._waiting, self._least = [], 1
        features, self._kept = self._engine.piece(piece.to(self._device), self._kept, last=last)
        return self._branches(features, last=last)

    def _branches(self, features: Float[Tensor, "frames channels"], *, last: bool) -> list[BranchFeatures]:
        self._frames.append(features)
        self._count += len(features)
        if not last and self._count < self._steps_at_once * self._stride:
            return []
        frames = torch.cat(self._frames)
        whole = len(frames) if last else len(frames) // self._stride * self._stride
        self._frames, self._count = [frames[whole:]], len(frames) - whole
        real = torch.ones(1, whole, dtype=torch.bool, device=frames.device)
        steps = average_steps(frames[None, :whole], real, self._stride)
        steps = steps if self._steps is None else torch.cat([self._steps, steps], dim=1)
        halo = BranchMapping.halo_steps
        stop = steps.shape[1] - (0 if last else halo)
        mask = torch.ones(1, steps.shape[1] * self._stride, dtype=torch.bool, device=frames.device)
        found = _of_core(self._student.branches(steps.transpose(1, 2), mask), slice(self._done, stop))
        first = max(0, stop - halo)
        self._steps, self._done = steps[:, first:], stop - first
        return [found]


def _seen(frames: Shaped[np.ndarray, "frames ..."], view: View) -> Tensor:
    """Frames in a view."""
    return view_frames(torch.from_numpy(frames).movedim(-1, 1), view).movedim(1, -1)


def _of_core(features: StudentFeatures, core: slice) -> BranchFeatures:
    """Some steps of one video's branch features."""
    motion, appearance = (None if x is None else x[0, :, core].T.cpu().numpy() for x in features)
    assert appearance is not None
    return BranchFeatures(motion, appearance)


def joined(parts: Sequence[BranchFeatures]) -> BranchFeatures:
    """Stretches of features, one after the other."""
    motions = [part.motion for part in parts if part.motion is not None]
    return BranchFeatures(
        motion=np.concatenate(motions) if motions else None,
        appearance=np.concatenate([part.appearance for part in parts]),
    )
