"""What a detector would cost in the two-stream form that distillation replaces.

The form has the detector's own nets: its RGB backbone, head and sizes, and the backbone of its motion teacher, which
reads flow. It is written as a model file and runs as ``tadkit detect`` runs any two-stream model; weights that the
detector lacks have initial values, because the cost does not depend on them. Flow is between sampled frames, at the
size of the model's frames.

Two-stream detectors of the literature take more: flow of all adjacent frames, at 340x256. For that form the cost is a
model: seconds a frame of the file = those of the RGB detector from end to end + those of one pair of OpenCV's TV-L1. It
leaves out the net that reads flow, so it flatters two-stream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from tadkit.bench.timing import seconds_of
from tadkit.checkpoint import Checkpoint, save_checkpoint
from tadkit.config import ModelSettings, OpencvTvl1Settings
from tadkit.detection.detect import Detector, load_detector
from tadkit.flow import build_flow
from tadkit.flow.opencv import has_optflow
from tadkit.models.detector import DetectorNet, new_joint_head, new_motion_stream, new_student
from tadkit.video import open_video
from tadkit.video.index import build_index

OPENCV, OURS = "opencv-tvl1", "tvl1"
EVERY_FRAME = "opencv-tvl1, all frames at 340x256"
MOST_S = 30.0
"""Seconds of video that the forms are measured on, at most."""
_SIZE_HW = (256, 340)
_PAIRS = 4


@dataclass(frozen=True)
class TwoStreamFigures:
    """What a two-stream form costs.

    Attributes:
        detect_fps: frames of the file a second, from end to end.
        ratio: how many times as fast the RGB detector is, measured on the same seconds beside it.
        measured: false if the rate follows from the cost model of this module.
    """

    detect_fps: float
    ratio: float
    measured: bool


def two_stream_figures(
    detector: Detector, video: Path, seconds: float, *, rate_of: Callable[[Detector, Path, float], float]
) -> dict[str, TwoStreamFigures]:
    """Figures by flow method; none for a detector that reads flow itself.

    Args:
        detector: reads RGB.
        video: the file.
        seconds: how much of it, of which the first :data:`MOST_S` are taken.
        rate_of: frames a second of a detector from end to end.
    """
    if detector.flow is not None:
        return {}
    stretch_s, figures = min(seconds, MOST_S), {}
    for method in (OPENCV, OURS) if has_optflow() else (OURS,):
        form = two_stream_form(detector, method)
        rate_of(form, video, min(stretch_s, 2.0))  # what is compiled or loaded at first use
        own, other = rate_of(detector, video, stretch_s), rate_of(form, video, stretch_s)
        figures[method] = TwoStreamFigures(other, own / other, measured=True)
        if method == OPENCV:
            other = 1 / (1 / own + _pair_s(video))
            figures[EVERY_FRAME] = TwoStreamFigures(other, own / other, measured=False)
    return figures


def two_stream_form(detector: Detector, method: str) -> Detector:
    """A two-stream detector of the same nets, with the detector's weights where it has them."""
    own = detector.net.settings
    plain: dict[str, Any] = own.model_dump(mode="json")
    flow = plain["flow"] if plain["flow"]["method"] == method else {"method": method}
    settings = ModelSettings.model_validate(
        {**plain, "flow": flow, "streams": "two-stream", "distill": {"method": "rgb", "dim": own.distill.dim}}
    )
    sizes: Mapping[str, Any] = {"num_classes": len(detector.labels), "trained_steps": detector.net.joint.trained_steps}
    student = new_student(settings, pretrained=False, **sizes)
    net = DetectorNet(
        settings,
        labels=detector.labels,
        student=student,
        joint=new_joint_head(settings, **sizes),
        teacher=new_motion_stream(settings),
    )
    weights, known = net.state_dict(), detector.net.state_dict()
    weights |= {name: x for name, x in known.items() if name in weights and x.shape == weights[name].shape}
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"two-stream-{method}.safetensors"
        header = settings.model_dump(mode="json")
        save_checkpoint(
            path, Checkpoint("detector", header, net.labels, weights, trained_steps=net.joint.trained_steps)
        )
        return load_detector(path, device=str(detector.device), engine=detector.engine_name)


def _pair_s(video: Path) -> float:
    """Seconds of OpenCV's TV-L1 for one pair of adjacent frames from the middle of a video."""
    middle = len(build_index(video).stamps_s) // 2
    with open_video(video, size_hw=_SIZE_HW) as reader:
        count = len(reader.stamps_s)
        first = max(0, min(middle, count - _PAIRS - 1))
        frames = reader.read(list(range(first, min(first + _PAIRS + 1, count))))
    method = build_flow(OpencvTvl1Settings(), device=torch.device("cpu"))
    return seconds_of([lambda: method(frames)], torch.device("cpu")) / max(1, len(frames) - 1)
