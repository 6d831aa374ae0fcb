"""Files of format version 1 open for ever, and give what they gave to the version that wrote them."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from tadkit.checkpoint import load_checkpoint, load_weights
from tadkit.config import DecodeSettings, TrainSettings
from tadkit.detection.detect import detections_in_branches, load_detector
from tadkit.detection.detect_features import detect_features, track_of
from tadkit.extraction.branch_features import BranchFeatures
from tadkit.extraction.extract_features import extract_features
from tadkit.extraction.teacher_outputs import extract_teacher_outputs
from tadkit.models.detector import DetectorNet, build_detector, build_student, new_joint_head
from tadkit.progress import Quiet
from tadkit.records import Detection
from tadkit.store import Kind, read_store
from tadkit.training.loop import LAST, _Run

STORES: dict[str, Kind] = {"flow": "flow", "teacher": "features", "features-decomposed": "features"}
HEADS = ("actionformer", "tridet", "temporal-maxer", "tadtr", "bmn", "tags")
TRACKS = ("motion", "appearance")


@pytest.fixture(scope="module")
def v1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the unpacked files; not to be changed."""
    folder = tmp_path_factory.mktemp("v1")
    with zipfile.ZipFile(Path(__file__).parent / "v1" / "files.zip") as file:
        file.extractall(folder)
    return folder


def assert_same_detections(found: dict[str, list[Detection]], path: Path, *, atol: float) -> None:
    """``found`` is what the detections file ``path`` says."""
    expected = json.loads(path.read_text())["results"]
    assert list(found) == list(expected)
    for video, records in expected.items():
        assert len(found[video]) == len(records) == 12
        assert_same_video(found[video], records, atol=atol)


def assert_same_video(found: Sequence[Detection], records: Sequence[dict[str, object]], *, atol: float) -> None:
    """Labels and order agree; scores and seconds within ``atol``."""
    assert [detection.label for detection in found] == [record["label"] for record in records]
    times = [(detection.start_s, detection.end_s) for detection in found]
    np.testing.assert_allclose(times, [record["segment"] for record in records], rtol=0, atol=atol)
    scores = [detection.score for detection in found]
    np.testing.assert_allclose(scores, [record["score"] for record in records], rtol=0, atol=atol)


@pytest.mark.parametrize("name", STORES)
def test_a_store_holds_what_was_written(v1: Path, name: str) -> None:
    expected = json.loads((v1 / "stores.json").read_text())[name]
    values = np.load(v1 / "stores.npz")
    with read_store(v1 / f"{name}.h5", kind=STORES[name]) as store:
        assert dict(store.settings) == expected["settings"]
        assert store.labels == (expected["labels"] and tuple(expected["labels"]))
        assert {video: store.attributes(video) for video in store.videos()} == expected["videos"]
        assert list(expected["videos"]) == ["square_0", "square_1"]
        for video in store.videos():
            recorded = {
                key.removeprefix(f"{name}/{video}/"): values[key]
                for key in values
                if key.startswith(f"{name}/{video}/")
            }
            np.testing.assert_array_equal(store.stamps_s(video), recorded.pop("stamps_s"))
            assert store.tracks(video) == sorted(recorded)
            for track, value in recorded.items():
                np.testing.assert_array_equal(store.read(video, track), value)
                assert store.read(video, track).dtype == value.dtype


def test_a_teacher_sees_in_the_flow_what_it_saw(v1: Path, tmp_path: Path) -> None:
    teacher = v1 / "teacher.safetensors"
    extract_teacher_outputs(
        ["square_1"],
        v1 / "flow.h5",
        tmp_path / "teacher.h5",
        teacher=teacher,
        views=("original",),
        device="cpu",
        progress=Quiet(),
    )
    with (
        read_store(v1 / "teacher.h5", kind="features") as old,
        read_store(tmp_path / "teacher.h5", kind="features") as new,
    ):
        tracks = [track for track in old.tracks("square_1") if track.startswith("original/")]
        assert new.tracks("square_1") == tracks
        assert len(tracks) > 1
        for track in tracks:
            np.testing.assert_allclose(new.read("square_1", track), old.read("square_1", track), rtol=1e-3, atol=1e-3)


