"""JSON, JSON Lines, CSV and Parquet: all detections in full precision, as evaluation reads them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from types import ModuleType
from typing import Any

from tadkit.detection.outputs.content import Content
from tadkit.errors import TadkitError
from tadkit.files import encodable, whole_file, write_text
from tadkit.records import detections_json

COLUMNS = ("video", "start_s", "end_s", "label", "score")
"""Fields of a record."""


def records(content: Content) -> list[dict[str, Any]]:
    """A dictionary for each detection, with the keys :data:`COLUMNS`."""
    return [
        dict(zip(COLUMNS, (video.name, d.start_s, d.end_s, d.label, d.score), strict=True))
        for video in content.videos
        for d in video.detections
    ]


def json_text(content: Content) -> str:
    """The text of a detections file (docs/formats.md)."""
    durations_s = {encodable(video.name): video.duration_s for video in content.videos}
    found = {video.name: video.detections for video in content.videos}
    return detections_json(found, external={**content.origin, "durations_s": durations_s})


def write_json(path: Path, content: Content) -> None:
    """Write a detections file."""
    write_text(path, json_text(content))


def write_jsonl(path: Path, content: Content) -> None:
    """Write one JSON object a line."""
    write_text(path, "".join(json.dumps(record) + "\n" for record in records(content)))


def write_csv(path: Path, content: Content) -> None:
    """Write a table with a heading."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records(content))
    write_text(path, encodable(text.getvalue()))


def write_parquet(path: Path, content: Content) -> None:
    """Write a table whose metadata ``tadkit`` holds what JSON has under ``external_data``.

    Raises:
        TadkitError: pyarrow is not installed.
    """
    pa = pyarrow()
    rows = records(content)
    texts = ("video", "label")
    columns = {
        name: pa.array(
            [encodable(row[name]) if name in texts else row[name] for row in rows],
            type=pa.string() if name in texts else pa.float64(),
        )
        for name in COLUMNS
    }
    external = json.loads(json_text(content))["external_data"]
    table = pa.table(columns).replace_schema_metadata({"tadkit": json.dumps(external)})
    from pyarrow.parquet import write_table

    with whole_file(path) as temporary:
        write_table(table, temporary)


def pyarrow() -> ModuleType:
    """The package pyarrow.

    Raises:
        TadkitError: it is not installed.
    """
    try:
        import pyarrow as found
    except ImportError as error:
        raise TadkitError("Parquet needs pyarrow: pip install 'tadkit[parquet]', or write .csv or .jsonl") from error
    module: ModuleType = found
    return module
