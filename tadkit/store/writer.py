"""Writing a track store: whole videos appear one by one, whatever happens to the process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import Float64

from tadkit.errors import StoreError
from tadkit.store.layout import (
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
    """A store open for writing; made by :func:`open_store`, used as a context manager."""

    def __init__(
        self, path: Path, *, kind: Kind, settings: Mapping[str, Any], labels: Sequence[str] | None, lock: FileLock
    ) -> None:
        self._path = path
        self._lock = lock
        found = read_index(path, kind=kind).places if path.exists() else {}
        if any(place.file == path for place in found.values()):
            raise StoreError(f"{path}: one part of a store, to be read only; name the .h5 file beside its folder")
        self._remove_leftovers()
        self._index = Index(kind, settings, None if labels is None else tuple(labels), self._adopt(kind, found))
        write_index(path, self._index)

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let other writers in."""
        self.close()

    def close(self) -> None:
        """Let other writers in; everything is on disk already."""
        if self._lock.is_locked:
            self._remove_leftovers()
            self._lock.release()

    def videos(self) -> list[str]:
        """Names of the videos that are complete, sorted."""
        return sorted(self._index.places)

    def has(self, video: str, key: str) -> bool:
        """Whether ``video`` is there, readable, and was made from what ``key`` stands for."""
        place = self._index.places.get(video)
        if place is None:
            return False
        try:
            with open_file(place.file, kind=self._index.kind) as file:
                return bool(file[place.group].attrs[KEY] == key)
        except (StoreError, OSError, KeyError, RuntimeError):
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
        """Write one video; when the block ends well it takes the place of an older one, else nothing changes.

        Args:
            name: any text that is not empty.
            key: digest of everything that the content depends on.
            stamps_s: seconds of the frames (flow) or of the steps (features).
            attributes: such as ``source``, ``source_sha256``, ``duration_s``.

        Raises:
            StoreError: the file cannot be written, or a flow track has not one step fewer than there are frames.
        """
        with self.parts.video(name, key=key, stamps_s=stamps_s, attributes=attributes) as entry:
            yield entry
        self.link(name)

    @property
    def parts(self) -> PartWriter:
        """What writes the videos, here or in another process; :meth:`link` then names them in the index."""
        return PartWriter(self._path, self._index.kind, self._index.settings, self._index.labels)

    def link(self, *names: str) -> None:
        """Name the whole parts of the videos ``names`` in the index, which is written once for all of them."""
        places = {name: Place(part_path(self._path, name), f"/{VIDEOS}/{quoted(name)}") for name in names}
        if any(self._index.places.get(name) != place for name, place in places.items()):
            self._add(places)

    def keep_pieces(self, keys: Mapping[str, str]) -> None:
        """Delete the pieces of unfinished videos, but those of the videos in ``keys`` made from what their keys say."""
        remove_other_pieces(self._path, keys)

    def _add(self, places: Mapping[str, Place]) -> None:
        index = self._index
        self._index = Index(index.kind, index.settings, index.labels, {**index.places, **places})
        write_index(self._path, self._index)

    def _remove_leftovers(self) -> None:
        """Delete what killed writers had begun: only under the lock, where no other writer is at work."""
        for leftover in self._path.parent.glob(f".{escape(self._path.stem[:60])}.????????{escape(self._path.suffix)}"):
            leftover.unlink(missing_ok=True)
        for leftover in parts_folder(self._path).glob(".*.h5"):
            leftover.unlink(missing_ok=True)

    def _adopt(self, kind: Kind, found: Mapping[str, Place]) -> dict[str, Place]:
        """Add whole parts that no index names: the writer was killed between the two, or the index was deleted."""
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
    """Open the store ``path`` for writing, new or with the videos that it has.

    The settings and labels become those of the store; which videos are still good is for their keys to say
    (:meth:`TrackStore.has`).

    Args:
        path: the ``.h5`` file; the folder ``<path>.parts`` beside it holds the videos.
        kind: what the tracks are.
        settings: JSON values: method, parameters, size, rate, model digest.
        labels: class names, where tracks are predictions.

    Raises:
        StoreError: it is another kind of file, of a newer version, damaged, or being written by another process.
        UsageError: the folder cannot be written to.
    """
    if path.exists():
        read_index(path, kind=kind)
    folder = parts_folder(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be made ({error.strerror}); {advice(kind)} in another place") from error
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise StoreError(f"{path}: another process is writing to it; let it end, or name another file") from error
    try:
        return TrackStore(path, kind=kind, settings=settings, labels=labels, lock=lock)
    except BaseException:
        lock.release()
        raise
