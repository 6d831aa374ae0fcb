import json
from pathlib import Path

import pytest

from tadkit.config import DecodeSettings
from tadkit.errors import AnnotationError
from tadkit.models.decode.video_scores import read_video_scores, video_scores_of


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
    with pytest.raises(AnnotationError, match="'v' is no object"):
        read_video_scores(written(tmp_path, {"v": 1}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], r"scores.json: not an object"),
        ({"v": 1}, r"'v' is no object"),
        ({"v": {"fly": 0.5}}, r"'v' names 'fly', no label of the model; its labels: walk, sit"),
        ({"v": {"sit": "0.5"}}, r"'v' has '0.5' for 'sit'"),
        ({"v": {"sit": -1}}, r"'v' has -1 for 'sit'"),
    ],
)
def test_what_is_no_scores_of_videos_is_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read_video_scores(written(tmp_path, content), ("walk", "sit"))


def test_a_video_is_looked_up_in_the_file_that_the_settings_name(tmp_path: Path) -> None:
    path = written(tmp_path, {"v": {"sit": 0.7}})
    settings = DecodeSettings(video_scores=str(path))
    found = video_scores_of("v", settings, ("walk", "sit"), nameless=False)
    assert found is not None
    assert (found.labels, found.values.tolist()) == (("walk", "sit"), [0.0, 0.7])
    assert video_scores_of("v", DecodeSettings(), ("walk", "sit"), nameless=False) is None
    with pytest.raises(AnnotationError, match="no scores for 'w'"):
        video_scores_of("w", settings, ("walk", "sit"), nameless=False)


def test_a_model_without_classifier_takes_the_files_labels_or_keeps_to_its_own(tmp_path: Path) -> None:
    settings = DecodeSettings(video_scores=str(written(tmp_path, {"v": {"sit": 0.7}, "w": {"fall": 1}})))
    taking = settings.model_copy(update={"video_labels": 1})
    found = video_scores_of("v", taking, ("action",), nameless=True)
    assert found is not None
    assert (found.labels, found.values.tolist()) == (("fall", "sit"), [0.0, 0.7])
    with pytest.raises(AnnotationError, match=r"such as 'fall', and the model has no classifier; .*video_labels=2"):
        video_scores_of("v", settings, ("action",), nameless=True)
    own = DecodeSettings(video_scores=str(written(tmp_path, {"v": {"action": 0.5}})))
    found = video_scores_of("v", own, ("action",), nameless=True)
    assert found is not None
    assert (found.labels, found.values.tolist()) == (("action",), [0.5])
