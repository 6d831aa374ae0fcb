"""Feature arrays in third-party HDF5 files: any layout with one dataset a video."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from tadkit.errors import StoreError
from tadkit.store.layout import DAMAGED, attributes_of, refuse_elsewhere


class ForeignArray(NamedTuple):
    """A dataset with its attributes and those of the enclosing group and file."""

    values: np.ndarray
    attributes: dict[str, Any]


def foreign_names(path: Path) -> list[str]:
    """Every dataset of two or more dimensions in an HDF5 file, by its path inside, such as ``v_1`` or ``v_1/rgb``.

    Raises:
        StoreError: not HDF5, or damaged.
    """
    found: list[str] = []

    def visit(name: str | bytes, item: Any) -> None:
        if isinstance(name, bytes):  # h5py returns bytes for names that are not UTF-8
            raise StoreError(f"{path}: the dataset name {name!r} is not UTF-8; is the file damaged?")
        if isinstance(item, h5py.Dataset) and item.ndim >= 2 and np.issubdtype(item.dtype, np.number):
            found.append(name)

    with _opened(path) as file:
        file.visititems(visit)
    return found


def read_foreign(path: Path, names: Sequence[str]) -> Iterator[ForeignArray]:
    """The datasets called ``names``, one at a time: a file may be larger than memory.

    Raises:
        StoreError: not HDF5, or damaged.
    """
    for name in names:
        with _opened(path) as file:
            item = file[name]
            around = attributes_of(file) | attributes_of(item.parent) | attributes_of(item)
            array = ForeignArray(item[()], around)
        yield array


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r", locking=False) as file:
            refuse_elsewhere(path, file)
            yield file
    except DAMAGED as error:
        reason = " ".join(str(error).split())
        raise StoreError(f"{path}: not an HDF5 file, or damaged ({reason})") from error
