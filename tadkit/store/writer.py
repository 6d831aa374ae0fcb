"""Writing a track store: whole videos appear one by one, whatever happens to the process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import Float64, Shaped

from tadkit.errors import StoreError
from tadkit.files import whole_file
from tadkit.store.layout import (
    COMPLETE,
    KEY,
    STAMPS,
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
    write_root,
)

_CHUNK_BYTES = 1 << 18
_CHUNK_STEPS = 512
_GZIP_LEVEL = 1


class VideoEntry:
    """One video being written; it joins the store when its ``with`` block ends without an exception."""

    def __init__(self, group: h5py.Group, where: str) -> None:
        self._group = group
        self._where = where

    def append(self, track: str, values: Shaped[np.ndarray, "steps ..."], *, bound: float | None = None) -> None:
        """Add ``values`` at the end of ``track``, which the first call makes.

        Args:
            track: name such as ``motion`` or ``original/motion``.
            values: steps along the first axis; type and other sizes are those of the first call.
            bound: value that the code's largest integer stands for (flow: pixels), kept as an attribute.

        Raises:
            StoreError: the values do not fit the earlier ones, or cannot be written.
        """
        dataset = self._group.get(track)
        if dataset is None:
            dataset = self._create(track, values)
        if dataset.dtype != values.dtype or dataset.shape[1:] != values.shape[1:]:
            got, want = f"{values.dtype} {values.shape[1:]}", f"{dataset.dtype} {dataset.shape[1:]}"
            raise StoreError(f"{self._where}: track '{track}' got {got} after {want}; append values of one form")
        if bound is not None:
            dataset.attrs["bound"] = float(bound)
        length = dataset.shape[0]
        try:
            dataset.resize(length + len(values), axis=0)
            dataset[length:] = values
        except OSError as error:
            raise StoreError(f"{self._where}: cannot be written ({error}); is the disk full?") from error

    def describe(self, **attributes: str | float | bool) -> None:
        """Set attributes that are known only at the end, such as ``clipped``."""
        self._group.attrs.update(attributes)

    def _create(self, track: str, values: Shaped[np.ndarray, "steps ..."]) -> h5py.Dataset:
        assert track != STAMPS, "stamps_s is not a track"
        assert all(part.strip(".") for part in track.split("/")), track
        step_bytes = max(1, values.dtype.itemsize * int(np.prod(values.shape[1:])))
        steps = min(_CHUNK_STEPS, max(1, _CHUNK_BYTES // step_bytes))
        return self._group.create_dataset(
            track,
            shape=(0, *values.shape[1:]),
            maxshape=(None, *values.shape[1:]),
            chunks=(steps, *values.shape[1:]),
            dtype=values.dtype,
            compression="gzip",
            compression_opts=_GZIP_LEVEL,
            shuffle=values.dtype.itemsize > 1,
            fletcher32=True,
        )


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
        part, group = part_path(self._path, name), f"/{VIDEOS}/{quoted(name)}"
        with whole_file(part) as temporary, h5py.File(temporary, "w", locking=False) as file:
            write_root(file, self._index.kind, self._index.settings, self._index.labels)
            content = file.create_group(group)
            content.create_dataset(STAMPS, data=np.asarray(stamps_s, dtype=np.float64))
            content.attrs.update(attributes)
            yield VideoEntry(content, f"{self._path}: '{name}'")
            self._check(name, content)
            content.attrs.update({KEY: key, COMPLETE: True})
        if name not in self._index.places or self._index.places[name].file != part:
            self._add({name: Place(part, group)})

    def _check(self, name: str, content: h5py.Group) -> None:
        motion, frames = content.get("motion"), len(content[STAMPS])
        if self._index.kind == "flow" and motion is not None and len(motion) != max(frames - 1, 0):
            raise StoreError(
                f"{self._path}: '{name}' has {len(motion)} flows for {frames} frames, expected one fewer than frames; "
                f"extract it again with: tadkit extract-flow"
            )

    def _add(self, places: Mapping[str, Place]) -> None:
        index = self._index
        self._index = Index(index.kind, index.settings, index.labels, {**index.places, **places})
        write_index(self._path, self._index)

    def _remove_leftovers(self) -> None:
        """Delete what killed writers had begun: only under the lock, where no other writer is at work."""
        for leftover in self._path.parent.glob(f".{escape(self._path.stem[:60])}.????????{escape(self._path.suffix)}"):
            leftover.unlink()
        for leftover in parts_folder(self._path).glob(".*.h5"):
            leftover.unlink()

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
