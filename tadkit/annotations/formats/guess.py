"""Detect the format of annotations from their content; an ambiguous case is an error, not a guess."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tadkit.annotations.formats.elan import NOT_ANNOTATIONS
from tadkit.annotations.formats.plain_csv import is_plain_table
from tadkit.annotations.formats.source import read_text
from tadkit.annotations.forms import Format
from tadkit.errors import AnnotationError
from tadkit.files import read_json

_THUMOS_SUBSETS: tuple[tuple[frozenset[str], Format], ...] = (
    (frozenset({"train", "test"}), "thumos14-afsd"),
    (frozenset({"Validation", "Test"}), "thumos14-actionformer"),
    (frozenset({"validation", "test"}), "thumos14-actionformer"),
    (frozenset({"training", "validation"}), "thumos14-opentad"),
)


_WAYS_OUT = {
    ".gz": "unpack it first, with: gunzip",
    ".zip": "unpack it first",
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "export or save it as CSV or TSV"),
    **{
        suffix: f"it holds {kind} of ELAN and no annotations; give the .eaf file"
        for suffix, kind in NOT_ANNOTATIONS.items()
    },
}


_IN_FOLDERS: tuple[Format, ...] = ("cvat", "boris", "label-studio", "via", "csv")
"""Forms whose files have names of the user's choice."""


def guess(path: Path) -> Format:
    """The format of the annotations at ``path``.

    Raises:
        AnnotationError: missing, or not exactly one format fits; then name it.
    """
    if not path.exists():
        raise AnnotationError(f"{path}: no such file or folder")
    found = _of_folder(path) if path.is_dir() else _of_file(path)
    if found is None and path.is_file() and not path.read_bytes().strip():
        raise AnnotationError(f"{path}: is empty")
    if found is None:
        way_out = _WAYS_OUT.get(path.suffix.lower(), "name it with --from")
        raise AnnotationError(f"{path}: its format cannot be detected from its content; {way_out}")
    return found


def _of_folder(path: Path) -> Format | None:
    signs: tuple[tuple[str, Format], ...] = (
        ("*.[bB][oO][rR][iI][sS]", "boris"),
        ("*.[eE][aA][fF]", "elan"),
        ("thumos_gt.json", "thumos14-afsd"),
        ("anet_anno_action.json", "bmn"),
        ("EPIC_100_*.csv", "epic-kitchens"),
        ("Charades_v1_*.csv", "charades"),
        ("moments_*.json", "ego4d-mq"),
        ("GolfSwing_*.txt", "thumos14"),
        ("*/GolfSwing_*.txt", "thumos14"),
        ("BasketballBlock.txt", "multithumos"),
    )
    found = {form for pattern, form in signs if next(path.glob(pattern), None) is not None}
    for suffix in (".xml", ".json", ".tsv", ".csv"):
        files = sorted(file for file in path.iterdir() if file.suffix.lower() == suffix) if not found else []
        form = next((form for file in files if (form := _if_readable(file)) in _IN_FOLDERS), None)
        found |= {form} if form is not None else set()
    return found.pop() if len(found) == 1 else None


def _if_readable(path: Path) -> Format | None:
    """The format of a file of a folder; None if it is damaged, which must not cost the others."""
    try:
        return _of_file(path)
    except AnnotationError:
        return None


def _of_file(path: Path) -> Format | None:
    match path.suffix.lower():
        case ".boris":
            return "boris"
        case ".eaf":
            return "elan"
        case ".xml":
            return _of_xml(path)
        case ".csv" | ".tsv" | ".txt":
            return _of_table(path)
        case ".json":
            return _of_json(read_json(path, error=AnnotationError), path)
        case _:
            return None


def _of_xml(path: Path) -> Format | None:
    start = read_text(path)[:2000]
    if "<ANNOTATION_DOCUMENT" in start:
        return "elan"
    return "cvat" if re.search(r"<annotations>", start) else None


def _of_table(path: Path) -> Format | None:
    text = read_text(path)
    lines = text.splitlines()
    headings: tuple[tuple[set[str], Format], ...] = (
        ({"video", "type", "type_idx", "start", "end"}, "thumos14-afsd"),
        ({"id", "actions", "length"}, "charades"),
        ({"video_id", "start_timestamp", "verb_class"}, "epic-kitchens"),
    )
    first = {cell.strip() for cell in lines[0].split(",")} if lines else set()
    found: list[Format] = [form for wanted, form in headings if wanted <= first]
    if {"annotation_id", "annotator"} <= {cell.strip('" ') for cell in re.split(r"[,\t]", lines[0] if lines else "")}:
        found.append("label-studio")
    if any(line.startswith("# CSV_HEADER = metadata_id") for line in lines[:50]):
        found.append("via")
    if is_plain_table(text):
        found = ["csv"]
    if any("Behavior" in re.split(r"[,;\t]", line.replace('"', "")) for line in lines[:50]):
        found.append("boris")
    return found[0] if len(found) == 1 else None


def _of_json(content: Any, path: Path) -> Format | None:
    if isinstance(content, list):
        first = content[0] if content and isinstance(content[0], dict) else {}
        return "label-studio" if "data" in first or "annotation_id" in first else None
    if not isinstance(content, dict):
        return None
    if isinstance(content.get("results"), dict):
        raise AnnotationError(
            f"{path}: holds detections, not annotations; tadkit data export-detections writes them in other forms"
        )
    if {"file", "metadata", "attribute", "view"} <= set(content) or "_via_img_metadata" in content:
        return "via"
    if {"data", "annotations"} <= set(content) or {"task", "result"} <= set(content):
        return "label-studio"
    if {"observations", "behaviors_conf"} <= set(content):
        return "boris"
    if isinstance(content.get("videos"), list):
        return "ego4d-mq"
    if isinstance(content.get("database"), dict):
        return _of_database(content)
    return _of_flat(content)


def _of_database(content: dict[str, Any]) -> Format | None:
    if str(content.get("version", "")).startswith("tadkit"):
        return "tadkit"
    entries = content["database"]
    if not all(re.match(r"video_(validation|test)_\d+$", name) for name in entries):
        return "activitynet"
    subsets = {str(entry.get("subset")) for entry in entries.values() if isinstance(entry, dict)}
    found = [form for words, form in _THUMOS_SUBSETS if subsets <= words]
    return found[0] if len(found) == 1 else None


def _of_flat(content: dict[str, Any]) -> Format | None:
    name, entry = next(iter(content.items()), ("", None))
    if not isinstance(entry, dict):
        return None
    if "duration_second" in entry:
        return "bmn"
    if "actions" in entry:
        return "multithumos" if name.startswith("video_") else "charades"
    return None
