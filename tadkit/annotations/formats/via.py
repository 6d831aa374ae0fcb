"""VIA 3, the VGG Image Annotator's video form (Dutta and Zisserman, ACM MM 2019): projects as JSON or exported CSV.

A segment is a metadata entry with two times ``z`` in seconds; one time is a moment, none is the whole file. Its classes
are the values of one attribute: the one that the user names, else the one that segments have values of; if there are
several, one named TEMPORAL-SEGMENTS or ``action``, else one with a list of options, else the first. Values of an
attribute with a list are numbers of options, several for checkboxes; ``_DEFAULT`` is VIA's mark for no value. Subset,
duration and rate are attributes of the whole file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tadkit.annotations.formats.folders import files_of, merged, not_read, read_each
from tadkit.annotations.formats.reports import MALFORMED, counted, malformed, named
from tadkit.annotations.formats.source import Known, Source, SourceVideo, action, described, file_of, name_of_file
from tadkit.annotations.formats.via_csv import of_csv
from tadkit.errors import AnnotationError
from tadkit.files import read_json, write_text
from tadkit.records import Annotation, Detection, shown

_SEGMENT_ANCHOR, _FILE_ANCHOR = "FILE1_Z2_XY0", "FILE1_Z0_XY0"
_NAMES = ("action", "TEMPORAL-SEGMENTS")
_VIDEO, _LOCAL = 4, 1
_TEXT, _SELECT = 1, 4
_UNSET = ("", "_DEFAULT")
_OF_FILE = ("subset", "duration_s", "fps")
_SCORE = str(2 + len(_OF_FILE))
"""The attribute that keeps the scores of detections."""


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


def read_via(path: Path, known: Known) -> Source:
    """Read a project (JSON) or an export (CSV), or all of a folder.

    Raises:
        AnnotationError: no file is in this format.
    """
    files = files_of(path, "*.json", "*.csv")
    source = merged([read_each(files, lambda file: _file(file, known)), not_read(path, files)])
    counts = Counter(video.name for video in source.videos)
    twice = sorted(name for name, count in counts.items() if count > 1)
    videos = tuple(video for video in source.videos if counts[video.name] == 1)
    lost = counted("videos are labelled more than once and left out; keep one of their views or projects", twice)
    return merged(
        [Source(videos, source.remarks, source.losses), Source((), losses=tuple(f"{path}: {one}" for one in lost))]
    )


def _file(path: Path, known: Known) -> Source:
    try:
        return _project(path, known)
    except MALFORMED as cause:
        raise malformed(path, "via", cause) from cause


def _project(path: Path, known: Known) -> Source:
    lost: list[str] = []
    content = of_csv(path, lost) if path.suffix.lower() == ".csv" else read_json(path, error=AnnotationError)
    if isinstance(content, dict) and "_via_img_metadata" in content:
        raise AnnotationError(f"{path}: a project of VIA 2, which labels pictures and has no times; label it in VIA 3")
    if not isinstance(content, dict) or not {"file", "metadata", "attribute", "view"} <= set(content):
        raise AnnotationError(f"{path}: expected a VIA 3 project with 'file', 'view', 'attribute' and 'metadata'")
    return _Project(path, content, known, lost).read()


class _Project:
    """One project: its segments become actions, and everything else is counted with its place."""

    def __init__(self, path: Path, content: Mapping[str, Any], known: Known, lost: Sequence[str]) -> None:
        self.path, self.content, self.known = path, content, known
        self.attributes: Mapping[str, Any] = content["attribute"]
        self.metadata = {key: item for key, item in content["metadata"].items() if isinstance(item, dict)}
        self.remarks: list[str] = []
        odd = [key for key in content["metadata"] if key not in self.metadata]
        self.lost: list[str] = [*lost, *(f"metadata '{key}' is not an object" for key in odd)]
        self.without_class: list[str] = []
        self.moments: list[str] = []
        self.failed: set[str] = set()
        self.regions: list[str] = []

    def read(self) -> Source:
        """All videos of the project."""
        names = {vid: name for vid in self.content["view"] if (name := self._name(vid)) is not None}
        found: dict[str, list[Annotation]] = {vid: [] for vid in names}
        of_file: dict[str, dict[str, str]] = {vid: {} for vid in names}
        class_of = self._class_attribute()
        for key, item in self.metadata.items():
            vid = str(item.get("vid"))
            if vid not in self.content["view"]:
                self.lost.append(f"metadata '{key}' is of the unknown view '{vid}'")
            if vid not in names:
                continue
            try:
                self._read_item(
                    item, f"'{names[vid]}' {item.get('z') or []} ({key})", found[vid], of_file[vid], class_of
                )
            except (AnnotationError, *MALFORMED) as cause:
                own = isinstance(cause, AnnotationError)
                self.lost.append(str(cause if own else malformed(f"'{names[vid]}' ({key})", "via", cause)))
                self.failed.add(vid)
        for vid in [vid for vid in names if not found[vid] and vid in self.failed]:
            self.lost.append(f"'{names.pop(vid)}' is left out: none of its labels could be converted")
        places = {vid: f"{self.path}: '{name}'" for vid, name in names.items()}
        videos = tuple(described(names[vid], found[vid], of_file[vid], places[vid]) for vid in names)
        remarks = (*self.remarks, *counted("regions of single frames are left out", self.regions))
        losses = (
            *self.lost,
            *counted("segments have no class; give their attribute a value in VIA", self.without_class),
            *counted("labels of single moments are not segments", self.moments),
        )
        return Source(
            videos, tuple(f"{self.path}: {one}" for one in remarks), tuple(f"{self.path}: {one}" for one in losses)
        )

    def _read_item(
        self,
        item: Mapping[str, Any],
        where: str,
        found: list[Annotation],
        of_file: dict[str, str],
        class_of: str | None,
    ) -> None:
        """Add what one metadata entry says to the actions of its video, or to what describes the file."""
        vid, z, values = str(item["vid"]), item.get("z") or [], item.get("av") or {}
        for value, kind in ((z, list), (values, dict)):
            if not isinstance(value, kind):
                raise AnnotationError(f"{where} has {shown(value)}; expected a {kind.__name__} of VIA; left out")
        if len(z) == 2:
            actions = self._actions(z, self._labels(class_of, values), where)
            found += actions
            self.failed |= set() if actions else {vid}
        elif item.get("xy"):
            self.regions.append(where)
        elif z:
            self.moments.append(where)
            self.failed.add(vid)
        else:
            of_file |= {self.attributes[aid]["aname"]: value for aid, value in values.items()}

    def _name(self, vid: str) -> str | None:
        """The name of a view's video; None if it does not show exactly one file."""
        files = self.content["view"][vid].get("fid_list") or []
        if len(files) != 1 or str(files[0]) not in self.content["file"]:
            self.lost.append(f"view '{vid}' shows {len(files)} files and is left out; expected one video per view")
            return None
        file = self.content["file"][str(files[0])]
        return name_of_file(str(file.get("fname") or file.get("src")))

    def _class_attribute(self) -> str | None:
        """The attribute that holds the classes; None if no segment has a value."""
        filled: Counter[str] = Counter()
        for item in self.metadata.values():
            z, values = item.get("z"), item.get("av")
            if isinstance(z, list) and len(z) == 2 and isinstance(values, dict):
                filled.update(aid for aid, value in values.items() if str(value).strip() not in _UNSET)
        if self.known.attribute is not None:
            return self._named(self.known.attribute)
        anchored = [aid for aid in filled if self._of(aid, "anchor_id", _SEGMENT_ANCHOR) == _SEGMENT_ANCHOR]
        candidates = sorted(anchored or filled, key=self._preference)
        if len(candidates) > 1:
            others = [str(self._of(aid, "aname", aid)) for aid in candidates[1:]]
            taken = self._of(candidates[0], "aname", candidates[0])
            self.remarks.append(
                f"classes are the values of the attribute '{taken}'; those of {named(others)} are not used; "
                "--attribute NAME chooses another"
            )
        return candidates[0] if candidates else None

    def _named(self, name: str) -> str:
        found = [aid for aid in self.attributes if name in (self._of(aid, "aname", ""), aid)]
        if not found:
            names = named(str(self._of(aid, "aname", aid)) for aid in self.attributes) or "none"
            raise AnnotationError(f"{self.path}: no attribute '{name}'; attributes: {names}")
        return min(found, key=lambda aid: self._of(aid, "anchor_id", "") != _SEGMENT_ANCHOR)

    def _of(self, aid: str, key: str, default: Any) -> Any:
        attribute = self.attributes.get(aid)
        return attribute.get(key, default) if isinstance(attribute, Mapping) else default

    def _preference(self, aid: str) -> tuple[bool, bool, int]:
        order = list(self.attributes)
        place = order.index(aid) if aid in order else len(order)
        return self._of(aid, "aname", "") not in _NAMES, self._of(aid, "type", _TEXT) == _TEXT, place

    def _labels(self, aid: str | None, values: Mapping[str, Any]) -> list[str]:
        """The classes that a segment's values name."""
        value = str(values.get(aid or "", "")).strip()
        if aid is None or value in _UNSET:
            return []
        options = self._of(aid, "options", {}) or {}
        if self._of(aid, "type", _SELECT if options else _TEXT) == _TEXT:
            return [value]
        chosen = [value] if value in options else [part.strip() for part in value.split(",")]
        if all(part in options for part in chosen):
            return [str(options[part]).strip() for part in chosen if str(options[part]).strip() not in _UNSET]
        return [] if options and all(part.isdigit() for part in chosen) else [value]

    def _actions(self, z: Sequence[Any], labels: Sequence[str], where: str) -> list[Annotation]:
        if not labels:
            self.without_class.append(where)
        try:
            return [action(z[0], z[1], label, where) for label in labels]
        except AnnotationError as error:
            self.lost.append(str(error))
            return []


