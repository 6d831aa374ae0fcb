"""Charades: the official csv, or the JSON with numbered classes (Sigurdsson et al., ECCV 2016).

A row has ``id``, ``length`` in seconds and ``actions`` such as ``c092 11.90 21.20;c147 0.00 12.60``. The official files
are ``Charades_v1_train.csv`` and ``Charades_v1_test.csv``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tadkit.annotations.formats.items import actions_of, each
from tadkit.annotations.formats.numbered import NUMBERS_ONLY, class_names, label_of, read_numbered
from tadkit.annotations.formats.source import Known, Source, SourceVideo, action, maybe_number, read_table
from tadkit.errors import AnnotationError
from tadkit.records import Annotation

SUBSETS = {"Charades_v1_train.csv": "training", "Charades_v1_test.csv": "testing"}


def read_charades(path: Path, known: Known) -> Source:
    """Read a csv, the folder of both, or the JSON format; a row or an action that cannot be read is a loss.

    Raises:
        AnnotationError: not in this format.
    """
    if path.suffix == ".json":
        return read_numbered(path, known)
    files = [path / name for name in SUBSETS if (path / name).is_file()] if path.is_dir() else [path]
    if not files:
        raise AnnotationError(f"{path}: neither {' nor '.join(SUBSETS)} in this folder")
    names = class_names(path, known)
    videos, losses = list[SourceVideo](), list[str]()
    remarks = [] if names else [NUMBERS_ONLY.format(path=path)]
    for file in files:
        if file.name not in SUBSETS:
            remarks.append(f"{file}: not named {' or '.join(SUBSETS)}, so its videos have no subset")
        rows = read_table(file, "id", "actions", "length")
        videos += each(rows, partial(_video, file=file, names=names, losses=losses), losses)
    return Source(tuple(videos), tuple(remarks), tuple(losses))


def _video(row: Mapping[str, str], file: Path, names: Mapping[str, str] | None, losses: list[str]) -> SourceVideo:
    where = f"{file}: '{row['id']}'"
    parts = [part.split() for part in row["actions"].split(";") if part.strip()]
    return SourceVideo(
        name=row["id"],
        annotations=actions_of(parts, lambda part: _annotation(part, names, where), losses, where),
        subset=SUBSETS.get(file.name, ""),
        duration_s=maybe_number(row["length"], f"{where} length"),
    )


def _annotation(part: list[str], names: Mapping[str, str] | None, where: str) -> Annotation:
    if len(part) != 3:
        raise AnnotationError(f"{where} has the action {' '.join(part)!r}; expected: class start end")
    return action(part[1], part[2], label_of(part[0], names, where), where)
