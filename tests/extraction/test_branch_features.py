"""Windows do not show in the result: small ones give what one pass over the whole video gives."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tadkit.config import DecodeSettings, ModelSettings, VideoSettings
from tadkit.detection.detect import detections_in_video
from tadkit.errors import VideoError
from tadkit.extraction.branch_features import branch_features
from tadkit.models.backbones import Backbone, average_steps
from tadkit.models.branches import BranchMapping
from tadkit.models.decode.tracks import predict_in_chunks
from tadkit.models.detector import DetectorNet, new_student
from tadkit.models.heads import HeadPredictions
from tadkit.timeline import Timeline
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


class Blocks(Backbone):
    """Each step is the mean of its block of 8 frames and of the block before: it must be cut where blocks begin."""

    channels, stride, halo_frames, align_frames = 3, 2, 15, 8

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        grey = self.prepare(inputs).mean(dim=(3, 4)) * mask[..., None]
        blocks = average_steps(grey, mask, 8)
        blocks = blocks + torch.cat([torch.zeros_like(blocks[:, :1]), blocks[:, :-1]], dim=1)
        return blocks.repeat_interleave(4, dim=1)[:, : -(-mask.shape[1] // 2)].transpose(1, 2)


@pytest.mark.parametrize("core_frames", [3, 21])
def test_windows_start_where_the_backbone_may_be_cut(
    tiny_settings: ModelSettings, videos: list[Path], core_frames: int
) -> None:
    torch.manual_seed(0)
    student = new_student(tiny_settings, num_classes=2)
    student.backbone = Blocks()
    student.motion, student.appearance = (BranchMapping(inputs=3, outputs=4) for _ in range(2))
    student.eval()
    with open_sampled(videos[0], tiny_settings.video) as video:
        small = branch_features(student, video, core_frames=core_frames)["original"]
        whole = branch_features(student, video, core_frames=WHOLE)["original"]
    np.testing.assert_allclose(small.appearance, whole.appearance, atol=1e-5)


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


class Damaged:
    """A clip that breaks after some frames."""

    timeline = Timeline(np.arange(300) / 5)

    def __len__(self) -> int:
        return 300

    def frames(self, start: int, stop: int) -> np.ndarray:
        if stop > 200:
            raise VideoError("damaged near 40 s")
        return np.zeros((stop - start, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("in_pieces", [True, False])
def test_what_goes_wrong_while_decoding_or_in_between_is_raised_and_no_thread_stays(
    tiny_settings: ModelSettings, in_pieces: bool
) -> None:
    student = new_student(tiny_settings, num_classes=2).eval()
    if not in_pieces:
        student.backbone = Blocks()
        student.motion, student.appearance = None, BranchMapping(inputs=3, outputs=16).eval()
    done: list[int] = []
    before = threading.active_count()
    with pytest.raises(VideoError, match="damaged near 40 s"):
        branch_features(student, Damaged(), core_frames=16, advance=done.append)
    assert 100 < sum(done) <= 200

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        branch_features(student, Damaged(), core_frames=16, advance=interrupt)
    assert threading.active_count() == before


def test_a_video_shorter_than_a_step_has_one_step(
    tiny_detector: DetectorNet, tmp_path: Path, write_squares: WriteSquares
) -> None:
    write_squares(tmp_path / "one.mp4", 1)
    with open_sampled(tmp_path / "one.mp4", VideoSettings(rate_hz=5, height_px=32, width_px=32)) as video:
        features = branch_features(tiny_detector.student, video)["original"]
    assert features.appearance.shape == (1, 16)
    assert np.isfinite(features.appearance).all()
