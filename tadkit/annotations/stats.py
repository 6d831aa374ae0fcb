"""``tadkit data stats``: lengths, counts and coverage of annotations, and a feature pyramid that fits them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from tadkit.errors import AnnotationError
from tadkit.evaluation.sensitivity import ACTIVITYNET_BOUNDS, THUMOS14_BOUNDS
from tadkit.records import AMBIGUOUS, Annotation, VideoRecord, check_subset, read_dataset

_MOST_LEVELS = 10
_USUAL_FIRST = 4.0
_WINDOW_LENGTHS = 1.5
_COVERAGES = (0.0, *THUMOS14_BOUNDS["coverage"], *ACTIVITYNET_BOUNDS["coverage"], 1.0)
"""DETAD's bounds of coverage: THUMOS14's up to 0.08, ActivityNet's above."""


@dataclass(frozen=True)
class ClassStats:
    """Statistics of one class, or of all classes together.

    Attributes:
        instances: number of actions.
        videos: number of videos with an action.
        shortest_s: shortest action.
        median_s: median length.
        longest_s: longest action.
        coverage: fraction of the total video time covered by its actions; overlaps count once.
    """

    instances: int
    videos: int
    shortest_s: float
    median_s: float
    longest_s: float
    coverage: float


@dataclass(frozen=True)
class Proposal:
    """Head settings that fit the lengths of the actions.

    Attributes:
        step_s: seconds between feature steps: stride / rate.
        levels: ``head.levels``.
        first_range_steps: ``head.first_range_steps``.
        window_s: ``train.*.window_s``, a whole number of steps of the coarsest level.
        too_short: fraction of actions shorter than two steps, which no level can localise well.
    """

    step_s: float
    levels: int
    first_range_steps: float
    window_s: float
    too_short: float


@dataclass(frozen=True)
class Stats:
    """Statistics of annotations.

    Attributes:
        videos: number of videos.
        hours: their total length.
        per_class: by label, most frequent first.
        total: all classes together.
        histogram: (from, to, actions) of lengths in seconds, each bin twice as wide as the one before.
        coverage_histogram: (above, up to, actions) by the fraction of the video that an action covers, as in DETAD.
        proposal: pyramid settings that fit.
    """

    videos: int
    hours: float
    per_class: Mapping[str, ClassStats]
    total: ClassStats
    histogram: tuple[tuple[float, float, int], ...]
    coverage_histogram: tuple[tuple[float, float, int], ...]
    proposal: Proposal


def stats(path: Path, *, subset: str | None, rate_hz: float, stride: int) -> Stats:
    """Statistics of the annotations at ``path``; ambiguous instances are left out.

    Args:
        path: ActivityNet-style JSON.
        subset: one subset, by its exact name; None uses all videos.
        rate_hz: frames per second that the backbone will see.
        stride: frames per feature step.

    Raises:
        AnnotationError: the file cannot be read, or has no action to count.
    """
    videos = _videos(path, subset)
    actions = [a for video in videos for a in _real(video)]
    lengths_s = np.array([a.end_s - a.start_s for a in actions])
    by_label: dict[str, list[tuple[list[Annotation], float]]] = {}
    for video in videos:
        for label in {a.label for a in _real(video)}:
            found = [a for a in _real(video) if a.label == label]
            by_label.setdefault(label, []).append((found, video.duration_s))
    total_s = sum(video.duration_s for video in videos)
    per_class = {label: _class_stats(found, total_s) for label, found in by_label.items()}
    return Stats(
        videos=len(videos),
        hours=total_s / 3600,
        per_class=dict(sorted(per_class.items(), key=lambda item: (-item[1].instances, item[0]))),
        total=_class_stats([(found, video.duration_s) for video in videos if (found := _real(video))], total_s),
        histogram=_histogram(lengths_s),
        coverage_histogram=_coverage_histogram(videos),
        proposal=propose(
            lengths_s,
            longest_video_s=float(np.quantile([video.duration_s for video in videos], 0.99)),
            rate_hz=rate_hz,
            stride=stride,
        ),
    )


