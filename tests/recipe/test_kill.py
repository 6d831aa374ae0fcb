"""A run that is killed in the middle of any stage goes on, and ends where an undisturbed one does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tadkit.checkpoint import load_checkpoint

COMPARE = 'compare=["teacher"]'
OUTPUTS = (
    ("extract-flow", ("flow.h5", "flow.h5.parts")),
    ("train-teacher", ("teacher.safetensors", "stages/train-teacher")),
    ("teacher's features", ("teacher.h5", "teacher.h5.parts")),
    ("distill", ("student-decomposed.safetensors", "stages/distill-decomposed")),
    ("extract-features", ("features-decomposed.h5", "features-decomposed.h5.parts")),
    ("train-head", ("detector-decomposed.safetensors", "stages/train-head-decomposed")),
)
EACH_STEP = tuple(f"train.{stage}.checkpoint_s=0" for stage in ("teacher", "student", "head"))
KILL_S = 120.0
RunToy = Callable[..., dict[str, str]]
Content = Callable[[Path], dict[str, Any]]


def forget_from(folder: Path, stage: str) -> tuple[Path, Path]:
    """Remove what ``stage`` and later ones made; returns the stage's own two outputs."""
    names = [name for name, _ in OUTPUTS]
    for _, paths in OUTPUTS[names.index(stage) :]:
        for path in (folder / name for name in paths):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    first, second = dict(OUTPUTS)[stage]
    return folder / first, folder / second


def in_the_middle(first: Path, second: Path) -> bool:
    """Whether the stage has done something that lasts."""
    if first.suffix == ".h5":
        return any(not path.name.startswith(".") for path in second.glob("*.h5"))
    return (second / "last.safetensors").exists()


def start(recipe: Path) -> subprocess.Popen[bytes]:
    """A run in a process of its own that keeps the state of every training step."""
    command = [sys.executable, "-m", "tadkit.cli", "run", str(recipe), "--device", "cpu"]
    command += [word for override in (COMPARE, *EACH_STEP) for word in ("--set", override)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def kill_in(recipe: Path, stage: str) -> None:
    """Start the run and kill it in the middle of ``stage``, which has not been done."""
    first, second = forget_from(recipe.parent / "runs" / "toy", stage)
    with start(recipe) as process:
        limit = time.monotonic() + KILL_S
        while not in_the_middle(first, second):
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            assert time.monotonic() < limit, f"{stage} did not begin"
            time.sleep(0.001)
        process.kill()
        assert process.wait() == -9
    whole = len(list(second.glob("[!.]*.h5"))) == 6 if first.suffix == ".h5" else first.exists()
    assert not whole, f"{stage} was over before it was killed"


def assert_goes_on(finished: Path, undisturbed: Path, run_toy: RunToy, stage: str, content: Content) -> None:
    """Kill in ``stage``, run again, compare with the undisturbed run."""
    kill_in(finished, stage)
    states = run_toy(finished, COMPARE)
    names = [name for name, _ in OUTPUTS]
    expected = ["up to date" if names.index(name) < names.index(stage) else "done" for name in names]
    assert list(states.values()) == expected
    killed, whole = (path.parent / "runs" / "toy" for path in (finished, undisturbed))
    for name in ("flow", "teacher", "features-decomposed"):
        assert content(killed / f"{name}.h5") == content(whole / f"{name}.h5") != {}
    one, other = (load_checkpoint(f / "detector-decomposed.safetensors", kind="detector") for f in (killed, whole))
    assert one.provenance == other.provenance
    assert all(value.equal(other.tensors[name]) for name, value in one.tensors.items())
    for folder in (killed / "stages").iterdir():
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        reference = [
            json.loads(line) for line in (whole / "stages" / folder.name / "metrics.jsonl").read_text().splitlines()
        ]
        assert [line["step"] for line in lines] == list(range(8))
        assert [line["total"] for line in lines] == [line["total"] for line in reference]
    assert not [path for path in killed.rglob(".*") if path.name != ".lock"], "leftovers of the killed writer"


def test_a_run_killed_while_it_distils_goes_on(
    finished: Path, undisturbed: Path, run_toy: RunToy, store_content: Content
) -> None:
    assert_goes_on(finished, undisturbed, run_toy, "distill", store_content)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [name for name, _ in OUTPUTS])
def test_a_run_killed_in_any_stage_goes_on(
    finished: Path, undisturbed: Path, run_toy: RunToy, stage: str, store_content: Content
) -> None:
    assert_goes_on(finished, undisturbed, run_toy, stage, store_content)


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_where_an_undisturbed_one_does(
    finished: Path, undisturbed: Path, run_toy: RunToy
) -> None:
    folder = finished.parent / "runs" / "toy"
    shutil.rmtree(folder)
    chance = np.random.default_rng(0)
    for _ in range(6):
        with start(finished) as process:
            time.sleep(float(chance.uniform(4, 12)))
            process.kill()
    run_toy(finished, COMPARE)
    one, other = (
        load_checkpoint(path.parent / "runs/toy/detector-decomposed.safetensors", kind="detector").tensors
        for path in (finished, undisturbed)
    )
    assert all(value.equal(other[name]) for name, value in one.items())