def write_via(path: Path, videos: Sequence[SourceVideo], known: Known) -> None:
    """Write a project with the classes as options of one attribute; the scores of detections are another one."""
    labels = sorted({a.label for video in videos for a in video.annotations})
    option = {label: str(place) for place, label in enumerate(labels)}
    action_attribute = _attribute("action", _SEGMENT_ANCHOR, _SELECT, {key: label for label, key in option.items()})
    of_file = {str(place): _attribute(name, _FILE_ANCHOR, _TEXT, {}) for place, name in enumerate(_OF_FILE, start=2)}
    files, views, metadata, scored = {}, {}, {}, False
    for place, video in enumerate(videos, start=1):
        vid, name = str(place), file_of(video, known)
        files[vid] = {"fid": vid, "fname": name, "type": _VIDEO, "loc": _LOCAL, "src": name}
        views[vid] = {"fid_list": [vid]}
        for at, a in enumerate(video.annotations):
            values = {"1": option[a.label]} | ({_SCORE: repr(a.score)} if isinstance(a, Detection) else {})
            metadata[f"{vid}_s{at:06}"] = _entry(vid, [a.start_s, a.end_s], values)
            scored |= isinstance(a, Detection)
        said = (video.subset, video.duration_s, video.fps)
        values = {str(k): str(value) for k, value in enumerate(said, start=2) if value not in (None, "")}
        if values:
            metadata[f"{vid}_file"] = _entry(vid, [], values)
    of_score = {_SCORE: _attribute("score", _SEGMENT_ANCHOR, _TEXT, {})} if scored else {}
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
        "attribute": {"1": action_attribute, **of_file, **of_score},
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
