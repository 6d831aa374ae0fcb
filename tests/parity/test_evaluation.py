"""Average precision and recall are those of the official evaluators, of OpenTAD's and of ActionFormer's.

The last two drop truths without length and repeated ones, ActionFormer also those under a millisecond; once these are
dropped here, too, all agree but for what ``WRONG`` and ``TIED`` tell.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tadkit.evaluation import mean_average_precision, proposal_recall, recall_at_multiples
from tadkit.evaluation.oracle import looped_average_precision
from tadkit.records import Annotation, Detection

Truth = dict[str, list[Annotation]]
Found = dict[str, list[Detection]]
Case = tuple[Truth, Found, list[float]]
CASES = (
    "class_only_in_train",
    "classes_without_gt",
    "classes_without_preds",
    "dup_gt_exact",
    "empty_lists",
    "exact_tiou_linspace",
    "gt_tiou_ties",
    "many_tiou",
    "missing_videos",
    "other_subsets",
    "out_of_range_pred",
    "overlapping_gt",
    "perfect",
    "plain_00",
    "plain_02",
    "plain_03",
    "plain_05",
    "plain_06",
    "plain_08",
    "plain_09",
    "single",
    "ties_all",
    "ties_heavy",
    "ties_small",
    "tiny_gt",
    "unnormalised_scores",
    "videos_without_gt",
    "zero_len_both",
    "zero_len_pred",
)
OF_PROPOSALS = (
    "dup_gt_exact",
    "missing_videos",
    "overlapping_gt",
    "plain_03",
    "plain_05",
    "plain_08",
    "ties_all",
    "ties_heavy",
)
"""Those of which there is recall of proposals, too."""
TIED = ("ties_heavy", "ties_all", "ties_small")
"""Scores tie, and the other projects sort unstably: their result differs between processors."""
WRONG = {
    ("activitynet", "zero_len_both"): "it takes the 0/0 of two segments without length for a hit",
    ("activitynet", "classes_without_gt"): "it raises KeyError on a label without truth",
    ("actionformer", "classes_without_gt"): "its numbers of labels without truth collide with those of others",
}
SHORTEST_S = {"activitynet": -np.inf, "opentad": np.finfo(float).tiny, "actionformer": 1e-3}
BAR = 1e-9
LEVELS = np.linspace(0.5, 0.95, 10)


@pytest.fixture(scope="module")
def cases(evaluators) -> dict[str, Case]:
    """For each case the truth of the validation subset, detections and tIoUs."""
    return {recorded["name"]: read_case(evaluators, recorded) for recorded in evaluators.recorded("cases")}


def read_case(evaluators, recorded: dict) -> Case:
    truth, found = (evaluators.recorded(f"cases/{recorded['name']}.{kind}") for kind in ("gt", "pred"))
    actions = {
        video: [Annotation(*item["segment"], item["label"]) for item in entry["annotations"]]
        for video, entry in truth["database"].items()
        if entry["subset"] == "validation"
    }
    detections = {
        video: [Detection(*item["segment"], item["label"], item["score"]) for item in items]
        for video, items in found["results"].items()
    }
    return actions, detections, recorded["tious"]


@pytest.fixture(scope="module")
def averages(evaluators) -> dict[str, dict[str, dict]]:
    """AP and recall at multiples, of each case and project."""
    return evaluators.recorded("results")["cases"]


@pytest.fixture(scope="module")
def proposals(evaluators) -> dict[str, dict[str, dict]]:
    """Recall of proposals, of each case and number of them."""
    return evaluators.recorded("proposal_results")


def looked_at(truth: Truth, project: str) -> Truth:
    """The ground truth that a project does not drop."""
    if project == "activitynet":
        return truth
    return {
        video: [action for action in dict.fromkeys(actions) if action.end_s - action.start_s >= SHORTEST_S[project]]
        for video, actions in truth.items()
    }


def test_these_are_all_the_cases(cases, proposals):
    assert set(CASES) == set(cases)
    assert set(OF_PROPOSALS) == set(proposals) & set(cases)


@pytest.mark.parametrize(
    ("project", "name"), [pair for pair in product(SHORTEST_S, CASES) if pair not in WRONG and pair[1] not in TIED]
)
def test_average_precision_is_theirs(project, name, cases, averages, compared):
    truth, found, tious = cases[name]
    ours = mean_average_precision(looked_at(truth, project), found, labels=None, tiou=tious)
    wanted = averages[name][project]
    assert set(ours.per_class) == set(wanted["ap"])
    for label, values in wanted["ap"].items():
        compared(f"{project}: AP", ours.per_class[label], values, bar=BAR)
    compared(f"{project}: mAP", ours.map, wanted["mAP"], bar=BAR)
    compared(f"{project}: average mAP", ours.average_map, wanted["average_mAP"], bar=BAR)


@pytest.mark.parametrize(
    "name", ["plain_00", "plain_09", "overlapping_gt", "gt_tiou_ties", "dup_gt_exact", "many_tiou"]
)
def test_the_plain_loops_average_precision_is_the_official_one(name, cases, averages, compared):
    truth, found, tious = cases[name]
    ours, wanted = looped_average_precision(truth, found, tiou=tious), averages[name]["activitynet"]["ap"]
    assert set(ours) == set(wanted)
    for label, values in wanted.items():
        compared("the loop's AP", ours[label], values, bar=BAR)


@pytest.mark.parametrize("name", TIED)
def test_tied_scores_give_one_answer_whatever_the_order_of_the_file(name, cases):
    truth, found, tious = cases[name]
    shuffled = {video: list(reversed(items)) for video, items in reversed(found.items())}
    first, second = (mean_average_precision(truth, items, labels=None, tiou=tious) for items in (found, shuffled))
    np.testing.assert_array_equal(first.map, second.map)
    np.testing.assert_array_equal(first.pooled, second.pooled)


@pytest.mark.parametrize("name", [name for name in CASES if name not in TIED])
@pytest.mark.parametrize("project", ["opentad", "actionformer"])
def test_recall_at_multiples_is_theirs(project, name, cases, averages, compared):
    truth, found, tious = cases[name]
    ours = recall_at_multiples(looked_at(truth, project), found, labels=None, tiou=tious)
    compared(f"{project}: recall", ours.T, averages[name][project]["recall_top_1x_5x"], bar=BAR)


@pytest.mark.parametrize("name", [name for name in OF_PROPOSALS if name not in TIED])
@pytest.mark.parametrize(("key", "number"), [("an_None", None), ("an_10", 10), ("an_5", 5)])
def test_recall_of_proposals_is_the_official_ones(key, number, name, cases, proposals, compared):
    truth, found, _ = cases[name]
    ours, wanted = proposal_recall(truth, found, tiou=LEVELS, proposals=number), proposals[name][key]
    compared("average recall", ours.average_recall, wanted["avg_recall"], bar=BAR)
    compared("proposals a video", ours.proposals_per_video, wanted["proposals_per_video"], bar=BAR)
    compared("area under it", ours.area, wanted["auc"], bar=BAR)


@pytest.mark.parametrize("name", [name for name in OF_PROPOSALS if name not in TIED])
def test_recall_of_proposals_is_opentads(name, cases, proposals, compared):
    """Its area is taken from one proposal a video on, at whole numbers of them, but divided by all."""
    truth, found, _ = cases[name]
    ours, theirs = proposal_recall(looked_at(truth, "opentad"), found, tiou=LEVELS, proposals=10), proposals[name]
    at, theirs = [ours.average_recall_at(number) for number in range(1, 11)], theirs["opentad_an_10"]
    for n in (1, 5, 10):
        compared("opentad: average recall", at[n - 1], theirs[f"AR@{n}"], bar=BAR)
    compared("opentad: area under it", np.trapezoid(at) / 10, theirs["AUC"], bar=BAR)


@pytest.mark.parametrize(("project", "name"), WRONG)
def test_a_project_that_is_left_out_does_stand_alone(project, name, cases, averages):
    truth, found, tious = cases[name]
    ours = mean_average_precision(looked_at(truth, project), found, labels=None, tiou=tious)
    wanted = averages[name][project]
    assert "error" in wanted or any(np.abs(ours.per_class[n] - ap).max() > 0.1 for n, ap in wanted["ap"].items())
