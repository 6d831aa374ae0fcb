"""Matches on the page are those of evaluation, at every score."""

from __future__ import annotations

import numpy as np
import pytest

from tadkit.evaluation.matching import match_classes
from tadkit.records import AMBIGUOUS, Annotation, Detection
from tadkit.report.comparison import TIOUS, compare

LABELS = ("fall", "walk")


def drawn(seed: int) -> tuple[dict[str, list[Detection]], dict[str, list[Annotation]]]:
    """Detections and actions that overlap a lot, in two videos."""
    rng = np.random.default_rng(seed)

    def segments(count: int) -> list[tuple[float, float, str]]:
        starts, lengths = rng.uniform(0, 20, count), rng.uniform(0.5, 6, count)
        return [
            (s, s + n, LABELS[int(rng.integers(2))]) for s, n in zip(starts.tolist(), lengths.tolist(), strict=True)
        ]

    found = {video: [Detection(*one, float(rng.uniform())) for one in segments(30)] for video in "ab"}
    return found, {video: [Annotation(*one) for one in segments(8)] for video in "ab"}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("score", [0.0, 0.4, 0.8])
def test_leaving_out_low_scores_changes_no_match_of_the_others(seed, score):
    found, truth = drawn(seed)
    kept = {video: [d for d in one if d.score >= score] for video, one in found.items()}
    alone = match_classes(truth, kept, videos=["a", "b"], labels=LABELS, tiou=TIOUS, protocol="activitynet")
    hits = {(one, label): 0 for one in range(len(TIOUS)) for label in LABELS}
    for video in compare(found, truth, labels=LABELS).values():
        for level, taken in enumerate(video.taken):
            for detection, action in zip(video.detections, taken, strict=True):
                if action >= 0:
                    assert video.actions[action].label == detection.label
                    hits[level, detection.label] += detection.score >= score
    labels = np.array(LABELS)[alone.found.label]
    assert hits == {(level, label): int(alone.hit[labels == label, level].sum()) for level, label in hits}


def test_the_nearest_action_may_have_another_label():
    found = {"a": [Detection(0.0, 4.0, "walk", 0.9), Detection(10.0, 12.0, "walk", 0.8)]}
    truth = {"a": [Annotation(0.0, 4.0, "fall"), Annotation(3.0, 6.0, "walk")]}
    video = compare(found, truth, labels=LABELS)["a"]
    assert video.actions == [Annotation(0.0, 4.0, "fall"), Annotation(3.0, 6.0, "walk")]
    assert (video.nearest[0], video.overlap[0]) == (0, 1.0)
    assert video.overlap[1] == 0.0
    assert all(taken == [-1, -1] for taken in video.taken[1:])


def test_ambiguous_actions_are_kept_and_match_nothing():
    found = {"a": [Detection(0.0, 4.0, "walk", 0.9)]}
    truth = {"a": [Annotation(0.0, 4.0, AMBIGUOUS), Annotation(8.0, 9.0, "walk")], "b": []}
    compared = compare(found, truth, labels=("walk", AMBIGUOUS))
    assert compared["a"].actions == [Annotation(8.0, 9.0, "walk"), Annotation(0.0, 4.0, AMBIGUOUS)]
    assert [taken[0] for taken in compared["a"].taken] == [-1] * len(TIOUS)
    assert compared["b"].actions == []
