"""Cross-fitting: features of training videos by students that did not see these videos (docs/method.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Shaped

from tadkit.config import SplitSettings
from tadkit.errors import SettingsError
from tadkit.recipe.videos import Item, unit_of
from tadkit.store import TrackReader

_RIDGE = 0.01


def groups_of(
    items: Sequence[Item], count: int, *, labels: Sequence[str], split: SplitSettings
) -> list[frozenset[str]]:
    """Names of the videos in ``count`` groups, each with its share of every label's actions and of the time.

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
        raise SettingsError(f"train.head.groups {count}: there are only {len(units)} {what}; lower it, or set it to 0")
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


class AlignedTracks:
    """Features of a group's student, aligned with those of the student of all training videos.

    Students that are trained on different videos use their channels differently, and a head reads the channels of one.
    For each track a linear map takes the one to the other: ridge regression over the original view of the videos that
    both students were trained on, so the map learns nothing from the videos that the group holds out.
    """

    def __init__(self, store: TrackReader, target: TrackReader, videos: Sequence[str]) -> None:
        """Map features of ``store`` to those of ``target``, as the two are related over ``videos``."""
        self.store, self._target, self._videos = store, target, videos
        self._maps: dict[str, _LinearMap] = {}

    def read(self, video: str, track: str, start: int, stop: int | None) -> Float32[np.ndarray, "steps channels"]:
        """Steps ``start`` to ``stop`` (half open; None is the end) of ``track``, aligned."""
        branch = track.rpartition("/")[2]
        if branch not in self._maps:
            pairs = [
                np.concatenate([reader.read(name, f"original/{branch}") for name in self._videos])
                for reader in (self.store, self._target)
            ]
            self._maps[branch] = _fitted(pairs[0], pairs[1])
        return self._maps[branch].apply(self.store.read(video, track, start, stop))


class _LinearMap(NamedTuple):
    from_mean: Float64[np.ndarray, " channels"]
    matrix: Float64[np.ndarray, "channels channels"]
    to_mean: Float64[np.ndarray, " channels"]

    def apply(self, values: Shaped[np.ndarray, "steps channels"]) -> Float32[np.ndarray, "steps channels"]:
        mapped: np.ndarray = (values - self.from_mean) @ self.matrix + self.to_mean
        return mapped.astype(np.float32)


def _fitted(source: Shaped[np.ndarray, "steps channels"], target: Shaped[np.ndarray, "steps channels"]) -> _LinearMap:
    """Ridge regression; the penalty is a share of the channels' mean variance."""
    x, y = source.astype(np.float64), target.astype(np.float64)
    from_mean, to_mean = x.mean(axis=0), y.mean(axis=0)
    x, y = x - from_mean, y - to_mean
    products = x.T @ x
    penalty = max(_RIDGE * np.trace(products) / len(products), 1e-9)
    return _LinearMap(from_mean, np.linalg.solve(products + penalty * np.eye(len(products)), x.T @ y), to_mean)


class CrossFitted:
    """Reads every training video's features from the student that did not see it."""

    def __init__(self, tracks: Mapping[str, AlignedTracks]) -> None:
        """``tracks`` has those of each video."""
        self._tracks = tracks

    def stamps_s(self, video: str) -> Float64[np.ndarray, " stamps"]:
        """Seconds of the steps of ``video``."""
        return self._tracks[video].store.stamps_s(video)

    def key(self, video: str) -> str:
        """Digest of everything the features depend on, except for the student that they are aligned with."""
        return self._tracks[video].store.key(video)

    def read(
        self, video: str, track: str, start: int = 0, stop: int | None = None
    ) -> Float32[np.ndarray, "steps channels"]:
        """Steps ``start`` to ``stop`` (half open; None is the end) of ``track``."""
        return self._tracks[video].read(video, track, start, stop)
