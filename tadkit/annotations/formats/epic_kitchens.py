"""EPIC-KITCHENS-100 csv (Damen et al., IJCV 2022): 97 verb and 300 noun classes, named in csv files beside it.

The column ``verb`` is the narrator's word; the class is ``verb_class``, whose name is ``key`` in
``EPIC_100_verb_classes.csv``. Durations and frame rates come from ``EPIC_100_video_info.csv``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tadkit.annotations.formats.clock import from_clock
from tadkit.annotations.formats.items import each
from tadkit.annotations.formats.numbered import NUMBERS_ONLY, label_of
from tadkit.annotations.formats.source import (
    Known,
    Source,
    SourceVideo,
    action,
    gathered,
    number,
    read_table,
)
from tadkit.errors import AnnotationError
from tadkit.records import Annotation

SUBSETS = {"EPIC_100_train.csv": "training", "EPIC_100_validation.csv": "validation"}
INFO = "EPIC_100_video_info.csv"


def read_epic_kitchens(path: Path, known: Known) -> Source:
    """Read a csv, or the folder of both; the label is the noun with ``known.noun``, else the verb.

    A row that cannot be read is a loss.

    Raises:
        AnnotationError: not in this format.
    """
    files = [path / name for name in SUBSETS if (path / name).is_file()] if path.is_dir() else [path]
    if not files:
        raise AnnotationError(f"{path}: neither {' nor '.join(SUBSETS)} in this folder")
    kind, folder = "noun" if known.noun else "verb", files[0].parent
    names = known.classes if known.classes is not None else _class_keys(folder / f"EPIC_100_{kind}_classes.csv")
    info = {row["video_id"]: row for row in _rows_if_there(folder / INFO)}
    videos, losses = list[SourceVideo](), list[str]()
    remarks = [] if names else [NUMBERS_ONLY.format(path=path)]
    for file in files:
        if file.name not in SUBSETS:
            remarks.append(f"{file}: not named {' or '.join(SUBSETS)}, so its videos have no subset")
        for name, found in gathered(_rows(file, f"{kind}_class", names, losses)).items():
            duration_s = number(info[name]["duration"], f"{INFO}: '{name}' duration") if name in info else None
            fps = number(info[name]["fps"], f"{INFO}: '{name}' fps") if name in info else None
            videos.append(SourceVideo(name, tuple(found), SUBSETS.get(file.name, ""), duration_s, fps))
    return Source(tuple(videos), tuple(remarks), tuple(losses))


def _rows(file: Path, column: str, names: Mapping[str, str] | None, losses: list[str]) -> list[tuple[str, Annotation]]:
    rows = enumerate(read_table(file, "video_id", "start_timestamp", "stop_timestamp", column), start=2)
    return each(rows, lambda row: _row(row[1], column, names, f"{file}, row {row[0]}: '{row[1]['video_id']}'"), losses)


def _row(row: Mapping[str, str], column: str, names: Mapping[str, str] | None, where: str) -> tuple[str, Annotation]:
    start_s, end_s = (from_clock(row[f"{end}_timestamp"], f"{where} {end}_timestamp") for end in ("start", "stop"))
    return row["video_id"], action(start_s, end_s, label_of(row[column], names, where), where)


def _class_keys(path: Path) -> dict[str, str] | None:
    return {row["id"]: row["key"] for row in read_table(path, "id", "key")} if path.is_file() else None


def _rows_if_there(path: Path) -> list[dict[str, str]]:
    return read_table(path, "video_id", "duration", "fps") if path.is_file() else []
