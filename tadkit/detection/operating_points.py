"""``tadkit operating-points``: what a detector shows of given detections, and choosing from which scores it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tadkit.checkpoint import copy_with_operating_points, load_checkpoint
from tadkit.errors import AnnotationError
from tadkit.evaluation.operating_points import OPERATING_TIOU, Shown, choose_operating_points, shown_detections
from tadkit.models.detector import model_settings
from tadkit.models.heads import head_labels
from tadkit.records import Annotation, Detection, read_dataset, read_detections
from tadkit.zoo import model_path


@dataclass(frozen=True)
class ShownByModel:
    """What a detector shows, by label.

    Attributes:
        labels: classes of the detector.
        points: for some of them, the score from which detections are shown.
        before: the detections that score 0.3 or more; empty without detections.
        after: those that reach the operating points, likewise.
    """

    labels: tuple[str, ...]
    points: Mapping[str, float]
    before: Mapping[str, Shown]
    after: Mapping[str, Shown]


def operating_points(
    model: str | Path | None,
    *,
    annotations: Path | None = None,
    detections: Sequence[Path] = (),
    tiou: float = OPERATING_TIOU,
    out: Path | None = None,
) -> ShownByModel:
    """The operating points of a detector, and what it shows of ``detections``.

    Args:
        model: name or file of a detector; None is the bundled one.
        annotations: ground truth of the videos in ``detections``.
        detections: detections files; with ``out``, of a model that did not see their videos.
        tiou: least overlap of a right detection with its action.
        out: choose the operating points from the detections, and write the detector with them to this file.

    Raises:
        WeightsError: the model cannot be loaded.
        AnnotationError: a file cannot be read, a video has no annotations or is in two files, or no class has enough
            actions to choose an operating point.
    """
    path = model_path(model)
    checkpoint = load_checkpoint(path, kind="detector")
    labels = head_labels(model_settings(checkpoint).detector_head, checkpoint.labels)
    points = checkpoint.operating_points
    if annotations is None or not detections:
        return ShownByModel(labels, points, {}, {})
    truth, found = _read(annotations, detections)
    if out is not None:
        points = choose_operating_points(truth, found, labels=labels, tiou=tiou)
        if not points:
            raise AnnotationError(f"{annotations}: too few actions of {', '.join(labels)} to choose operating points")
        origin: dict[str, Any] = {"annotations": annotations.name, "tiou": tiou, "videos": sorted(found)}
        copy_with_operating_points(path, out, points, provenance=origin)
    before = shown_detections(truth, found, labels=labels, points={}, tiou=tiou)
    after = shown_detections(truth, found, labels=labels, points=points, tiou=tiou)
    return ShownByModel(labels, points, before, after)


def _read(
    annotations: Path, detections: Sequence[Path]
) -> tuple[dict[str, Sequence[Annotation]], dict[str, list[Detection]]]:
    """Actions and detections of the videos in the detections files."""
    known = read_dataset(annotations).videos
    found: dict[str, list[Detection]] = {}
    for path in detections:
        for video, one in read_detections(path).items():
            if video not in known:
                raise AnnotationError(f"{annotations}: no video '{video}', which {path} has")
            if video in found:
                raise AnnotationError(f"{path}: '{video}' is in another detections file, too; give it once")
            found[video] = one
    return {video: known[video].annotations for video in found}, found