def test_a_student_sees_in_the_video_what_it_saw(v1: Path, tmp_path: Path) -> None:
    model = v1 / "student-decomposed.safetensors"
    extract_features([v1 / "square_1.mp4"], tmp_path / "features.h5", model=model, device="cpu", progress=Quiet())
    with (
        read_store(v1 / "features-decomposed.h5", kind="features") as old,
        read_store(tmp_path / "features.h5", kind="features") as new,
    ):
        np.testing.assert_array_equal(new.stamps_s("square_1"), old.stamps_s("square_1"))
        for track in TRACKS:
            name = f"original/{track}"
            np.testing.assert_allclose(new.read("square_1", name), old.read("square_1", name), rtol=1e-3, atol=1e-3)


def test_a_detector_finds_in_the_video_what_it_found(v1: Path) -> None:
    detector = load_detector(v1 / "detector-decomposed.safetensors", device="cpu")
    found = detector.detect([v1 / "square_1.mp4"])
    assert_same_detections(found, v1 / "detector-decomposed.json", atol=1e-4)


def in_features(detector: DetectorNet, v1: Path) -> dict[str, list[Detection]]:
    """Detections in the stored features of the student."""
    with read_store(v1 / "features-decomposed.h5", kind="features") as store:
        return {
            video: detections_in_branches(
                detector,
                BranchFeatures(*(store.read(video, f"original/{track}") for track in TRACKS)),
                track_of(store, video),
                decoding=detector.settings.decode,
            )
            for video in store.videos()
        }


def test_a_detector_finds_in_features_what_it_found_in_the_video(v1: Path) -> None:
    """The store's student is the detector's, but for the store's and the detector's half precision."""
    detector = build_detector(load_checkpoint(v1 / "detector-decomposed.safetensors", kind="detector"))
    records = json.loads((v1 / "detector-decomposed.json").read_text())["results"]["square_1"]
    assert_same_video(in_features(detector, v1)["square_1"], records, atol=5e-3)


def test_a_joint_head_finds_in_features_what_it_found(v1: Path) -> None:
    checkpoint = load_checkpoint(v1 / "student-decomposed.safetensors", kind="student")
    settings, student = build_student(checkpoint)
    joint = new_joint_head(settings, num_classes=len(checkpoint.labels))
    load_weights(joint, load_checkpoint(v1 / "joint-head-decomposed.safetensors", kind="joint-head"))
    detector = DetectorNet(settings, labels=checkpoint.labels, student=student, joint=joint).eval()
    assert_same_detections(in_features(detector, v1), v1 / "joint-head-decomposed.json", atol=1e-4)


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_finds_in_features_what_it_found(v1: Path, kind: str) -> None:
    found = detect_features(
        v1 / "features-decomposed.h5",
        head=v1 / f"head-{kind}.safetensors",
        decoding=DecodeSettings(min_score=0.001, keep=12),
        device="cpu",
        progress=Quiet(),
    )
    assert_same_detections(found, v1 / f"head-{kind}.json", atol=1e-4)


def test_a_training_run_resumes_where_it_was(v1: Path, tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    shutil.copy(v1 / "training.safetensors", tmp_path / LAST)
    run = _Run(module, TrainSettings(ema=0.9), 1, torch.device("cpu"), tmp_path, "key")
    assert run.resume() == 3
    recorded = np.load(v1 / "training.npz")
    for name, value in run.averaged.items():
        np.testing.assert_array_equal(value.numpy(), recorded[f"averaged.{name}"])
    for group in run.optimizer.param_groups:  # those of the recorded step
        group.update(lr=0.01, weight_decay=0.01)
    (module(torch.linspace(-1, 1, 12).reshape(4, 3)) ** 3).sum().backward()
    run.optimizer.step()
    # A bias in front of a batch norm has no gradient but rounding, which Adam scales up to its
    # learning rate in either direction: it differs between processors by up to two steps of 0.01.
    for name, value in module.state_dict().items():
        rounding = {"rtol": 0, "atol": 2 * 0.01} if name == "0.bias" else {"rtol": 1e-5, "atol": 1e-6}
        np.testing.assert_allclose(value.numpy(), recorded[f"next.{name}"], **rounding)
