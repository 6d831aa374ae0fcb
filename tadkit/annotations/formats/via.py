"""VIA 3, the VGG Image Annotator's video form (Dutta and Zisserman, ACM MM 2019): a project as JSON.

A segment is a metadata entry with two times ``z`` in seconds; its class is the value of an attribute for temporal
segments. If a segment has several such attributes, the one named TEMPORAL-SEGMENTS or ``action`` gives the class, else
the first. Subset, duration and rate are attributes of the whole file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tadkit.annotations.formats.source import Known, Source, SourceVideo, action, described, file_of, name_of_file
from tadkit.errors import AnnotationError
from tadkit.files import read_json, write_text

_SEGMENT_ANCHOR, _FILE_ANCHOR = "FILE1_Z2_XY0", "FILE1_Z0_XY0"
_NAMES = ("action", "TEMPORAL-SEGMENTS")
_VIDEO, _LOCAL = 4, 1
_SELECT, _TEXT = 4, 1
_OF_FILE = ("subset", "duration_s", "fps")


_CONFIG = {
    "file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}},
    "ui": {
        "file_content_align": "center",
        "file_metadata_editor_visible": True,
        "spatial_metadata_editor_visible": True,
        "temporal_segment_metadata_editor_visible": True,
        "spatial_region_label_attribute_id": "",
        "gtimeline_visible_row_count": "4",
    },
}


def read_via(path: Path) -> Source:
    """Read a project.

    Raises:
        AnnotationError: not in this format, or a segment without a class.
    """
    content = read_json(path, error=AnnotationError)
    if not isinstance(content, dict) or not {"file", "metadata", "attribute", "view"} <= set(content):
        raise AnnotationError(f"{path}: expected a VIA 3 project with 'file', 'view', 'attribute' and 'metadata'")
    names = {vid: _name(content, vid, path) for vid in content["view"]}
    found: dict[str, list[Any]] = {vid: [] for vid in names}
    of_file: dict[str, dict[str, str]] = {vid: {} for vid in names}
    others = 0
    for item in content["metadata"].values():
        vid, z = str(item.get("vid")), item.get("z") or []
        if vid not in names:
            raise AnnotationError(f"{path}: metadata of the unknown view '{vid}'")
        if len(z) == 2 and not item.get("xy"):
            where = f"{path}: '{names[vid]}'"
            found[vid].append(action(z[0], z[1], _label(content["attribute"], item.get("av") or {}, where), where))
        elif not z and not item.get("xy"):
            of_file[vid] |= {content["attribute"][key]["aname"]: value for key, value in (item.get("av") or {}).items()}
        else:
            others += 1
    videos = tuple(described(names[vid], found[vid], of_file[vid], f"{path}: '{names[vid]}'") for vid in names)
    remark = f"{path}: {others} regions or single moments that are not segments are left out"
    return Source(videos, (remark,) if others else ())


def _name(content: Mapping[str, Any], vid: str, path: Path) -> str:
    files = content["view"][vid].get("fid_list") or []
    if len(files) != 1 or str(files[0]) not in content["file"]:
        raise AnnotationError(f"{path}: view '{vid}' shows {len(files)} files; expected one video per view")
    file = content["file"][str(files[0])]
    return name_of_file(str(file.get("fname") or file.get("src")))


def _label(attributes: Mapping[str, Any], values: Mapping[str, Any], where: str) -> str:
    fitting = [key for key in values if attributes.get(key, {}).get("anchor_id") == _SEGMENT_ANCHOR]
    fitting = [key for key in fitting if attributes[key].get("aname") in _NAMES] or fitting
    chosen = str(values[fitting[0]]).strip() if fitting else ""
    options = (attributes[fitting[0]].get("options") or {}) if fitting else {}
    parts = chosen.split(",")
    if not chosen or (len(parts) > 1 and all(part in options for part in parts)):
        raise AnnotationError(f"{where} has a segment without one class; give its attribute one value in VIA")
    return str(options.get(chosen, chosen)).strip()


def write_via(path: Path, videos: Sequence[SourceVideo], known: Known) -> None:
    """Write a project with the classes as options of one attribute."""
    labels = sorted({a.label for video in videos for a in video.annotations})
    option = {label: str(place) for place, label in enumerate(labels)}
    action_attribute = _attribute("action", _SEGMENT_ANCHOR, _SELECT, {key: label for label, key in option.items()})
    of_file = {str(place): _attribute(name, _FILE_ANCHOR, _TEXT, {}) for place, name in enumerate(_OF_FILE, start=2)}
    files, views, metadata = {}, {}, {}
    for place, video in enumerate(videos, start=1):
        vid, name = str(place), file_of(video, known)
        files[vid] = {"fid": vid, "fname": name, "type": _VIDEO, "loc": _LOCAL, "src": name}
        views[vid] = {"fid_list": [vid]}
        for at, a in enumerate(video.annotations):
            metadata[f"{vid}_s{at:06}"] = _entry(vid, [a.start_s, a.end_s], {"1": option[a.label]})
        said = (video.subset, video.duration_s, video.fps)
        values = {str(k): str(value) for k, value in enumerate(said, start=2) if value not in (None, "")}
        if values:
            metadata[f"{vid}_file"] = _entry(vid, [], values)
    project = {
        "project": {
            "pid": "__VIA_PROJECT_ID__",
            "rev": "__VIA_PROJECT_REV_ID__",
            "rev_timestamp": "__VIA_PROJECT_REV_TIMESTAMP__",
            "pname": path.stem,
            "creator": "tadkit",
            "created": 0,
            "vid_list": list(views),
            "data_format_version": "3.1.1",
        },
        "config": _CONFIG,
        "attribute": {"1": action_attribute, **of_file},
        "file": files,
        "metadata": metadata,
        "view": views,
    }
    write_text(path, json.dumps(project, indent=1) + "\n")


def _attribute(name: str, anchor: str, kind: int, options: Mapping[str, str]) -> dict[str, Any]:
    rest = {"desc": "", "options": dict(options), "default_option_id": ""}
    return {"aname": name, "anchor_id": anchor, "type": kind, **rest}


def _entry(vid: str, z: list[float], values: Mapping[str, str]) -> dict[str, Any]:
    return {"vid": vid, "flg": 0, "z": z, "xy": [], "av": dict(values)}
