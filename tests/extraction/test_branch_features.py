"""Windows do not show in the result: small ones give what one pass over the whole video gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tadkit.config import DecodeSettings, VideoSettings
from tadkit.detection.detect import detections_in_video
from tadkit.extraction.branch_features import branch_features
from tadkit.models.decode.tracks import predict_in_chunks
from tadkit.models.detector import DetectorNet
from tadkit.models.heads import HeadPredictions
from tadkit.video import open_sampled

WHOLE = 1 << 20
DECODING = DecodeSettings(min_score=0.05, keep=50)
WriteSquares = Callable[..., Path]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory, write_squares: WriteSquares) -> list[Path]:
    """Videos of 10 to 60 s, of constant and of variable frame rate."""
    folder = tmp_path_factory.mktemp("long")
    gaps_s = np.random.default_rng(0).choice([0.04, 0.1, 0.2, 1.3], 180, p=[0.3, 0.4, 0.25, 0.05])
    return [
        write_squares(folder / "10s.mp4", 100, seed=1),
        write_squares(folder / "31s.mp4", 217, seed=2, fps=7),
        write_squares(folder / "60s.mp4", 300, seed=3, fps=5),
        write_squares(folder / "variable.mp4", 181, seed=4, stamps_s=[0.0, *np.cumsum(gaps_s)]),
    ]


@settings(max_examples=6)
@given(data=st.data())
def test_detections_are_those_of_one_pass(tiny_detector: DetectorNet, videos: list[Path], data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(videos))
    core_frames, core_steps = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 60))
    with open_sampled(path, tiny_detector.settings.video) as video:
        small = detections_in_video(
            tiny_detector, video, name="squares", decoding=DECODING, core_frames=core_frames, core_steps=core_steps
        )
        whole = detections_in_video(
            tiny_detector, video, name="squares", decoding=DECODING, core_frames=WHOLE, core_steps=WHOLE
        )
    assert len(whole) > 10
    assert [d.label for d in small] == [d.label for d in whole]
    for a, b in zip(small, whole, strict=True):
        assert (a.start_s, a.end_s) == pytest.approx((b.start_s, b.end_s), abs=1e-3)
        assert a.score == pytest.approx(b.score, abs=1e-4)


@settings(max_examples=6)
@given(data=st.data())
def test_features_of_every_view_are_those_of_one_pass(
    tiny_detector: DetectorNet, videos: list[Path], data: st.DataObject
) -> None:
    path, core_frames = data.draw(st.sampled_from(videos)), data.draw(st.integers(1, 90))
    views = ("original", "mirror", "turn90")
    student = tiny_detector.student
    with open_sampled(path, tiny_detector.settings.video) as video:
        small = branch_features(student, video, views=views, core_frames=core_frames)
        whole = branch_features(student, video, views=views, core_frames=WHOLE)
        steps = -(-len(video) // student.backbone.stride)
    assert tuple(whole) == views
    for view in views:
        for a, b in zip(small[view], whole[view], strict=True):
            assert a is not None
            assert b is not None
            assert a.shape == b.shape == (steps, 16)
            np.testing.assert_allclose(a, b, atol=1e-4)
    assert not np.allclose(whole["mirror"].appearance, whole["original"].appearance, atol=1e-3)


def predictions(
    detector: DetectorNet, branches: tuple[torch.Tensor, torch.Tensor], *, core_steps: int
) -> HeadPredictions:
    fused = detector.fused(*branches)
    mask = torch.ones(1, fused.shape[2], dtype=torch.bool)
    return predict_in_chunks(detector.joint.head, fused, mask, core_steps=core_steps)


@torch.inference_mode()
def test_predictions_in_chunks_are_those_of_one_pass(tiny_detector: DetectorNet, videos: list[Path]) -> None:
    with open_sampled(videos[2], tiny_detector.settings.video) as video:
        features = branch_features(tiny_detector.student, video)["original"]
    assert features.motion is not None
    tracks = torch.from_numpy(features.motion.T), torch.from_numpy(features.appearance.T)
    whole = predictions(tiny_detector, tracks, core_steps=WHOLE)
    for core_steps in (1, 8, 13, 50):
        small = predictions(tiny_detector, tracks, core_steps=core_steps)
        for one, other in zip(small, whole, strict=True):
            for a, b in zip(one, other, strict=True):
                torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def test_a_video_shorter_than_a_step_has_one_step(
    tiny_detector: DetectorNet, tmp_path: Path, write_squares: WriteSquares
) -> None:
    write_squares(tmp_path / "one.mp4", 1)
    with open_sampled(tmp_path / "one.mp4", VideoSettings(rate_hz=5, height_px=32, width_px=32)) as video:
        features = branch_features(tiny_detector.student, video)["original"]
    assert features.appearance.shape == (1, 16)
    assert np.isfinite(features.appearance).all()
