"""``tadkit evaluate``: a detections file against an annotations file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from tadkit.errors import AnnotationError, UsageError
from tadkit.evaluation import MeanAveragePrecision, Protocol, mean_average_precision
from tadkit.records import Annotation, Detection, read_dataset, read_detections

_MOST_THRESHOLDS = 1000


def evaluate(
    detections_path: Path,
    annotations_path: Path,
    *,
    protocol: Protocol,
    tiou: Sequence[float],
    subset: str | None,
    labels: Sequence[str] | None = None,
) -> MeanAveragePrecision:
    """Judge a detections file.

    Args:
        detections_path: detections in ActivityNet-style JSON.
        annotations_path: annotations in ActivityNet-style JSON.
        protocol: whose rules, see :mod:`tadkit.evaluation.average_precision`.
        tiou: thresholds.
        subset: the subset judged, named exactly; None judges all videos. As in the official evaluator, detections in
            videos outside it are false positives, and their number of videos is reported.
        labels: the classes judged; None judges all that the subset has.

    Raises:
        AnnotationError: a file cannot be read, the subset does not exist or has no action of the labels, or the two
            files share no video.
    """
    truth = _truth(annotations_path, subset)
    detections = read_detections(detections_path)
    _refuse_strangers(detections_path, detections, annotations_path, truth)
    return mean_average_precision(truth, detections, labels=labels, tiou=tiou, protocol=protocol)


def _truth(path: Path, subset: str | None) -> dict[str, tuple[Annotation, ...]]:
    videos = read_dataset(path).videos.values()
    known = sorted({video.subset for video in videos})
    if subset is not None and subset not in known:
        names = ", ".join(f"'{name}'" for name in known) or "none"
        raise AnnotationError(f"{path}: no subset '{subset}'; choose one of those it has: {names}")
    return {video.name: video.annotations for video in videos if subset in (None, video.subset)}


def _refuse_strangers(
    detections_path: Path,
    detections: Mapping[str, Sequence[Detection]],
    annotations_path: Path,
    truth: Mapping[str, Sequence[Annotation]],
) -> None:
    """A score of zero would hide that the files name their videos differently."""
    found = [video for video, items in detections.items() if items]
    if found and truth and not any(video in truth for video in found):
        raise AnnotationError(
            f"{detections_path}: none of its videos (such as '{found[0]}') is among those judged in {annotations_path} "
            f"(such as '{next(iter(truth))}'); check the subset and the names"
        )


def report_json(result: MeanAveragePrecision) -> dict[str, Any]:
    """The result as plain JSON values: fractions, keyed by tIoU as text such as ``"0.3"``."""

    def by_tiou(values: Float64[np.ndarray, " tious"]) -> dict[str, float]:
        return {f"{tiou:.10g}": float(value) for tiou, value in zip(result.tiou, values, strict=True)}

    return {
        "protocol": result.protocol,
        "map": by_tiou(result.map),
        "average_map": result.average_map,
        "pooled": by_tiou(result.pooled),
        "average_pooled": result.average_pooled,
        "per_class": {label: by_tiou(values) for label, values in result.per_class.items()},
        "counts": {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(result.counts).items()
        },
    }


def parse_tiou(text: str) -> tuple[float, ...]:
    """Thresholds from ``start:step:stop`` (stop included), from one number, or from numbers with commas between.

    ``0.3:0.1:0.7`` gives 0.3, 0.4, 0.5, 0.6 and 0.7, each rounded to 10 decimals.

    Raises:
        UsageError: anything else, and thresholds that are outside [0, 1] or not distinct.
    """
    try:
        values = _range(text) if ":" in text else tuple(round(float(part), 10) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(0 <= value <= 1 for value in values) or len(set(values)) != len(values):
        raise UsageError(
            f"tIoU '{text}' cannot be read; expected distinct numbers from 0 to 1, such as 0.5, 0.3,0.5 or 0.3:0.1:0.7 "
            "(start:step:stop)"
        )
    return values


def _range(text: str) -> tuple[float, ...]:
    """Values of ``start:step:stop``; ValueError if they are not three fit numbers."""
    start, step, stop = (float(part) for part in text.split(":"))
    if not all(map(math.isfinite, (start, step, stop))) or step <= 0 or stop < start:
        raise ValueError(text)
    count = math.floor((stop - start) / step + 1e-6) + 1
    if count > _MOST_THRESHOLDS:
        raise ValueError(text)
    return tuple(round(start + index * step, 10) for index in range(count))
