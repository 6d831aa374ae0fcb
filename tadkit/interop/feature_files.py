"""Feature files of other projects: npy, npz, pt, csv or h5, one or two (RGB and flow) per video, or one h5 for all."""

from __future__ import annotations

import math
import pickle
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64

from tadkit.errors import StoreError
from tadkit.interop import TableLayout
from tadkit.interop.feature_streams import STREAMS, FeatureSet
from tadkit.interop.feature_tables import read_feature_table
from tadkit.store.foreign import foreign_names, read_foreign

SUFFIXES = (".npy", ".npz", ".pt", ".pth", ".csv", ".h5", ".hdf5")
_STRIDE = ("stride", "feature_stride", "feat_stride", "stride_frames")
_CLIP = ("clip_frames", "clip_length", "clip_len", "snippet_length")
_FPS = ("fps", "frame_rate")
_TRACKS = ("feats", "features", "feat", "feature", "rgb", "data", "arr_0")


@dataclass(frozen=True)
class FeatureFile:
    """The features of one video and the sampling that their file gives; None if it does not.

    Attributes:
        path: the file.
        name: of the video.
        values: the features, or those of RGB.
        motion: those of flow, if they are apart.
        stride_frames: frames between steps.
        clip_frames: frames per step.
        fps: frames per second.
        stamps_s: time stamp of each step (:mod:`.feature_streams`).
        motion_path: the file of flow, if it is another one.
    """

    path: Path
    name: str
    values: Float[np.ndarray, "steps channels"]
    stride_frames: float | None = None
    clip_frames: float | None = None
    fps: float | None = None
    motion: Float[np.ndarray, "steps channels"] | None = None
    stamps_s: Float64[np.ndarray, " steps"] | None = None
    motion_path: Path | None = None

    @property
    def channels(self) -> int:
        """Channels of RGB and flow together."""
        return int(self.values.shape[1]) + (0 if self.motion is None else int(self.motion.shape[1]))


@dataclass(frozen=True)
class Found:
    """Content of a file for one video, not yet checked."""

    path: Path
    name: str
    value: Any
    said: Mapping[str, Any]
    motion: Any = None
    motion_path: Path | None = None
    note: str = ""

    def features(self, *, channels_first: bool) -> FeatureFile:
        """The features; those of shape (channels, steps) are transposed.

        Raises:
            StoreError: not finite real numbers in two dimensions, or streams or stamps of different lengths.
        """
        values = self._checked(self.value, channels_first=channels_first)
        motion = None if self.motion is None else self._checked(self.motion, channels_first=channels_first)
        stamps_s = self._stamps_s()
        for what, other in (("flow", motion), ("time stamps", stamps_s)):
            if other is not None and len(other) != len(values):
                raise StoreError(
                    f"{self.path}: '{self.name}' has {len(values)} steps and {len(other)} of {what}; extract it again"
                )
        stride, clip, fps = (_said(self.said, keys) for keys in (_STRIDE, _CLIP, _FPS))
        return FeatureFile(self.path, self.name, values, stride, clip, fps, motion, stamps_s, self.motion_path)

    def _checked(self, value: Any, *, channels_first: bool) -> Float[np.ndarray, "steps channels"]:
        array = _dense(value)
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
        return values

    def _stamps_s(self) -> Float64[np.ndarray, " steps"] | None:
        if "timestamps_ms" not in self.said:
            return None
        stamps = _dense(self.said["timestamps_ms"])
        if stamps.ndim != 1 or stamps.dtype.kind not in "iuf" or not np.isfinite(stamps).all():
            raise StoreError(f"{self.path}: '{self.name}' has time stamps that are not a list of numbers")
        stamps_s = stamps.astype(np.float64) / 1000  # differences of unsigned numbers are never negative
        if (np.diff(stamps_s) <= 0).any():
            raise StoreError(f"{self.path}: '{self.name}' has time stamps that do not increase; extract it again")
        return stamps_s


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
    return plain.numpy() if plain.is_complex() else plain.double().numpy()


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


