"""ActivityNet 1.3 in the format of BMN's code: flat JSON, with subsets in ``video_info_new.csv`` beside it.

``{video: {"duration_second", "duration_frame", "feature_frame", "annotations"}}``; BMN: Lin et al., ICCV 2019. The
csv's ``seconds`` equals ``duration_second``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tadkit.annotations.formats.activitynet import annotations_of
from tadkit.annotations.formats.items import each
from tadkit.annotations.formats.source import Source, SourceVideo, maybe_number, read_table
from tadkit.errors import AnnotationError
from tadkit.files import read_json

INFO = "video_info_new.csv"


def read_bmn(path: Path) -> Source:
    """Read BMN's format: the JSON file, or the folder that contains it and the csv.

    Raises:
        AnnotationError: one of the two is missing or not in this format.
    """
    if path.is_dir():
        path = path / "anet_anno_action.json"
    content = read_json(path, error=AnnotationError, distinct=True)
    info = {row["video"]: row for row in read_table(path.parent / INFO, "video", "subset", "fps")}
    if not isinstance(content, dict) or not all(isinstance(entry, dict) for entry in content.values()):
        raise AnnotationError(f"{path}: expected an object with an object for each video")
    losses: list[str] = []
    videos = each(content.items(), lambda one: _video(f"{path}: '{one[0]}'", *one, info, losses), losses)
    return Source(tuple(videos), losses=tuple(losses))


def _video(
    where: str, name: str, entry: Mapping[str, Any], info: Mapping[str, Mapping[str, str]], losses: list[str]
) -> SourceVideo:
    if name not in info:
        raise AnnotationError(f"{where} is not in {INFO} beside it, which has the subsets")
    return SourceVideo(
        name=name,
        annotations=annotations_of(entry, where, losses),
        subset=info[name]["subset"],
        duration_s=maybe_number(entry.get("duration_second"), f"{where} duration_second"),
        fps=maybe_number(info[name]["fps"], f"{where} fps", unit="frames per second"),
    )
