"""The layout of a track store (docs/formats.md): an index that links to one file for each video.

HDF5 updates its metadata in several steps: a writer killed in between can damage everything in a file that it changes
in place. Therefore no file is ever changed: a video's part, and then the index that links to it, is written to a
temporary file and moved into place.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args
from urllib.parse import quote, unquote

import h5py
import numpy as np

from tadkit.errors import StoreError
from tadkit.files import canonical_json, leaves_folder, whole_file
from tadkit.version import __version__

Kind = Literal["flow", "features"]

FORMAT = "tadkit-tracks"
VERSION = 1
VIDEOS = "videos"
STAMPS = "stamps_s"
KEY = "key"
COMPLETE = "complete"
_MADE_BY: Mapping[str, str] = {
    "flow": "tadkit extract-flow",
    "features": (
        "tadkit extract-features (a teacher's: tadkit extract-flow --teacher; other projects': tadkit import features)"
    ),
}
_FILE_NAME_CHARACTERS = 60
DAMAGED = (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError)
"""What h5py raises for damaged files."""
_LARGEST_RATIO = 2000
"""Values that are all alike are compressed to a thousandth."""
_SMALL_BYTES = 16 << 20
_SPARE_BYTES = 4 << 20
"""For HDF5's metadata and the index; chunk buffers count as values."""


@dataclass(frozen=True)
class Place:
    """Where a video's group is: ``group`` in the HDF5 file ``file``."""

    file: Path
    group: str


@dataclass(frozen=True)
class Index:
    """The root attributes of a store, and where its videos are."""

    kind: Kind
    settings: Mapping[str, Any]
    labels: tuple[str, ...] | None
    places: Mapping[str, Place]


def advice(kind: Kind, settings: Mapping[str, Any] = MappingProxyType({})) -> str:
    """The command that makes a store of ``kind`` with these settings, as far as they say which one."""
    if kind == "features":
        if "made_up" in settings or "frozen" in settings:
            return "make it with: tadkit run RECIPE"
        if settings.get("imported") is True:
            return "import it again with: tadkit import features"
        if "teacher" in settings:
            return "make it with: tadkit extract-flow, of its recipe or with --teacher"
        if "model" in settings:
            return "make it with: tadkit extract-features"
    return f"make it with: {_MADE_BY[kind]}"


def quoted(name: str) -> str:
    """``name`` as one HDF5 link name: ``/``, ``%``, NUL, lone surrogates and all-dot names are percent-encoded."""
    if not name:
        raise StoreError("a video has an empty name; give it a name in the annotations")
    if not name.strip("."):
        return "%2E" * len(name)
    special = {c for c in name if c in "%/\0" or "\ud800" <= c <= "\udfff"}
    return "".join(quote(c, safe="", errors="surrogatepass") if c in special else c for c in name)


def unquoted(name: str) -> str:
    """The inverse of :func:`quoted`."""
    return unquote(name, errors="surrogatepass")


def parts_folder(path: Path) -> Path:
    """Folder of the parts of the store ``path``."""
    return path.with_name(f"{path.name}.parts")


def part_path(path: Path, video: str) -> Path:
    """File of ``video`` in the store ``path``: short, ASCII, and unique even where names differ only in case."""
    digest = hashlib.sha256(video.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in video)
    return parts_folder(path) / f"{plain[:_FILE_NAME_CHARACTERS]}-{digest}.h5"


def write_root(file: h5py.File, kind: Kind, settings: Mapping[str, Any], labels: Sequence[str] | None) -> None:
    """Write the root attributes, the same for an index and for a part."""
    file.attrs["format"] = FORMAT
    file.attrs["version"] = VERSION
    file.attrs["kind"] = kind
    file.attrs["producer"] = f"tadkit {__version__}"
    file.attrs["settings"] = canonical_json(dict(settings))
    if labels is not None:
        file.attrs["labels"] = json.dumps(list(labels), ensure_ascii=False)


def refuse_full_disk(where: str, folder: Path, need_bytes: int) -> None:
    """Check free disk space before HDF5 writes: after a failed write it cannot close the file, and Python crashes.

    Raises:
        StoreError: the disk of ``folder`` has no room for ``need_bytes`` plus HDF5's metadata.
    """
    free = shutil.disk_usage(folder).free
    if free < need_bytes + _SPARE_BYTES:
        needed = need_bytes + _SPARE_BYTES
        raise StoreError(
            f"{where}: the disk is nearly full ({free / 1e6:.1f} MB free, {needed / 1e6:.1f} MB needed); free some "
            "space and run the same command again: finished videos are kept"
        )


