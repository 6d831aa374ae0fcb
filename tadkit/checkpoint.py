"""Model files: safetensors with a descriptive header; files of other projects are read without running code."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from tadkit.errors import WeightsError
from tadkit.files import canonical_json, digest_of_file, whole_file
from tadkit.version import __version__

FORMAT = "tadkit-checkpoint"
VERSION = 1
_ALIGN = 8
"""Weights start at a multiple of this many bytes, as in safetensors' own files."""
_DAMAGED = (OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError)
"""What PyTorch raises for damaged files."""
Kind = Literal["teacher", "student", "joint-head", "detector", "head", "training"]


@dataclass(frozen=True)
class Checkpoint:
    """A model's weights and everything needed to rebuild it.

    Attributes:
        kind: which model the weights belong to.
        settings: the sections of the recipe that shape the model, as plain JSON values.
        labels: classes in the order of the outputs.
        tensors: the state dict.
        provenance: digests and figures of the inputs it was made from; free form.
        operating_points: for some labels of a detector, the score from which their detections are shown to a person.
        trained_steps: feature steps of the windows that it was trained on; None if the file does not state them.
        teacher_steps: likewise of the teacher whose head a two-stream detector has; None if it has none.
        digest: SHA-256 of the file that was read; empty before it is written.
        path: the file that was read; None before it is written.
    """

    kind: Kind
    settings: Mapping[str, Any]
    labels: tuple[str, ...]
    tensors: Mapping[str, torch.Tensor]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    operating_points: Mapping[str, float] = field(default_factory=dict)
    digest: str = ""
    path: Path | None = None
    trained_steps: int | None = None
    teacher_steps: int | None = None


def save_checkpoint(path: Path, checkpoint: Checkpoint, *, half: bool = False) -> None:
    """Write a checkpoint atomically; ``half`` stores matrices and filters as float16."""
    header = {
        "format": FORMAT,
        "version": str(VERSION),
        "producer": f"tadkit {__version__}",
        "kind": checkpoint.kind,
        "settings": canonical_json(dict(checkpoint.settings)),
        "labels": canonical_json(list(checkpoint.labels)),
        "provenance": canonical_json(dict(checkpoint.provenance)),
    }
    if checkpoint.operating_points:
        header["operating_points"] = canonical_json(dict(checkpoint.operating_points))
    if checkpoint.trained_steps is not None:
        header["trained_steps"] = str(checkpoint.trained_steps)
    if checkpoint.teacher_steps is not None:
        header["teacher_steps"] = str(checkpoint.teacher_steps)
    tensors = {name: _stored(tensor, half) for name, tensor in checkpoint.tensors.items()}
    with whole_file(path) as temporary:
        save_file(tensors, temporary, metadata=header)
        _sort_header(temporary)


def copy_with_operating_points(
    source: Path, out: Path, points: Mapping[str, float], *, provenance: Mapping[str, Any]
) -> None:
    """Write the detector ``source`` to ``out`` with other operating points; its weights stay the same bytes.

    Args:
        source: a detector.
        out: may be the same file.
        points: score by label.
        provenance: where they come from; kept under ``operating_points`` in the provenance.

    Raises:
        WeightsError: as :func:`load_checkpoint`.
    """
    known = {**read_provenance(source, kind="detector"), "operating_points": dict(provenance)}
    _copy_with(source, out, {"provenance": canonical_json(known), "operating_points": canonical_json(points)})


def restate_decoding(path: Path, decoding: Mapping[str, Any]) -> None:
    """Write other settings of decoding into the detector ``path``, if it states others; its weights stay the same.

    Raises:
        WeightsError: as :func:`load_checkpoint`.
    """
    with _opened(path, "detector") as (_, header):
        settings = json.loads(header["settings"])
    if settings.get("decode") != decoding:
        _copy_with(path, path, {"settings": canonical_json(settings | {"decode": dict(decoding)})})


