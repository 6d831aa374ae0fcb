"""What a track store contains, without reading its tracks; works on damaged and incomplete stores too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import h5py

from tadkit.errors import StoreError
from tadkit.store.layout import (
    COMPLETE,
    DAMAGED,
    KEY,
    STAMPS,
    Kind,
    Place,
    attributes_of,
    open_file,
    parts_folder,
    read_index,
)


@dataclass(frozen=True)
class TrackSurvey:
    """One dataset: its shape and its code."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bound: float | None
    """Value of the largest integer of the code; None if the track is not coded."""
    stored_bytes: int
    """Compressed."""


@dataclass(frozen=True)
class VideoSurvey:
    """One video of a store; if ``problem`` is not None, the other fields are what could still be read."""

    name: str
    file: Path
    file_bytes: int = 0
    producer: str | None = None
    settings: Mapping[str, Any] | None = None
    """Settings of its own file; the store's settings are those of the last writer."""
    attributes: Mapping[str, Any] | None = None
    stamps: int = 0
    tracks: tuple[TrackSurvey, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class StoreSurvey:
    """A store, or one part of a store, and its videos sorted by name."""

    path: Path
    kind: Kind
    version: int
    producer: str
    settings: Mapping[str, Any]
    labels: tuple[str, ...] | None
    index_bytes: int
    """Size of the file ``path`` itself; 0 for a part, whose file is counted with its video."""
    videos: tuple[VideoSurvey, ...]
    unlinked: tuple[Path, ...]
    """Parts that the index does not link to; the next extraction links the complete ones."""
    unfinished: tuple[Path, ...]
    """Temporary files and piece folders of a writer that was killed or is still running."""


def survey_store(path: Path, *, video: str | None = None) -> StoreSurvey:
    """Describe the store, or the part of a store, at ``path``; of either kind.

    A missing or damaged file of a video is reported as its ``problem``; the other videos are described as usual.

    Args:
        path: the ``.h5`` file.
        video: describe only this one.

    Raises:
        StoreError: missing, not HDF5, damaged, not a track store, of a newer version, or without that video.
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
        similar = f"; did you mean '{alike[0]}'?" if alike else ";"
        raise StoreError(f"{path}: no video '{video}' among its {len(places)}{similar} tadkit inspect lists them")
    return video


def _root(path: Path) -> tuple[Kind, int, str]:
    """Kind, version and producer; :func:`read_index` then refuses files that are not track stores."""
    if not path.is_file():
        raise StoreError(f"{path}: no such file; expected a store (.h5) of tadkit extract-flow or extract-features")
    with open_file(path, kind="flow") as file:
        try:
            attributes = dict(file.attrs)
            version = int(attributes.get("version", 0))
        except DAMAGED as error:
            raise StoreError(f"{path}: its attributes cannot be read ({error}); make it again") from error
    found = attributes.get("kind")
    kind: Kind = next((kind for kind in get_args(Kind) if kind == found), "flow")
    return kind, version, str(attributes.get("producer", "unknown"))


def _video(name: str, place: Place, kind: Kind) -> VideoSurvey:
    if not place.file.is_file():
        return VideoSurvey(name, place.file, problem=f"{place.file} is missing")
    try:
        with open_file(place.file, kind=kind) as file:
            return _surveyed(name, place.file, file, file[place.group])
    except (StoreError, *DAMAGED) as error:
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
