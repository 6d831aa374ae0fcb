"""Frame k and flow k belong to the same stamp, and each flow is that of its own pair of frames."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from tadkit.checkpoint import Checkpoint, save_checkpoint
from tadkit.config import ModelSettings, RaftSettings, TemporalGradientSettings, Tvl1Settings, VideoSettings
from tadkit.errors import StoreError, VideoError, WeightsError
from tadkit.extraction.extract_flow import extract_flow
from tadkit.extraction.results import ExtractionResult
from tadkit.flow import build_flow, decode
from tadkit.keys import flow_key
from tadkit.models.detector import new_teacher
from tadkit.progress import Quiet
from tadkit.store import open_store, read_store
from tadkit.video import open_sampled, write_video
from tadkit.video.digests import source_digest

VIDEO = VideoSettings(rate_hz=5.0, height_px=32, width_px=32)
GRADIENT = TemporalGradientSettings()
SMALL_TVL1 = Tvl1Settings(scales=2, warps=2, inner_steps=6, compile="never")
WriteSquares = Callable[..., Path]


def extracted(
    videos: list[Path],
    out: Path,
    *,
    flow: Tvl1Settings | TemporalGradientSettings = GRADIENT,
    teacher: Path | None = None,
) -> ExtractionResult:
    return extract_flow(videos, out, flow=flow, video=VIDEO, teacher=teacher, device="cpu", progress=Quiet())


def variable_stamps(frames: int) -> list[float]:
    gaps_s = np.random.default_rng(1).choice([0.03, 0.1, 0.25, 0.9], frames - 1)
    return [0.0, *np.cumsum(gaps_s).tolist()]


@pytest.fixture(scope="module")
def teacher(tiny_settings: ModelSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    torch.manual_seed(0)
    weights = new_teacher(tiny_settings, num_classes=2).state_dict()
    save_checkpoint(path, Checkpoint("teacher", tiny_settings.model_dump(mode="json"), ("slide", "rest"), weights))
    return path


@pytest.mark.parametrize("variable", [False, True])
def test_stamps_are_those_of_the_sampled_frames_and_flows_one_fewer(
    tmp_path: Path, write_squares: WriteSquares, variable: bool
) -> None:
    video = write_squares(tmp_path / "v.mp4", 90, stamps_s=variable_stamps(90) if variable else None)
    extracted([video], tmp_path / "flow.h5")
    with read_store(tmp_path / "flow.h5", kind="flow") as store, open_sampled(video, VIDEO) as sampled:
        np.testing.assert_array_equal(store.stamps_s("v"), sampled.stamps_s)
        assert store.length("v", "motion") == len(sampled) - 1
        assert store.attributes("v")["duration_s"] == sampled.duration_s
        assert store.attributes("v")["source"] == "v.mp4"


@pytest.mark.parametrize("variable", [False, True])
def test_each_flow_is_that_of_its_own_two_frames(tmp_path: Path, write_squares: WriteSquares, variable: bool) -> None:
    frames = 160  # more pairs than are computed at a time
    video = write_squares(tmp_path / "v.mp4", frames, fps=5, stamps_s=variable_stamps(frames) if variable else None)
    extracted([video], tmp_path / "flow.h5")
    method = build_flow(GRADIENT, device=torch.device("cpu"))
    with read_store(tmp_path / "flow.h5", kind="flow") as store, open_sampled(video, VIDEO) as sampled:
        bound = store.bound("v", "motion")
        assert bound == GRADIENT.bound_px
        stored = decode(store.read("v", "motion"), bound)
        assert len(sampled) > 70
        for k in (0, 1, 62, 63, 64, 65, len(sampled) - 2):
            alone = method(torch.from_numpy(sampled.frames(k, k + 2))).numpy()[0]
            np.testing.assert_allclose(stored[k], alone.clip(-bound, bound), atol=bound / 127)


@pytest.mark.parametrize("variable", [False, True])
def test_motion_that_begins_at_a_known_second_appears_in_the_flow_of_that_stamp(tmp_path: Path, variable: bool) -> None:
    ground = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    ground = np.repeat(np.repeat(ground[::4, ::4], 4, axis=0), 4, axis=1)
    stamps_s = [k * 0.2 if k < 10 else 2.0 + (k - 10) * 0.3 for k in range(20)] if variable else None
    moves_from = 12  # the first frame that differs from the one before it is 13
    pictures = [np.ascontiguousarray(ground[:, 2 * max(0, k - moves_from) :][:, :32]) for k in range(20)]
    write_video(tmp_path / "v.mp4", pictures, fps=5, stamps_s=stamps_s, crf=5)
    extracted([tmp_path / "v.mp4"], tmp_path / "flow.h5", flow=SMALL_TVL1)
    with read_store(tmp_path / "flow.h5", kind="flow") as store:
        motion = decode(store.read("v", "motion"), store.bound("v", "motion") or 0)
        stamps = store.stamps_s("v")
    rightward_px = motion[:, 0].mean(axis=(1, 2))
    assert len(rightward_px) == 19
    assert np.abs(rightward_px[:moves_from]).max() < 0.2
    assert (rightward_px[moves_from:] < -1.0).all()
    assert stamps[moves_from] == pytest.approx(2.6 if variable else 2.4)


def test_a_video_of_one_frame_has_one_stamp_and_no_flow(
    tmp_path: Path, write_squares: WriteSquares, teacher: Path
) -> None:
    result = extracted([write_squares(tmp_path / "one.mp4", 1)], tmp_path / "t.h5", teacher=teacher)
    assert result.done == ["one"]
    with (
        read_store(tmp_path / "t-flow.h5", kind="flow") as flow,
        read_store(tmp_path / "t.h5", kind="features") as tracks,
    ):
        assert flow.length("one", "motion") == 0
        assert flow.stamps_s("one").tolist() == [0.0]
        assert np.isfinite(tracks.read("one", "original/feature")).all()
        assert tracks.length("one", "original/feature") == 1


def test_the_teacher_leaves_features_and_predictions_beside_its_flow(
    tmp_path: Path, write_squares: WriteSquares, teacher: Path, tiny_settings: ModelSettings
) -> None:
    videos = [write_squares(tmp_path / f"{name}.mp4", 95, seed=seed) for seed, name in enumerate("ab")]
    result = extracted(videos, tmp_path / "t.h5", flow=SMALL_TVL1, teacher=teacher)
    assert result.done == ["a", "b"]
    assert not result.failed
    with (
        read_store(tmp_path / "t-flow.h5", kind="flow") as flow,
        read_store(tmp_path / "t.h5", kind="features") as tracks,
    ):
        assert flow.settings["flow"]["method"] == "temporal-gradient", "the teacher's own flow, not the one asked for"
        assert tracks.labels == ("slide", "rest")
        assert tracks.stamps_s("a").shape == (24,)
        assert tracks.stamps_s("a")[0] == pytest.approx(0.1)
        levels = tiny_settings.head.levels
        expected = ["feature", *(f"{field}_{level}" for field in ("logits", "offsets") for level in range(levels))]
        assert tracks.tracks("a") == sorted(f"original/{name}" for name in expected)
        for level in range(levels):
            assert tracks.length("a", f"original/logits_{level}") == -(-24 // 2**level)
    assert extracted(videos, tmp_path / "t.h5", teacher=teacher).reused == ["a", "b"]


def test_a_video_that_fails_is_reported_and_the_others_are_kept(
    tmp_path: Path, write_squares: WriteSquares, teacher: Path
) -> None:
    good, empty = write_squares(tmp_path / "good.mp4", 20), tmp_path / "empty.mp4"
    empty.touch()
    missing, folder = tmp_path / "missing.mp4", tmp_path / "folder.mp4"
    folder.mkdir()
    for path_of_teacher in (None, teacher):
        result = extracted(
            [empty, good, missing, folder],
            tmp_path / "f.h5" if path_of_teacher is None else tmp_path / "t.h5",
            teacher=path_of_teacher,
        )
        assert result.done == ["good"]
        assert set(result.failed) == {"empty", "missing", "folder"}
        assert all(isinstance(error, VideoError) for error in result.failed.values())
        assert all("\n" not in str(error) for error in result.failed.values())
        with pytest.raises(VideoError, match=r"'empty' failed \(and 2 more\): "):
            result.raise_if_failed()


def test_what_is_there_from_the_same_bytes_and_settings_is_kept(tmp_path: Path, write_squares: WriteSquares) -> None:
    video, out = write_squares(tmp_path / "v.mp4", 20), tmp_path / "flow.h5"
    assert extracted([video], out).done == ["v"]
    assert extracted([video], out).reused == ["v"]
    assert extracted([video], out, flow=TemporalGradientSettings(bound_px=64)).done == ["v"]
    write_squares(video, 20, seed=8)
    assert extracted([video], out, flow=TemporalGradientSettings(bound_px=64)).done == ["v"]


def test_settings_that_change_speed_alone_keep_flow(tmp_path: Path, write_squares: WriteSquares) -> None:
    video, out = write_squares(tmp_path / "v.mp4", 12), tmp_path / "flow.h5"
    assert extracted([video], out, flow=SMALL_TVL1).done == ["v"]
    assert extracted([video], out, flow=SMALL_TVL1.model_copy(update={"batch_pairs": 3})).reused == ["v"]


def test_flow_beyond_the_bound_is_clipped_and_counted(tmp_path: Path, write_squares: WriteSquares) -> None:
    video = write_squares(tmp_path / "v.mp4", 40)
    wide = extracted([video], tmp_path / "wide.h5", flow=TemporalGradientSettings(bound_px=255))
    narrow = extracted([video], tmp_path / "narrow.h5", flow=TemporalGradientSettings(bound_px=2))
    assert wide.clipped == {"v": 0.0}
    assert 0.01 < narrow.clipped["v"] < 1
    with read_store(tmp_path / "narrow.h5", kind="flow") as store:
        assert store.attributes("v")["clipped"] == narrow.clipped["v"]


def test_a_wrong_teacher_or_store_is_refused(tmp_path: Path, write_squares: WriteSquares, tiny_model: Path) -> None:
    video = write_squares(tmp_path / "v.mp4", 4)
    with pytest.raises(WeightsError, match="holds a detector; expected a teacher"):
        extracted([video], tmp_path / "t.h5", teacher=tiny_model)
    with h5py.File(tmp_path / "other.h5", "w"):
        pass
    with pytest.raises(StoreError, match="not a tadkit track store"):
        extracted([video], tmp_path / "other.h5")


def test_the_key_of_flow_depends_on_weights_and_not_on_speed(tmp_path: Path) -> None:
    weights = tmp_path / "w.pt"
    keys = set()
    for content, batch in ((b"1", 4), (b"2", 4), (b"2", 8)):
        weights.write_bytes(content)
        keys.add(flow_key("s", RaftSettings(method="raft-small", weights=weights, batch_pairs=batch), VIDEO))
    keys.add(flow_key("s", GRADIENT, VIDEO))
    keys.add(flow_key("s", GRADIENT.model_copy(update={"code": "float16"}), VIDEO))
    assert len(keys) == 4


def test_flow_of_a_video_loads_no_recipe_machinery(tmp_path: Path, write_squares: WriteSquares) -> None:
    video = write_squares(tmp_path / "clip.mp4", 6)
    words = ["extract-flow", str(video), "--out", str(tmp_path / "f.h5"), "--set", "flow.method=temporal-gradient"]
    code = (
        f"import sys; from tadkit.cli import main; assert main({words!r}) == 0\n"
        "print([n for n in sys.modules if n.startswith(('tadkit.recipe', 'tadkit.training', 'tadkit.distill'))])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_flow_of_a_late_video_in_a_store_of_version_1_is_computed_again(tmp_path: Path) -> None:
    late, out = tmp_path / "late.mp4", tmp_path / "flow.h5"
    shutil.copy(Path(__file__).parents[1] / "video" / "cases" / "late_picture.mp4", late)
    old = flow_key(source_digest(late), GRADIENT, VIDEO)  # stamps counted from the first frame
    settings = {"flow": GRADIENT.model_dump(mode="json"), "video": VIDEO.model_dump(mode="json")}
    with (
        open_store(out, kind="flow", settings=settings) as store,
        store.video("late", key=old, stamps_s=np.arange(30) / 5, attributes={"source": "late.mp4"}) as entry,
    ):
        entry.append("motion", np.zeros((29, 1, 32, 32), np.int8), bound=1.0)
    assert extracted([late], out).done == ["late"]
    with read_store(out, kind="flow") as reader:
        np.testing.assert_allclose(reader.stamps_s("late"), 1 + np.arange(30) / 5, atol=1e-6)
    assert extracted([late], out).reused == ["late"]
