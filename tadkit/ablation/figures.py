"""Figures of an ablation's rows: each seed out of fold, their mean and spread, and paired differences.

A seed's figure is out of fold: the detections of its folds' models, each in the videos that it did not see, are
evaluated together as one set of videos. So all rows and seeds have figures on the same videos, each of which counts
once; scores of different folds' models are ranked together as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, get_args

from tadkit.ablation.plan import Part, Plan
from tadkit.ablation.power import spread_of
from tadkit.evaluation import mean_average_precision
from tadkit.evaluation.bootstrap import Figure, Resampled, resampled
from tadkit.evaluation.operating_points import calibration_error
from tadkit.progress import Progress
from tadkit.recipe.judge import rules_of, truth_of
from tadkit.records import Annotation, Detection, read_detections

RESAMPLES = 1000
"""Draws of videos and seeds."""
HEADROOM = ("two-stream", "rgb")
"""What flow adds to RGB: the most that distillation can hope for."""

Truth = dict[str, list[Annotation]]
Found = dict[str, list[Detection]]


@dataclass(frozen=True)
class _Seeds:
    """What is evaluated of one row: ground truth of all videos, and the detections of each complete seed."""

    truth: Truth
    found: tuple[Found, ...]


def summarised(plan: Plan, names: Sequence[str], seeds: Sequence[int], progress: Progress) -> dict[str, Any]:
    """Figures as plain JSON values, as fractions; thresholds are keys such as ``"0.3"``.

    Args:
        plan: the ablation.
        names: rows, and what is judged below them, such as ``decomposed: motion``.
        seeds: those whose folds are all complete, at least one.
        progress: counts what is evaluated.
    """
    progress.start("evaluate", total=2, unit="figures")
    parts = [part for part in plan.parts if part.seed in seeds]
    rows = {name: _seeds_of(parts, name, seeds) for name in names}
    by_seed = [
        {"row": name, "seed": seed, **_figures(plan, one.truth, found)}
        for name, one in rows.items()
        for seed, found in zip(seeds, one.found, strict=True)
    ]
    drawn: dict[str, dict[str, tuple[Resampled, int]]] = {}
    for figure in get_args(Figure):
        drawn[figure] = _resampled(plan, rows, figure)
        progress.advance(note=figure)
    return {
        "seeds": list(seeds),
        "names": list(names),
        "cells": [_cell(plan, part, name) for part in parts for name in names],
        "out_of_fold": by_seed,
        "table": {name: _means(name, by_seed, drawn) for name in names},
        "differences": [_difference(plan, first, second, drawn) for first, second in _pairs(plan, rows)],
        "power": [
            {"row": first, "other": second, **_spread(rows[first], drawn["map"], first, second)}
            for first, second in _pairs(plan, rows)
            if ": " not in first
        ],
    }


def detections_path(part: Part, name: str) -> Path:
    """Detections of a part's held-out videos by a row, or by what is judged below it."""
    row, _, below = name.partition(": ")
    return part.workspace.part_detections(row, below) if below else part.workspace.detections(row)


def _seeds_of(parts: Sequence[Part], name: str, seeds: Sequence[int]) -> _Seeds:
    truth: Truth = {}
    found: dict[int, Found] = {seed: {} for seed in seeds}
    for part in parts:
        truth |= truth_of(part.workspace, name)
        found[part.seed] |= read_detections(detections_path(part, name))
    return _Seeds(truth, tuple(found[seed] for seed in seeds))


def _cell(plan: Plan, part: Part, name: str) -> dict[str, Any]:
    """Figures of one row, seed and fold; none if no action of the labels is in its held-out videos."""
    path = detections_path(part, name)
    truth = truth_of(part.workspace, name)
    figures = _figures(plan, truth, read_detections(path)) if any(truth.values()) else {}
    place = str(path.relative_to(plan.folder))
    return {"row": name, "seed": part.seed, "fold": part.fold, "detections": place, **figures}


def _figures(plan: Plan, truth: Truth, found: Found) -> dict[str, Any]:
    rules = rules_of(plan.whole.recipe, truth)
    precision = mean_average_precision(truth, found, **rules)
    return {
        "map": _by_tiou(plan, precision.map),
        "average_map": precision.average_map,
        "pooled": _by_tiou(plan, precision.pooled),
        "average_pooled": precision.average_pooled,
        "per_class": {label: float(values.mean()) for label, values in precision.per_class.items()},
        "calibration_error": calibration_error(truth, found, labels=rules["labels"]),
    }


