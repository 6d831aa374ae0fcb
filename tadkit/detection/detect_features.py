"""``tadkit detect-features``: from features that others extracted to detections, by a head alone."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from tadkit.checkpoint import load_checkpoint
from tadkit.config import DecodeSettings
from tadkit.detection.detections import Detections, VideoDetections
from tadkit.detection.tail import Track, detections_in_features, video_scores_for
from tadkit.errors import WeightsError
from tadkit.models.decode.video_scores import VideoScoresFile
from tadkit.models.head_file import build_head_of
from tadkit.models.heads import Head
from tadkit.progress import Progress
from tadkit.records import Detection
from tadkit.runtime.devices import torch_device
from tadkit.store import TrackReader, read_store
from tadkit.timeline import Timeline

"""The track of a feature store that a head by itself reads."""


def detect_features(
    features: Path,
    *,
    head: Path,
    decoding: DecodeSettings,
    device: str,
    progress: Progress,
    video_scores: Path | None = None,
) -> VideoDetections:
    """Detect actions in every video of a feature store, by a head that was trained here or imported.

    Raises:
        StoreError: ``features`` is no feature store.
        WeightsError: ``head`` is no head, or reads features of another number of channels.
        AnnotationError: ``video_scores`` cannot be read or does not fit the head.
    """
    checkpoint = load_checkpoint(head, kind="head")
    model = HeadFile(head, build_head_of(checkpoint).to(torch_device(device)), checkpoint.labels)
    scores = video_scores_for(model.head, model.labels, path=video_scores, decoding=decoding)
    origin = {
        "model": {
            "file": head.name,
            "sha256": checkpoint.digest,
            "labels": list(model.labels),
            "context_steps": model.head.context_steps,
        },
        "features": features.name,
        "decode": decoding.model_dump(mode="json"),
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
