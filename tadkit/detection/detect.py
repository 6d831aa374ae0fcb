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
from tadkit.detection.tail import CORE_STEPS, Track, detections_in_features, video_scores_for
from tadkit.devices import torch_device
from tadkit.errors import SettingsError, TadkitError
from tadkit.extraction.branch_features import CORE_FRAMES, BranchFeatures, branch_features
from tadkit.models.decode.video_scores import VideoScoresFile
from tadkit.models.detector import DetectorNet, build_detector
from tadkit.progress import Progress
from tadkit.records import Detection
from tadkit.video import SampledVideo, open_sampled
from tadkit.video.discovery import named
from tadkit.zoo import bundled_model


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
    videos: Sequence[Path],
    *,
    model: Path | None,
    device: str,
    overrides: Mapping[str, Any],
    progress: Progress,
    video_scores: Path | None = None,
) -> DetectResult:
    """Detect actions in ``videos``.

    Args:
        videos: files; each is named by its stem, or by more of its path where stems are alike.
        model: detector checkpoint; None is the bundled one.
        device: ``auto``, ``cpu``, ``cuda`` ...
        overrides: settings under ``decode``, and ``video.reader``, that replace the model's own.
        progress: told of every video.
        video_scores: JSON file of scores of whole videos, {video: {label: score}}, that weight the detections.

    Raises:
        WeightsError: the model cannot be loaded.
        AnnotationError: ``video_scores`` cannot be read or does not fit the model.
        SettingsError: an override is unknown or wrong.
    """
    path = model or bundled_model()
    checkpoint = load_checkpoint(path, kind="detector")
    detector = build_detector(checkpoint).to(torch_device(device))
    video, decoding = _overridden(detector, overrides)
    scores = video_scores_for(detector.joint.head, detector.labels, path=video_scores, decoding=decoding)
    result = DetectResult()
    items = named(videos)
    progress.start("detect", total=len(items), unit="videos")
    for name, file in items.items():
        try:
            with open_sampled(file, video) as sampled:
                result.detections[name] = detections_in_video(
                    detector, sampled, name=name, decoding=decoding, video_scores=scores
                )
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


def _overridden(detector: DetectorNet, overrides: Mapping[str, Any]) -> tuple[VideoSettings, DecodeSettings]:
    video = overrides.get("video", {})
    strange = [name for name in overrides if name not in ("decode", "video")]
    strange += [f"video.{name}" for name in video if name != "reader"] if isinstance(video, Mapping) else []
    if strange:
        raise SettingsError(f"--set {strange[0]}: a trained model fixes it; detect takes decode.* and video.reader")
    own = detector.settings.model_dump(mode="json")
    changed = check_settings(ModelSettings, merged(own, overrides), name="--set")
    return changed.video, changed.decode


def detections_in_video(
    detector: DetectorNet,
    video: SampledVideo,
    *,
    name: str,
    decoding: DecodeSettings,
    video_scores: VideoScoresFile | None = None,
    core_frames: int = CORE_FRAMES,
    core_steps: int = CORE_STEPS,
) -> list[Detection]:
    """Detections of one open video, best score first; the sizes of windows do not show in the result."""
    return detections_in_branches(
        detector,
        branch_features(detector.student, video, core_frames=core_frames)["original"],
        Track(name, video.timeline.strided(detector.student.backbone.stride), video.duration_s),
        decoding=decoding,
        video_scores=video_scores,
        core_steps=core_steps,
    )


def detections_in_branches(
    detector: DetectorNet,
    features: BranchFeatures,
    track: Track,
    *,
    decoding: DecodeSettings,
    video_scores: VideoScoresFile | None = None,
    core_steps: int = CORE_STEPS,
) -> list[Detection]:
    """Detections of one video, best score first, from its branch features."""
    device = next(detector.parameters()).device

    def channels_first(x: Float32[np.ndarray, "steps channels"]) -> torch.Tensor:
        return torch.from_numpy(x).T.to(device)

    motion = None if features.motion is None else channels_first(features.motion)
    return detections_in_features(
        detector.joint.head,
        detector.fused(motion, channels_first(features.appearance)),
        track,
        labels=detector.labels,
        decoding=decoding,
        video_scores=video_scores,
        core_steps=core_steps,
    )
