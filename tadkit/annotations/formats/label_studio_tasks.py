"""Label Studio's exports as tasks of one form: JSON, JSON-MIN, CSV, TSV, and the files of a target storage.

A task is ``{"id", "data", "annotations": [{"completed_by", "was_cancelled", "result"}], "predictions"}``. JSON-MIN, CSV
and TSV have one record for each annotation; it lists the values of the regions among the data, without their type and
id, under the name of the control that made them (label_studio_sdk/converter).
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from tadkit.annotations.formats.folders import files_of
from tadkit.annotations.formats.reports import named
from tadkit.annotations.formats.source import name_of_file, read_text, refuse_surplus
from tadkit.errors import AnnotationError
from tadkit.files import read_json

_UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")
_VIDEO_KEYS = ("video", "video_url", "videos", "url", "audio")
_VIDEO_FILE = re.compile(r"\.(mp4|mov|avi|mkv|webm|m4v|mpe?g|ts|wmv|flv|3gp|ogv)([?#\"']|$)", re.IGNORECASE)
_TABLES = {".csv": ",", ".tsv": "\t"}
_LONGEST_CELL = 2**31 - 1
_OF_SHORT_FORM = frozenset({"annotator", "annotation_id"})


def read_tasks(path: Path, lost: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """Tasks of an export, of a task, or of all files in a folder, each with its place for messages.

    Args:
        path: file or folder.
        lost: is extended by the errors of files in a folder, which cost no other file.

    Raises:
        AnnotationError: a file that is not in this format.
    """
    if not path.is_dir():
        return [(f"task {task.get('id')}", task) for task in _tasks(path)]
    found = []
    for file in files_of_tasks(path):
        try:
            found += [(f"{file.name} task {task.get('id')}", task) for task in _tasks(file)]
        except AnnotationError as error:
            lost.append(str(error))
    return found


def files_of_tasks(path: Path) -> list[Path]:
    """The files of a folder that are read: those in JSON, else the tables, which may be exports of the same tasks.

    Raises:
        AnnotationError: the folder has neither.
    """
    files = files_of(path, "*.json", "*.csv", "*.tsv")
    return [file for file in files if file.suffix.lower() == ".json"] or files


def _tasks(path: Path) -> list[dict[str, Any]]:
    content = _records(path) if path.suffix.lower() in _TABLES else read_json(path, error=AnnotationError)
    listed = [content] if isinstance(content, dict) else content
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise AnnotationError(f"{path}: expected a list of tasks; export as JSON, JSON-MIN, CSV or TSV")
    whole = [_whole(item) for item in listed if not _is_short(item)]
    return [*whole, *_gathered(item for item in listed if _is_short(item))]


def _is_short(item: Mapping[str, Any]) -> bool:
    return "data" not in item and not ("task" in item and "result" in item)


def _whole(item: dict[str, Any]) -> dict[str, Any]:
    """A task as exported, or an annotation of a target storage, which contains its task."""
    if "data" not in item:
        return {**item["task"], "annotations": [item]}
    return item if "annotations" in item else {**item, "annotations": item.get("completions")}


def _records(path: Path) -> list[dict[str, Any]]:
    """Rows of a CSV or TSV export; lists and objects are JSON in a cell."""
    longest = csv.field_size_limit(_LONGEST_CELL)
    try:
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""), delimiter=_TABLES[path.suffix.lower()])
        rows = []
        for row in reader:
            refuse_surplus(row.pop(None, None) or (), f"{path}, row {reader.line_num}:")
            rows.append({key: _cell(value) for key, value in row.items() if value})
        headings = set(reader.fieldnames or ())
    except csv.Error as cause:
        raise AnnotationError(f"{path}: not a table ({cause}); export it again") from cause
    finally:
        csv.field_size_limit(longest)
    if not headings >= _OF_SHORT_FORM:
        raise AnnotationError(f"{path}: no columns {named(_OF_SHORT_FORM)}; expected an export of Label Studio")
    return rows


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _gathered(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tasks of JSON-MIN, which has a record for each annotation."""
    tasks: dict[str, dict[str, Any]] = {}
    for place, record in enumerate(records):
        key = json.dumps([record.get("id", f"place {place}"), _addresses(record)])
        regions = [
            {"from_name": name, "value": value, "type": kind, "short": True}
            for name, values in record.items()
            for value in (values if isinstance(values, list) else [values])
            if isinstance(value, dict) and (kind := _kind_of(value))
        ]
        task = tasks.setdefault(key, {"id": record.get("id"), "data": dict(record), "annotations": []})
        task["annotations"].append({"completed_by": record.get("annotator"), "result": regions})
    return list(tasks.values())


def _kind_of(value: Mapping[str, Any]) -> str:
    """The type of a region from the keys of its value; empty if it is not a region."""
    if "ranges" in value:
        return "timelinelabels"
    if "sequence" in value:
        return "videorectangle"
    kinds = [str(key) for key in value if re.fullmatch(r"[a-z]*labels|choices|taxonomy", str(key))]
    if kinds:
        return kinds[0]
    return "audio" if {"start", "end", "channel"} <= set(value) else ""


def name_of_task(task: Mapping[str, Any], where: str, controlled: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The name of a task's video, and those of other videos among its data.

    Args:
        task: in the full form.
        where: for messages.
        controlled: tags that the regions belong to; an equal key of the data is preferred.

    Raises:
        AnnotationError: the data name no video.
    """
    data = task["data"] if isinstance(task["data"], dict) else {}
    addresses = _addresses(data)
    known = [key for key in (*controlled, *_VIDEO_KEYS) if key in addresses]
    key = next(iter((*known, *addresses)), None)
    if key is None:
        raise AnnotationError(f"{where} names no video in 'data'; expected 'video'")
    names = {other: _name_of(address) for other, address in addresses.items()}
    return names[key], tuple(sorted({name for name in names.values() if name != names[key]}))


def _addresses(data: Mapping[str, Any]) -> dict[str, str]:
    """Addresses of videos by key of the data; the key is the user's choice, usually ``video``."""
    found = {}
    for key, value in data.items():
        only = value[0] if isinstance(value, list) and len(value) == 1 else value
        address = _Sources.first(only) if isinstance(only, str) else ""
        if address and (key in _VIDEO_KEYS or _VIDEO_FILE.search(address)):
            found[key] = address
    return found


def _name_of(address: str) -> str:
    name = name_of_file(address)
    return _UPLOAD.sub("", name) if "/data/upload/" in address else name


class _Sources(HTMLParser):
    """Addresses in ``src`` attributes: older templates show a video as HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    @classmethod
    def first(cls, text: str) -> str:
        """The first address in HTML; text that is not HTML is an address itself."""
        if not text.lstrip().startswith("<"):
            return text
        parser = cls()
        parser.feed(text)
        return next(iter(parser.found), "")

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        """Keep the source of videos, of their alternatives and of sounds."""
        if tag in ("video", "source", "audio", "iframe"):
            self.found += [value for name, value in attrs if name == "src" and value]


def raters_of(annotation: Mapping[str, Any]) -> Iterator[str]:
    """Names under which a person can be chosen: the number, the address, the user name, first and last name."""
    person = annotation.get("completed_by")
    if isinstance(person, Mapping):
        for key in ("email", "id", "username"):
            if person.get(key) not in (None, ""):
                yield str(person[key])
        full = " ".join(str(person[key]) for key in ("first_name", "last_name") if person.get(key))
        if full:
            yield full
    elif person not in (None, ""):
        yield str(person)
