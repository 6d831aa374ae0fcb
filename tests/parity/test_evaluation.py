"""Average precision and recall are those of the official evaluators, of OpenTAD's and of ActionFormer's.

The last two drop truths without length and repeated ones, ActionFormer also those under a millisecond; once these are
dropped here, too, all agree but for what ``WRONG`` and ``TIED`` tell.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tadkit.evaluation import mean_average_precision, proposal_recall, recall_at_multiples
from tadkit.records import Annotation, Detection

Truth = dict[str, list[Annotation]]
Found = dict[str, list[Detection]]
TIED = {"ties_heavy", "ties_all", "ties_small"}
"""Scores tie, and the peers sort unstably: their answer differs between processors, so there is none to equal."""
WRONG = {
    ("activitynet", "zero_len_both"): "it takes the 0/0 of two segments without length for a hit",
    ("activitynet", "classes_without_gt"): "it raises KeyError on a label without truth",
    ("actionformer", "classes_without_gt"): "its numbers of labels without truth collide with those of others",
}
SHORTEST_S = {"activitynet": -np.inf, "opentad": np.finfo(float).tiny, "actionformer": 1e-3}
LEVELS = np.linspace(0.5, 0.95, 10)


@pytest.fixture(scope="module")
def cases(needed) -> dict[str, tuple[Truth, Found, list[float]]]:
    """For each case the truth of the validation subset, detections and tIoUs."""
    folder, held = needed("evaluation/cases"), {}
    for case in json.loads(needed("evaluation/cases.json").read_text()):
        truth, found = (json.loads((folder / f"{case['name']}.{kind}.json").read_text()) for kind in ("gt", "pred"))
        actions = {
            video: [Annotation(*item["segment"], item["label"]) for item in entry["annotations"]]
            for video, entry in truth["database"].items()
            if entry["subset"] == "validation"
        }
        detections = {
            video: [Detection(*item["segment"], item["label"], item["score"]) for item in items]
            for video, items in found["results"].items()
        }
        held[case["name"]] = actions, detections, case["tious"]
    return held


@pytest.fixture(scope="module")
def results(needed: Callable[[str], Path]) -> Callable[[str], dict]:
    """What the peers found."""
    return lambda name: json.loads(needed(f"evaluation/{name}.json").read_text())


def looked_at(truth: Truth, peer: str) -> Truth:
    """The truths that a peer does not drop."""
    if peer == "activitynet":
        return truth
    return {
        video: [action for action in dict.fromkeys(actions) if action.end_s - action.start_s >= SHORTEST_S[peer]]
        for video, actions in truth.items()
    }


@pytest.mark.parametrize("peer", SHORTEST_S)
def test_average_precision_is_theirs(peer, cases, results, compared):
    for name, (truth, found, tious) in cases.items():
        if name in TIED or (peer, name) in WRONG:
            continue
        ours = mean_average_precision(looked_at(truth, peer), found, labels=None, tiou=tious)
        wanted = results("results")["cases"][name][peer]
        assert set(ours.per_class) == set(wanted["ap"])
        for label, values in wanted["ap"].items():
            compared(f"{peer}: AP", ours.per_class[label], values, bar=1e-6)
        compared(f"{peer}: mAP", ours.map, wanted["mAP"], bar=1e-6)
        compared(f"{peer}: average mAP", ours.average_map, wanted["average_mAP"], bar=1e-6)


@pytest.mark.parametrize("peer", ["opentad", "actionformer"])
def test_recall_at_multiples_is_theirs(peer, cases, results, compared):
    for name, (truth, found, tious) in cases.items():
        if name not in TIED:
            ours = recall_at_multiples(looked_at(truth, peer), found, labels=None, tiou=tious)
            compared(f"{peer}: recall", ours.T, results("results")["cases"][name][peer]["recall_top_1x_5x"], bar=1e-6)


def test_recall_of_proposals_is_the_official_ones(cases, results, compared):
    held = results("proposal_results")
    for name in sorted(held.keys() & cases.keys() - TIED):
        truth, found, _ = cases[name]
        for key, proposals in (("an_None", None), ("an_10", 10), ("an_5", 5)):
            ours, wanted = proposal_recall(truth, found, tiou=LEVELS, proposals=proposals), held[name][key]
            compared("average recall", ours.average_recall, wanted["avg_recall"], bar=1e-6)
            compared("proposals a video", ours.proposals_per_video, wanted["proposals_per_video"], bar=1e-6)
            compared("area under it", ours.area, wanted["auc"], bar=1e-6)


def test_recall_of_proposals_is_opentads(cases, results, compared):
    """Its area is taken from one proposal a video on, at whole numbers of them, but divided by all."""
    held = results("proposal_results")
    for name in sorted(held.keys() & cases.keys() - TIED):
        truth, found, _ = cases[name]
        ours, wanted = proposal_recall(looked_at(truth, "opentad"), found, tiou=LEVELS, proposals=10), held[name]
        at = [ours.average_recall_at(proposals) for proposals in range(1, 11)]
        theirs = wanted["opentad_an_10"]
        compared("opentad: average recall", [at[n - 1] for n in (1, 5, 10)], [theirs[f"AR@{n}"] for n in (1, 5, 10)])
        compared("opentad: area under it", np.trapezoid(at) / 10, theirs["AUC"], bar=1e-6)


@pytest.mark.parametrize(("peer", "name"), WRONG)
def test_a_peer_that_is_left_out_does_stand_alone(peer, name, cases, results):
    truth, found, tious = cases[name]
    ours = mean_average_precision(looked_at(truth, peer), found, labels=None, tiou=tious)
    wanted = results("results")["cases"][name][peer]
    assert "error" in wanted or any(np.abs(ours.per_class[n] - ap).max() > 0.1 for n, ap in wanted["ap"].items())
