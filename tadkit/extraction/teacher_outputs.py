"""The teacher's outputs on stored flow, its feature f_T and predictions y_T, to HDF5."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tadkit.checkpoint import load_checkpoint
from tadkit.config import ModelSettings, View
from tadkit.extraction.motion_feature import motion_feature
from tadkit.extraction.results import ExtractionResult
from tadkit.flow.codec import FlowTracks
from tadkit.keys import teacher_outputs_key
from tadkit.models.decode.tracks import predict_in_chunks
from tadkit.models.detector import build_teacher
from tadkit.models.heads import HeadPredictions
from tadkit.models.teacher import Teacher
from tadkit.progress import Progress, VideoProgress
from tadkit.runtime.devices import torch_device
from tadkit.store import TrackReader, TrackStore, open_store, read_store
from tadkit.store.streams import FeatureStream
from tadkit.timeline import Timeline
from tadkit.views import views_of

_CORE_STEPS = 4096


def extract_teacher_outputs(
    names: Sequence[str],
    flow_path: Path,
    out: Path,
    *,
    teacher: Path,
    views: Sequence[View],
    device: str,
    progress: Progress,
) -> ExtractionResult:
    """Write the teacher's feature f_T and predictions y_T in every view, from stored flow, to the store ``out``.

    A teacher of features reads its stream of the feature store ``flow_path``.
    """
    result = ExtractionResult()
    checkpoint = load_checkpoint(teacher, kind="teacher")
    settings, model = build_teacher(checkpoint)
    model.to(torch_device(device))
    described = {"teacher": checkpoint.digest, "model": settings.model_dump(mode="json")}
    advances = VideoProgress(progress, "teacher's features", videos=len(names))
    with (
        read_store(flow_path, kind="flow" if settings.features is None else "features") as flow,
        open_store(out, kind="features", settings=described, labels=checkpoint.labels) as store,
    ):
        for name in names:
            key = teacher_outputs_key(flow.key(name), teacher=checkpoint.digest, views=views)
            if store.has(name, key):
                result.reused.append(name)
            else:
                _tracks_of_video(
                    store, flow, name, key=key, settings=settings, model=model, views=views, progress=advances
                )
                result.done.append(name)
            advances.end(name)
    return result


def _tracks_of_video(
    store: TrackStore,
    flow: TrackReader,
    name: str,
    *,
    key: str,
    settings: ModelSettings,
    model: Teacher,
    views: Sequence[View],
    progress: VideoProgress,
) -> None:
    stamps_s = flow.stamps_s(name)
    steps = Timeline(stamps_s).strided(settings.teacher_backbone.stride).centres_s
    with store.video(name, key=key, stamps_s=steps, attributes=flow.attributes(name)) as entry:
        seen = views_of(views)
        motion = flow if settings.features is None else FeatureStream(flow, settings.features.flow)
        progress.begin(name, frames=len(stamps_s) * len(seen))
        for view in seen:
            tracks = teacher_outputs(motion, name, len(stamps_s), model=model, view=view, advance=progress.advance)
            for track, values in tracks.items():
                entry.append(f"{view}/{track}", values)


@torch.inference_mode()
def teacher_outputs(
    flow: FlowTracks | FeatureStream,
    name: str,
    frames: int,
    *,
    model: Teacher,
    view: View,
    advance: Callable[[int], None] | None = None,
) -> dict[str, np.ndarray[Any, Any]]:
    """``feature`` (steps, channels), and for each level ``logits_l`` and ``offsets_l``, of one video in one view.

    Heads that read a window as a whole have no predictions here: they are computed from the feature when needed.
    """
    feature = motion_feature(flow, name, frames, model=model, view=view, advance=advance)
    tracks = {"feature": feature[0].T.half().cpu().numpy()}
    if not model.head.settings.pyramid_levels:
        return tracks
    mask = torch.ones(1, feature.shape[2], dtype=torch.bool, device=feature.device)
    predictions = predict_in_chunks(model.head, feature, mask, core_steps=_CORE_STEPS)
    assert isinstance(predictions, HeadPredictions)
    for level, (logits, offsets) in enumerate(zip(predictions.logits, predictions.offsets, strict=True)):
        tracks[f"logits_{level}"] = logits[0].half().cpu().numpy()
        tracks[f"offsets_{level}"] = offsets[0].half().cpu().numpy()
    return tracks
