from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tadkit.bench.detect import PARTS, bench_detect, report_json
from tadkit.bench.two_stream import EVERY_FRAME, OPENCV, OURS
from tadkit.checkpoint import Checkpoint, save_checkpoint
from tadkit.config import ModelSettings
from tadkit.errors import UsageError
from tadkit.models.detector import DetectorNet, new_joint_head, new_motion_stream, new_student
from tadkit.progress import Quiet

WriteSquares = Callable[..., Path]


@pytest.fixture
def two_stream(tmp_path: Path, tiny_settings: ModelSettings) -> Path:
    own = tiny_settings.model_dump(mode="json")
    settings = ModelSettings.model_validate({**own, "streams": "two-stream", "distill": {"method": "rgb", "dim": 16}})
    parts = {"student": new_student(settings, num_classes=2), "joint": new_joint_head(settings, num_classes=2)}
    net = DetectorNet(settings, labels=("slide", "rest"), **parts, teacher=new_motion_stream(settings))
    path = tmp_path / "two-stream.safetensors"
    save_checkpoint(path, Checkpoint("detector", settings.model_dump(mode="json"), net.labels, net.state_dict()))
    return path


def test_parts_are_measured_apart_and_speed_is_relative_to_the_first_model(
    tmp_path: Path, tiny_model: Path, two_stream: Path, write_squares: WriteSquares
) -> None:
    video = write_squares(tmp_path / "v.mp4", 120)
    threads = torch.get_num_threads()
    result = bench_detect(
        video,
        models=[str(tiny_model), str(two_stream)],
        seconds=8.0,
        rounds=2,
        threads=None,
        device=torch.device("cpu"),
        progress=Quiet(),
        two_stream=False,
    )
    assert (result.rounds, result.threads, torch.get_num_threads(), result.video) == (2, threads, threads, "v.mp4")
    report = json.loads(json.dumps(report_json(result)))
    assert list(report["models"]) == [str(tiny_model), str(two_stream)]
    for model in report["models"].values():
        assert model["frames"] == 40  # 8 s at 5 Hz
        assert list(model["seconds"]) == list(model["shares"]) == list(PARTS)
        assert sum(model["shares"].values()) == pytest.approx(1)
        assert model["frames_per_s"] == pytest.approx(40 / sum(model["seconds"].values()))
    rgb, two = report["models"].values()
    assert rgb["relative"] == 1
    assert rgb["seconds"]["flow"] == 0 < two["seconds"]["flow"]


def test_a_model_given_twice_is_refused(tadkit: Callable[..., Any], tmp_path: Path, tiny_model: Path) -> None:
    ran = tadkit("bench", "detect", tmp_path / "v.mp4", "--model", tiny_model, "--model", tiny_model)
    assert ran.code == UsageError.exit_code
    assert "give each model once" in ran.err


def test_the_table_has_a_row_for_each_model(
    tadkit: Callable[..., Any], tmp_path: Path, tiny_model: Path, write_squares: WriteSquares
) -> None:
    video, copy = write_squares(tmp_path / "v.mp4", 60), tmp_path / "copy.safetensors"
    shutil.copy(tiny_model, copy)
    words = ("--rounds", "1", "--device", "cpu", "--no-two-stream")
    ran = tadkit("bench", "detect", video, "--model", tiny_model, "--model", copy, *words)
    assert ran.code == 0
    assert all(heading in ran.out for heading in ("times the first", *PARTS))
    assert ran.out.count(".safetensors") == 2


@pytest.mark.slow
def test_a_model_is_compared_with_its_two_stream_form(
    tadkit: Callable[..., Any], tmp_path: Path, tiny_model: Path, write_squares: WriteSquares
) -> None:
    video = write_squares(tmp_path / "v.mp4", 60)
    ran = tadkit("bench", "detect", video, "--model", tiny_model, "--rounds", "1", "--device", "cpu", "--json")
    assert ran.code == 0
    report = json.loads(ran.out)
    assert {"decode_fps", "detect_fps", "two_stream_ratio", "peak_rss_mb", "cold_start_s", "engine"} <= set(report)
    assert {"real_time_factor", "models", "machine", "threads"} <= set(report)
    forms = report["two_stream"]
    assert {name: form["measured"] for name, form in forms.items()} == {OPENCV: True, EVERY_FRAME: False, OURS: True}
    assert report["two_stream_ratio"] == forms[OPENCV]["ratio"] > 1
    assert forms[EVERY_FRAME]["detect_fps"] < report["detect_fps"]
