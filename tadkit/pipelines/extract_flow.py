"""``tadkit extract-flow``: optical flow of videos, and the teacher's view of it, to HDF5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tadkit.checkpoint import load_checkpoint
from tadkit.config import FlowSettings, ModelSettings, VideoSettings, View
from tadkit.data.batches import read_flow
from tadkit.detector import build_teacher
from tadkit.distill import Teacher
from tadkit.errors import TadkitError, VideoError
from tadkit.files import digest_of
from tadkit.flow import FlowMethod, build_flow, encode
from tadkit.heads import predict_in_chunks
from tadkit.pipelines.extraction import (
    ExtractionResult,
    core_steps,
    description,
    named,
    source_digest,
    torch_device,
    views_of,
)
from tadkit.pipelines.workspace import CODE
from tadkit.progress import Progress
from tadkit.store import TrackReader, TrackStore, open_store, read_store
from tadkit.timeline import Timeline
from tadkit.video import SampledVideo, open_sampled, windows
from tadkit.views import view_motion

_CHUNK_FRAMES = 64
_CORE_FRAMES = 256
_CORE_STEPS = 4096


def extract_flow(
    videos: Sequence[Path],
    out: Path,
    *,
    flow: FlowSettings,
    video: VideoSettings,
    teacher: Path | None,
    device: str,
    progress: Progress,
) -> ExtractionResult:
    """Flow of ``videos`` to the store ``out``; with ``teacher``, its features and predictions instead.

    The teacher was trained on one kind of flow: its own settings are used then, and the flow is kept beside ``out``
    with ``-flow`` at the end of its stem. Videos that are in the store already are not done again; one that fails is
    left out and reported.

    Raises:
        WeightsError: the teacher, or RAFT's weights, cannot be loaded.
        StoreError: ``out`` is something else, or cannot be written.
    """
    items = named(videos)
    if teacher is None:
        return extract_flow_of(items, out, flow=flow, video=video, device=device, progress=progress)
    settings, _ = build_teacher(load_checkpoint(teacher, kind="teacher"), where=str(teacher))
    flow_path = out.with_name(f"{out.stem}-flow{out.suffix}")
    extracted = extract_flow_of(
        items, flow_path, flow=settings.flow, video=settings.video, device=device, progress=progress
    )
    names = [name for name in items if name not in extracted.failed]
    tracks = extract_teacher_tracks(
        names, flow_path, out, teacher=teacher, views=("original",), device=device, progress=progress
    )
    return ExtractionResult(tracks.done, tracks.reused, extracted.failed | tracks.failed, extracted.clipped)


def flow_key(source_sha256: str, flow: FlowSettings, video: VideoSettings) -> str:
    """What a video's flow depends on; settings that only change speed are left out."""
    method = flow.model_dump(mode="json", exclude={"batch_pairs"})
    frames = video.model_dump(mode="json", exclude={"reader"})
    return digest_of({"source": source_sha256, "flow": method, "video": frames, "code": CODE})


def tracks_key(flow: str, *, teacher: str, views: Sequence[View]) -> str:
    """What a teacher's tracks depend on: the key of the flow that it read and the digest of its own file."""
    return digest_of({"flow": flow, "teacher": teacher, "views": list(views), "code": CODE})


def extract_flow_of(
    items: Mapping[str, Path],
    out: Path,
    *,
    flow: FlowSettings,
    video: VideoSettings,
    device: str,
    progress: Progress,
) -> ExtractionResult:
    """Flow of videos by name to the store ``out``."""
    result = ExtractionResult()
    method = build_flow(flow, device=torch_device(device))
    settings = {"flow": flow.model_dump(mode="json"), "video": video.model_dump(mode="json")}
    progress.start("extract-flow", total=len(items), unit="video")
    with open_store(out, kind="flow", settings=settings) as store:
        for name, path in items.items():
            try:
                _flow_of_video(store, name, path, flow=flow, video=video, method=method, result=result)
            except VideoError as error:
                result.failed[name] = error
            progress.advance(note=name)
    return result


