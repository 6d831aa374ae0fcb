"""Features as others store them: one npy, npz, pt, csv or h5 a video, or one h5 with a dataset a video."""

from __future__ import annotations

import math
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from tadkit.errors import StoreError
from tadkit.store.foreign import read_foreign

SUFFIXES = (".npy", ".npz", ".pt", ".pth", ".csv", ".h5", ".hdf5")
_STRIDE = ("stride", "feature_stride", "feat_stride", "stride_frames")
_CLIP = ("clip_frames", "clip_length", "clip_len", "snippet_length")
_FPS = ("fps", "frame_rate")
_TRACKS = ("feats", "features", "feat", "feature", "rgb", "data", "arr_0")


@dataclass(frozen=True)
class FeatureFile:
    """The features of one video and what their file says of them; None is what it does not say."""

    path: Path
    name: str
    values: Float[np.ndarray, "steps channels"]
    stride_frames: float | None = None
    clip_frames: float | None = None
    fps: float | None = None


def feature_files(folder: Path) -> list[Path]:
    """Files of features in a folder, in order of their names; a file by itself is a list of one.

    Raises:
        StoreError: there is none.
    """
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise StoreError(f"{folder}: no such file or folder")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise StoreError(f"{folder}: no features in this folder; looked for {' '.join(SUFFIXES)}")
    return found


def read_features(path: Path, *, channels_first: bool) -> Iterator[FeatureFile]:
    """Read the features in a file, which are of one video named as the file, but for h5, which may hold many.

    Args:
        path: file.
        channels_first: arrays are (channels, steps); they are turned.

    Raises:
        StoreError: it cannot be read, has no array or several, or one that is not of two dimensions.
    """
    match path.suffix.lower():
        case ".npy":
            yield _video(path, path.stem, _load_numpy(path), {}, channels_first)
        case ".npz":
            arrays = dict(_load_numpy(path))
            yield _video(path, path.stem, _one_array(path, arrays), arrays, channels_first)
        case ".pt" | ".pth":
            content = _load_torch(path)
            if isinstance(content, Mapping):
                yield _video(path, path.stem, _one_array(path, content), content, channels_first)
            else:
                yield _video(path, path.stem, content, {}, channels_first)
        case ".csv":
            yield _video(path, path.stem, _load_csv(path), {}, channels_first)
        case _:
            yield from _of_hdf5(path, channels_first)


def _of_hdf5(path: Path, channels_first: bool) -> Iterator[FeatureFile]:
    found = read_foreign(path)
    if not found:
        raise StoreError(f"{path}: no dataset of (steps, channels)")
    if len(found) == 1 and "/" not in next(iter(found)) and next(iter(found)) in _TRACKS:
        ((_, array),) = found.items()
        yield _video(path, path.stem, array.values, array.attributes, channels_first)
        return
    groups = {name.rpartition("/")[0] or name for name in found}
    if len(groups) < len(found):
        raise StoreError(f"{path}: several datasets a video, such as {' and '.join(list(found)[:2])}; keep one of them")
    for name, array in found.items():
        yield _video(path, name.rpartition("/")[0] or name, array.values, array.attributes, channels_first)


def _load_numpy(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        raise StoreError(f"{path}: not a NumPy file of plain numbers ({error})") from error


def _load_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise StoreError(f"{path}: not a file of plain tensors ({reason}); other objects are not loaded") from error


def _load_csv(path: Path) -> np.ndarray:
    """Numbers, a step a line; a heading line is passed over."""
    try:
        with path.open(encoding="utf-8") as file:
            first = file.readline()
        heading = any(c.isalpha() and c not in "eE" for c in first.replace("nan", "").replace("inf", ""))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an empty file is told below
            return np.loadtxt(path, delimiter=",", skiprows=int(heading), ndmin=2, dtype=np.float32)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: not a table of numbers with commas between ({error})") from error


def _one_array(path: Path, content: Mapping[str, Any]) -> Any:
    arrays = {key: value for key, value in content.items() if getattr(value, "ndim", 0) >= 2}
    named = [key for key in _TRACKS if key in arrays]
    if len(arrays) == 1 or len(named) == 1:
        return arrays[named[0]] if named else next(iter(arrays.values()))
    raise StoreError(f"{path}: {len(arrays)} arrays of (steps, channels) ({', '.join(arrays)}); expected one")


def _video(path: Path, name: str, value: Any, said: Mapping[str, Any], channels_first: bool) -> FeatureFile:
    array = value.detach().float().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    if array.ndim > 2 and array.size:
        array = array.reshape([size for size in array.shape if size != 1] or [1, 1])
    if array.ndim != 2 or not array.size or not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise StoreError(
            f"{path}: '{name}' has shape {array.shape} of {array.dtype}; expected (steps, channels) numbers"
        )
    values = np.ascontiguousarray(array.T if channels_first else array)
    with np.errstate(over="ignore"):  # told below
        values = values if values.dtype == np.float16 else values.astype(np.float32)
    if not np.isfinite(values).all():
        raise StoreError(f"{path}: '{name}' holds values that are not finite; extract them again")
    return FeatureFile(path, name, values, *(_said(said, keys) for keys in (_STRIDE, _CLIP, _FPS)))


def _said(content: Mapping[str, Any], keys: tuple[str, ...]) -> float | None:
    """A positive number under one of ``keys``."""
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
