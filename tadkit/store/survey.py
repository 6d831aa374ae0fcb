"""What a track store holds, told without reading its tracks; of a store with holes as well as of a sound one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import h5py

from tadkit.errors import StoreError
from tadkit.store.layout import COMPLETE, KEY, STAMPS, Kind, Place, attributes_of, open_file, parts_folder, read_index


@dataclass(frozen=True)
class TrackSurvey:
    """One dataset: its form and how it is coded."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bound: float | None
    """Value that the largest integer of the code stands for; None where the track is not coded."""
    stored_bytes: int
    """Compressed."""


@dataclass(frozen=True)
class VideoSurvey:
    """One video of a store; where ``problem`` is not None, the rest is what could still be read."""

    name: str
    file: Path
    file_bytes: int = 0
    producer: str | None = None
    settings: Mapping[str, Any] | None = None
    """What its own file was made with; the store's settings are those of the last writer."""
    attributes: Mapping[str, Any] | None = None
    stamps: int = 0
    tracks: tuple[TrackSurvey, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class StoreSurvey:
    """A store, or one part of a store, and its videos in the order of their names."""

    path: Path
    kind: Kind
    version: int
    producer: str
    settings: Mapping[str, Any]
    labels: tuple[str, ...] | None
    index_bytes: int
    """Of the file ``path`` itself; 0 for a part, whose file is counted with its video."""
    videos: tuple[VideoSurvey, ...]
    unlinked: tuple[Path, ...]
    """Parts that the index does not name; the next extraction links those that are whole."""
    unfinished: tuple[Path, ...]
    """What a writer, killed or still at work, has begun: files, and folders of pieces."""


def survey_store(path: Path, *, video: str | None = None) -> StoreSurvey:
    """Tell what the store, or the part of a store, at ``path`` holds; of either kind.

    A video whose file is missing or damaged has its ``problem`` told; the others are told all the same.

    Args:
        path: the ``.h5`` file.
        video: tell of this one only.

    Raises:
        StoreError: missing, not HDF5, damaged, no track store, of a newer version, or without that video.
    """
    kind, version, producer = _root(path)
    index = read_index(path, kind=kind)
    names = sorted(index.places) if video is None else [_known(path, video, index.places)]
    videos = tuple(_video(name, index.places[name], kind) for name in names)
    is_part = any(place.file == path for place in index.places.values())
    linked = {place.file for place in index.places.values()}
    parts = [] if is_part else sorted(parts_folder(path).glob("*"))
    return StoreSurvey(
        path=path,
        kind=kind,
        version=version,
        producer=producer,
        settings=index.settings,
        labels=index.labels,
        index_bytes=0 if is_part else path.stat().st_size,
        videos=videos,
        unlinked=tuple(part for part in parts if part.match("[!.]*.h5") and part not in linked),
        unfinished=tuple(part for part in parts if part.match(".*.h5") or part.match(".pieces-*")),
    )


def _known(path: Path, video: str, places: Mapping[str, Place]) -> str:
    if video not in places:
        alike = get_close_matches(video, places, n=1) or sorted(places)[:1]
        such = f", such as '{alike[0]}'" if alike else ""
        raise StoreError(f"{path}: no video '{video}' among its {len(places)}{such}; tadkit inspect lists them")
    return video


def _root(path: Path) -> tuple[Kind, int, str]:
    """Kind, version and producer; what is no track store is left to :func:`read_index` to refuse."""
    if not path.is_file():
        raise StoreError(f"{path}: no such file; expected a store (.h5) of tadkit extract-flow or extract-features")
    with open_file(path, kind="flow") as file:
        attributes = dict(file.attrs)
    found = attributes.get("kind")
    kind: Kind = next((kind for kind in get_args(Kind) if kind == found), "flow")
    return kind, int(attributes.get("version", 0)), str(attributes.get("producer", "unknown"))


def _video(name: str, place: Place, kind: Kind) -> VideoSurvey:
    if not place.file.is_file():
        return VideoSurvey(name, place.file, problem=f"{place.file} is missing")
    try:
        with open_file(place.file, kind=kind) as file:
            return _surveyed(name, place.file, file, file[place.group])
    except (StoreError, OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        size = place.file.stat().st_size
        return VideoSurvey(name, place.file, file_bytes=size, problem=f"{place.file} is damaged ({reason})")


def _surveyed(name: str, path: Path, file: h5py.File, group: h5py.Group) -> VideoSurvey:
    tracks: list[TrackSurvey] = []

    def visit(track: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and track != STAMPS:
            bound = float(item.attrs["bound"]) if "bound" in item.attrs else None
            tracks.append(TrackSurvey(track, str(item.dtype), item.shape, bound, item.id.get_storage_size()))

    group.visititems(visit)
    return VideoSurvey(
        name,
        path,
        file_bytes=path.stat().st_size,
        producer=str(file.attrs["producer"]),
        settings=json.loads(file.attrs["settings"]),
        attributes=attributes_of(group, leave_out=(KEY, COMPLETE)),
        stamps=len(group[STAMPS]),
        tracks=tuple(sorted(tracks, key=lambda track: track.name)),
        problem=None if bool(group.attrs.get(COMPLETE, False)) else f"{path} is not complete",
    )
