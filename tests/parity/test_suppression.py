"""Suppression and voting of sets of segments are those of ActionFormer's compiled routines, in float32 as they are.

Where scores tie their order is that of an unstable sort, and what is kept depends on it. With the tied segments put in
the order in which they took them, we must take the same ones in that order, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tadkit.models.decode.decode import Decoded
from tadkit.models.decode.suppression import REFERENCE_MARGIN, Hard, SoftGaussian, SoftLinear, suppress
from tadkit.models.decode.voting import voted

ROUTINES = {
    "hard": (Hard(0.5), 0.0),
    "gauss": (SoftGaussian(0.5), 0.001),
    "linear": (SoftLinear(0.3), 0.001),
    "soft0": (Hard(0.5), 0.001),
}
"""Rule and lowest score of each routine."""
CALLS = {"soft": SoftGaussian(0.5), "hard": Hard(0.5)}
TAKEN_AS = {"soft": "gauss", "hard": "hard"}
"""The routine whose order a call for all classes at once has."""


@dataclass(frozen=True)
class Set:
    """Candidates, and ActionFormer's results."""

    name: str
    segments: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    theirs: dict[str, np.ndarray]

    @property
    def tied(self) -> bool:
        """Whether some scores are equal."""
        return len(np.unique(self.scores)) < len(self.scores)

    def in_order(self, taken: np.ndarray) -> Set:
        """The same candidates, those that they took first and in that order."""
        order = np.concatenate((taken.astype(np.int64), np.setdiff1d(np.arange(len(self.scores)), taken)))
        return Set(self.name, self.segments[order], self.scores[order], self.labels[order], self.theirs)


@pytest.fixture(scope="module")
def sets(needed) -> list[Set]:
    """All sets whose candidates are here."""
    given, theirs = (dict(np.load(needed(f"nms/{name}.npz"))) for name in ("inputs", "outputs"))
    names = sorted({name.partition("_")[0] for name in given})
    of_set = {name: {key[4:]: value for key, value in theirs.items() if key.startswith(f"{name}_")} for name in names}
    fields = ("segments", "scores", "labels")
    return [Set(name, *(given[f"{name}_{field}"] for field in fields), of_set[name]) for name in names]


def run(routine: str, one: Set) -> tuple[np.ndarray, np.ndarray]:
    """Indices taken, in order, and lowered scores."""
    rule, min_score = ROUTINES[routine]
    return suppress(one.segments, one.scores, rule, min_score=min_score, keep=10**6, margin=REFERENCE_MARGIN)


@pytest.mark.parametrize("routine", ROUTINES)
def test_every_routine_takes_what_theirs_takes_in_its_order(routine, sets, compared):
    for one in sets:
        taken = one.theirs[f"{routine}_inds"]
        given = one.in_order(taken) if one.tied else one
        kept, lowered = run(routine, given)
        assert kept.tolist() == (list(range(len(taken))) if one.tied else taken.tolist()), one.name
        compared("scores", lowered, one.theirs.get(f"{routine}_scores", one.scores[taken]), bar=1e-5)


def test_a_gaussian_lowers_tied_scores_as_theirs_whichever_comes_first(sets, compared):
    for one in sets:
        _, lowered = run("gauss", one)
        compared("scores", lowered, one.theirs["gauss_scores"], bar=1e-5)


@pytest.mark.parametrize("routine", ["gauss", "hard"])
def test_voting_moves_segments_as_theirs_and_never_to_nothing(routine, sets, compared):
    for one in sets:
        kept = one.segments[one.theirs[f"{routine}_inds"][:200]]
        wanted = one.theirs.get(f"vote_{routine}200")
        if wanted is not None:
            moved = voted(kept, one.segments, one.scores, iou=0.7, rule="score-iou")
            compared("ends", moved, _filled(wanted, kept))


@pytest.mark.parametrize("method", ["soft", "hard"])
@pytest.mark.parametrize("classes", ["mc", "ag"])
def test_whole_calls_give_their_detections(method, classes, sets, compared):
    for one in sets:
        theirs = {field: one.theirs[f"b_{method}_{classes}_{field}"] for field in ("segments", "scores", "labels")}
        given = one
        if one.tied:
            taken = _rows(one, theirs, method) if classes == "mc" else one.theirs[f"{TAKEN_AS[method]}_inds"]
            given = one.in_order(taken)
        labels = given.labels if classes == "mc" else None
        limits = {"min_score": 0.001, "keep": 200, "labels": labels, "margin": REFERENCE_MARGIN}
        kept, lowered = suppress(given.segments, given.scores, CALLS[method], **limits)
        found = given.segments[kept]
        if classes == "ag":
            theirs["segments"] = _filled(theirs["segments"], found)
            found = voted(found, given.segments, given.scores, iou=0.7, rule="score-iou")
        compared.detections(one.name, Decoded(found, lowered, given.labels[kept]), theirs, bars=(1e-4, 1e-5))


def _filled(theirs: np.ndarray, unmoved: np.ndarray) -> np.ndarray:
    """Segments after their voting; where it gives 0/0, for segments without length, the segment as it was."""
    assert theirs.shape == unmoved.shape, (theirs.shape, unmoved.shape)
    return np.where(np.isnan(theirs), unmoved, theirs)


def _rows(one: Set, theirs: dict[str, np.ndarray], method: str) -> np.ndarray:
    """Which candidates the rows of a call by class are, whose segments nothing has moved."""
    rows: list[int] = []
    for segment, score, label in zip(*theirs.values(), strict=True):
        same = (one.segments == segment).all(axis=1) & (one.labels == label)
        same &= (one.scores == score) | (method == "soft")
        same[rows] = False
        rows.append(int(same.argmax()))
        assert same[rows[-1]], (one.name, segment, label)
    return np.array(rows, dtype=np.int64)