def read_features(files: Path | FeatureSet, *, layout: TableLayout = "detect") -> Iterator[Found]:
    """Read a file: features of one video named like the file, or for h5 possibly of many; or the files of one video.

    Args:
        files: a file, or the files of one video.
        layout: of a csv.

    Raises:
        StoreError: unreadable, or not exactly one array per video and stream.
    """
    if isinstance(files, Path):
        yield from _of_file(files, layout)
    else:
        yield _of_set(files, layout)


def _of_set(files: FeatureSet, layout: TableLayout) -> Found:
    """RGB and flow of one video, or one stream of it, with what the files beside them say."""
    shown = next(iter(files.streams.values()), None) or next(iter(files.sidecars.values()))
    if missing := [stream for stream in STREAMS if stream not in files.streams and set(files.streams) & set(STREAMS)]:
        if not files.sidecars:
            raise StoreError(f"{shown}: '{files.name}' has no {missing[0]} beside it, unlike others; extract both")
    elif len(files.streams) != 1 and set(files.streams) != set(STREAMS):
        found = ", ".join(sorted(files.streams)) or "none"
        raise StoreError(f"{shown}: '{files.name}' has the streams {found}; expected one, or rgb and flow")
    said = {key: _load_numpy(path) for key, path in files.sidecars.items()}
    read = {stream: list(_of_file(path, layout)) for stream, path in files.streams.items()}
    if many := [files.streams[stream] for stream, found in read.items() if len(found) != 1]:
        raise StoreError(f"{many[0]}: several datasets; expected the features of '{files.name}'")
    first, *more = (read[stream][0] for stream in sorted(read, reverse=True))  # rgb before flow
    said = {**first.said, **said}
    if not more:
        return replace(first, name=files.name, said=said)
    return replace(first, name=files.name, said=said, motion=more[0].value, motion_path=more[0].path)


def _of_file(path: Path, layout: TableLayout) -> Iterator[Found]:
    match path.suffix.lower():
        case ".npy":
            yield Found(path, path.stem, _load_numpy(path), {})
        case ".npz":
            arrays = _load_archive(path)
            yield Found(path, path.stem, *_streams(path, arrays))
        case ".pt" | ".pth":
            content = _load_torch(path)
            named = isinstance(content, Mapping)
            yield Found(path, path.stem, *_streams(path, content)) if named else Found(path, path.stem, content, {})
        case ".csv":
            table = read_feature_table(path, layout)
            yield Found(path, path.stem, table.values, {}, note=table.note)
        case _:
            yield from _of_hdf5(path)


def _of_hdf5(path: Path) -> Iterator[Found]:
    names = foreign_names(path)
    if not names:
        raise StoreError(f"{path}: no dataset of (steps, channels)")
    by_video: dict[str, list[str]] = {}
    for name in names:
        by_video.setdefault(name.rpartition("/")[0] or name, []).append(name)
    if set(names) <= {*_TRACKS, *STREAMS}:  # of one video, named like the file
        by_video = {path.stem: names}
    for found in by_video.values():
        if len(found) > 1 and sorted(name.rpartition("/")[2] for name in found) != sorted(STREAMS):
            raise StoreError(f"{path}: several datasets per video, such as {' and '.join(found[:2])}; keep one of them")
    for video, found in by_video.items():
        ordered = sorted(found, key=lambda name: name.rpartition("/")[2], reverse=True)  # rgb before flow
        first, *more = read_foreign(path, ordered)
        yield Found(path, video, first.values, first.attributes, more[0].values if more else None)


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


def _streams(path: Path, content: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any], Any]:
    """The features or those of RGB, everything that is said beside them, and the features of flow."""
    if all(getattr(content.get(stream), "ndim", 0) >= 2 for stream in STREAMS):
        others = {key: value for key, value in content.items() if key not in STREAMS}
        if not any(getattr(value, "ndim", 0) >= 2 for value in others.values()):
            return content["rgb"], others, content["flow"]
    return _one_array(path, content), content, None


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
