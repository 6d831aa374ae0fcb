"""Features of videos on the command line are those that the detector reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tadkit.checkpoint import Checkpoint, save_checkpoint
from tadkit.config import ModelSettings
from tadkit.detection.detect import features_in_video, flow_method_of
from tadkit.errors import VideoError, WeightsError
from tadkit.extraction.branch_features import branch_features
from tadkit.extraction.extract_features import extract_features
from tadkit.extraction.results import ExtractionResult
from tadkit.models.detector import DetectorNet, new_joint_head, new_motion_stream, new_student
from tadkit.progress import Quiet
from tadkit.store import read_store
from tadkit.video import open_sampled

WriteSquares = Callable[..., Path]


def extracted(videos: list[Path], out: Path, model: Path) -> ExtractionResult:
    return extract_features(videos, out, model=model, device="cpu", progress=Quiet())


def test_features_are_those_of_the_models_student_at_the_centres_of_its_steps(
    tmp_path: Path, write_squares: WriteSquares, tiny_model: Path, tiny_detector: DetectorNet
) -> None:
    video = write_squares(tmp_path / "v.mp4", 47)
    assert extracted([video], tmp_path / "f.h5", tiny_model).done == ["v"]
    with (
        read_store(tmp_path / "f.h5", kind="features") as store,
        open_sampled(video, tiny_detector.settings.video) as sampled,
    ):
        expected = branch_features(tiny_detector.student, sampled)["original"]
        assert store.tracks("v") == ["original/appearance", "original/motion"]
        np.testing.assert_allclose(store.read("v", "original/motion"), expected.motion, atol=1e-5)
        np.testing.assert_allclose(store.read("v", "original/appearance"), expected.appearance, atol=1e-5)
        np.testing.assert_array_equal(store.stamps_s("v"), sampled.timeline.strided(2).centres_s)
        assert store.labels == ("slide", "rest")
        assert store.attributes("v")["duration_s"] == sampled.duration_s
    assert extracted([video], tmp_path / "f.h5", tiny_model).reused == ["v"]


@pytest.mark.parametrize("streams", ["two-stream", "two-stream-late"])
def test_of_a_two_stream_detector_motion_is_the_teachers_feature_as_detect_computes_it(
    tmp_path: Path, write_squares: WriteSquares, tiny_settings: ModelSettings, streams: str
) -> None:
    video, model = write_squares(tmp_path / "v.mp4", 47), tmp_path / "two.safetensors"
    stated = tiny_settings.model_dump(mode="json") | {"streams": streams, "distill": {"method": "rgb", "dim": 16}}
    settings = ModelSettings.model_validate(stated)
    torch.manual_seed(3)
    student, joint = (make(settings, num_classes=2) for make in (new_student, new_joint_head))
    net = DetectorNet(
        settings, labels=("slide", "rest"), student=student, joint=joint, teacher=new_motion_stream(settings)
    ).eval()
    save_checkpoint(model, Checkpoint("detector", stated, net.labels, net.state_dict()))
    assert extracted([video], tmp_path / "f.h5", model).done == ["v"]
    with read_store(tmp_path / "f.h5", kind="features") as store, open_sampled(video, settings.video) as sampled:
        expected = features_in_video(net, sampled, flow=flow_method_of(net))
        assert store.tracks("v") == ["original/appearance", "original/motion"]
        assert expected.motion is not None
        assert expected.motion.std() > 0.01
        np.testing.assert_array_equal(store.read("v", "original/motion"), expected.motion)
        np.testing.assert_allclose(store.read("v", "original/appearance"), expected.appearance, atol=1e-5)
    assert extracted([video], tmp_path / "f.h5", model).reused == ["v"]


def test_a_student_file_gives_what_its_detector_gives(
    tmp_path: Path, write_squares: WriteSquares, tiny_model: Path, tiny_detector: DetectorNet
) -> None:
    video, student = write_squares(tmp_path / "v.mp4", 20), tmp_path / "student.safetensors"
    settings = tiny_detector.settings.model_dump(mode="json")
    save_checkpoint(student, Checkpoint("student", settings, tiny_detector.labels, tiny_detector.student.state_dict()))
    tracks = []
    for name, model in (("a", tiny_model), ("b", student)):
        extracted([video], tmp_path / f"{name}.h5", model)
        with read_store(tmp_path / f"{name}.h5", kind="features") as store:
            tracks.append(store.read("v", "original/motion"))
    np.testing.assert_array_equal(*tracks)


def test_videos_of_one_stem_keep_apart(tmp_path: Path, write_squares: WriteSquares, tiny_model: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    videos = [write_squares(tmp_path / folder / "v.mp4", 10, seed=seed) for seed, folder in enumerate("ab")]
    assert extracted(videos, tmp_path / "f.h5", tiny_model).done == ["a/v", "b/v"]
    with read_store(tmp_path / "f.h5", kind="features") as store:
        assert store.videos() == ["a/v", "b/v"]
        assert not np.array_equal(store.read("a/v", "original/appearance"), store.read("b/v", "original/appearance"))


def test_a_video_that_fails_is_reported_and_the_others_are_kept(
    tmp_path: Path, write_squares: WriteSquares, tiny_model: Path
) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    good = write_squares(tmp_path / "good.mp4", 10)
    result = extracted([tmp_path / "text.mp4", good, tmp_path / "gone.mp4"], tmp_path / "f.h5", tiny_model)
    assert result.done == ["good"]
    assert set(result.failed) == {"text", "gone"}
    assert all(isinstance(error, VideoError) for error in result.failed.values())


def test_a_model_that_is_neither_student_nor_detector_is_refused(tmp_path: Path, tiny_detector: DetectorNet) -> None:
    other = tmp_path / "joint.safetensors"
    settings = tiny_detector.settings.model_dump(mode="json")
    save_checkpoint(other, Checkpoint("joint-head", settings, tiny_detector.labels, tiny_detector.joint.state_dict()))
    with pytest.raises(WeightsError, match="holds a joint-head; expected a detector"):
        extracted([], tmp_path / "f.h5", other)
    with pytest.raises(WeightsError, match="no such file"):
        extracted([], tmp_path / "f.h5", tmp_path / "gone.safetensors")
