"""Annotations and detections as columns of numbers, for vectorised matching and ranking."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import NDArray

from tadkit.records import Annotation, Detection

_MOST_PAIRS = 50_000
"""Pairs in memory at a time: few enough for a processor's cache."""


@dataclass(frozen=True, eq=False)
class Table:
    """Segments of many videos.

    Attributes:
        video: index of each segment's video.
        label: index of each segment's label.
        segment_s: start and end in seconds.
        score: of each segment; 1 for annotations.
    """

    video: Int64[np.ndarray, " n"]
    label: Int64[np.ndarray, " n"]
    segment_s: Float64[np.ndarray, "n 2"]
    score: Float64[np.ndarray, " n"]

    def __len__(self) -> int:
        """Number of segments."""
        return len(self.video)

    def rows(self, which: Int64[np.ndarray, " m"] | Bool[np.ndarray, " n"]) -> Table:
        """Some of the rows, in the given order."""
        which = np.flatnonzero(which) if which.dtype == bool else which
        return Table(self.video[which], self.label[which], picked(self.segment_s, which), self.score[which])


def action_table(truth: Mapping[str, Sequence[Annotation]], *, videos: Sequence[str], labels: Sequence[str]) -> Table:
    """Actions of ``labels`` sorted by (label, video, start, end), so that file order does not matter."""
    actions = [truth.get(video, ()) for video in videos]
    table = _table(actions, np.ones(sum(map(len, actions))), labels)
    order = np.lexsort((table.segment_s[:, 1], table.segment_s[:, 0], table.video, table.label))
    return table.rows(order)


def detection_table(
    detections: Mapping[str, Sequence[Detection]], *, videos: Sequence[str], labels: Sequence[str]
) -> Table:
    """Detections of ``labels`` in the order of the videos and of their lists."""
    found = [detections.get(video, ()) for video in videos]
    count = sum(map(len, found))
    scores = np.fromiter((one.score for one in chain.from_iterable(found)), np.float64, count)
    return _table(found, scores, labels)


def _table(
    lists: Sequence[Sequence[Annotation | Detection]], scores: Float64[np.ndarray, " n"], labels: Sequence[str]
) -> Table:
    """All segments of the lists, without those of other labels."""
    number = defaultdict(lambda: -1, {label: index for index, label in enumerate(labels)})
    flat = list(chain.from_iterable(lists))
    counts = np.array([len(items) for items in lists], np.int64)
    label = np.fromiter([number[one.label] for one in flat], np.int64, len(flat))
    segment_s = np.empty((2, len(flat))).T
    segment_s[:, 0] = np.fromiter((one.start_s for one in flat), np.float64, len(flat))
    segment_s[:, 1] = np.fromiter((one.end_s for one in flat), np.float64, len(flat))
    table = Table(np.repeat(np.arange(len(lists)), counts), label, segment_s, scores)
    assert np.isfinite(scores).all(), "scores must be finite"
    assert np.isfinite(segment_s).all(), "times must be finite"
    return table if (label >= 0).all() else table.rows(label >= 0)


def picked(segments_s: Float64[np.ndarray, "n 2"], rows: Int64[np.ndarray, " m"]) -> Float64[np.ndarray, "m 2"]:
    """Some of the segments, stored as in a table: all starts, then all ends, which is fastest to index."""
    return segments_s.T.take(rows, axis=1).T


def counted_up(counts: Int64[np.ndarray, " groups"]) -> Int64[np.ndarray, " n"]:
    """0 to count - 1 for each group."""
    return np.asarray(np.arange(int(counts.sum())) - np.repeat(counts.cumsum() - counts, counts))


def small(values: Int64[np.ndarray, " n"]) -> NDArray[np.signedinteger[Any]]:
    """The same integers as int16 if they fit, which NumPy radix-sorts."""
    return values.astype(np.int16) if len(values) and int(values.max()) < np.iinfo(np.int16).max else values


def turns(group: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """How many rows of the same group come before each row."""
    order = np.argsort(small(group), kind="stable")
    turn = np.empty(len(group), np.int64)
    turn[order] = counted_up(np.bincount(group))
    return turn


def by_turn(group: Int64[np.ndarray, " n"]) -> Iterable[Int64[np.ndarray, " m"]]:
    """The first rows of all groups, then the second ones, and so on."""
    turn = turns(group)
    order = np.argsort(small(turn), kind="stable")
    return np.split(order, np.bincount(turn).cumsum()[:-1]) if len(group) else ()


def in_groups(group: Int64[np.ndarray, " n"], *, groups: int) -> Int64[np.ndarray, "groups width"]:
    """Rows of each group in their order, padded with -1."""
    turn = turns(group)
    rows = np.full((groups, int(turn.max(initial=-1)) + 1), -1)
    rows[group, turn] = np.arange(len(group))
    return rows


def pairs_in_groups(
    group: Int64[np.ndarray, " n"], others: Int64[np.ndarray, " m"], *, groups: int
) -> Iterator[tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]]:
    """Each row paired with every one of ``others`` in its group, in their order; some rows at a time."""
    order = np.argsort(small(others), kind="stable")
    count = np.bincount(others, minlength=groups)
    first = (count.cumsum() - count)[group]
    sizes = count[group]
    for rows in np.split(np.arange(len(group)), np.flatnonzero(np.diff(sizes.cumsum() // _MOST_PAIRS)) + 1):
        places = np.repeat(first[rows], sizes[rows]) + counted_up(sizes[rows])
        yield np.repeat(rows, sizes[rows]), order[places]