def _copy_with(source: Path, out: Path, changes: Mapping[str, str]) -> None:
    """Copy a checkpoint with other entries in its header; both may be the same file."""
    entries, start = _header_entries(source)
    header = entries["__metadata__"] | changes
    text = _header_text(entries | {"__metadata__": dict(sorted(header.items()))})
    text = text.ljust(-(-len(text) // _ALIGN) * _ALIGN)
    with whole_file(out) as temporary, source.open("rb") as old, temporary.open("wb") as new:
        old.seek(start)
        new.write(len(text).to_bytes(8, "little") + text)
        shutil.copyfileobj(old, new)


def _sort_header(path: Path) -> None:
    """Sort the header's entries in place: safetensors writes them in any order, so digests would differ."""
    entries, start = _header_entries(path)
    text = _header_text(entries | {"__metadata__": dict(sorted(entries["__metadata__"].items()))})
    assert len(text) <= start - 8, (len(text), start)
    with path.open("r+b") as file:
        file.seek(8)
        file.write(text.ljust(start - 8))


def _header_entries(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where its weights start."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entries: dict[str, Any] = json.loads(file.read(length))
        return entries, 8 + length


def _header_text(entries: Mapping[str, Any]) -> bytes:
    return json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()


def _stored(tensor: torch.Tensor, half: bool) -> torch.Tensor:
    tensor = tensor.detach().cpu()
    if half and tensor.dtype == torch.float32 and tensor.ndim >= 2:
        tensor = tensor.half()
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsError("a weight does not fit in half precision; save in full precision")
    return tensor.clone(memory_format=torch.contiguous_format)


def load_checkpoint(path: Path, *, kind: Kind) -> Checkpoint:
    """Read a checkpoint onto the CPU; half-precision weights come back as float32.

    Raises:
        WeightsError: the file is missing, damaged, from a newer tadkit, or holds another kind of model.
    """
    with _opened(path, kind) as (file, header):
        return Checkpoint(
            kind=kind,
            settings=json.loads(header["settings"]),
            labels=tuple(json.loads(header["labels"])),
            tensors={name: _restored(file.get_tensor(name)) for name in file.keys()},  # noqa: SIM118 - no mapping
            provenance=json.loads(header["provenance"]),
            operating_points=_operating_points(header),
            digest=digest_of_file(path),
            path=path,
            trained_steps=_steps(header, "trained_steps"),
            teacher_steps=_steps(header, "teacher_steps"),
        )


def _operating_points(header: Mapping[str, str]) -> dict[str, float]:
    """The operating points of a header; files without any are older, or of another kind of model.

    Raises:
        ValueError: they are not scores.
    """
    points = json.loads(header.get("operating_points", "{}"))
    if not isinstance(points, dict) or not all(
        isinstance(score, int | float) and not isinstance(score, bool) and 0 <= score <= 1 for score in points.values()
    ):
        raise ValueError("operating_points are not scores from 0 to 1")
    return {label: float(score) for label, score in points.items()}


def _steps(header: Mapping[str, str], name: str) -> int | None:
    """A number of steps in a header, if it states it."""
    if name not in header:
        return None
    if (value := int(header[name])) < 1:
        raise ValueError(f"{name} is {value}")
    return value


def read_provenance(path: Path, *, kind: Kind) -> Mapping[str, Any]:
    """What a checkpoint was made from, without reading its weights.

    Raises:
        WeightsError: as :func:`load_checkpoint`.
    """
    with _opened(path, kind) as (_, header):
        provenance: Mapping[str, Any] = json.loads(header["provenance"])
        return provenance


def read_kind(path: Path) -> str:
    """The kind of model in a checkpoint's header; empty if the file is not a tadkit checkpoint."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError):
        return ""
    return header.get("kind", "") if header.get("format") == FORMAT else ""


@contextmanager
def _opened(path: Path, kind: Kind) -> Iterator[tuple[Any, Mapping[str, str]]]:
    """An open checkpoint and its checked header; errors inside the block mean that the file is damaged."""
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        raise WeightsError(f"{path}: {what}; expected a tadkit {kind} (.safetensors)")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            _check_header(path, header, kind)
            yield file, header
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(f"{path}: not a readable safetensors file ({reason}); copy or train it again") from error
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{path}: its header is damaged ({error}); copy or train it again") from error


def _restored(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype == torch.float16 else tensor


def _check_header(path: Path, header: Mapping[str, str], kind: Kind) -> None:
    if header.get("format") != FORMAT:
        raise WeightsError(
            f"{path}: not a tadkit checkpoint; expected one that tadkit train-teacher, distill or train-head wrote"
        )
    if int(header["version"]) > VERSION:
        raise WeightsError(
            f"{path}: written by {header['producer']} in format {header['version']}; "
            f"this tadkit reads up to {VERSION}: upgrade it"
        )
    if header["kind"] != kind:
        raise WeightsError(f"{path}: holds a {header['kind']}; expected a {kind}")


def load_weights(module: torch.nn.Module, checkpoint: Checkpoint) -> None:
    """Load a checkpoint's state dict; names and shapes must match exactly.

    Raises:
        WeightsError: they do not; the message names the first few differences.
    """
    own = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    other = {name: tuple(value.shape) for name, value in checkpoint.tensors.items()}
    if own != other:
        differing = ", ".join(sorted({name for name, _ in own.items() ^ other.items()})[:4])
        raise WeightsError(f"{checkpoint.path}: weights do not fit the model described in the header: {differing}")
    module.load_state_dict(dict(checkpoint.tensors))


def read_foreign(path: Path) -> Any:
    """Content of a checkpoint of another project, on the CPU: safetensors, or a pickle of plain values and tensors.

    Raises:
        WeightsError: missing, damaged, or only readable by running code in it.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such file; expected a checkpoint (.pth.tar, .pth or .safetensors)")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about odd pickles, which are reported below
            return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, *_DAMAGED) as error:
        reason = _reason(path, error)
        raise WeightsError(f"{path}: not a checkpoint that loads without running code in it ({reason})") from error


def _reason(path: Path, error: Exception) -> str:
    """Why a file does not load; PyTorch's own message would advise running its code."""
    text = str(error)
    if needed := re.search(r"GLOBAL (\S+) was not an allowed global", text):
        return f"it contains {needed[1]}; if you made it, save only its state_dict"
    with suppress(OSError), path.open("rb") as file:
        start = file.read(64)
        if start and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start):
            return "it is text, perhaps a web page or a Git LFS pointer instead of the file"
    if isinstance(error, pickle.UnpicklingError):
        return "it was not written by torch.save"
    return (text.strip().splitlines() or ["no reason given"])[0].partition(". ")[0][:160]
