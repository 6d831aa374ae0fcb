"""A two-stream detector whose flow net sees nothing is an RGB detector, exactly where that must be so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tadkit.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tadkit.config import DecodeSettings, ModelSettings
from tadkit.detection.detect import detections_in_video, flow_method_of
from tadkit.errors import WeightsError
from tadkit.models.detector import DetectorNet, build_detector, new_joint_head, new_motion_stream, new_student
from tadkit.models.fusion import LateHead, LatePredictions
from tadkit.models.heads import HeadPredictions
from tadkit.records import Detection
from tadkit.video import open_sampled

LABELS = ("slide", "rest")
DECODING = DecodeSettings(min_score=0.05, keep=50)


def settings_of(base: ModelSettings, **chosen: Any) -> ModelSettings:
    own = base.model_dump(mode="json")
    return ModelSettings.model_validate({**own, "distill": {"method": "rgb", "dim": 16}, **chosen})


def detector_of(settings: ModelSettings) -> DetectorNet:
    """Random weights; a flow net that gives zero whatever it sees."""
    torch.manual_seed(3)
    net = DetectorNet(
        settings,
        labels=LABELS,
        student=new_student(settings, num_classes=2),
        joint=new_joint_head(settings, num_classes=2),
        teacher=new_motion_stream(settings),
    )
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        if net.teacher is not None:
            for parameter in net.teacher.mapping.parameters():
                parameter.zero_()
    return net.eval()


def found_in(detector: DetectorNet, path: Path) -> list[Detection]:
    with open_sampled(path, detector.settings.video) as video:
        return detections_in_video(detector, video, name="v", decoding=DECODING, flow=flow_method_of(detector))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory, write_squares: Callable[..., Path]) -> Path:
    return write_squares(tmp_path_factory.mktemp("two-stream") / "v.mp4", 150, seed=2)


def rgb_of(two: DetectorNet, base: ModelSettings) -> DetectorNet:
    """The RGB detector with the same student, and with the head's weights for appearance."""
    rgb = detector_of(settings_of(base))
    rgb.student.load_state_dict(two.student.state_dict())
    weights, own = two.joint.head.state_dict(), rgb.joint.head.state_dict()
    dim = two.settings.distill.dim
    rgb.joint.head.load_state_dict(
        {n: v if v.shape == own[n].shape else v.narrow(1, v.shape[1] - dim, dim) for n, v in weights.items()}
    )
    return rgb.eval()


@pytest.mark.parametrize("kind", ["concat", "sum"])
def test_concat_and_sum_with_a_zero_flow_net_are_the_rgb_detector(
    tiny_settings: ModelSettings, video: Path, kind: str
) -> None:
    """What the head multiplies with the flow half counts for nothing, whatever its weights are."""
    two = detector_of(settings_of(tiny_settings, streams="two-stream", fusion={"kind": kind}))
    rgb = rgb_of(two, tiny_settings)
    found, expected = found_in(two, video), found_in(rgb, video)
    assert len(found) > 10
    assert [d.label for d in found] == [d.label for d in expected]
    for one, other in zip(found, expected, strict=True):
        assert (one.start_s, one.end_s) == pytest.approx((other.start_s, other.end_s), abs=1e-4)
        assert one.score == pytest.approx(other.score, abs=1e-5)


def test_gated_by_a_zero_flow_net_appearance_is_halved_where_its_keys_have_no_bias(
    tiny_settings: ModelSettings,
) -> None:
    """sigmoid(q * 0) = 1/2 in every channel: local attention to nothing passes half of appearance, at every step."""
    two = detector_of(settings_of(tiny_settings, streams="two-stream"))
    assert two.joint.fusion is not None
    two.joint.fusion.gates[1].key.bias.data.zero_()  # type: ignore[union-attr, operator, index]
    appearance, nothing = torch.randn(16, 40), torch.zeros(16, 40)
    fused = two.fused(nothing, appearance)[0]
    torch.testing.assert_close(fused, torch.cat([nothing, appearance / 2]))


def test_a_late_average_with_a_teacher_that_sees_nothing_halves_the_scores(tiny_settings: ModelSettings) -> None:
    """With the same distances to start and end, no detection moves; the ranking is that of the RGB head."""
    net = detector_of(settings_of(tiny_settings, streams="two-stream-late"))
    assert isinstance(net.joint.head, LateHead)
    rgb = net.joint.head.branches[1]
    feature, mask = torch.randn(1, 16, 32), torch.ones(1, 32, dtype=torch.bool)
    with torch.no_grad():
        own: HeadPredictions = rgb(feature, mask)
        blind = own._replace(logits=tuple(torch.full_like(level, -100.0) for level in own.logits))
        late = net.joint.head.candidates(LatePredictions(blind, own), min_score=0.1)
        alone = net.joint.head.first.candidates(own, min_score=0.2)
    assert len(alone.scores) > 10
    np.testing.assert_allclose(late.scores, alone.scores / 2, rtol=1e-5)
    np.testing.assert_allclose(late.positions, alone.positions)
    np.testing.assert_array_equal(late.labels, alone.labels)


@pytest.mark.parametrize("streams", ["two-stream", "two-stream-late"])
def test_the_file_holds_everything_and_gives_the_same(
    tmp_path: Path, tiny_settings: ModelSettings, video: Path, streams: str
) -> None:
    settings = settings_of(tiny_settings, streams=streams)
    net, path = detector_of(settings), tmp_path / "two.safetensors"
    made = Checkpoint(
        "detector", settings.model_dump(mode="json"), LABELS, net.state_dict(), trained_steps=64, teacher_steps=32
    )
    save_checkpoint(path, made)
    loaded = load_checkpoint(path, kind="detector")
    assert (loaded.trained_steps, loaded.teacher_steps, loaded.settings["streams"]) == (64, 32, streams)
    again = build_detector(loaded)
    assert [d.score for d in found_in(again, video)] == [d.score for d in found_in(net, video)]
    if isinstance(again.joint.head, LateHead):
        assert [head.trained_steps for head in again.joint.head.branches] == [32, 64]
    rgb = {**loaded.settings, "streams": "rgb"}
    save_checkpoint(path, Checkpoint("detector", rgb, LABELS, net.state_dict()))
    with pytest.raises(WeightsError, match="do not fit the model described in the header"):
        build_detector(load_checkpoint(path, kind="detector"))


def test_the_reach_counts_the_halo_of_flow_and_one_frame_more(tiny_settings: ModelSettings) -> None:
    rate_hz = tiny_settings.video.rate_hz
    rgb, two = (
        detector_of(settings_of(tiny_settings, fusion={"kind": "concat"}, **s)) for s in ({}, {"streams": "two-stream"})
    )
    assert rgb.context_s is not None
    assert two.context_s is not None
    assert two.context_s - rgb.context_s == pytest.approx(1 / rate_hz)
    stacked = {"method": "temporal-gradient", "stack": 20}
    more = detector_of(settings_of(tiny_settings, fusion={"kind": "concat"}, streams="two-stream", flow=stacked))
    assert more.context_s is not None
    assert more.context_s - two.context_s >= 9 / rate_hz
