"""Cross-fitting: features of training videos by students that did not see these videos (docs/method.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64, Shaped

from tadkit.config import SplitSettings
from tadkit.errors import SettingsError
from tadkit.recipe.videos import Item, unit_of
from tadkit.store import TrackReader


def groups_of(
    items: Sequence[Item], count: int, *, labels: Sequence[str], split: SplitSettings
) -> list[frozenset[str]]:
    """Names of the training videos in ``count`` groups, each with its share of every label's actions and of the time.

    The longest come first, each into the group that lacks most of what it has. Videos that the split keeps together
    stay together.

    Raises:
        SettingsError: there are fewer videos, or groups of the split, than ``count``.
    """
    units: dict[str, list[Item]] = {}
    for item in items:
        units.setdefault(unit_of(item.name, split), []).append(item)
    if len(units) < count:
        what = "groups of training videos" if split.kind == "group" else "training videos"
        raise SettingsError(
            f"train.head.cross_fit {count}: there are only {len(units)} {what}; lower it, or set it to 0"
        )
    amounts = {name: np.sum([_amounts(item, labels) for item in unit], axis=0) for name, unit in units.items()}
    totals = np.maximum(np.sum(list(amounts.values()), axis=0), 1e-9)
    held, groups = np.zeros((count, len(totals))), [frozenset[str]() for _ in range(count)]
    for name in sorted(units, key=lambda name: (-amounts[name][-1], name)):
        share = amounts[name] / totals
        chosen = int(np.argmin(((held + share) ** 2 - held**2).sum(axis=1)))
        held[chosen] += share
        groups[chosen] |= {item.name for item in units[name]}
    return groups


def _amounts(item: Item, labels: Sequence[str]) -> Float64[np.ndarray, " labels_and_seconds"]:
    """Actions of each label, and seconds."""
    counts = Counter(action.label for action in item.record.annotations)
    return np.array([*(counts[label] for label in labels), item.record.duration_s], dtype=np.float64)


class StoreOfEach:
    """Reads every video from a store of its own."""

    def __init__(self, stores: Mapping[str, TrackReader]) -> None:
        """``stores`` has the store of each video."""
        self._stores = stores

    def stamps_s(self, video: str) -> Float64[np.ndarray, " stamps"]:
        """Seconds of the steps of ``video``."""
        return self._stores[video].stamps_s(video)

    def key(self, video: str) -> str:
        """Digest of everything the content of ``video`` depends on."""
        return self._stores[video].key(video)

    def read(
        self, video: str, track: str, start: int = 0, stop: int | None = None
    ) -> Shaped[np.ndarray, "steps channels ..."]:
        """Steps ``start`` to ``stop`` (half open; None is the end) of ``track``, in the stored dtype."""
        return self._stores[video].read(video, track, start, stop)