def _flow_of_video(
    store: TrackStore,
    name: str,
    path: Path,
    *,
    flow: FlowSettings,
    video: VideoSettings,
    method: FlowMethod,
    result: ExtractionResult,
) -> None:
    key = flow_key(source_digest(path), flow, video)
    if store.has(name, key):
        result.reused.append(name)
        return
    with (
        open_sampled(path, video) as sampled,
        store.video(name, key=key, stamps_s=sampled.stamps_s, attributes=description(sampled)) as entry,
    ):
        clipped = 0.0
        pairs = max(0, len(sampled) - 1)
        empty = np.zeros((0, method.channels, *video.size_hw), dtype=np.int8)
        entry.append("motion", empty, bound=flow.bound_px)
        for start in range(0, pairs, _CHUNK_FRAMES):
            stop = min(start + _CHUNK_FRAMES, pairs)
            coded = encode(_checked(method, sampled, start, stop, name), flow.bound_px)
            entry.append("motion", coded.values, bound=flow.bound_px)
            clipped += coded.clipped * (stop - start) / pairs
        entry.describe(clipped=clipped)
    result.done.append(name)
    result.clipped[name] = clipped


def _checked(method: FlowMethod, sampled: SampledVideo, start: int, stop: int, name: str) -> np.ndarray[Any, Any]:
    """Flow of pairs ``start`` to ``stop``; frame ``stop`` is the second of the last pair."""
    motion = method(torch.from_numpy(sampled.frames(start, stop + 1))).cpu().numpy()
    if not np.isfinite(motion).all():
        raise TadkitError(f"'{name}': flow is not finite near frame {start}; try another flow.method")
    return motion


def extract_teacher_tracks(
    names: Sequence[str],
    flow_path: Path,
    out: Path,
    *,
    teacher: Path,
    views: Sequence[View],
    device: str,
    progress: Progress,
) -> ExtractionResult:
    """The teacher's feature f_T and predictions y_T of every view, from stored flow, to the store ``out``."""
    result = ExtractionResult()
    checkpoint = load_checkpoint(teacher, kind="teacher")
    settings, model = build_teacher(checkpoint, where=str(teacher))
    model.to(torch_device(device))
    described = {"teacher": checkpoint.digest, "model": settings.model_dump(mode="json")}
    progress.start("teacher's features", total=len(names), unit="video")
    with (
        read_store(flow_path, kind="flow") as flow,
        open_store(out, kind="features", settings=described, labels=checkpoint.labels) as store,
    ):
        for name in names:
            key = tracks_key(flow.key(name), teacher=checkpoint.digest, views=views)
            if store.has(name, key):
                result.reused.append(name)
            else:
                _tracks_of_video(store, flow, name, key=key, settings=settings, model=model, views=views)
                result.done.append(name)
            progress.advance(note=name)
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
) -> None:
    stamps_s = flow.stamps_s(name)
    steps = Timeline(stamps_s).strided(settings.teacher_backbone.stride).centres_s
    with store.video(name, key=key, stamps_s=steps, attributes=flow.attributes(name)) as entry:
        for view in views_of(views):
            for track, values in teacher_tracks(flow, name, len(stamps_s), model=model, view=view).items():
                entry.append(f"{view}/{track}", values)


@torch.inference_mode()
def teacher_tracks(
    flow: TrackReader, name: str, frames: int, *, model: Teacher, view: View
) -> dict[str, np.ndarray[Any, Any]]:
    """``feature`` (steps, channels), and for each level ``logits_l`` and ``offsets_l``, of one video in one view."""
    device = next(model.parameters()).device
    stride = model.backbone.stride
    parts = []
    for window in windows(frames, core=_CORE_FRAMES // stride * stride, halo=model.halo_frames):
        motion = torch.from_numpy(read_flow(flow, name, window.start, window.stop))
        mask = torch.ones(1, len(motion), dtype=torch.bool, device=device)
        feature = model.features(view_motion(motion, view)[None].to(device), mask)
        parts.append(feature[:, :, core_steps(window, stride)])
    feature = torch.cat(parts, dim=2)
    mask = torch.ones(1, feature.shape[2], dtype=torch.bool, device=device)
    predictions = predict_in_chunks(model.head, feature, mask, core_steps=_CORE_STEPS)
    tracks = {"feature": feature[0].T.half().cpu().numpy()}
    for level, (logits, offsets) in enumerate(zip(predictions.logits, predictions.offsets, strict=True)):
        tracks[f"logits_{level}"] = logits[0].half().cpu().numpy()
        tracks[f"offsets_{level}"] = offsets[0].half().cpu().numpy()
    return tracks
