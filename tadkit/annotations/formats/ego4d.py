"""Ego4D moment queries (Grauman et al., CVPR 2022): ``moments_train.json`` and ``moments_val.json``.

Clips are the videos, named by ``clip_uid``, and seconds count from the clip's start. Labels marked ``primary`` are kept
(110 classes), as in the challenge and in other projects; equal labels of two annotators with equal times count once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tadkit.annotations.formats.folders import files_of
from tadkit.annotations.formats.items import each
from tadkit.annotations.formats.source import Source, SourceVideo, action, number
from tadkit.errors import AnnotationError
from tadkit.files import read_json
from tadkit.records import Annotation

SUBSETS = {"train": "training", "val": "validation", "test": "testing"}


def read_ego4d(path: Path) -> Source:
    """Read a file, or all ``moments_*.json`` of a folder; a clip that cannot be read is a loss.

    Raises:
        AnnotationError: not in this format.
    """
    videos, others, repeated = list[SourceVideo](), 0, 0
    losses: list[str] = []
    for file in files_of(path, "moments_*.json"):
        content = read_json(file, error=AnnotationError)
        for item in content.get("videos", []) if isinstance(content, dict) else []:
            for clip in item.get("clips", []):
                split = str(item.get("split") or content.get("split"))
                for video, left_out, twice in each([clip], partial(_clip, split=split, file=file), losses):
                    videos.append(video)
                    others, repeated = others + left_out, repeated + twice
    if not videos and not losses:
        raise AnnotationError(
            f"{path}: no 'videos' with 'clips'; expected Ego4D's moments_train.json or moments_val.json"
        )
    counts = ((others, "labels are not primary and are left out"), (repeated, "labels are duplicates and count once"))
    return Source(tuple(videos), tuple(f"{path}: {count} {what}" for count, what in counts if count), tuple(losses))


def _clip(clip: Mapping[str, Any], split: str, file: Path) -> tuple[SourceVideo, int, int]:
    name = str(clip.get("clip_uid"))
    where = f"{file}: '{name}'"
    if split not in SUBSETS:
        raise AnnotationError(f"{where} has split '{split}'; expected {', '.join(SUBSETS)}")
    start_s, end_s = (number(clip.get(f"video_{end}_sec"), f"{where} video_{end}_sec") for end in ("start", "end"))
    labels = list(_labels(clip))
    primary = [label for label in labels if label.get("primary")]
    found: dict[Annotation, None] = {}
    for label in primary:
        found[action(label.get("start_time"), label.get("end_time"), str(label.get("label")), where)] = None
    video = SourceVideo(name, tuple(found), SUBSETS[split], end_s - start_s)
    return video, len(labels) - len(primary), len(primary) - len(found)


def _labels(clip: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for annotator in clip.get("annotations") or []:
        yield from annotator.get("labels") or []
