"""Read a track store, lazily and from several processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import h5py
import numpy as np
from jaxtyping import Float64, Shaped

from tadkit.errors import StoreError
from tadkit.store.layout import (
    COMPLETE,
    DAMAGED,
    KEY,
    STAMPS,
    Index,
    Kind,
    advice,
    attributes_of,
    open_file,
    read_index,
)

_OPEN_FILES = 16
_APPEARANCE, _MOTION = "original/appearance", "original/motion"


class VideoTracks(Protocol):
    """What training reads of stored videos, from one store or from several."""

    def stamps_s(self, video: str) -> Float64[np.ndarray, " stamps"]:
        """Seconds of the frames (flow) or of the steps (features) of ``video``."""

    def key(self, video: str) -> str:
        """Digest of everything the content of ``video`` depends on."""

    def read(
        self, video: str, track: str, start: int = 0, stop: int | None = None
    ) -> Shaped[np.ndarray, "steps channels ..."]:
        """Steps ``start`` to ``stop`` (half open; None is the end) of ``track``, in the stored dtype."""


class TrackReader:
    """A store open for reading; made by :func:`read_store`.

    Each process opens files on first use: a reader may be pickled or inherited by a fork. It shows the videos that were
    complete when this process first read the index. Do not share it between threads.
    """

    def __init__(self, path: Path, *, kind: Kind) -> None:
        self._path = path
        self._kind: Kind = kind
        self._index_read: Index | None = None
        self._files: dict[Path, h5py.File] = {}
        self._inherited: list[dict[Path, h5py.File]] = []
        self._process = os.getpid()
        self._streams_of: dict[str, tuple[str, ...]] = {}

    def __enter__(self) -> Self:
        """Return the reader itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all open files."""
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Path and kind only: open files stay with their process."""
        return {"path": self._path, "kind": self._kind}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Start with nothing open."""
        TrackReader.__init__(self, state["path"], kind=state["kind"])

    def close(self) -> None:
        """Close all open files; the next read opens them again."""
        if self._process == os.getpid():
            for file in self._files.values():
                file.close()
            self._files.clear()

    @property
    def path(self) -> Path:
        """The store's index file."""
        return self._path

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings of the last writer: method, parameters, size, rate, model digest."""
        return self._index.settings

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Class names of prediction tracks, if the store has any."""
        return self._index.labels

    def videos(self) -> list[str]:
        """Names of the videos, sorted."""
        return sorted(self._index.places)

    def stamps_s(self, video: str) -> Float64[np.ndarray, " stamps"]:
        """Seconds of the frames (flow) or of the steps (features) of ``video``."""
        with self._group(video) as group:
            stamps: np.ndarray = group[STAMPS][()]
        return stamps

    def attributes(self, video: str) -> dict[str, Any]:
        """Attributes of ``video`` such as ``source``, ``source_sha256``, ``duration_s`` and ``clipped``."""
        with self._group(video) as group:
            return attributes_of(group, leave_out=(KEY, COMPLETE))

    def key(self, video: str) -> str:
        """Digest of everything the content of ``video`` depends on."""
        with self._group(video) as group:
            return str(group.attrs[KEY])

    def tracks(self, video: str) -> list[str]:
        """Names of the tracks of ``video``, such as ``motion`` or ``original/motion``, sorted."""
        names: list[str] = []
        with self._group(video) as group:
            group.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        return sorted(name for name in names if name != STAMPS)

    def length(self, video: str, track: str) -> int:
        """Steps of ``track``."""
        with self._dataset(video, track) as dataset:
            return int(dataset.shape[0])

    def channels(self, video: str, track: str) -> int:
        """Channels of ``track``: the size of its second axis."""
        with self._dataset(video, track) as dataset:
            return int(dataset.shape[1])

    def bound(self, video: str, track: str) -> float | None:
        """Value of the largest integer of a coded ``track``; None if it is not coded."""
        with self._dataset(video, track) as dataset:
            return float(dataset.attrs["bound"]) if "bound" in dataset.attrs else None

    def read(
        self, video: str, track: str, start: int = 0, stop: int | None = None
    ) -> Shaped[np.ndarray, "steps channels ..."]:
        """Steps ``start`` to ``stop`` (half open; None is the end) of ``track``, in the stored dtype.

        Raises:
            StoreError: no such video or track, a range outside the track, or a damaged file.
        """
        with self._dataset(video, track) as dataset:
            length = int(dataset.shape[0])
            end = length if stop is None else stop
            if not 0 <= start <= end <= length:
                raise StoreError(
                    f"{self._path}: '{video}' track '{track}' has {length} steps, requested {start} to {end}; "
                    f"{self._advice}, or request steps within it"
                )
            values: np.ndarray = dataset[start:end]
            return values

    def features(self, video: str, start: int = 0, stop: int | None = None) -> Shaped[np.ndarray, "steps channels"]:
        """Steps of the features of ``video`` as one stream: those of RGB, and beside them imported ones of flow.

        Raises:
            StoreError: see :meth:`read`.
        """
        streams = [self.read(video, track, start, stop) for track in self._streams(video)]
        return np.concatenate(streams, axis=1) if len(streams) > 1 else streams[0]

    def feature_channels(self, video: str) -> int:
        """Channels of :meth:`features`."""
        return sum(self.channels(video, track) for track in self._streams(video))

    def feature_range(self, video: str, track: str) -> range | None:
        """Channels of :meth:`features` that come from ``track``; None if it is no part of them."""
        streams = self._streams(video)
        if track not in streams:
            return None
        start = sum(self.channels(video, before) for before in streams[: streams.index(track)])
        return range(start, start + self.channels(video, track))

    def _streams(self, video: str) -> tuple[str, ...]:
        """Tracks of the features; those of a student's branches are joined by its fusion instead."""
        if video not in self._streams_of:
            present = self.tracks(video)
            if _APPEARANCE not in present:
                raise StoreError(
                    f"{self._path}: '{video}' has no features of RGB, track '{_APPEARANCE}' (it has: "
                    f"{', '.join(present) or 'none'}); import RGB features with: tadkit import features"
                )
            joined = self._imported and _MOTION in present
            self._streams_of[video] = (_APPEARANCE, _MOTION) if joined else (_APPEARANCE,)
        return self._streams_of[video]

    @property
    def _imported(self) -> bool:
        return self.settings.get("imported") is True

    @property
    def _advice(self) -> str:
        return advice(self._kind, self.settings)

    @property
    def _index(self) -> Index:
        if self._process != os.getpid():
            # After a fork: the parent's handles are neither used nor closed here; closing would close the parent's too.
            self._inherited.append(self._files)
            self._index_read, self._files, self._process = None, {}, os.getpid()
        if self._index_read is None:
            self._index_read = read_index(self._path, kind=self._kind)
        return self._index_read

    @contextmanager
    def _group(self, video: str) -> Iterator[h5py.Group]:
        place = self._index.places.get(video)
        if place is None:
            raise StoreError(f"{self._path}: no video '{video}' among its {len(self.videos())}; {self._advice}")
        if not place.file.is_file():
            folder = place.file.parent.name
            raise StoreError(
                f"{self._path}: '{video}' is in {place.file}, which is missing; {self._advice}, or copy "
                f"{folder.removesuffix('.parts')} together with {folder}"
            )
        try:
            yield self._open(place.file)[place.group]
        except DAMAGED as error:
            reason = " ".join(str(error).split())
            raise StoreError(
                f"{place.file}: '{video}' is damaged ({reason}); delete this file and {self._advice}"
            ) from error

    @contextmanager
    def _dataset(self, video: str, track: str) -> Iterator[h5py.Dataset]:
        with self._group(video) as group:
            dataset = group.get(track)
            if not isinstance(dataset, h5py.Dataset):
                present = ", ".join(self.tracks(video)) or "none"
                raise StoreError(f"{self._path}: '{video}' has no track '{track}' (it has: {present}); {self._advice}")
            yield dataset

    def _open(self, path: Path) -> h5py.File:
        if path not in self._files:
            if len(self._files) >= _OPEN_FILES:
                self._files.pop(next(iter(self._files))).close()
            self._files[path] = open_file(path, kind=self._kind, settings=self.settings)
        return self._files[path]


def read_store(path: Path, *, kind: Kind) -> TrackReader:
    """Open the store ``path`` for reading.

    Raises:
        StoreError: missing, not HDF5, truncated, not a track store, of another kind or of a newer version.
    """
    reader = TrackReader(path, kind=kind)
    reader.videos()
    return reader
