"""Write a track store: complete videos are added one by one and survive a killed process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from filelock import FileLock
from jaxtyping import Float64

from tadkit.errors import StoreError
from tadkit.files import acquired
from tadkit.store.layout import (
    DAMAGED,
    KEY,
    VIDEOS,
    Index,
    Kind,
    Place,
    advice,
    open_file,
    part_path,
    parts_folder,
    quoted,
    read_index,
    write_index,
)
from tadkit.store.parts import PartWriter, VideoEntry
from tadkit.store.pieces import remove_other_pieces


class TrackStore:
    """A store open for writing; created by :func:`open_store`, used as a context manager."""

    def __init__(
        self, path: Path, *, kind: Kind, settings: Mapping[str, Any], labels: Sequence[str] | None, lock: FileLock
    ) -> None:
        self._path = path
        self._lock = lock
        found = read_index(path, kind=kind).places if path.exists() else {}
        if any(place.file == path for place in found.values()):
            raise StoreError(f"{path}: one part of a store, which is read-only; name the .h5 file beside its folder")
        self._remove_leftovers()
        self._index = Index(kind, settings, None if labels is None else tuple(labels), self._adopt(kind, found))
        write_index(path, self._index)

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the store for other writers."""
        self.close()

    def close(self) -> None:
        """Release the store for other writers; everything is on disk already."""
        if self._lock.is_locked:
            self._remove_leftovers()
            self._lock.release()

    def videos(self) -> list[str]:
        """Names of the complete videos, sorted."""
        return sorted(self._index.places)

    def has(self, video: str, key: str) -> bool:
        """Whether ``video`` is present, readable, and has this ``key``."""
        place = self._index.places.get(video)
        if place is None:
            return False
        try:
            with open_file(place.file, kind=self._index.kind) as file:
                return bool(file[place.group].attrs[KEY] == key)
        except (StoreError, *DAMAGED):
            return False

    @contextmanager
    def video(
        self,
        name: str,
        *,
        key: str,
        stamps_s: Float64[np.ndarray, " stamps"],
        attributes: Mapping[str, str | float | bool],
    ) -> Iterator[VideoEntry]:
        """Write one video; if the block ends without an exception it replaces an older one, else nothing changes.

        Args:
            name: any non-empty text.
            key: digest of everything the content depends on.
            stamps_s: seconds of the frames (flow) or of the steps (features).
            attributes: such as ``source``, ``source_sha256``, ``duration_s``.

        Raises:
            StoreError: the file cannot be written, or a flow track does not have one step fewer than frames.
        """
        with self.parts.video(name, key=key, stamps_s=stamps_s, attributes=attributes) as entry:
            yield entry
        self.link(name)

    @property
    def parts(self) -> PartWriter:
        """Writer of parts, for this or another process; :meth:`link` then adds them to the index."""
        return PartWriter(self._path, self._index.kind, self._index.settings, self._index.labels)

    def link(self, *names: str) -> None:
        """Add the parts of the videos ``names`` to the index, which is written once for all of them."""
        places = {name: Place(part_path(self._path, name), f"/{VIDEOS}/{quoted(name)}") for name in names}
        if any(self._index.places.get(name) != place for name, place in places.items()):
            self._add(places)

    def keep_pieces(self, keys: Mapping[str, str]) -> None:
        """Delete the pieces of unfinished videos, except those of the videos in ``keys`` with these keys."""
        remove_other_pieces(self._path, keys)

    def _add(self, places: Mapping[str, Place]) -> None:
        index = self._index
        self._index = Index(index.kind, index.settings, index.labels, {**index.places, **places})
        write_index(self._path, self._index)

    def _remove_leftovers(self) -> None:
        """Delete temporary files of killed writers; only under the lock, when no other writer is active."""
        for leftover in self._path.parent.glob(f".{escape(self._path.stem[:60])}.????????{escape(self._path.suffix)}"):
            leftover.unlink(missing_ok=True)
        for leftover in parts_folder(self._path).glob(".*.h5"):
            leftover.unlink(missing_ok=True)

    def _adopt(self, kind: Kind, found: Mapping[str, Place]) -> dict[str, Place]:
        """Add complete parts missing from the index: the writer was killed in between, or the index was deleted."""
        places, linked = dict(found), {place.file for place in found.values()}
        for part in sorted(parts_folder(self._path).glob("*.h5")):
            if part not in linked:
                try:
                    places.update(read_index(part, kind=kind).places)
                except StoreError:
                    continue
        return places


def open_store(
    path: Path, *, kind: Kind, settings: Mapping[str, Any], labels: Sequence[str] | None = None
) -> TrackStore:
    """Open the store ``path`` for writing; existing videos are kept.

    The settings and labels become those of the store; check with :meth:`TrackStore.has` which videos are up to date.

    Args:
        path: the ``.h5`` file; the folder ``<path>.parts`` beside it contains the videos.
        kind: flow or features.
        settings: JSON values: method, parameters, size, rate, model digest.
        labels: class names, if tracks are predictions.

    Raises:
        StoreError: another kind of file, of a newer version, damaged, or being written by another process.
        UsageError: the folder cannot be written to.
    """
    if path.exists():
        read_index(path, kind=kind)
    folder = parts_folder(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be created ({error.strerror}); {advice(kind, settings)} in another folder"
        ) from error
    taken = StoreError(f"{path}: another process is writing to it; wait for it to finish, or name another file")
    lock = acquired(folder / ".lock", refusal=taken)
    try:
        return TrackStore(path, kind=kind, settings=settings, labels=labels, lock=lock)
    except BaseException:
        lock.release()
        raise
