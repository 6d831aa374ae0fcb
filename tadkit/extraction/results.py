"""The outcome for each video of an extraction; a failed video does not affect the others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tadkit.errors import TadkitError
from tadkit.video import SampledVideo
from tadkit.video.digests import source_digest


@dataclass
class ExtractionResult:
    """The outcome for each video.

    Attributes:
        done: extracted now.
        reused: already in the store, from the same bytes with the same settings.
        failed: the error of each video that could not be processed; nothing of it is stored.
        clipped: share of values clipped at the bound, for each video extracted now.
    """

    done: list[str] = field(default_factory=list)
    reused: list[str] = field(default_factory=list)
    failed: dict[str, TadkitError] = field(default_factory=dict)
    clipped: dict[str, float] = field(default_factory=dict)

    def in_order(self, names: Iterable[str]) -> ExtractionResult:
        """The same, with the videos in the order of ``names``; workers finish in any order."""
        order = list(names)
        return ExtractionResult(
            [name for name in order if name in set(self.done)],
            [name for name in order if name in set(self.reused)],
            {name: self.failed[name] for name in order if name in self.failed},
            {name: self.clipped[name] for name in order if name in self.clipped},
        )

    def raise_if_failed(self) -> None:
        """Raise if a video failed; the results of the others stay in the store."""
        if self.failed:
            name, error = next(iter(self.failed.items()))
            more = f" (and {len(self.failed) - 1} more)" if len(self.failed) > 1 else ""
            raise type(error)(f"'{name}' failed{more}: {error}")


def description(video: SampledVideo) -> dict[str, str | float | bool]:
    """Attributes that a store keeps for a video."""
    return {"source": video.path.name, "source_sha256": source_digest(video.path), "duration_s": video.duration_s}
