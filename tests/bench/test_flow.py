"""Methods are compared on the same frames, and only if their output is flow in pixels."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from tadkit.bench.flow import RAFT, REFERENCE, WEIGHTLESS, FlowBenchmark, bench_flow, report_json
from tadkit.config import VideoSettings
from tadkit.errors import UsageError, VideoError, WeightsError
from tadkit.progress import Quiet
from tadkit.runtime.devices import import_torchvision
from tadkit.video import write_video

SHIFT_XY = (2, -1)
SIDE_PX = 64


def texture(right_px: int, down_px: int) -> np.ndarray:
    """A smooth random picture seen through a window that stands still, moved by whole pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    picture = cv2.normalize(cv2.GaussianBlur(noise, None, 2.0), None, 0, 255, cv2.NORM_MINMAX)
    return np.ascontiguousarray(picture[16 - down_px :, 16 - right_px :][:SIDE_PX, :SIDE_PX])


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs that move 2 px to the right and 1 px up; one pixel's flow is unknown."""
    folder = tmp_path_factory.mktemp("truth")
    flow = np.empty((SIDE_PX, SIDE_PX, 2), "<f4")
    flow[:] = SHIFT_XY
    flow[0, 0] = 1e10
    for name in "ab":
        cv2.imwrite(str(folder / f"{name}_img1.png"), texture(0, 0))
        cv2.imwrite(str(folder / f"{name}_img2.png"), texture(*SHIFT_XY))
        header = struct.pack("<fii", 202021.25, SIDE_PX, SIDE_PX)
        (folder / f"{name}_flow.flo").write_bytes(header + flow.tobytes())
    return folder


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight frames, 0.8 s, of the texture moving 1 px to the right each."""
    path = tmp_path_factory.mktemp("video") / "v.mp4"
    write_video(path, (texture(step, 0) for step in range(8)), fps=10.0, crf=5)
    return path


def run(truth: Path, video: Path | None = None, *, pairs: int = 3, **options: Any) -> FlowBenchmark:
    frames = VideoSettings(height_px=SIDE_PX, width_px=SIDE_PX)
    defaults = {"rounds": 2, "threads": 1, "device": "cpu", "progress": Quiet()}
    return bench_flow(truth, video=video, pairs=pairs, frames=frames, **(defaults | options))


@pytest.fixture(scope="module")
def result(truth: Path, video: Path) -> FlowBenchmark:
    names = [name for name in WEIGHTLESS if not name.startswith("tvl1")]
    return run(truth, video, methods=[*names, "tvl1-fast-eager"])


def by_name(rows: Any) -> dict[str, Any]:
    return {row.method: row for row in rows}


def test_a_known_shift_is_found(result: FlowBenchmark) -> None:
    rows = by_name(result.methods)
    for name in (REFERENCE, "opencv-dis", "tvl1-fast-eager"):
        assert rows[name].quality.epe_px < 0.5
        assert rows[name].quality.outliers_over_3px < 0.05
    assert rows["temporal-gradient"].quality is None


def test_agreement_on_a_video_is_with_opencvs_tvl1(result: FlowBenchmark) -> None:
    assert result.video is not None
    rows = by_name(result.video.methods)
    assert rows[REFERENCE].quality == (0.0, 0.0)
    assert 0 < rows["tvl1-fast-eager"].quality.median_difference_px < 0.3
    assert rows["temporal-gradient"].quality is None


def test_the_frames_of_the_video_are_from_its_middle(result: FlowBenchmark) -> None:
    assert result.video is not None
    assert (result.video.pairs, result.video.size_hw) == (3, (SIDE_PX, SIDE_PX))
    assert result.video.start_s == pytest.approx(0.2)


def test_warm_figures_fit_together(result: FlowBenchmark) -> None:
    for figures in result.methods:
        timing = figures.timing
        assert 0 < timing.ms_per_pair_min <= timing.ms_per_pair <= timing.ms_per_pair_max
        assert timing.pairs_per_s == pytest.approx(1e3 / timing.ms_per_pair)
        assert timing.cold_s > 0
    assert by_name(result.methods)[REFERENCE].timing.speedup_over_opencv_tvl1 == 1.0


def test_json_has_every_figure_and_null_for_what_was_not_measured(result: FlowBenchmark) -> None:
    content = json.loads(json.dumps(report_json(result), allow_nan=False))
    assert (content["pairs"], content["sizes_hw"], content["threads"]) == (2, [[SIDE_PX, SIDE_PX]], 1)
    assert {"cpu", "cores", "torch", "opencv", "compiler"} <= set(content["machine"])
    rows = {row["method"]: row for row in content["methods"]}
    assert {"ms_per_pair", "epe_px", "cold_s", "pairs_per_s", "outliers_over_3px"} <= set(rows["opencv-dis"])
    assert rows["temporal-gradient"]["epe_px"] is None
    assert rows["temporal-gradient"]["ms_per_pair"] > 0
    seen = {row["method"]: row for row in content["video"]["methods"]}
    assert seen["opencv-dis"]["mean_difference_px"] > 0
    assert "epe_px" not in seen["opencv-dis"]


def test_without_opencvs_tvl1_nothing_is_compared_with_it(truth: Path, video: Path) -> None:
    result = run(truth, video, methods=["opencv-dis"], rounds=1)
    assert result.video is not None
    (on_truth,), (on_video,) = result.methods, result.video.methods
    assert on_truth.timing.speedup_over_opencv_tvl1 is None
    assert on_truth.quality is not None
    assert on_video.quality is None


def test_random_weights_are_reported_and_not_compared(truth: Path) -> None:
    (row,) = report_json(run(truth, methods=["raft-small"], rounds=1))["methods"]
    assert (row["weights"], row["epe_px"]) == ("random", None)


def test_weights_from_a_file_are_compared(truth: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.pth"
    torch.save(import_torchvision("torchvision.models.optical_flow").raft_small().state_dict(), path)
    options = {"methods": ["temporal-gradient"], "raft_weights": {"raft-small": path}, "rounds": 1}
    rows = by_name(run(truth, **options).methods)
    assert list(rows) == ["temporal-gradient", "raft-small"]
    assert rows["raft-small"].weights == str(path)
    assert rows["raft-small"].quality is not None


def test_all_threads_and_settings_are_put_back(truth: Path) -> None:
    before = torch.get_num_threads(), cv2.getNumThreads(), torch.random.get_rng_state()
    result = run(truth, methods=["temporal-gradient"], with_raft=False, threads=None)
    assert result.threads >= 1
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before[:2]
    assert torch.equal(torch.random.get_rng_state(), before[2])


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"methods": ["tvl1"]}, UsageError, f"--method tvl1: no such method; choose from .*tvl1-fast.*{RAFT[-1]}"),
        ({"raft_weights": {"raft-small": Path("no.pth")}}, WeightsError, "no.pth: no such file"),
        ({"video": Path("no.mp4")}, VideoError, "no.mp4"),
    ],
)
def test_mistakes_are_one_line(truth, options, error, said):
    with pytest.raises(error, match=said) as caught:
        run(truth, **options)
    assert "\n" not in str(caught.value)


def test_a_video_too_short_is_refused(truth: Path, video: Path) -> None:
    assert run(truth, video, pairs=7, methods=["temporal-gradient"]).video is not None
    with pytest.raises(UsageError, match="has 8 frames at 10 Hz, but 8 pairs take 9; give a longer video, or fewer"):
        run(truth, video, pairs=8)
