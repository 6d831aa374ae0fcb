"""Pieces of an unfinished video, so that work is not lost when the writer is killed.

A long video's part is assembled from pieces, each an HDF5 file in a hidden folder beside the parts. The folder is named
by the video and the key of its content, and is removed once the part is in place.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from tadkit.errors import StoreError
from tadkit.files import canonical_json, whole_file
from tadkit.store.layout import KEY, attributes_of, part_path, parts_folder
from tadkit.store.parts import VideoEntry

_DIGEST = "sha256"
_FOLDERS = ".pieces-*"


class Pieces:
    """The pieces of one video, numbered from 0; written by one process at a time."""

    def __init__(self, store: Path, video: str, *, key: str) -> None:
        self.folder = pieces_folder(store, video, key)
        self._key = key

    def has(self, number: int) -> bool:
        """Whether piece ``number`` exists, has this key, and is undamaged."""
        try:
            with self._open(number) as file:
                return bool(file.attrs[KEY] == self._key and file.attrs[_DIGEST] == _digest(file))
        except (OSError, KeyError, RuntimeError):
            return False

    @contextmanager
    def write(self, number: int) -> Iterator[VideoEntry]:
        """Write piece ``number``; it exists once the block ends without an exception.

        Raises:
            StoreError: it cannot be written.
            UsageError: the folder cannot be created.
        """
        path = self._path(number)
        with whole_file(path) as temporary, h5py.File(temporary, "w", locking=False) as file:
            yield VideoEntry(file, str(path))
            file.attrs[KEY] = self._key
            file.flush()
            file.attrs[_DIGEST] = _digest(file)

    def attributes(self, number: int) -> dict[str, Any]:
        """Attributes of piece ``number``."""
        with self._open(number) as file:
            return attributes_of(file, leave_out=(KEY, _DIGEST))

    def append_to(self, entry: VideoEntry, track: str, numbers: Iterable[int]) -> None:
        """Append ``track`` of the pieces ``numbers`` to a video being written.

        Raises:
            StoreError: a piece is missing or damaged.
        """
        for number in numbers:
            try:
                with self._open(number) as file:
                    entry.append_stored(track, file[track])
            except (OSError, KeyError) as error:
                raise StoreError(
                    f"{self._path(number)}: cannot be read ({error}); run the same command again"
                ) from error

    def remove(self) -> None:
        """Delete all pieces."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.h5"

    def _open(self, number: int) -> h5py.File:
        return h5py.File(self._path(number), "r", locking=False)


def pieces_folder(store: Path, video: str, key: str) -> Path:
    """Folder of the pieces of ``video`` with content key ``key``."""
    wanted = hashlib.sha256(key.encode()).hexdigest()[:16]
    return parts_folder(store) / f".pieces-{part_path(store, video).stem}-{wanted}"


def remove_other_pieces(store: Path, keys: Mapping[str, str]) -> None:
    """Delete all pieces except those of the videos in ``keys`` with these keys.

    Temporary files of killed writers in the kept folders are deleted too. Call only while holding the store's lock.
    """
    wanted = {pieces_folder(store, video, key) for video, key in keys.items()}
    for folder in parts_folder(store).glob(_FOLDERS):
        if folder not in wanted:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            for leftover in folder.glob(".*"):
                leftover.unlink()


def _digest(file: h5py.File) -> str:
    """SHA-256 of the attributes and of the compressed bytes of all datasets."""
    attributes = attributes_of(file, leave_out=(_DIGEST,))
    total = hashlib.sha256(canonical_json(attributes).encode())
    for name, dataset in sorted(file.items()):
        described = [name, str(dataset.dtype), list(dataset.shape), attributes_of(dataset)]
        total.update(canonical_json(described).encode())
        for start in range(0, len(dataset), dataset.chunks[0]):
            _, packed = dataset.id.read_direct_chunk((start, *(0,) * (dataset.ndim - 1)))
            total.update(packed)
    return total.hexdigest()
