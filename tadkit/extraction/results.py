"""What the extraction stages share: names of videos, keys, and results that keep the good when some fail."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch

from tadkit.config import View
from tadkit.errors import TadkitError, UsageError, VideoError
from tadkit.files import digest_of_file
from tadkit.video import SampledVideo, Window


@dataclass
class ExtractionResult:
    """What became of each video.

    Attributes:
        done: extracted now.
        reused: found in the store, made from the same bytes with the same settings.
        failed: the error of each video that could not be read; nothing of it is stored.
        clipped: share of values beyond the code's bound, of each video extracted now.
    """

    done: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    failed: dict[str, TadkitError] = field(default_factory=dict)
    clipped: dict[str, float] = field(default_factory=dict)

    def in_order(self, names: Iterable[str]) -> ExtractionResult:
        """The same, with the videos in the order of ``names``; workers are done in any order."""
        order = list(names)
        return ExtractionResult(
            [name for name in order if name in set(self.done)],
            [name for name in order if name in set(self.reused)],
            {name: self.failed[name] for name in order if name in self.failed},
            {name: self.clipped[name] for name in order if name in self.clipped},
        )

    def raise_if_failed(self) -> None:
        """Make a partial failure a failure; the good results stay in the store."""
        if self.failed:
            name, error = next(iter(self.failed.items()))
            more = f" (and {len(self.failed) - 1} more)" if len(self.failed) > 1 else ""
            raise type(error)(f"'{name}' failed{more}: {error}")


def named(videos: Sequence[Path]) -> dict[str, Path]:
    """A name for each video: its stem, or as many of its folders as it takes to be the only one of that name.

    Where two differ in the suffix alone, they keep it.
    """
    paths = list(dict.fromkeys(path.absolute() for path in videos))
    alike = Counter(path.with_suffix("") for path in paths)
    last = {path: path.stem if alike[path.with_suffix("")] == 1 else path.name for path in paths}
    names: dict[Path, str] = {}
    depth = 1
    while len(names) < len(paths):
        candidates = {path: "/".join((*path.parts[1:][-depth:-1], last[path])) for path in paths}
        counts = Counter([*names.values(), *(candidates[path] for path in paths if path not in names)])
        deepest = depth > max(len(path.parts) for path in paths)
        for path in [path for path in paths if path not in names]:
            if deepest or counts[candidates[path]] == 1:
                names[path] = str(path) if deepest else candidates[path]
        depth += 1
    return {names[path]: path for path in paths}


def source_digest(path: Path) -> str:
    """SHA-256 of a video file; read once as long as the file stays the same.

    Raises:
        VideoError: it is no file or cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise VideoError(f"{path}: not a file; expected a video")
        return _digest_of_version(path, status.st_size, status.st_mtime_ns, status.st_ino)
    except FileNotFoundError as error:
        raise VideoError(f"{path}: no such file; expected a video") from error
    except OSError as error:
        raise VideoError(f"{path}: cannot be read ({error.strerror}); expected a video") from error


@lru_cache(maxsize=1 << 16)
def _digest_of_version(path: Path, size: int, changed_ns: int, inode: int) -> str:  # noqa: ARG001 - they name a version
    return digest_of_file(path)


def description(video: SampledVideo) -> dict[str, str | float | bool]:
    """Attributes that a store keeps of a video."""
    return {"source": video.path.name, "source_sha256": source_digest(video.path), "duration_s": video.duration_s}


def torch_device(name: str) -> torch.device:
    """``auto`` is the GPU where there is one.

    Raises:
        UsageError: no such device here.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()  # a meta tensor has no values to copy
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--device {name}: not usable here ({reason}); try --device auto") from error
    return device


def views_of(views: Sequence[View]) -> tuple[View, ...]:
    """Views to extract for a stage that draws from ``views``: the original first, each once."""
    original: View = "original"
    return tuple(dict.fromkeys([original, *views]))


def core_steps(window: Window, stride: int) -> slice:
    """Feature steps of a window's core, counted from the window's own first step; its start is on a step."""
    first = (window.core_start - window.start) // stride
    return slice(first, first + -(-(window.core_stop - window.core_start) // stride))
