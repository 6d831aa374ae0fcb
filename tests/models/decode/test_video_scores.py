import json
from pathlib import Path

import pytest

from tadkit.errors import AnnotationError
from tadkit.models.decode.video_scores import VideoScoresFile, read_video_scores


def written(folder: Path, content: object) -> Path:
    path = folder / "scores.json"
    path.write_text(json.dumps(content))
    return path


def test_scores_come_in_the_order_of_the_labels_and_are_zero_where_not_named(tmp_path: Path) -> None:
    scores = read_video_scores(written(tmp_path, {"v": {"sit": 0.7, "walk": 1}, "w": {}}), ("walk", "sit", "fall"))
    assert {scored.labels for scored in scores.values()} == {("walk", "sit", "fall")}
    assert scores["v"].values.tolist() == [1.0, 0.7, 0.0]
    assert scores["w"].values.tolist() == [0.0, 0.0, 0.0]


def test_without_labels_those_of_all_videos_count_sorted(tmp_path: Path) -> None:
    scores = read_video_scores(written(tmp_path, {"v": {"sit": 0.7}, "w": {"walk": 1, "fall": 0.2}, "x": {}}))
    assert {scored.labels for scored in scores.values()} == {("fall", "sit", "walk")}
    assert [scored.values.tolist() for scored in scores.values()] == [[0, 0.7, 0], [0.2, 0, 1], [0, 0, 0]]
    with pytest.raises(AnnotationError, match="'v' is not a JSON object"):
        read_video_scores(written(tmp_path, {"v": 1}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], r"scores.json: not a JSON object"),
        ({"v": 1}, r"'v' is not a JSON object"),
        ({"v": {"fly": 0.5}}, r"'v' has 'fly', which is not a label of the model; its labels: walk, sit"),
        ({"v": {"sit": "0.5"}}, r"'v' has '0.5' for 'sit'"),
        ({"v": {"sit": -1}}, r"'v' has -1 for 'sit'"),
    ],
)
def test_invalid_files_of_video_scores_are_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read_video_scores(written(tmp_path, content), ("walk", "sit"))


def test_a_video_is_looked_up_in_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, {"v": {"sit": 0.7}})
    scores = VideoScoresFile(path, ("walk", "sit"), class_agnostic=False, best_labels=0)
    assert scores.of("v").labels == ("walk", "sit")
    assert scores.of("v").values.tolist() == [0.0, 0.7]
    with pytest.raises(AnnotationError, match="no scores for 'w'"):
        scores.of("w")


def test_a_class_agnostic_model_takes_the_labels_of_the_file_or_keeps_its_own(tmp_path: Path) -> None:
    path = written(tmp_path, {"v": {"sit": 0.7}, "w": {"fall": 1}})
    found = VideoScoresFile(path, ("action",), class_agnostic=True, best_labels=1).of("v")
    assert (found.labels, found.values.tolist()) == (("fall", "sit"), [0.0, 0.7])
    with pytest.raises(AnnotationError, match=r"the model is class-agnostic.*--set decode.video_labels=2"):
        VideoScoresFile(path, ("action",), class_agnostic=True, best_labels=0)
    own = written(tmp_path, {"v": {"action": 0.5}})
    found = VideoScoresFile(own, ("action",), class_agnostic=True, best_labels=0).of("v")
    assert (found.labels, found.values.tolist()) == (("action",), [0.5])
