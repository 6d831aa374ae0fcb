"""Exports of VIA 3 as CSV, read as the project that they come from."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

from tadkit.annotations.formats.source import read_text
from tadkit.errors import AnnotationError
from tadkit.records import shown


def of_csv(path: Path, lost: list[str]) -> dict[str, Any]:
    """The project that a CSV export describes in its comments and lists in its rows.

    A cell that is not JSON stays text, which no entry of a project has, so that its row is a loss there.

    Args:
        path: the export.
        lost: is extended by the rows that do not say which file they label.

    Raises:
        AnnotationError: not an export of VIA 3.
    """
    text = read_text(path)
    said = dict(re.findall(r"^# (\w+) = (.*)$", text, re.MULTILINE))
    columns = [column.strip() for column in said.get("CSV_HEADER", "").split(",") if column.strip()]
    if not {"metadata_id", "file_list", "metadata"} <= set(columns):
        raise AnnotationError(
            f"{path}: no line '# CSV_HEADER = metadata_id,file_list,...'; expected an export of VIA 3"
        )
    attributes = json.loads(said.get("ATTRIBUTE") or said.get("ATTRIBUTES") or "{}")
    files: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    numbered = enumerate(text.splitlines(keepends=True), start=1)
    lines = [(n, line) for n, line in numbered if not line.startswith("#") and line.strip()]
    reader = csv.reader(io.StringIO("".join(line for _, line in lines), newline=""))
    for row in reader:
        place = f"row {lines[reader.line_num - 1][0]}"
        if len(row) != len(columns):
            lost.append(f"{place} has {len(row)} cells; expected {len(columns)}; left out")
            continue
        cells = dict(zip(columns, row, strict=True))
        listed = _parsed(cells["file_list"])
        if not isinstance(listed, list):
            lost.append(f"{place}: file_list is {shown(listed)}; expected a list of files; left out")
            continue
        vid = files.setdefault(json.dumps(listed), {"vid": str(len(files) + 1), "names": listed})["vid"]
        ends = [cells[key] for key in ("temporal_segment_start", "temporal_segment_end") if cells.get(key)]
        metadata[place] = {
            "vid": vid,
            "z": _parsed(cells["temporal_coordinates"]) if "temporal_coordinates" in cells else ends,
            "xy": _parsed(cells.get("spatial_coordinates") or "[]"),
            "av": _parsed(cells["metadata"]),
        }
    named_files = {(one["vid"], n): name for one in files.values() for n, name in enumerate(one["names"])}
    return {
        "attribute": {aid: one if isinstance(one, dict) else {"aname": one} for aid, one in attributes.items()},
        "file": {f"{vid}.{n}": {"fname": name} for (vid, n), name in named_files.items()},
        "view": {
            one["vid"]: {"fid_list": [f"{one['vid']}.{n}" for n in range(len(one["names"]))]} for one in files.values()
        },
        "metadata": metadata,
    }


def _parsed(cell: str) -> Any:
    """The value of a cell in JSON; its text if it is not JSON."""
    try:
        return json.loads(cell)
    except ValueError:
        return cell
