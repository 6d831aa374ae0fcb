"""``tadkit bench evaluate``: the evaluator and suppression against plain loops over single rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64

from tadkit.bench.timing import interleaved_s, machine_json
from tadkit.evaluation import mean_average_precision
from tadkit.evaluation.oracle import looped_average_precision, looped_soft_nms
from tadkit.models.decode.suppression import SoftGaussian, suppress
from tadkit.progress import Progress
from tadkit.records import Annotation, Detection

TIOU = tuple(float(value) for value in np.linspace(0.5, 0.95, 10).round(2))
ACTIONS = 10
"""Actions in a synthetic video."""
_VIDEO_S = 180.0
_SIGMA, _MIN_SCORE, _KEEP = 0.5, 0.001, 200


@dataclass(frozen=True)
class Comparison:
    """One piece of work, done by tadkit and by a plain loop.

    Attributes:
        tadkit_s: seconds, median over the rounds.
        loop_s: seconds of the plain loop, median over the rounds.
        times_faster: median over the rounds of the ratio within a round.
        largest_difference: between the two results.
    """

    tadkit_s: float
    loop_s: float
    times_faster: float
    largest_difference: float


@dataclass(frozen=True)
class EvaluateBenchmark:
    """What was measured, and on what.

    Attributes:
        evaluator: average precision at ten tIoUs under the activitynet protocol.
        suppression: Gaussian soft-NMS class by class.
        videos: number of synthetic videos for the evaluator.
        detections: detections per video.
        classes: classes of both data sets.
        candidates: candidates that suppression starts from; it keeps 200.
        rounds: how often each implementation ran, in turn.
        threads: threads of torch; NumPy does not use its own.
        machine: see :func:`tadkit.bench.timing.machine_json`.
    """

    evaluator: Comparison
    suppression: Comparison
    videos: int
    detections: int
    classes: int
    candidates: int
    rounds: int
    threads: int
    machine: Mapping[str, Any]


def bench_evaluate(
    *, videos: int, detections: int, classes: int, candidates: int, rounds: int, seed: int, progress: Progress
) -> EvaluateBenchmark:
    """Time evaluator and suppression on synthetic data; in a round, both implementations run in turn.

    Args:
        videos: number of videos for the evaluator, each with :data:`ACTIONS` actions.
        detections: detections per video, half of them near an action of their class.
        classes: number of classes of actions and detections.
        candidates: candidates that suppression starts from.
        rounds: how often each implementation runs.
        seed: seed of the data.
        progress: advances with every run.
    """
    rng = np.random.default_rng(seed)
    progress.start("bench evaluate", total=4 * rounds, unit="runs")
    return EvaluateBenchmark(
        evaluator=_evaluator(rng, videos, detections, classes, rounds, progress),
        suppression=_suppression(rng, candidates, classes, rounds, progress),
        videos=videos,
        detections=detections,
        classes=classes,
        candidates=candidates,
        rounds=rounds,
        threads=torch.get_num_threads(),
        machine=machine_json(torch.device("cpu")),
    )


def _evaluator(
    rng: np.random.Generator, videos: int, detections: int, classes: int, rounds: int, progress: Progress
) -> Comparison:
    truth, found = _made_up(rng, videos, detections, classes)
    fast = mean_average_precision(truth, found, labels=None, tiou=TIOU).per_class
    slow = looped_average_precision(truth, found, tiou=TIOU)
    took_s = interleaved_s(
        {
            "evaluator": [partial(mean_average_precision, truth, found, labels=None, tiou=TIOU)],
            "evaluator in a loop": [partial(looped_average_precision, truth, found, tiou=TIOU)],
        },
        rounds=rounds,
        device=torch.device("cpu"),
        progress=progress,
    )
    return _comparison(took_s, max(float(np.abs(fast[label] - slow[label]).max()) for label in slow))


def _made_up(
    rng: np.random.Generator, videos: int, detections: int, classes: int
) -> tuple[dict[str, list[Annotation]], dict[str, list[Detection]]]:
    """Ground truth and detections; half of these lie near an action and have its label."""
    truth: dict[str, list[Annotation]] = {}
    found: dict[str, list[Detection]] = {}
    for number in range(videos):
        actions, labels = _segments(rng, ACTIONS), rng.integers(classes, size=ACTIONS)
        near = rng.integers(ACTIONS, size=detections // 2)
        guesses = _segments(rng, detections)
        guesses[: len(near)] = np.sort(actions[near] + rng.normal(0, 2, (len(near), 2)), axis=1)
        guessed = np.concatenate((labels[near], rng.integers(classes, size=detections - len(near))))
        name = f"video {number:05d}"
        truth[name] = [
            Annotation(start_s, end_s, f"class {label}")
            for (start_s, end_s), label in zip(actions.tolist(), labels, strict=True)
        ]
        found[name] = [
            Detection(start_s, end_s, f"class {label}", score)
            for (start_s, end_s), label, score in zip(
                guesses.tolist(), guessed, rng.random(detections).tolist(), strict=True
            )
        ]
    return truth, found


def _suppression(
    rng: np.random.Generator, candidates: int, classes: int, rounds: int, progress: Progress
) -> Comparison:
    segments_s, scores = _segments(rng, candidates), rng.random(candidates)
    labels: Int64[np.ndarray, " n"] = rng.integers(classes, size=candidates)
    ours = partial(suppress, segments_s, scores, SoftGaussian(_SIGMA), labels=labels, min_score=_MIN_SCORE, keep=_KEEP)
    loop = partial(looped_soft_nms, segments_s, scores, labels.tolist(), sigma=_SIGMA, min_score=_MIN_SCORE, keep=_KEEP)
    (kept, lowered), looped = ours(), loop()
    assert kept.tolist() == [index for index, _ in looped], "suppression and its loop keep different candidates"
    took_s = interleaved_s(
        {"suppression": [ours], "suppression in a loop": [loop]},
        rounds=rounds,
        device=torch.device("cpu"),
        progress=progress,
    )
    return _comparison(took_s, float(np.abs(lowered - [score for _, score in looped]).max(initial=0.0)))


def _segments(rng: np.random.Generator, count: int) -> Float64[np.ndarray, "count 2"]:
    start_s = rng.uniform(0, _VIDEO_S, count)
    return np.stack((start_s, start_s + rng.uniform(2, 20, count)), axis=1)


def _comparison(took_s: Mapping[str, Float64[np.ndarray, " rounds"]], difference: float) -> Comparison:
    fast_s, slow_s = took_s.values()
    return Comparison(float(np.median(fast_s)), float(np.median(slow_s)), float(np.median(slow_s / fast_s)), difference)


def report_json(result: EvaluateBenchmark) -> dict[str, Any]:
    """The result as plain JSON values."""
    return asdict(result)
