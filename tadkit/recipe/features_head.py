"""A head on features that others extracted: training it on a recipe's feature store, and detecting with it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch

from tadkit.checkpoint import load_checkpoint
from tadkit.config import DecodeSettings, HeadSettings, TrainSettings
from tadkit.config.loading import recipe_toml
from tadkit.detection.detect import CORE_STEPS, DetectResult
from tadkit.distill import JointHeadObjective
from tadkit.errors import StoreError, WeightsError
from tadkit.extraction.results import torch_device
from tadkit.files import write_text
from tadkit.models.decode.decode import named_detections
from tadkit.models.decode.video_scores import video_scores_of
from tadkit.models.decode.windows import track_candidates
from tadkit.models.fusion import JointHead
from tadkit.models.heads import Head, head_labels, is_nameless
from tadkit.models.heads.families import pyramid_levels
from tadkit.models.heads.head_file import load_head, save_head
from tadkit.progress import Progress
from tadkit.recipe.freshness import features_head_key, is_up_to_date
from tadkit.recipe.workspace import Workspace
from tadkit.records import Detection
from tadkit.store import TrackReader, read_store
from tadkit.timeline import Timeline
from tadkit.training import fit
from tadkit.training.batches import FeatureBatches
from tadkit.training.windows import WindowPlan, training_video

TRACK = "appearance"


def train_on_features(workspace: Workspace, *, device: torch.device, progress: Progress) -> bool:
    """Train a head on the recipe's feature store and write it; returns False where it was up to date.

    Raises:
        StoreError: videos have features of different numbers of channels.
    """
    recipe, path = workspace.recipe, workspace.features_head
    train = recipe.train.head.model_copy(update={"views": ("original",)})  # features have no other
    with read_store(workspace.features_source, kind="features") as store:
        key = features_head_key(workspace, store)
        if is_up_to_date(path, kind="head", key=key):
            return False
        channels = _channels(store, [item.name for item in workspace.items])
        torch.manual_seed(train.seed)
        model = JointHead(
            fusion=recipe.fusion,
            head=recipe.detector_head,
            dim=channels,
            num_classes=len(recipe.labels),
            two_branches=False,
        )
        folder = workspace.stage("train-head-features")
        write_text(folder / "run.toml", recipe_toml(recipe))
        trained = fit(
            JointHeadObjective(model),
            FeatureBatches(_plan(workspace, store, train), features=store, tracks=(TRACK,)),
            train,
            folder=folder,
            key=key,
            device=device,
            progress=progress,
            task="train-head (features)",
        )
    model.head.load_state_dict({name.removeprefix("model.head."): value for name, value in trained.tensors.items()})
    parts = {"training_videos": workspace.training, "held_out_videos": workspace.held_out}
    names = {part: [item.name for item in items] for part, items in parts.items()}
    labels = head_labels(recipe.detector_head, recipe.labels)
    provenance = {"key": key, "recipe": recipe.name, **names, "trained": trained.provenance}
    save_head(path, model.head, labels=labels, provenance=provenance)
    return True


def _plan(workspace: Workspace, store: TrackReader, train: TrainSettings) -> WindowPlan:
    """Windows of feature steps over the training videos."""
    timelines = {item.name: Timeline(store.stamps_s(item.name)) for item in workspace.training}
    labels = workspace.recipe.labels
    videos = [training_video(item.record, timelines[item.name], labels=labels, stride=1) for item in workspace.training]
    step_s = float(np.median([timeline.step_s for timeline in timelines.values()]))
    window, align = window_steps(workspace.recipe.detector_head, train, step_s=step_s)
    return WindowPlan(videos, train, window_frames=window, align_frames=align)


def window_steps(head: HeadSettings, train: TrainSettings, *, step_s: float) -> tuple[int, int]:
    """Steps of a training window and their alignment: whole steps of the coarsest level, or the head's own window."""
    levels = pyramid_levels(head)
    if not levels:
        return int(getattr(head, "window_steps")), 1  # noqa: B009 - only heads without levels have it
    align = 2 ** (levels - 1)
    return max(1, math.ceil(train.window_s / step_s / align - 1e-9)) * align, align


def _channels(store: TrackReader, videos: list[str]) -> int:
    found = {video: store.channels(video, f"original/{TRACK}") for video in videos}
    counts = sorted(set(found.values()))
    if len(counts) > 1:
        names = [next(video for video, channels in found.items() if channels == count) for count in counts[:2]]
        raise StoreError(
            f"{store.path}: '{names[0]}' has {counts[0]} channels and '{names[1]}' {counts[1]}; import them together"
        )
    return counts[0]


def detect_in_features(
    features: Path, *, head: Path, decoding: DecodeSettings, device: str, progress: Progress
) -> DetectResult:
    """Detect actions in every video of a feature store, by a head that was trained here or imported.

    Raises:
        StoreError: ``features`` is no feature store.
        WeightsError: ``head`` is no head, or reads features of another number of channels.
    """
    model, labels = load_head(head)
    checkpoint = load_checkpoint(head, kind="head")
    model = model.to(torch_device(device))
    result = DetectResult()
    with read_store(features, kind="features") as store:
        videos = store.videos()
        progress.start("detect", total=len(videos), unit="videos")
        for video in videos:
            result.durations_s[video] = _duration_s(store, video)
            result.detections[video] = detections_of_track(
                model, labels, store, video, decoding=decoding, where=str(head)
            )
            progress.advance(note=video)
    result.external = {
        "model": {"file": head.name, "sha256": checkpoint.digest, "labels": list(labels)},
        "features": features.name,
        "decode": decoding.model_dump(mode="json"),
        "durations_s": result.durations_s,
    }
    return result


def detections_of_held_out(workspace: Workspace, device: str) -> dict[str, list[Detection]]:
    """Detections of the held-out videos by the head that the recipe trained."""
    model, labels = load_head(workspace.features_head)
    model = model.to(torch_device(device))
    where, decoding = str(workspace.features_head), workspace.decoding
    with read_store(workspace.features_source, kind="features") as store:
        return {
            item.name: detections_of_track(model, labels, store, item.name, decoding=decoding, where=where)
            for item in workspace.held_out
        }


@torch.inference_mode()
def detections_of_track(
    head: Head, labels: tuple[str, ...], store: TrackReader, video: str, *, decoding: DecodeSettings, where: str
) -> list[Detection]:
    """Detections of one video of a store, best score first."""
    values = store.read(video, f"original/{TRACK}")
    if values.shape[1] != head.in_channels:
        raise WeightsError(
            f"{where}: reads {head.in_channels} channels, but '{video}' in {store.path} has {values.shape[1]}; "
            "import the features that the head was trained on"
        )
    device = next(head.parameters()).device
    track = torch.from_numpy(values).float().T[None].to(device)
    mask = torch.ones(1, track.shape[-1], dtype=torch.bool, device=device)
    best = track_candidates(
        head, track, mask, core_steps=CORE_STEPS, min_score=decoding.min_score, limit=decoding.top_candidates
    )
    scores = video_scores_of(video, decoding, labels, nameless=is_nameless(head.settings))
    timeline, duration_s = Timeline(store.stamps_s(video)), _duration_s(store, video)
    return named_detections(best, timeline, duration_s, decoding, labels=labels, video_scores=scores)


def _duration_s(store: TrackReader, video: str) -> float:
    return float(store.attributes(video)["duration_s"])