def _by_tiou(plan: Plan, values: Iterable[float]) -> dict[str, float]:
    tious = (f"{tiou:.10g}" for tiou in plan.whole.recipe.evaluation.tiou)
    return {tiou: float(value) for tiou, value in zip(tious, values, strict=True)}


def _resampled(plan: Plan, rows: Mapping[str, _Seeds], figure: Figure) -> dict[str, tuple[Resampled, int]]:
    """For each row its draws and its place in them; rows that are judged by the same actions have the same draws."""
    placed: dict[str, tuple[Resampled, int]] = {}
    for name, one in rows.items():
        if name in placed:
            continue
        alike = [other for other in rows if rows[other].truth == one.truth]
        rules = rules_of(plan.whole.recipe, one.truth)
        detectors = [rows[other].found for other in alike]
        draws = resampled(one.truth, detectors, figure=figure, resamples=RESAMPLES, seed=0, **rules)
        placed |= {other: (draws, place) for place, other in enumerate(alike)}
    return placed


def _means(
    name: str,
    by_seed: Sequence[Mapping[str, Any]],
    drawn: Mapping[str, Mapping[str, tuple[Resampled, int]]],
) -> dict[str, Any]:
    """A row's figures: mean over seeds, standard deviation between them, and intervals over videos and seeds."""
    of_row = [figures for figures in by_seed if figures["row"] == name]
    means: dict[str, Any] = {}
    for figure in ("map", "pooled"):
        averages = [figures[f"average_{figure}"] for figures in of_row]
        draws, place = drawn[figure][name]
        interval = draws.interval(place)
        means[figure] = {tiou: fmean(figures[figure][tiou] for figures in of_row) for tiou in of_row[0][figure]}
        means[f"average_{figure}"] = fmean(averages)
        means[f"{figure}_spread"] = stdev(averages) if len(averages) > 1 else None
        means[f"{figure}_interval"] = [interval.low, interval.high]
    labels = of_row[0]["per_class"]
    means["per_class"] = {label: fmean(figures["per_class"][label] for figures in of_row) for label in labels}
    means["calibration_error"] = fmean(figures["calibration_error"] for figures in of_row)
    return means


def _pairs(plan: Plan, rows: Mapping[str, _Seeds]) -> list[tuple[str, str]]:
    """Rows whose difference is reported: headroom, every row beside the baseline, and those asked for."""
    headroom = [HEADROOM] if all(row in rows for row in HEADROOM) else []
    others = [(name, plan.baseline) for name in rows if name != plan.baseline]
    pairs = dict.fromkeys([*headroom, *others, *plan.pairs])
    return [(one, other) for one, other in pairs if rows[one].truth == rows[other].truth]


def _difference(
    plan: Plan, first: str, second: str, drawn: Mapping[str, Mapping[str, tuple[Resampled, int]]]
) -> dict[str, Any]:
    """First minus second, with intervals over the same draws of videos and seeds."""
    stated: dict[str, Any] = {"row": first, "other": second}
    tious = [f"{tiou:.10g}" for tiou in plan.whole.recipe.evaluation.tiou]
    for figure, of_rows in drawn.items():
        (draws, place), (_, other) = of_rows[first], of_rows[second]
        difference = draws.difference(place, other)
        stated[f"average_{figure}"] = difference.value
        stated[f"{figure}_interval"] = [difference.low, difference.high]
        stated[f"{figure}_covers_zero"] = difference.covers_zero
        stated[f"{figure}_share_above_zero"] = difference.share_above_zero
        stated[f"{figure}_by_tiou"] = {
            tiou: {"value": one.value, "interval": [one.low, one.high]}
            for tiou, one in zip(tious, difference.by_tiou, strict=True)
        }
    return stated


def _spread(one: _Seeds, drawn: Mapping[str, tuple[Resampled, int]], first: str, second: str) -> dict[str, Any]:
    """What the difference of two rows varies by, for the number of videos that it would need."""
    (draws, place), (_, other) = drawn[first], drawn[second]
    differences = (draws.values[place] - draws.values[other]).mean(axis=1)
    of_draws = (draws.of_seeds[:, place] - draws.of_seeds[:, other]).mean(axis=2)
    return spread_of(differences, of_draws, videos=len(one.truth))
