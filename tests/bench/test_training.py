from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tadkit.bench import training
from tadkit.config import ActionFormerSettings, ModelSettings, TemporalShiftSettings, VideoSettings
from tadkit.config.loading import load_recipe
from tadkit.progress import Quiet

EXAMPLE = Path(__file__).parents[2] / "examples" / "room.toml"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nets and videos that train in a second."""
    tiny = TemporalShiftSettings(name="tiny", pretrained=False, stride=1)
    model = ModelSettings(
        video=VideoSettings(rate_hz=5.0, height_px=32, width_px=32),
        teacher_backbone=tiny,
        backbone=tiny,
        head=ActionFormerSettings(dim=16, levels=3, attention_heads=2),
    )
    monkeypatch.setattr(training, "MODEL", model)
    monkeypatch.setattr(training, "_PLANNED_VIDEOS", 500)


def bench(**options: Any) -> training.TrainingBenchmark:
    defaults = {"steps": 2, "rounds": 2, "threads": 1, "device": torch.device("cpu"), "progress": Quiet()}
    return training.bench_training(**(defaults | options))


def test_the_sizes_are_those_of_the_room_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TADKIT_DATA", "/data")
    recipe = load_recipe(EXAMPLE)
    for section in ("video", "flow", "teacher_backbone", "backbone", "head", "distill", "fusion"):
        assert getattr(training.MODEL, section) == getattr(recipe, section)
    assert recipe.train == training.TRAIN
    assert len(recipe.labels) == training.CLASSES


@pytest.mark.usefixtures("small")
def test_every_stage_is_timed_and_threads_are_left_as_they_were() -> None:
    threads = torch.get_num_threads()
    result = bench(threads=threads + 1)
    assert (result.threads, torch.get_num_threads()) == (threads + 1, threads)
    report = json.loads(json.dumps(training.report_json(result)))
    students = ["student", "student-kept"]
    if training._multiplies_bfloat16(torch.device("cpu")):
        students += ["student-bf16", "student-kept-bf16"]
    assert list(report["stages"]) == ["teacher", *students, "head"]
    for figures in report["stages"].values():
        assert 0 < figures["steps_per_s_min"] <= figures["steps_per_s"] <= figures["steps_per_s_max"]
        assert 0 <= figures["waiting_share"] < 1
    assert [figures["window_frames"] for figures in report["stages"].values()] == [128, *(128 for _ in students), 384]
    assert report["planning"]["videos"] == 500
    assert report["planning"]["ms_per_step"] > 0


class _Slow:
    """Batches that take their time."""

    steps_per_epoch, validation = 9, None

    def batch(self, step: int) -> torch.Tensor:  # noqa: ARG002 - all are alike
        training.time.sleep(0.05)
        return torch.ones(1)


class _Quick(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"total": (self.weight * batch).sum()}


def test_a_quick_step_on_slow_batches_waits_nearly_all_the_time(tmp_path: Path) -> None:
    stage = training._Stage(_Quick(), _Slow(), training.TRAIN.head, plan=None)
    took_s, waited_s = training._run(stage, 4, torch.device("cpu"), tmp_path)
    assert took_s > 0.15
    assert waited_s > 0.5 * took_s


def test_planning_an_epoch_of_ten_thousand_videos_costs_less_than_a_millisecond_a_step() -> None:
    figures = training.planning()
    assert figures.videos == 10_000
    assert figures.steps > 10_000
    assert figures.ms_per_step < 1


@pytest.mark.usefixtures("small")
def test_the_command_prints_a_table_and_the_planning_cost(tadkit: Callable[..., Any]) -> None:
    ran = tadkit("bench", "training", "--steps", "1", "--rounds", "1", "--threads", "1", "--device", "cpu")
    assert ran.code == 0
    rows = [line.split()[0] for line in ran.out.splitlines() if line.split()]
    assert [row for row in rows if row in ("teacher", "student", "head")] == ["teacher", "student", "head"]
    assert "planning: " in ran.out
    assert "ms per step with 500 videos" in ran.out


@pytest.mark.usefixtures("small")
def test_json_is_all_that_stdout_holds(tadkit: Callable[..., Any]) -> None:
    ran = tadkit("bench", "training", "--steps", "1", "--rounds", "1", "--device", "cpu", "--json")
    assert ran.code == 0
    assert json.loads(ran.out)["rounds"] == 1