def _videos(path: Path, subset: str | None) -> list[VideoRecord]:
    """Videos of a subset; checks that they have an action and that each has a length."""
    everything = read_dataset(path).videos.values()
    if subset is not None:
        check_subset(subset, [video.subset for video in everything], where=str(path))
    videos = [video for video in everything if subset in (None, video.subset)]
    if not any(_real(video) for video in videos):
        raise AnnotationError(f"{path}: no annotations to count; check --subset")
    if strange := [video for video in videos if video.duration_s <= 0]:
        lasts = f"'{strange[0].name}' lasts {strange[0].duration_s:g} s"
        raise AnnotationError(f"{path}: {lasts}; list all mistakes with: tadkit data check {path}")
    return videos


def _real(video: VideoRecord) -> list[Annotation]:
    return [a for a in video.annotations if a.label != AMBIGUOUS]


def _class_stats(found: Sequence[tuple[Sequence[Annotation], float]], total_s: float) -> ClassStats:
    """``found`` has, per video with actions, these and its duration; ``total_s`` is the duration of all videos."""
    lengths_s = np.array([a.end_s - a.start_s for actions, _ in found for a in actions])
    return ClassStats(
        instances=len(lengths_s),
        videos=len(found),
        shortest_s=float(lengths_s.min()),
        median_s=float(np.median(lengths_s)),
        longest_s=float(lengths_s.max()),
        coverage=sum(_union_s(actions, duration_s) for actions, duration_s in found) / total_s,
    )


def _union_s(actions: Iterable[Annotation], duration_s: float) -> float:
    """Seconds within the video covered by at least one action."""
    total_s, end_s = 0.0, 0.0
    for a in sorted(actions, key=lambda a: a.start_s):
        stop_s = min(a.end_s, duration_s)
        total_s += max(0.0, stop_s - max(a.start_s, end_s))
        end_s = max(end_s, stop_s)
    return total_s


def _histogram(lengths_s: Float64[np.ndarray, " n"]) -> tuple[tuple[float, float, int], ...]:
    powers = np.floor(np.log2(np.maximum(lengths_s, 2.0**-4))).astype(int)
    return tuple(
        (2.0**power, 2.0 ** (power + 1), int((powers == power).sum()))
        for power in range(powers.min(), powers.max() + 1)
    )


def _coverage_histogram(videos: Iterable[VideoRecord]) -> tuple[tuple[float, float, int], ...]:
    """Coverage is at most 1; a value on a bound is in the lower group, as in DETAD."""
    shares = [min((a.end_s - a.start_s) / video.duration_s, 1.0) for video in videos for a in _real(video)]
    groups = np.searchsorted(_COVERAGES[1:-1], shares, side="left")
    return tuple((low, high, int((groups == group).sum())) for group, (low, high) in enumerate(pairwise(_COVERAGES)))


def propose(lengths_s: Float64[np.ndarray, " n"], *, longest_video_s: float, rate_hz: float, stride: int) -> Proposal:
    """Propose a pyramid that fits the lengths of the actions.

    Level l regresses distances up to ``first_range_steps * 2^l`` steps, and a distance is about half an action. The
    first range is ActionFormer's 4 steps, or more if the 5th percentile of the actions needs more: finer levels would
    have nothing to find. Levels are added until the 99th percentile fits. A window holds one and a half actions of that
    length, in whole steps of the coarsest level, and is no longer than ``longest_video_s`` needs.
    """
    step_s = stride / rate_hz
    reach = lengths_s / step_s / 2
    short, long = (float(np.quantile(reach, q)) for q in (0.05, 0.99))
    first = max(_USUAL_FIRST, 2.0 ** math.floor(math.log2(short)) if short > 0 else 0.0)
    levels = min(_MOST_LEVELS, max(2, 1 + math.ceil(math.log2(max(1.0, long / first)))))
    align_s = step_s * 2 ** (levels - 1)
    wanted_s = min(max(_WINDOW_LENGTHS * 2 * long * step_s, 4 * align_s), longest_video_s)
    return Proposal(
        step_s=step_s,
        levels=levels,
        first_range_steps=first,
        window_s=round(math.ceil(wanted_s / align_s - 1e-9) * align_s, 6),
        too_short=float(np.mean(lengths_s < 2 * step_s)),
    )
