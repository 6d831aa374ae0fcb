"""What the extraction stages share: names of videos, keys, and results that keep the good when some fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tadkit.errors import TadkitError, UsageError
from tadkit.video import Window


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

    def raise_if_failed(self) -> None:
        """Make a partial failure a failure; the good results stay in the store."""
        if self.failed:
            name, error = next(iter(self.failed.items()))
            more = f" (and {len(self.failed) - 1} more)" if len(self.failed) > 1 else ""
            raise type(error)(f"'{name}' failed{more}: {error}")


def named(videos: Sequence[Path]) -> dict[str, Path]:
    """A name for each video: its stem, or as many of its folders as it takes to be the only one of that name."""
    videos = list(dict.fromkeys(path.absolute() for path in videos))
    names: dict[str, Path] = {}
    for path in videos:
        rivals = [other for other in videos if other != path]
        for depth in range(1, len(path.parts) + 1):
            name = "/".join((*path.parts[-depth:-1], path.stem))
            if not any("/".join((*other.parts[-depth:-1], other.stem)) == name for other in rivals):
                break
        else:
            name = str(path)
        names[name if name not in names else str(path)] = path
    return names


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
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {name}: not usable here ({str(error).splitlines()[0]}); try --device auto") from error
    return device


def views_of(*stages: Sequence[str]) -> tuple[str, ...]:
    """Views that any of the stages draws from, the original among them, each once."""
    return tuple(dict.fromkeys(["original", *(view for views in stages for view in views)]))


def core_steps(window: Window, stride: int) -> slice:
    """Feature steps of a window's core, counted from the window's own first step; its start is on a step."""
    first = (window.core_start - window.start) // stride
    return slice(first, first + -(-(window.core_stop - window.core_start) // stride))
