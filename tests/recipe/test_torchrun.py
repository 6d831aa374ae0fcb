"""Processes of ``torchrun`` train one model with the losses of one process, and runs go on with another number."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tadkit.config.loading import parse_recipe
from tadkit.progress import Quiet
from tadkit.recipe.run import DONE, UP_TO_DATE, run

RECIPE = """
name = "shared"
labels = ["box", "ball", "push", "pull", "open", "close"]
out = "."
compare = ["teacher", "decomposed"]
sources = [{kind = "made-up-features", training_videos = 10, test_videos = 3}]
split = {kind = "subset", training = ["training"], held_out = ["testing"]}
teacher_backbone = {width = 16, dropout = 0.0}
backbone = {width = 16, dropout = 0.0}
distill = {dim = 8, joint = true}
head = {dim = 16, levels = 2, attention_heads = 2, head_layers = 1, dropout = 0.1}

[train.teacher]
epochs = 10
window_s = 17.0
batch_windows = 5
checkpoint_s = 0.0
log_every = 1

[train.student]
epochs = 60
window_s = 17.0
batch_windows = 5
checkpoint_s = 0.0
log_every = 1
"""
STAGES = ("train-teacher", "distill-decomposed")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of one process."""
    folder = tmp_path_factory.mktemp("alone")
    run(parse_recipe(RECIPE, name="shared"), base=folder, device="cpu", progress=Quiet())
    return folder / "shared"


def losses(folder: Path, stage: str) -> list[float]:
    path = folder / "stages" / stage / "metrics.jsonl"
    return [json.loads(line)["total"] for line in path.read_text().splitlines()] if path.exists() else []


def torchrun(folder: Path, *overrides: str, processes: int = 2) -> subprocess.Popen[str]:
    """``tadkit run`` in several processes, in a group of their own."""
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE)
    start = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m", "tadkit.cli")
    chosen = [part for override in overrides for part in ("--set", override)]
    return subprocess.Popen(
        [sys.executable, *start, "run", str(recipe), "--device", "cpu", *chosen],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_two_processes_have_the_losses_of_one_and_one_goes_on_where_two_were_killed(
    tmp_path: Path, alone: Path
) -> None:
    """Shares of five windows are two and three; dropout of the head is the same in both."""
    folder, started = tmp_path / "shared", torchrun(tmp_path)
    try:
        while len(losses(folder, STAGES[1])) < 10:
            assert started.poll() is None, started.communicate()
            time.sleep(0.02)
    finally:
        os.killpg(started.pid, signal.SIGKILL)
        started.communicate()
    done = len(losses(folder, STAGES[1]))
    assert len(losses(alone, STAGES[0])) == 20
    assert losses(folder, STAGES[0]) == pytest.approx(losses(alone, STAGES[0]), abs=1e-4)
    assert losses(folder, STAGES[1]) == pytest.approx(losses(alone, STAGES[1])[:done], abs=1e-4)
    result = run(parse_recipe(RECIPE, name="shared"), base=tmp_path, device="cpu", progress=Quiet())
    assert dict(result.stages)["train-teacher"] == UP_TO_DATE
    assert dict(result.stages)["distill (decomposed)"] == DONE
    assert losses(folder, STAGES[1]) == pytest.approx(losses(alone, STAGES[1]), abs=1e-4)


@pytest.mark.slow
def test_a_whole_run_of_two_processes_prints_one_table_and_is_up_to_date_for_one(tmp_path: Path, alone: Path) -> None:
    started = torchrun(tmp_path)
    out, err = started.communicate()
    assert started.returncode == 0, err
    assert out.count("decomposed: motion") == 1
    assert losses(tmp_path / "shared", STAGES[1]) == pytest.approx(losses(alone, STAGES[1]), abs=1e-4)
    result = run(parse_recipe(RECIPE, name="shared"), base=tmp_path, device="cpu", progress=Quiet())
    assert {outcome for _, outcome in result.stages} == {UP_TO_DATE}


@pytest.mark.slow
def test_more_processes_than_windows_are_refused_in_one_line(tmp_path: Path) -> None:
    started = torchrun(tmp_path, "train.teacher.batch_windows=1")
    _, err = started.communicate()
    assert started.returncode != 0
    assert "tadkit: error: torchrun: 2 processes cannot share the 1 windows of a training step" in err


def test_a_world_without_torchrun_is_refused_in_one_line(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    variables = {
        name: value for name, value in os.environ.items() if name not in ("RANK", "MASTER_ADDR", "MASTER_PORT")
    }
    started = subprocess.run(
        [sys.executable, "-m", "tadkit.cli", "run", str(recipe)],
        env=variables | {"WORLD_SIZE": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.returncode == 1
    assert started.stderr.startswith("tadkit: error: WORLD_SIZE is set, but the processes cannot be connected")
    assert "Traceback" not in started.stderr
