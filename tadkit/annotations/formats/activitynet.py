"""ActivityNet-style JSON: the official file, HACS Segments, FineAction, and tadkit's own.

``{"database": {video: {"subset", "duration", "fps"?, "annotations": [{"segment": [start, end], "label"}]}}}`` in
seconds (Caba Heilbron et al., CVPR 2015; HACS: Zhao et al., ICCV 2019; FineAction: Liu et al., TIP 2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tadkit.annotations.formats.items import actions_of, each
from tadkit.annotations.formats.source import Source, SourceVideo, action, maybe_number, resolved
from tadkit.errors import AnnotationError
from tadkit.files import read_json
from tadkit.records import Annotation


def read_database(path: Path, *, subsets: Mapping[str, str] | None = None) -> Source:
    """Read ActivityNet-style JSON; numbers may be text, and durations may be missing.

    Args:
        path: the file.
        subsets: tadkit's name of each of the source's subsets; None keeps the source's names.

    A video with a subset that is not in ``subsets`` is a loss, as is an annotation that cannot be read.

    Raises:
        AnnotationError: not such a file.
    """
    content = read_json(path, error=AnnotationError, distinct=True)
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict):
        raise AnnotationError(f"{path}: no 'database' object; expected ActivityNet-style JSON, see docs/formats.md")
    losses: list[str] = []
    videos = each(database.items(), lambda one: _video(f"{path}: '{one[0]}'", *one, subsets, losses), losses)
    return Source(tuple(videos), losses=tuple(losses))


def _video(where: str, name: str, entry: Any, subsets: Mapping[str, str] | None, losses: list[str]) -> SourceVideo:
    if not isinstance(entry, dict):
        raise AnnotationError(f"{where} is not an object with subset and annotations")
    subset = str(entry.get("subset", ""))
    return SourceVideo(
        name=name,
        annotations=annotations_of(entry, where, losses),
        subset=subset if subsets is None else resolved(subset, subsets, where),
        duration_s=maybe_number(entry.get("duration"), f"{where} duration"),
        fps=maybe_number(entry.get("fps"), f"{where} fps", unit="frames per second"),
    )


def annotations_of(entry: Mapping[str, Any], where: str, losses: list[str]) -> tuple[Annotation, ...]:
    """Read the list ``annotations`` of a video; an item without a text label and a segment of two numbers is a loss.

    Raises:
        AnnotationError: not a list, or no item can be read.
    """
    items = entry.get("annotations") or []
    if not isinstance(items, list):
        raise AnnotationError(f"{where} has annotations that are not a list")
    return actions_of(items, lambda item: _annotation(item, where), losses, where)


def _annotation(item: Any, where: str) -> Annotation:
    label = item.get("label") if isinstance(item, dict) else None
    segment = item.get("segment") if isinstance(item, dict) else None
    if not isinstance(label, str) or not isinstance(segment, list) or len(segment) != 2:
        raise AnnotationError(
            f"{where} has the annotation {item!r}; expected a text 'label' and 'segment' [start, end]"
        )
    return action(segment[0], segment[1], label, where)
