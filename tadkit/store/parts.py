"""Write one video of a track store to a file of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float64, Shaped

from tadkit.errors import StoreError
from tadkit.files import whole_file
from tadkit.store.layout import COMPLETE, KEY, STAMPS, VIDEOS, Kind, part_path, quoted, refuse_full_disk, write_root

_CHUNK_BYTES = 1 << 18
_CHUNK_STEPS = 512
_GZIP_LEVEL = 1


class VideoEntry:
    """One video being written; it becomes part of the store when its ``with`` block ends without an exception."""

    def __init__(self, group: h5py.Group, where: str) -> None:
        self._group = group
        self._where = where
        self._folder = Path(group.file.filename).parent

    def append(self, track: str, values: Shaped[np.ndarray, "steps ..."], *, bound: float | None = None) -> None:
        """Append ``values`` to ``track``, which the first call creates.

        Args:
            track: name such as ``motion`` or ``original/motion``.
            values: steps along the first axis; dtype and other sizes must be those of the first call.
            bound: value of the code's largest integer (flow: pixels), stored as an attribute.

        Raises:
            StoreError: the values differ from earlier ones in dtype or shape, or cannot be written.
        """
        dataset = self._dataset(track, values)
        if bound is not None:
            dataset.attrs["bound"] = float(bound)
        length = dataset.shape[0]
        refuse_full_disk(self._where, self._folder, values.nbytes)
        try:
            dataset.resize(length + len(values), axis=0)
            dataset[length:] = values
        except OSError as error:
            raise StoreError(f"{self._where}: cannot be written ({error}); is the disk full?") from error

    def append_stored(self, track: str, stored: h5py.Dataset) -> None:
        """Append all steps of a dataset written by another entry, copying its compressed chunks.

        Raises:
            StoreError: the dataset differs from earlier values in dtype or shape, or cannot be written.
        """
        dataset = self._dataset(track, stored)
        dataset.attrs.update(stored.attrs)
        length, steps, tail = dataset.shape[0], dataset.chunks[0], (0,) * (dataset.ndim - 1)
        assert stored.chunks == dataset.chunks, (stored.chunks, dataset.chunks)
        assert length % steps == 0, (length, steps)
        refuse_full_disk(self._where, self._folder, stored.id.get_storage_size())
        try:
            dataset.resize(length + len(stored), axis=0)
            for start in range(0, len(stored), steps):
                mask, packed = stored.id.read_direct_chunk((start, *tail))
                dataset.id.write_direct_chunk((length + start, *tail), packed, mask)
        except OSError as error:
            raise StoreError(f"{self._where}: cannot be written ({error}); is the disk full?") from error

    def describe(self, **attributes: str | float | bool) -> None:
        """Set attributes that are only known at the end, such as ``clipped``."""
        self._group.attrs.update(attributes)

    def _dataset(self, track: str, values: Any) -> h5py.Dataset:
        dataset = self._group.get(track)
        if dataset is None:
            dataset = self._create(track, values)
        if dataset.dtype != values.dtype or dataset.shape[1:] != values.shape[1:]:
            got, want = f"{values.dtype} {values.shape[1:]}", f"{dataset.dtype} {dataset.shape[1:]}"
            raise StoreError(
                f"{self._where}: track '{track}' got {got} after {want}; append values of one dtype and shape"
            )
        return dataset

    def _create(self, track: str, values: Any) -> h5py.Dataset:
        assert track != STAMPS, "stamps_s is not a track"
        assert all(part.strip(".") for part in track.split("/")), track
        return self._group.create_dataset(
            track,
            shape=(0, *values.shape[1:]),
            maxshape=(None, *values.shape[1:]),
            chunks=(_chunk_steps(values.dtype, values.shape[1:]), *values.shape[1:]),
            dtype=values.dtype,
            compression="gzip",
            compression_opts=_GZIP_LEVEL,
            shuffle=values.dtype.itemsize > 1,
            fletcher32=True,
        )


def _chunk_steps(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """Steps of a chunk: a power of two, so that pieces of 512 steps end at a chunk boundary."""
    step_bytes = max(1, dtype.itemsize * int(np.prod(shape)))
    most = min(_CHUNK_STEPS, max(1, _CHUNK_BYTES // step_bytes))
    return 1 << (most.bit_length() - 1)


@dataclass(frozen=True)
class PartWriter:
    """Writes whole parts of the store ``path``, also from other processes while one process holds the store open.

    A part belongs to the store once the index links to it (:meth:`tadkit.store.TrackStore.link`).
    """

    path: Path
    kind: Kind
    settings: Mapping[str, Any]
    labels: tuple[str, ...] | None

    @contextmanager
    def video(
        self,
        name: str,
        *,
        key: str,
        stamps_s: Float64[np.ndarray, " stamps"],
        attributes: Mapping[str, str | float | bool],
    ) -> Iterator[VideoEntry]:
        """Write the part of one video like :meth:`tadkit.store.TrackStore.video`, without updating the index.

        Raises:
            StoreError: the file cannot be written, or a flow track does not have one step fewer than frames.
        """
        part = part_path(self.path, name)
        with whole_file(part) as temporary, h5py.File(temporary, "w", locking=False) as file:
            write_root(file, self.kind, self.settings, self.labels)
            content = file.create_group(f"/{VIDEOS}/{quoted(name)}")
            content.create_dataset(STAMPS, data=np.asarray(stamps_s, dtype=np.float64))
            content.attrs.update(attributes)
            yield VideoEntry(content, f"{self.path}: '{name}'")
            self._check(name, content)
            content.attrs.update({KEY: key, COMPLETE: True})

    def _check(self, name: str, content: h5py.Group) -> None:
        motion, frames = content.get("motion"), len(content[STAMPS])
        if self.kind == "flow" and motion is not None and len(motion) != max(frames - 1, 0):
            raise StoreError(
                f"{self.path}: '{name}' has {len(motion)} flows for {frames} frames, expected one fewer than frames; "
                f"extract it again with: tadkit extract-flow"
            )
