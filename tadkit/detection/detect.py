"""``tadkit detect``: from videos to detections, reading RGB only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from tadkit.checkpoint import load_checkpoint
from tadkit.config import DecodeSettings, ModelSettings, VideoSettings
from tadkit.config.loading import check_settings, merged
from tadkit.errors import SettingsError, TadkitError
from tadkit.extraction.branch_features import CORE_FRAMES, BranchFeatures, branch_features
from tadkit.extraction.results import named, torch_device
from tadkit.models.decode.decode import named_detections
from tadkit.models.decode.video_scores import VideoScores, video_scores_of
from tadkit.models.detector import Detector, build_detector
from tadkit.progress import Progress
from tadkit.records import Detection
from tadkit.timeline import Timeline
from tadkit.video import SampledVideo, open_sampled
from tadkit.zoo import bundled_model

CORE_STEPS = 2048
"""Feature steps that the joint head reads at a time; it does not show in the result."""


@dataclass
class DetectResult:
    """What was found in each video.

    Attributes:
        detections: by video name, best score first.
        durations_s: length of each video that could be read.
        failed: the error of each video that could not.
        external: what the detections file says of the model, grid and decoder.
    """

    detections: dict[str, list[Detection]] = field(default_factory=dict)
    durations_s: dict[str, float] = field(default_factory=dict)
    failed: dict[str, TadkitError] = field(default_factory=dict)
    external: dict[str, Any] = field(default_factory=dict)


def detect(
    videos: Sequence[Path], *, model: Path | None, device: str, overrides: Mapping[str, Any], progress: Progress
) -> DetectResult:
    """Detect actions in ``videos``.

    Args:
        videos: files; each is named by its stem, or by more of its path where stems are alike.
        model: detector checkpoint; None is the bundled one.
        device: ``auto``, ``cpu``, ``cuda`` ...
        overrides: settings under ``decode``, and ``video.reader``, that replace the model's own.
        progress: told of every video.

    Raises:
        WeightsError: the model cannot be loaded.
        SettingsError: an override is unknown or wrong.
    """
    path = model or bundled_model()
    checkpoint = load_checkpoint(path, kind="detector")
    detector = build_detector(checkpoint, where=str(path)).to(torch_device(device))
    video, decoding = _overridden(detector, overrides)
    result = DetectResult()
    items = named(videos)
    progress.start("detect", total=len(items), unit="videos")
    for name, file in items.items():
        try:
            with open_sampled(file, video) as sampled:
                scores = video_scores_of(name, decoding, detector.labels, nameless=detector.nameless)
                result.detections[name] = detections_of(detector, sampled, decoding=decoding, video_scores=scores)
                result.durations_s[name] = sampled.duration_s
        except TadkitError as error:
            result.failed[name] = error
        progress.advance(note=name)
    result.external = {
        "model": {"file": path.name, "sha256": checkpoint.digest, "labels": list(detector.labels)},
        "video": video.model_dump(mode="json"),
        "decode": decoding.model_dump(mode="json"),
        "durations_s": result.durations_s,
    }
    return result


def _overridden(detector: Detector, overrides: Mapping[str, Any]) -> tuple[VideoSettings, DecodeSettings]:
    video = overrides.get("video", {})
    strange = [name for name in overrides if name not in ("decode", "video")]
    strange += [f"video.{name}" for name in video if name != "reader"] if isinstance(video, Mapping) else []
    if strange:
        raise SettingsError(f"--set {strange[0]}: a trained model fixes it; detect takes decode.* and video.reader")
    own = detector.settings.model_dump(mode="json")
    changed = check_settings(ModelSettings, merged(own, overrides), name="--set")
    return changed.video, changed.decode


def detections_of(
    detector: Detector,
    video: SampledVideo,
    *,
    decoding: DecodeSettings,
    video_scores: VideoScores | None = None,
    core_frames: int = CORE_FRAMES,
    core_steps: int = CORE_STEPS,
) -> list[Detection]:
    """Detections of one open video, best score first; the sizes of windows do not show in the result."""
    features = branch_features(detector.student, video, core_frames=core_frames)["original"]
    timeline = video.timeline.strided(detector.student.backbone.stride)
    return decoded_features(
        detector,
        features,
        timeline=timeline,
        duration_s=video.duration_s,
        decoding=decoding,
        video_scores=video_scores,
        core_steps=core_steps,
    )


def decoded_features(
    detector: Detector,
    features: BranchFeatures,
    *,
    timeline: Timeline,
    duration_s: float,
    decoding: DecodeSettings,
    video_scores: VideoScores | None = None,
    core_steps: int = CORE_STEPS,
) -> list[Detection]:
    """Detections of one video from its branch features."""
    device = next(detector.parameters()).device

    def channels_first(x: Float32[np.ndarray, "steps channels"]) -> torch.Tensor:
        return torch.from_numpy(x).T.to(device)

    motion = None if features.motion is None else channels_first(features.motion)
    best = detector.candidates(
        motion,
        channels_first(features.appearance),
        core_steps=core_steps,
        min_score=decoding.min_score,
        limit=decoding.top_candidates,
    )
    return named_detections(best, timeline, duration_s, decoding, labels=detector.labels, video_scores=video_scores)
