"""What the models of an ablation's rows cost: seconds for each part, parameters and operations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tadkit.ablation.plan import Plan
from tadkit.bench.detect import PARTS, detector_pass, teacher_pass
from tadkit.bench.timing import machine_json
from tadkit.checkpoint import load_checkpoint
from tadkit.config import TEACHER, ModelSettings
from tadkit.detection.detect import load_detector
from tadkit.detection.tail import CORE_STEPS
from tadkit.files import digest_of_file, write_text
from tadkit.models.backbones import Backbone
from tadkit.models.decode.tracks import track_candidates
from tadkit.models.detector import build_detector, build_teacher
from tadkit.models.heads import Head, head_labels
from tadkit.progress import Progress
from tadkit.recipe.streams import median_step_s
from tadkit.recipe.workspace import Workspace
from tadkit.runtime.devices import torch_device
from tadkit.store import read_store

SECONDS = 20.0
"""How much of a held-out video is timed, from its start, after a pass that is not."""
_COUNTED_STEPS = 64
"""Feature steps whose operations are counted; they grow with the length of a video."""


def costs(plan: Plan, workspace: Workspace, *, device: str, progress: Progress) -> dict[str, dict[str, Any]]:
    """Cost of each row, by the models in a run folder; kept in ``cost.json`` until a model changes.

    Returns:
        For each row ``parameters`` that are used in detection, ``flops_per_s`` (multiplications and additions of
        convolutions and matrix products per second of video; flow is not counted), ``threads``, ``machine``, and of
        videos ``seconds_per_s``: seconds for each part per second of video.
    """
    path = plan.folder / "cost.json"
    known: dict[str, dict[str, Any]] = _known(path)
    progress.start("cost", total=len(plan.rows), unit="rows")
    for row in plan.rows:
        key = digest_of_file(workspace.model(row))
        if known.get(row, {}).get("model") != key:
            known[row] = {"model": key, **_cost(workspace, row, device.split(",")[0])}
            write_text(path, json.dumps(known, indent=1) + "\n")
        progress.advance(note=row)
    return {row: known[row] for row in plan.rows}


def _known(path: Path) -> dict[str, dict[str, Any]]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _cost(workspace: Workspace, row: str, device: str) -> dict[str, Any]:
    measured = {"threads": torch.get_num_threads(), "machine": machine_json(torch_device(device))}
    return {**_size(workspace, row), **_seconds(workspace, row, device), **measured}


def _seconds(workspace: Workspace, row: str, device: str) -> dict[str, Any]:
    """Seconds of each part on the longest held-out video, which its name and length are reported with."""
    if workspace.recipe.features is not None:
        return {}
    item = max(workspace.held_out, key=lambda item: (item.record.duration_s, item.name))
    if row == TEACHER:
        checkpoint = load_checkpoint(workspace.teacher, kind="teacher")
        settings, teacher = build_teacher(checkpoint)
        teacher, labels = teacher.to(torch_device(device)), head_labels(settings.head, checkpoint.labels)
        passes = [teacher_pass(teacher, settings, labels, item.path, SECONDS) for _ in range(2)]
    else:
        detector = load_detector(workspace.detector(row), device=device)
        passes = [detector_pass(detector, item.path, SECONDS) for _ in range(2)]
    timed = passes[-1]
    per_s = dict(zip(PARTS, (timed.parts_s / timed.duration_s).tolist(), strict=True))
    return {"seconds_per_s": per_s, "video": item.name, "timed_s": timed.duration_s}


@torch.inference_mode()
def _size(workspace: Workspace, row: str) -> dict[str, Any]:
    """Parameters, and operations per second of video, which are counted on a made-up clip."""
    modules: list[nn.Module | None]
    with FlopCounterMode(display=False) as flops:
        if row == TEACHER:
            settings, teacher = build_teacher(load_checkpoint(workspace.teacher, kind="teacher"))
            _read_by(teacher.head, teacher.features(*_clip(settings, teacher.backbone, flow=True)), settings)
            modules = [teacher]
        else:
            net = build_detector(load_checkpoint(workspace.detector(row), kind="detector"))
            settings, student, stream = net.settings, net.student, net.teacher
            motion, appearance = student(*_clip(settings, student.backbone, flow=False))
            if stream is not None:
                motion = stream.features(*_clip(settings, stream.backbone, flow=True))
            steps = torch.ones(1, appearance.shape[2], dtype=torch.bool)
            _read_by(net.joint.head, net.joint.fused(motion, appearance, steps), settings)
            modules = [student.backbone, student.motion, student.appearance, stream, net.joint]
    parameters = sum(value.numel() for module in modules if module is not None for value in module.parameters())
    return {"parameters": parameters, "flops_per_s": flops.get_total_flops() / _clip_s(workspace, settings)}


def _read_by(head: Head, track: Tensor, settings: ModelSettings) -> None:
    mask = torch.ones(1, track.shape[2], dtype=torch.bool)
    least, limit = settings.decode.min_score, settings.decode.top_candidates
    track_candidates(head, track, mask, core_steps=CORE_STEPS, min_score=least, limit=limit)


def _clip(settings: ModelSettings, backbone: Backbone, *, flow: bool) -> tuple[Tensor, Tensor]:
    """A clip of zeros as a backbone reads it, and its mask."""
    frames = _COUNTED_STEPS * backbone.stride
    mask = torch.ones(1, frames, dtype=torch.bool)
    if settings.features is not None:
        channels = settings.features.flow_channels if flow else settings.features.rgb_channels
        return torch.zeros(1, frames, channels), mask
    size = settings.video.height_px, settings.video.width_px
    if not flow:
        return torch.zeros(1, frames, *size, 3, dtype=torch.uint8), mask
    channels = settings.flow.stack * (3 if settings.flow.method == "temporal-gradient" else 2)
    return torch.zeros(1, frames, channels, *size), mask


def _clip_s(workspace: Workspace, settings: ModelSettings) -> float:
    """Seconds of video that the clip stands for."""
    if settings.features is None:
        return _COUNTED_STEPS * settings.backbone.stride / settings.video.rate_hz
    with read_store(workspace.features_source, kind="features") as store:
        return _COUNTED_STEPS * median_step_s(store, [item.name for item in workspace.held_out])