def write_index(path: Path, index: Index) -> None:
    """Write the index of a store; ``path`` is always either the old or the new one, complete.

    Raises:
        StoreError: the disk is nearly full.
        UsageError: the folder cannot be written to.
    """
    refuse_full_disk(str(path), path.parent, 0)
    with whole_file(path) as temporary, h5py.File(temporary, "w", locking=False) as file:
        write_root(file, index.kind, index.settings, index.labels)
        videos = file.create_group(VIDEOS)
        for video, place in index.places.items():
            relative = place.file.relative_to(path.parent).as_posix()
            videos[quoted(video)] = h5py.ExternalLink(relative, place.group)


def attributes_of(item: h5py.HLObject, *, leave_out: Sequence[str] = ()) -> dict[str, Any]:
    """The attributes of a file, group or dataset, with plain Python numbers in place of NumPy's."""
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in item.attrs.items()
        if name not in leave_out
    }


def open_file(path: Path, *, kind: Kind, settings: Mapping[str, Any] = MappingProxyType({})) -> h5py.File:
    """Open an HDF5 file for reading; ``settings`` are those of the store that it is part of, if known.

    Raises:
        StoreError: the file is missing, not HDF5 or truncated.
    """
    if path.is_dir():
        raise StoreError(f"{path}: a folder, not a {kind} store; name the .h5 file")
    if not path.is_file():
        raise StoreError(f"{path}: no such {kind} store; {advice(kind, settings)}")
    try:
        file = h5py.File(path, "r", locking=False)
        try:
            refuse_links(path, file)
            refuse_elsewhere(path, file)
        except BaseException:
            file.close()
            raise
    except DAMAGED as error:
        reason = " ".join(str(error).split())
        raise StoreError(
            f"{path}: not an HDF5 file, or damaged ({reason}); name another file, or delete it and "
            f"{advice(kind, settings)}"
        ) from error
    return file


def refuse_links(path: Path, file: h5py.File) -> None:
    """Refuse links that HDF5 would follow, except those of an index to the parts in its folder.

    Raises:
        StoreError: there are others.
    """

    def leads_away(name: str, link: Any) -> str | None:
        outside = isinstance(link, h5py.ExternalLink) and leaves_folder(link.filename)
        return name if outside or isinstance(link, h5py.SoftLink) else None

    if name := file.visititems_links(leads_away):
        raise StoreError(f"{path}: '{name}' is a link to somewhere else, which is not followed; extract it again")


def refuse_elsewhere(path: Path, file: h5py.File) -> None:
    """Refuse datasets whose values are in other files, or of which the file has next to nothing.

    Raises:
        StoreError: there is one.
    """

    def problem(name: str, item: Any) -> str | None:
        if not isinstance(item, h5py.Dataset):
            return None
        if item.external or item.is_virtual:
            return f"'{name}' has its values in another file, which is not read; copy them into this one"
        stored = item.id.get_storage_size()
        if item.nbytes <= max(_SMALL_BYTES, _LARGEST_RATIO * stored):
            return None
        return f"'{name}' states {item.nbytes / 1e6:,.0f} MB, but the file has {stored} bytes of it; extract it again"

    if found := file.visititems(problem):
        raise StoreError(f"{path}: {found}")


def read_index(path: Path, *, kind: Kind) -> Index:
    """Read the root of a store or of one of its parts, and check that this tadkit can read it.

    Raises:
        StoreError: missing, damaged, not a track store, of another kind, or of a newer version.
    """
    with open_file(path, kind=kind) as file:
        try:
            attributes = dict(file.attrs)
            _check(path, attributes, kind)
            places = _places(path, file[VIDEOS])
        except DAMAGED as error:
            raise StoreError(f"{path}: damaged ({error}); delete it and {advice(kind)}") from error
    try:
        settings = json.loads(attributes["settings"])
        labels = tuple(json.loads(attributes["labels"])) if "labels" in attributes else None
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path}: its settings cannot be read ({error}); delete it and {advice(kind)}") from error
    return Index(kind, settings, labels, places)


def _places(path: Path, videos: h5py.Group) -> dict[str, Place]:
    places = {}
    for name in videos:
        link = videos.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            places[unquoted(name)] = Place(path.parent / link.filename, link.path)
        else:
            places[unquoted(name)] = Place(path, f"/{VIDEOS}/{name}")
    return places


def _check(path: Path, attributes: Mapping[str, Any], kind: Kind) -> None:
    if attributes.get("format") != FORMAT:
        raise StoreError(f"{path}: HDF5, but not a tadkit track store; {advice(kind)}")
    version, found = int(attributes.get("version", 0)), attributes.get("kind")
    if version > VERSION:
        made_by = attributes.get("producer", "a newer tadkit")
        raise StoreError(
            f"{path}: version {version}, written by {made_by}; this tadkit reads up to {VERSION}: upgrade tadkit"
        )
    if found != kind:
        known = found if found in get_args(Kind) else "unknown"
        raise StoreError(f"{path}: a store of kind '{known}', expected '{kind}'; name another file or {advice(kind)}")
