"""Feature files of other projects: one npy, npz, pt, csv or h5 per video, or one h5 with a dataset per video."""

from __future__ import annotations

import math
import pickle
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from tadkit.errors import StoreError
from tadkit.store.foreign import foreign_names, read_foreign

SUFFIXES = (".npy", ".npz", ".pt", ".pth", ".csv", ".h5", ".hdf5")
_STRIDE = ("stride", "feature_stride", "feat_stride", "stride_frames")
_CLIP = ("clip_frames", "clip_length", "clip_len", "snippet_length")
_FPS = ("fps", "frame_rate")
_TRACKS = ("feats", "features", "feat", "feature", "rgb", "data", "arr_0")


@dataclass(frozen=True)
class FeatureFile:
    """The features of one video and the sampling that their file gives; None if it does not."""

    path: Path
    name: str
    values: Float[np.ndarray, "steps channels"]
    stride_frames: float | None = None
    clip_frames: float | None = None
    fps: float | None = None


@dataclass(frozen=True)
class Found:
    """Content of a file for one video, not yet checked."""

    path: Path
    name: str
    value: Any
    said: Mapping[str, Any]

    def features(self, *, channels_first: bool) -> FeatureFile:
        """The features; those of shape (channels, steps) are transposed.

        Raises:
            StoreError: not finite real numbers in two dimensions.
        """
        array = _dense(self.value)
        if array.ndim > 2 and array.size:
            array = array.reshape([size for size in array.shape if size != 1] or [1, 1])
        if array.ndim != 2 or not array.size or not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
            raise StoreError(
                f"{self.path}: '{self.name}' has shape {array.shape} of {array.dtype}; "
                "expected (steps, channels) numbers"
            )
        values = np.ascontiguousarray(array.T if channels_first else array)
        with np.errstate(over="ignore"):  # reported below
            values = values if values.dtype == np.float16 else values.astype(np.float32)
        if not np.isfinite(values).all():
            raise StoreError(f"{self.path}: '{self.name}' holds values that are not finite; extract them again")
        return FeatureFile(self.path, self.name, values, *(_said(self.said, keys) for keys in (_STRIDE, _CLIP, _FPS)))


def _dense(value: Any) -> np.ndarray:
    """An array of an untrusted value; an empty object array if it is not one."""
    if not isinstance(value, torch.Tensor):
        try:
            return np.asarray(value)
        except (ValueError, TypeError, RuntimeError):  # such as a list of arrays of different lengths
            return np.empty(0, dtype=object)
    if value.is_quantized or value.is_meta:
        return np.empty(0, dtype=object)
    plain = value.detach().to_dense()
    return plain.numpy() if plain.is_complex() else plain.float().numpy()


def feature_files(folder: Path) -> list[Path]:
    """Feature files in a folder, sorted by name; for a file a list of one.

    macOS attribute files (``._x.npy``) are ignored. A dangling link is listed, and fails when it is read.

    Raises:
        StoreError: there are none.
    """
    if not folder.is_dir():
        if folder.exists() and folder.suffix.lower() not in SUFFIXES:
            raise StoreError(f"{folder}: no features; expected {' '.join(SUFFIXES)} (pickles are not loaded)")
        if folder.exists():
            return [folder]
        raise StoreError(f"{folder}: no such file or folder")
    there = (path for path in folder.rglob("*") if not path.name.startswith("._") and not path.is_dir())
    found = sorted(path for path in there if path.suffix.lower() in SUFFIXES)
    if not found:
        raise StoreError(f"{folder}: no features in this folder; looked for {' '.join(SUFFIXES)}")
    return found


def read_features(path: Path) -> Iterator[Found]:
    """Read a file: features of one video named like the file, or for h5 possibly of many.

    Raises:
        StoreError: unreadable, or not exactly one array per video.
    """
    match path.suffix.lower():
        case ".npy":
            yield Found(path, path.stem, _load_numpy(path), {})
        case ".npz":
            arrays = _load_archive(path)
            yield Found(path, path.stem, _one_array(path, arrays), arrays)
        case ".pt" | ".pth":
            content = _load_torch(path)
            named = isinstance(content, Mapping)
            yield Found(path, path.stem, _one_array(path, content) if named else content, content if named else {})
        case ".csv":
            yield Found(path, path.stem, _load_csv(path), {})
        case _:
            yield from _of_hdf5(path)


def _of_hdf5(path: Path) -> Iterator[Found]:
    names = foreign_names(path)
    if not names:
        raise StoreError(f"{path}: no dataset of (steps, channels)")
    videos = [name.rpartition("/")[0] or name for name in names]
    if len(names) == 1 and names[0] in _TRACKS:
        videos = [path.stem]
    elif len(set(videos)) < len(names):
        raise StoreError(f"{path}: several datasets per video, such as {' and '.join(names[:2])}; keep one of them")
    for video, array in zip(videos, read_foreign(path, names), strict=True):
        yield Found(path, video, array.values, array.attributes)


_DAMAGED: tuple[type[Exception], ...] = (
    *(OSError, ValueError, EOFError, MemoryError, RuntimeError, SyntaxError, LookupError, TypeError, AttributeError),
    *(zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, pickle.UnpicklingError),
)
"""What NumPy and PyTorch raise for damaged files."""
_PICKLED = "it holds pickled objects, which could run code"


def _load_numpy(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except _DAMAGED as error:
        reason = _PICKLED if "pickle" in str(error) else error
        raise StoreError(f"{path}: not a NumPy file of plain numbers ({reason})") from error


def _load_archive(path: Path) -> dict[str, Any]:
    """The arrays of an archive; object arrays, which others store beside the features, are skipped."""
    arrays, archive = {}, _load_numpy(path)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise StoreError(f"{path}: not a NumPy archive; if it is a .npy, name it so")
    with archive:
        for name in archive.files:
            try:
                arrays[name] = archive[name]
            except _DAMAGED as error:
                if "pickle" not in str(error):
                    raise StoreError(f"{path}: '{name}' cannot be read ({error})") from error
    return arrays


def _load_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about old or odd pickles, which are reported below
            return torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        first = next(iter(str(error).splitlines()), "") or type(error).__name__
        reason = _PICKLED if isinstance(error, pickle.UnpicklingError) else first
        raise StoreError(f"{path}: not a file of plain tensors ({reason})") from error


def _load_csv(path: Path) -> np.ndarray:
    """Numbers, one step per line; a heading line is skipped."""
    try:
        with path.open(encoding="utf-8") as file:
            first = file.readline()
        heading = any(c.isalpha() and c not in "eE" for c in first.replace("nan", "").replace("inf", ""))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an empty file is reported below
            return np.loadtxt(path, delimiter=",", skiprows=int(heading), ndmin=2, dtype=np.float32)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: not a table of comma-separated numbers ({error})") from error


def _one_array(path: Path, content: Mapping[str, Any]) -> Any:
    arrays = {key: value for key, value in content.items() if getattr(value, "ndim", 0) >= 2}
    named = [key for key in _TRACKS if key in arrays]
    if len(arrays) == 1 or len(named) == 1:
        return arrays[named[0]] if named else next(iter(arrays.values()))
    raise StoreError(f"{path}: {len(arrays)} arrays of (steps, channels) ({', '.join(arrays)}); expected one")


def _said(content: Mapping[str, Any], keys: tuple[str, ...]) -> float | None:
    """The positive number under one of ``keys``, if any."""
    for key in keys:
        value = content.get(key)
        if value is not None and getattr(value, "size", 1) == 1:
            try:
                number = float(value)
            except (TypeError, ValueError):
                continue
            if 0 < number < math.inf:
                return number
    return None
