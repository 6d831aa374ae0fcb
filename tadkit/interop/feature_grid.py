"""When the steps of imported features happen: from stride, clip length and rate, or from their own time stamps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from tadkit.errors import AnnotationError, StoreError, UsageError
from tadkit.interop import TableLayout
from tadkit.interop.feature_files import FeatureFile
from tadkit.records import VideoRecord

_REFUSED_SHARE = 0.1
_WARNED_STEPS = 2.0
_OFF_FRAMES = 0.5


@dataclass(frozen=True)
class Grid:
    """Which frames a step covers, None if the feature files give it; and how the files are to be read."""

    stride_frames: float | None
    clip_frames: float | None
    fps: float | None
    rescaled: bool
    channels_first: bool
    layout: TableLayout = "detect"


class Placed(NamedTuple):
    """Centre of each step, the video's duration, and a warning and a note; empty if there is none."""

    stamps_s: Float64[np.ndarray, " steps"]
    duration_s: float
    warning: str = ""
    note: str = ""


class _Sampling(NamedTuple):
    stride_frames: float
    clip_frames: float
    fps: float
    stamps_s: Float64[np.ndarray, " steps"]

    @property
    def ends_s(self) -> float:
        """End of the last step."""
        return float(self.stamps_s[-1]) + (self.clip_frames + 1) / 2 / self.fps


def placed(found: FeatureFile, name: str, record: VideoRecord | None, grid: Grid) -> Placed:
    """Place the steps of a video; its duration is the annotated one, else the end of the last step.

    Raises:
        UsageError: stride or rate is not given.
        AnnotationError: the annotated duration or rate is not positive.
        StoreError: the steps end far from the annotated end, or the time stamps contradict the stride.
    """
    steps = len(found.values)
    if record is not None and record.duration_s <= 0:
        raise AnnotationError(f"'{name}' lasts {record.duration_s:g} s in the annotations; expected a number above 0")
    if grid.rescaled:
        assert record is not None
        return Placed((np.arange(steps) + 0.5) * record.duration_s / steps, record.duration_s)
    sampling = _sampling(found, name, record, grid)
    stride, clip, fps, stamps_s = sampling
    note = f"time stamps give a stride of {stride:g} and clips of {clip:g} frames at {fps:g} per second"
    note = "" if found.stamps_s is None else note
    if record is None:
        return Placed(stamps_s, sampling.ends_s, note=note)
    return Placed(stamps_s, record.duration_s, _off(found, name, record.duration_s, sampling), note)


def _sampling(found: FeatureFile, name: str, record: VideoRecord | None, grid: Grid) -> _Sampling:
    annotated = None if record is None else record.fps
    fps = _given(found.fps or annotated, grid.fps, "frame rate", "--fps", name, found.path)
    if fps <= 0:
        raise AnnotationError(f"'{name}' has {fps:g} frames per second in the annotations; correct them or give --fps")
    if found.stamps_s is not None:
        return _stamped(found, found.stamps_s, name, fps, grid)
    stride = _given(found.stride_frames, grid.stride_frames, "stride", "--stride", name, found.path)
    clip = grid.clip_frames or found.clip_frames or stride
    return _Sampling(stride, clip, fps, (np.arange(len(found.values)) * stride + (clip - 1) / 2) / fps)


def _stamped(
    found: FeatureFile, after_s: Float64[np.ndarray, " steps"], name: str, fps: float, grid: Grid
) -> _Sampling:
    """Steps whose stamps are those of the frame after their clip, or of their only frame."""
    lead = round(float(after_s[0]) * fps)  # frames before the first stamp
    stride = round(float(np.median(np.diff(after_s))) * fps) if len(after_s) > 1 else max(lead, 1)
    if grid.stride_frames is not None and abs(grid.stride_frames - stride) > _OFF_FRAMES:
        raise StoreError(
            f"{found.path}: '{name}' has time stamps {stride} frames apart at {fps:g} frames per second; "
            f"they contradict --stride {grid.stride_frames:g}"
        )
    clip = grid.clip_frames or (stride if lead == stride + 1 else max(lead, 1))  # old OpenCV counts one frame more
    if lead and not -1 <= lead - clip <= 1:
        raise StoreError(
            f"{found.path}: '{name}' has its first time stamp after {lead} frames, which contradicts "
            f"--clip-frames {clip:g}"
        )
    return _Sampling(max(stride, 1), clip, fps, after_s - (lead - (clip - 1) / 2) / fps)


def _off(found: FeatureFile, name: str, duration_s: float, sampling: _Sampling) -> str:
    """A warning if the features end a little off the annotated end.

    Raises:
        StoreError: they end far from it.
    """
    stride, clip, fps, _ = sampling
    steps, channels = found.values.shape
    turned_s = ((channels - 1) * stride + clip) / fps
    off_s, slack_s = abs(sampling.ends_s - duration_s), _WARNED_STEPS * max(stride, clip) / fps
    if off_s > max(_REFUSED_SHARE * duration_s, slack_s):
        turned = abs(turned_s - duration_s) <= slack_s
        way_out = "--channels-first" if turned else "--stride, --clip-frames and --fps (or add --rescaled)"
        raise StoreError(
            f"{found.path}: {steps} steps of stride {stride:g} at {fps:g} frames per second end at "
            f"{sampling.ends_s:.2f} s, but '{name}' lasts {duration_s:.2f} s; check {way_out}"
        )
    if off_s > slack_s:
        return f"'{name}': features end at {sampling.ends_s:.2f} s, the video at {duration_s:.2f} s"
    return ""


def _given(said: float | None, option: float | None, what: str, flag: str, name: str, path: Path) -> float:
    value = option if option is not None else said
    if value is None:
        raise UsageError(f"{path}: the {what} of '{name}' is not known; give {flag}")
    return value
