"""What each stored result depends on, as a digest. A result whose key differs is stale and is computed again.

Settings that affect only speed or memory are not part of the keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tadkit.config import (
    BackboneKindSettings,
    FlowSettings,
    FrozenSettings,
    FusionSettings,
    HeadSettings,
    ModelSettings,
    RaftSettings,
    TrainSettings,
    Tvl1Settings,
    VideoSettings,
    View,
)
from tadkit.errors import WeightsError
from tadkit.files import digest_of, digest_of_file
from tadkit.runtime.plugins import Group, package_of

CODE = 1
"""Increased when a change of the code changes stored results."""
METHOD_CODE: Mapping[str, int] = {
    "tvl1": 2,
    "opencv-tvl1": 1,
    "opencv-dis": 1,
    "temporal-gradient": 1,
    "raft-small": 1,
    "raft-large": 1,
    "entry-point": 1,
}
"""Increased when a change of a flow method's code changes its flow."""
_FROZEN_CODE = 1
"""Increased when a change of the code changes frozen features: net, weights, or histograms."""

_PLUGINS: Mapping[str, Group] = {
    "flow": "tadkit.flow",
    "teacher_backbone": "tadkit.backbones",
    "backbone": "tadkit.backbones",
    "head": "tadkit.heads",
    "joint_head": "tadkit.heads",
}


class TrainingTruth(NamedTuple):
    """Ground truth of a training run: a digest of each training video's annotations, and the classes in order."""

    annotations: Sequence[str]
    labels: Sequence[str]


def flow_key(source_sha256: str, flow: FlowSettings, video: VideoSettings) -> str:
    """Key of a video's flow.

    Raises:
        WeightsError: the method's weights file cannot be read.
    """
    method = _with_package("flow", _flow(flow))
    method = {name: value for name, value in method.items() if name not in ("batch_pairs", "compile")}
    if isinstance(flow, RaftSettings) and flow.weights is not None:
        method["weights"] = _weights(flow.weights, "flow")
    code = [CODE, METHOD_CODE[flow.method]]
    return digest_of({"source": source_sha256, "flow": method, "video": _frames(video), "code": code})


def teacher_outputs_key(flow: str, *, teacher: str, views: Sequence[View]) -> str:
    """Key of a teacher's feature and predictions of a video: key of the flow, digest of the teacher's file."""
    return digest_of({"flow": flow, "teacher": teacher, "views": list(views), "code": CODE})


def features_key(source_sha256: str, *, model: str, video: VideoSettings, views: Sequence[View]) -> str:
    """Key of a video's branch features; ``model`` is the digest of the student's or detector's file."""
    parts = {"source": source_sha256, "model": model, "video": _frames(video), "views": list(views), "code": CODE}
    return digest_of(parts)


def frozen_key(read: str, *, frozen: FrozenSettings, stack: int) -> str:
    """Key of a video's frozen features.

    Args:
        read: key of its flow, which holds video, frames and method; without motion, key of its frames.
        frozen: net and cells.
        stack: flows of a step; 0 without motion.
    """
    parts = {"frozen": frozen.model_dump(mode="json"), "stack": stack, "code": [CODE, _FROZEN_CODE]}
    return digest_of({"read": read, **parts})


def teacher_key(flow: Sequence[str], *, model: ModelSettings, train: TrainSettings, truth: TrainingTruth) -> str:
    """Key of a teacher trained on videos whose flow has the keys ``flow``."""
    shape = _shape(model, "video", "flow", "features", "teacher_backbone", "head") | {"dim": model.distill.dim}
    return _trained({"flow": list(flow)}, shape, train, truth)


def student_key(
    sources: Sequence[str],
    teacher_outputs: Sequence[str],
    *,
    model: ModelSettings,
    train: TrainSettings,
    truth: TrainingTruth,
) -> str:
    """Key of a student; ``sources`` are digests of the videos, ``teacher_outputs`` keys (none without a teacher)."""
    joint = ["fusion"] if model.distill.joint else []
    joint += ["streams"] if model.teacher_beside_student else []
    shape = _shape(model, "video", "features", "backbone", "head", "distill", *joint)
    return _trained({"teacher": list(teacher_outputs), "sources": list(sources)}, shape, train, truth)


def one_stage_key(student: str, *, teacher: str | None, half: bool) -> str:
    """Key of a detector whose joint head was trained together with the student.

    Args:
        student: digest of the student's file.
        teacher: digest of the teacher's file, if the detector embeds its stream.
        half: stored as float16.
    """
    return digest_of({"one_stage": student, "teacher": teacher, "half_precision": half, "code": CODE})


