"""``tadkit detect-features``: from features that others extracted to detections, by a head alone or a detector.

A detector of features was trained on streams of RGB and flow; it reads the RGB stream alone, a two-stream one both.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tadkit.checkpoint import Checkpoint, load_checkpoint, read_kind
from tadkit.config import DecodeSettings, FeatureStreams
from tadkit.config.base import merged
from tadkit.config.loading import check_settings, refuse_unused
from tadkit.detection.detect import detections_in_branches
from tadkit.detection.detections import Detections, VideoDetections
from tadkit.detection.tail import Track, detections_in_features, video_scores_for
from tadkit.errors import WeightsError
from tadkit.extraction.branch_features import BranchFeatures, branch_features
from tadkit.extraction.clips import StoredFeatures
from tadkit.extraction.motion_feature import motion_feature, rounded
from tadkit.models.decode.video_scores import VideoScoresFile
from tadkit.models.detector import DetectorNet, build_detector
from tadkit.models.head_file import build_head_of
from tadkit.models.heads import Head
from tadkit.progress import Progress
from tadkit.records import Detection
from tadkit.runtime.devices import torch_device
from tadkit.store import TrackReader, read_store
from tadkit.store.streams import flow_stream, rgb_stream
from tadkit.timeline import Timeline


def detect_features(
    features: Path,
    *,
    head: Path,
    decoding: DecodeSettings | Mapping[str, Any],
    device: str,
    progress: Progress,
    video_scores: Path | None = None,
) -> VideoDetections:
    """Detect actions in every video of a feature store.

    Args:
        features: feature store; a detector reads its RGB stream, and needs no other unless it is a two-stream one.
        head: a head that was trained here or imported, or a detector that was trained on streams of features.
        decoding: all settings of decoding; or those that differ from the detector's own, or for a head, which has
            none, from the defaults.
        device: ``auto``, ``cpu``, ``cuda`` ...
        progress: counts the videos.
        video_scores: JSON file of scores of whole videos that weight the detections.

    Raises:
        StoreError: ``features`` is no feature store, or lacks what the detector reads.
        WeightsError: ``head`` is neither, or a head that reads features of another number of channels.
        AnnotationError: ``video_scores`` cannot be read or does not fit the head.
        SettingsError: ``decoding`` is wrong.
    """
    load = DetectorFile.load if read_kind(head) == "detector" else HeadFile.load
    model, checkpoint = load(head, device=torch_device(device))
    if not isinstance(decoding, DecodeSettings):
        base = model.net.settings.decode if isinstance(model, DetectorFile) else DecodeSettings()
        decoding = check_settings(DecodeSettings, merged(base.model_dump(mode="json"), decoding), name="--set decode")
        refuse_unused(decoding, base, name="--set decode.")
    scores = video_scores_for(model.head, model.labels, path=video_scores, decoding=decoding)
    points = checkpoint.operating_points if scores is None else {}
    origin = {
        "model": {
            "file": head.name,
            "sha256": checkpoint.digest,
            "labels": list(model.labels),
            "context_steps": model.context_steps,
        },
        "features": features.name,
        "decode": decoding.model_dump(mode="json"),
        **({"operating_points": dict(points)} if points else {}),
    }
    found: dict[str, Detections] = {}
    with read_store(features, kind="features") as store:
        videos = store.videos()
        progress.start("detect", total=len(videos), unit="videos")
        for video in videos:
            track = track_of(store, video)
            detections = model.detections(store, track, decoding=decoding, video_scores=scores)
            found[video] = Detections(detections, video=video, duration_s=track.duration_s, origin=origin)
            progress.advance(note=video)
    return VideoDetections(found, origin=origin)


def track_of(store: TrackReader, video: str) -> Track:
    """When the steps of a stored video happen, and how long it is."""
    return Track(video, Timeline(store.stamps_s(video)), float(store.attributes(video)["duration_s"]))


class HeadFile(NamedTuple):
    """A head that was read from a file, with the labels of its classes."""

    path: Path
    head: Head
    labels: tuple[str, ...]

    @classmethod
    def load(cls, path: Path, *, device: torch.device) -> tuple[HeadFile, Checkpoint]:
        """The head of a file.

        Raises:
            WeightsError: it is missing, damaged or something else.
        """
        checkpoint = load_checkpoint(path, kind="head")
        return cls(path, build_head_of(checkpoint).to(device), checkpoint.labels), checkpoint

    @property
    def context_steps(self) -> int | None:
        """Steps on either side that a candidate depends on; None: all."""
        return self.head.context_steps

    def detections(
        self, store: TrackReader, track: Track, *, decoding: DecodeSettings, video_scores: VideoScoresFile | None
    ) -> list[Detection]:
        """Detections of one video of a store, best score first.

        Raises:
            WeightsError: its features have another number of channels than the head reads.
        """
        values = store.features(track.video)
        if values.shape[1] != self.head.in_channels:
            raise WeightsError(
                f"{self.path}: reads {self.head.in_channels} channels, but '{track.video}' in {store.path} has "
                f"{values.shape[1]}; import the features that the head was trained on"
            )
        features = torch.from_numpy(values).float().T[None].to(next(self.head.parameters()).device)
        return detections_in_features(
            self.head, features, track, labels=self.labels, decoding=decoding, video_scores=video_scores
        )


class DetectorFile(NamedTuple):
    """A detector that was trained on streams of features: a student that reads RGB, its fusion and joint head.

    A two-stream detector has the teacher's motion stream, too, which reads flow.
    """

    path: Path
    net: DetectorNet
    streams: FeatureStreams

    @classmethod
    def load(cls, path: Path, *, device: torch.device) -> tuple[DetectorFile, Checkpoint]:
        """The detector of a file.

        Raises:
            WeightsError: it is missing, damaged, or reads videos.
        """
        checkpoint = load_checkpoint(path, kind="detector")
        net = build_detector(checkpoint).to(device)
        if net.settings.features is None:
            raise WeightsError(f"{path}: reads videos, not features; use tadkit detect VIDEO --model {path}")
        return cls(path, net, net.settings.features), checkpoint

    @property
    def head(self) -> Head:
        """The joint head."""
        return self.net.joint.head

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of its classes."""
        return self.net.labels

    @property
    def context_steps(self) -> int | None:
        """Steps on either side that a candidate depends on; None: all."""
        steps = self.net.joint.context_steps
        halo = max(0 if self.net.teacher is None else self.net.teacher.halo_frames, self.net.student.halo_frames)
        return None if steps is None else steps + halo

    def detections(
        self, store: TrackReader, track: Track, *, decoding: DecodeSettings, video_scores: VideoScoresFile | None
    ) -> list[Detection]:
        """Detections of one video of a store, best score first.

        Raises:
            StoreError: it has no features like those that the model was trained on.
        """
        stream = rgb_stream(store, track.video, self.streams, model=str(self.path))
        with StoredFeatures(stream, track.video).open() as (clip, _):
            features = branch_features(self.net.student, clip)["original"]
        if self.net.teacher is not None:
            flow = flow_stream(store, track.video, self.streams, model=str(self.path))
            motion = motion_feature(flow, track.video, len(track.timeline), model=self.net.teacher)
            features = BranchFeatures(motion=rounded(motion), appearance=features.appearance)
        return detections_in_branches(self.net, features, track, decoding=decoding, video_scores=video_scores)
