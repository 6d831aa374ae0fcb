"""``tadkit evaluate`` on detections that others have published: it prints the mAP of their papers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tadkit.records import Annotation, Dataset, Detection, VideoRecord, write_dataset, write_detections

CLASS_IDS = (7, 9, 12, 21, 22, 23, 24, 26, 31, 33, 36, 40, 45, 51, 68, 79, 85, 92, 93, 97)
"""THUMOS14's numbers of its classes, which follow the alphabet."""
TURN_TIOU = ("0.1", "0.2", "0.3", "0.4", "0.5")


def assert_published(
    printed: Mapping[str, float], row: Mapping[str, Mapping[str, float]], tious: Sequence[str]
) -> None:
    """The paper's mAP within the 0.05 points that it rounds off, and the other evaluator's to the last digit told."""
    assert list(printed) == list(tious)
    for tiou, value in printed.items():
        assert 100 * value == pytest.approx(row["published"][tiou], abs=0.05)
        assert round(100 * value, 1) == row["published"][tiou]
        assert round(100 * value, 2) == row["reproduced"][tiou]


@pytest.fixture(scope="module")
def expected(shared_data: Path) -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    """The figures of each paper."""
    return json.loads((shared_data / "detections/expected.json").read_text())


@pytest.fixture(scope="module")
def thumos14(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official truth of THUMOS14's test videos, as ActivityNet-style JSON."""
    truth = defaultdict(list)
    for path in (shared_data / "annotations/thumos14/official_txt/test").glob("*_test.txt"):
        for line in filter(None, path.read_text().splitlines()):
            video, start, end = line.split()
            truth[video].append(Annotation(float(start), float(end), path.stem.removesuffix("_test")))
    videos = {
        video: VideoRecord(video, max(action.end_s for action in actions), "test", tuple(actions))
        for video, actions in truth.items()
    }
    place = tmp_path_factory.mktemp("thumos14") / "truth.json"
    write_dataset(place, Dataset(videos))
    return place


@pytest.mark.parametrize("tiou", TURN_TIOU)
def test_turn_with_scnn_under_the_thumos14_protocol(tadkit, shared_data, expected, thumos14, tmp_path, tiou):
    truth = json.loads(thumos14.read_text())["database"].values()
    names = sorted({action["label"] for video in truth for action in video["annotations"]} - {"Ambiguous"})
    name_of = dict(zip(CLASS_IDS, names, strict=True))
    found = defaultdict(list)
    rows = shared_data / f"detections/turn_flow16_scnn/TURN-FLOW-16_SCNN_thumos14_iou{tiou}.txt"
    for line in rows.read_text().splitlines():
        video, start, end, label, score = line.split()
        found[video].append(Detection(float(start), float(end), name_of[int(label)], float(score)))
    write_detections(tmp_path / "found.json", found, external={})
    words = (tmp_path / "found.json", thumos14, "--protocol", "thumos14", "--tiou", tiou, "--json")
    report = json.loads(tadkit("evaluate", *words).out)
    assert_published(report["map"], expected["turn_flow16_scnn"], [tiou])
    assert (report["counts"]["truths"], report["counts"]["ambiguous"]) == (3358, 99)


def test_autoloc_under_the_activitynet_protocol(tadkit, shared_data, expected):
    folder = shared_data / "detections/autoloc"
    words = (folder / "results.json", folder / "ground_truth.json", "--protocol", "activitynet", "--json")
    report = json.loads(tadkit("evaluate", *words).out)
    assert_published(report["map"], expected["autoloc"], list(expected["autoloc"]["published"]))