def head_key(
    features: Sequence[str],
    *,
    model: ModelSettings,
    train: TrainSettings,
    truth: TrainingTruth,
    half: bool,
    student: str | None = None,
    teacher: str | None = None,
) -> str:
    """Key of a detector whose joint head was trained on features with these keys.

    Args:
        features: keys of the training videos' features.
        model: the model's settings.
        train: settings of the training.
        truth: ground truth of the training videos.
        half: stored as float16.
        student: digest of the file of the embedded student, if it is not the one that made the features.
        teacher: digest of the teacher's file, if the detector embeds its stream.
    """
    parts: dict[str, object] = {"features": list(features)} | ({"half_precision": True} if half else {})
    parts |= {} if student is None else {"student": student}
    parts |= {} if teacher is None else {"teacher": teacher}
    return _trained(parts, _shape(model, "head", "joint_head", "streams", "distill", "fusion"), train, truth)


def late_key(*, detector: str, teacher: str, half: bool) -> str:
    """Key of a detector that averages the scores of an RGB detector and of a teacher, from digests of their files."""
    return digest_of({"detector": detector, "teacher": teacher, "half_precision": half, "code": CODE})


def features_head_key(
    features: Sequence[str], *, model: ModelSettings, train: TrainSettings, truth: TrainingTruth
) -> str:
    """Key of a head trained on a feature store whose videos have these keys."""
    return _trained({"features": list(features)}, _shape(model, "head", "joint_head"), train, truth)


def _flow(flow: FlowSettings) -> dict[str, Any]:
    """The method; newer settings count only where they change the flow, so that earlier stores stay up to date."""
    method = flow.model_dump(mode="json", exclude={"stack"})  # flow is stored singly
    if isinstance(flow, Tvl1Settings):
        method = {name: value for name, value in method.items() if flow.as_in_0_1_0.get(name) != value}
    return method


def _frames(video: VideoSettings) -> dict[str, Any]:
    """How frames are sampled; all readers decode the same ones."""
    return video.model_dump(mode="json", exclude=_without_effect(video))


def _without_effect(video: VideoSettings) -> set[str]:
    """Settings that do not change frames; version 0.1.0 had no ``fallback_fps``."""
    return {"reader"} if video.fallback_fps is not None else {"reader", "fallback_fps"}


def _backbone(settings: BackboneKindSettings, section: str) -> dict[str, Any]:
    """A backbone; of a file that it starts from, the content counts and not the path."""
    weights = {} if settings.weights is None else {"weights": _weights(settings.weights, section)}
    return settings.model_dump(mode="json") | weights


def _clips(backbone: BackboneKindSettings, head: HeadSettings) -> dict[str, Any]:
    """Where training windows start, if the backbone's clips decide; they once started at whole steps of the head."""
    coarsest = (head.strides or (1,))[-1] * backbone.stride
    return {"windows": "whole clips"} if coarsest % backbone.align_frames else {}


def _weights(path: Path, section: str) -> str:
    """Digest of a weights file.

    Raises:
        WeightsError: it cannot be read.
    """
    try:
        return digest_of_file(path)
    except OSError as error:
        raise WeightsError(
            f"{section}.weights {path}: cannot be read ({error.strerror}); name a state-dict file"
        ) from error


def _shape(settings: ModelSettings, *sections: str) -> dict[str, Any]:
    """The sections that a stage's model depends on, with the values of the method's terms stated."""
    stated = settings.model_copy(update={"distill": settings.distill.stated})
    shape = stated.model_dump(mode="json", include=set(sections), exclude={"video": _without_effect(settings.video)})
    nets = {"teacher_backbone": settings.teacher_backbone, "backbone": settings.backbone}
    shape |= {name: _backbone(net, name) | _clips(net, settings.head) for name, net in nets.items() if name in sections}
    newer = {"flow": _teacher_input(settings.flow), "fusion": _fusion(settings.fusion)}
    shape |= {name: values for name, values in newer.items() if name in sections}
    return {name: _with_package(name, section) for name, section in shape.items()}


def _teacher_input(flow: FlowSettings) -> dict[str, Any]:
    """The method, and how many flows the teacher reads at each frame."""
    return _flow(flow) | ({"stack": flow.stack} if flow.stack > 1 else {})


def _with_package(name: str, section: Any) -> Any:
    """A section of the settings; where an entry point is named in it, its package and version count, too."""
    group = _PLUGINS.get(name)
    if group is None or not isinstance(section, Mapping) or "entry_point" not in section:
        return section
    return {**section, "package": package_of(group, section["entry_point"])}


def _fusion(fusion: FusionSettings) -> dict[str, Any]:
    """The kind; newer settings count only where they differ from the default, so that earlier heads stay up to date."""
    return {"kind": fusion.kind} | fusion.model_dump(mode="json", exclude_defaults=True)


def _trained(parts: Mapping[str, object], shape: Mapping[str, Any], train: TrainSettings, truth: TrainingTruth) -> str:
    rest = {
        "model": dict(shape),
        "train": train.model_dump(mode="json", exclude=set(train.without_effect)),
        "truth": list(truth.annotations),
        "labels": list(truth.labels),
        "code": CODE,
    }
    return digest_of({**parts, **rest})
