"""An ablation: what it writes, what it does not do twice, and that a kill loses nothing."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from toy_recipe import FEATURES_RECIPE

from tadkit.ablation.plan import planned
from tadkit.ablation.runs import Failed, Ran, run_parts
from tadkit.checkpoint import load_checkpoint
from tadkit.config.loading import load_recipe
from tadkit.evaluation import mean_average_precision
from tadkit.progress import Quiet
from tadkit.records import read_dataset, read_detections

LIMIT_S = 120.0
EACH_STEP = tuple(f"train.{stage}.checkpoint_s=0" for stage in ("teacher", "student"))
ARGUMENTS = ("--rows", "teacher,rgb", "--device", "cpu", "--set", "distill.joint=true")


def words(folder: Path, *more: str) -> list[str]:
    return ["ablate", str(folder / "mine.toml"), *ARGUMENTS, *more]


def started_at(folder: Path) -> dict[Path, tuple[int, int]]:
    """Models and what stages left, with what changes if they are written again."""
    files = [path for path in folder.rglob("*.safetensors") if "stages" not in path.parts]
    return {path.relative_to(folder): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe and its ablation of two rows and two seeds; not to be changed."""
    from tadkit.cli import main

    folder = tmp_path_factory.mktemp("ablation")
    (folder / "mine.toml").write_text(FEATURES_RECIPE)
    assert main(words(folder, "--seeds", "2")) == 0
    return folder


@pytest.fixture
def changing(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def figures_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "runs" / "mine-ablation" / "ablation.json").read_text())
    return found


def test_figures_are_those_of_the_detections(folder: Path) -> None:
    figures = figures_of(folder)
    assert figures["rows"] == ["teacher", "rgb"]
    assert figures["names"] == ["teacher", "rgb", "rgb: appearance"]
    assert {(cell["row"], cell["seed"], cell["fold"]) for cell in figures["cells"]} == {
        (name, seed, 0) for name in figures["names"] for seed in (0, 1)
    }
    averages: dict[str, list[float]] = {}
    for cell in figures["cells"]:
        path = folder / "runs" / "mine-ablation" / cell["detections"]
        truth = read_dataset(path.parent / "annotations.json").videos
        actions = {name: video.annotations for name, video in truth.items()}
        judged = mean_average_precision(actions, read_detections(path), labels=None, tiou=[0.3])
        assert cell["average_map"] == pytest.approx(judged.average_map)
        assert cell["average_pooled"] == pytest.approx(judged.average_pooled)
        averages.setdefault(cell["row"], []).append(judged.average_map)
    for row, (first, second) in averages.items():
        assert figures["table"][row]["average_map"] == pytest.approx((first + second) / 2)
        assert figures["table"][row]["map_spread"] == pytest.approx(abs(first - second) / 2**0.5)
    assert list(figures["cost"]) == figures["rows"]
    assert all(cost["parameters"] > 0 < cost["flops_per_s"] for cost in figures["cost"].values())
    assert [(one["row"], one["other"]) for one in figures["differences"]] == [
        ("teacher", "rgb"),
        ("rgb: appearance", "rgb"),
    ]
    difference = figures["differences"][0]
    means = [sum(averages[row]) / 2 for row in ("teacher", "rgb")]
    assert difference["average_map"] == pytest.approx(means[0] - means[1])
    low, high = difference["map_interval"]
    assert difference["map_covers_zero"] == (low <= 0 <= high)


def test_an_ablation_is_not_done_twice_and_rows_and_seeds_are_added(changing: Path, tadkit: Callable[..., Any]) -> None:
    runs = changing / "runs" / "mine-ablation"
    before = started_at(runs)
    again = tadkit(*words(changing, "--seeds", "2"))
    assert again.code == 0
    assert again.out.count(": up to date") == 2
    assert "2 held-out videos" not in again.out
    assert "what" not in again.err
    assert started_at(runs) == before
    arguments = [word.replace("teacher,rgb", "teacher,two-stream,rgb") for word in words(changing, "--seeds", "3")]
    more = tadkit(*arguments)
    assert more.code == 0
    assert "Headroom, two-stream minus RGB" in more.out
    after = started_at(runs)
    assert {path: after[path] for path in before} == before
    added = {path.as_posix() for path in after.keys() - before.keys()}
    assert {path for path in added if path.startswith("runs/seed-0")} == {
        f"runs/seed-0/fold-1-of-1/{kind}-two-stream.safetensors" for kind in ("student", "joint-head", "detector")
    }
    assert any(path.startswith("runs/seed-2") for path in added)
    assert figures_of(changing)["seeds"] == [0, 1, 2]


def test_a_killed_ablation_resumes_where_it_was(folder: Path, tmp_path: Path, tadkit: Callable[..., Any]) -> None:
    (tmp_path / "mine.toml").write_text(FEATURES_RECIPE)
    runs = tmp_path / "runs" / "mine-ablation"
    command = [sys.executable, "-m", "tadkit.cli", *words(tmp_path, "--seeds", "2")]
    command += [word for override in EACH_STEP for word in ("--set", override)]
    limit = time.monotonic() + LIMIT_S
    with subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL) as process:
        while not list(runs.glob("runs/seed-1/*/stages/distill-rgb/last.safetensors")):
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < limit, "it did not begin"
            time.sleep(0.001)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    before = started_at(runs)
    assert {"seed-0", "seed-1"} == {path.parts[1] for path in before}
    assert not (runs / "ablation.json").exists()
    assert tadkit(*words(tmp_path, "--seeds", "2")).code == 0
    after = started_at(runs)
    assert {path: after[path] for path in before} == before
    undisturbed = folder / "runs" / "mine-ablation"
    assert after.keys() == started_at(undisturbed).keys()
    for path in (path for path in after if path.stem == "detector-rgb"):
        one, other = (load_checkpoint(runs_ / path, kind="detector").tensors for runs_ in (runs, undisturbed))
        assert all(torch.equal(value, other[name]) for name, value in one.items())
    mine, theirs = figures_of(tmp_path), figures_of(folder)
    assert mine["table"] == theirs["table"]
    assert mine["differences"] == theirs["differences"]


def test_a_failed_run_is_reported_and_the_others_are_kept(changing: Path, tadkit: Callable[..., Any]) -> None:
    with FileLock(changing / "runs" / "mine-ablation" / "runs" / "seed-0" / "fold-1-of-1" / ".lock"):
        ran = tadkit(*words(changing, "--seeds", "2"))
    assert ran.code == 4
    assert ran.err.count("tadkit: error: seed 0, fold 1: ") == 1
    assert "another run is using this folder" in ran.err
    figures = figures_of(changing)
    assert figures["seeds"] == [1]
    assert list(figures["failed"]) == ["seed 0, fold 1"]
    page = (changing / "runs" / "mine-ablation" / "ablation.md").read_text()
    assert "- seed 0, fold 1: " in page
    assert "lower bound" in page


def test_two_ablations_in_one_folder_are_refused(changing: Path, tadkit: Callable[..., Any]) -> None:
    with FileLock(changing / "runs" / "mine-ablation" / ".lock"):
        ran = tadkit(*words(changing))
    assert ran.code == 4
    assert "mine-ablation: another run is using this folder" in ran.err
    assert "--set" not in ran.err


def test_the_page_is_rendered_from_the_json_and_a_pilot_gives_the_power(
    folder: Path, tmp_path: Path, tadkit: Callable[..., Any]
) -> None:
    path = folder / "runs" / "mine-ablation" / "ablation.json"
    shown = tadkit("ablate", "--render", path)
    assert shown.code == 0
    assert shown.out == path.with_suffix(".md").read_text()
    figures = json.loads(path.read_text())
    covers = sum(one[f"{figure}_covers_zero"] for one in figures["differences"] for figure in ("map", "pooled"))
    assert shown.out.count(", covers zero") == covers
    assert "| teacher - rgb | 2 |" in shown.out
    (tmp_path / "mine.toml").write_text(FEATURES_RECIPE)
    (tmp_path / "other.json").write_text('{"rows": []}')
    for wrong in ("other.json", "missing.json"):
        ran = tadkit(*words(tmp_path, "--pilot", str(tmp_path / wrong)))
        assert ran.code == 2
        assert ran.err.count("\n") == 1
    newer = {**figures, "version": 2}
    (tmp_path / "newer.json").write_text(json.dumps(newer))
    assert "upgrade it" in tadkit("ablate", "--render", tmp_path / "newer.json").err


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path: Path, tadkit: Callable[..., Any]) -> None:
    (tmp_path / "mine.toml").write_text(FEATURES_RECIPE)
    ran = tadkit(*words(tmp_path, "--out", str(tmp_path / "mine.toml" / "out")))
    assert ran.code == 2
    assert "this folder cannot be made" in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("damage", [{"version": None}, {"table": []}, {"seeds": None}, {"power": [{}]}, {"videos": 0}])
def test_a_damaged_json_is_refused_in_one_line(
    folder: Path, tmp_path: Path, tadkit: Callable[..., Any], damage: dict[str, Any]
) -> None:
    (tmp_path / "damaged.json").write_text(json.dumps(figures_of(folder) | damage))
    ran = tadkit("ablate", "--render", tmp_path / "damaged.json")
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert "damaged.json: " in ran.err


def test_a_damaged_json_of_its_own_is_written_again(changing: Path, tadkit: Callable[..., Any]) -> None:
    whole = figures_of(changing)
    (changing / "runs" / "mine-ablation" / "ablation.json").write_text("{")
    ran = tadkit(*words(changing, "--seeds", "2"))
    assert ran.code == 0
    assert "ablation.json: " in ran.err
    assert "not used, and will be written again" in ran.err
    assert figures_of(changing)["cells"] == whole["cells"]


def test_flow_is_computed_once_for_all_folds_and_every_video_is_judged(toy: Path, tadkit: Callable[..., Any]) -> None:
    ran = tadkit(
        "ablate", toy, "--rows", "teacher", "--seeds", "1", "--folds", "2", "--device", "cpu", "--out", toy.parent / "a"
    )
    assert ran.code == 0, ran.err
    assert [path.relative_to(toy.parent / "a").as_posix() for path in (toy.parent / "a").rglob("flow.h5")] == [
        "flow.h5"
    ]
    figures = json.loads((toy.parent / "a" / "ablation.json").read_text())
    names = [item.stem for item in (toy.parent / "data" / "videos").iterdir()]
    assert sorted(name for fold in figures["folds"] for name in fold) == sorted(names)
    assert figures["videos"] == 6
    assert figures["actions"] == {"slide": 6, "rest": 6}
    assert [(one["row"], one["seed"]) for one in figures["out_of_fold"]] == [("teacher", 0)]
    seconds = figures["cost"]["teacher"]["seconds_per_s"]
    assert list(seconds) == ["decode", "flow", "backbone", "head", "suppression"]
    assert all(second > 0 for second in seconds.values())
    assert "### Folds" in (toy.parent / "a" / "ablation.md").read_text()


class KillsOne(Quiet):
    """Progress that kills the first worker that reports."""

    def advance(self, amount: float = 1.0, *, note: str = "") -> None:  # noqa: ARG002 - the signature is Progress's
        for child in multiprocessing.active_children()[:1]:
            os.kill(child.pid or 0, signal.SIGKILL)
        type(self).advance = Quiet.advance  # type: ignore[method-assign]


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_run_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(FEATURES_RECIPE)
    chosen: dict[str, Any] = {"out": None, "rows": ("teacher", "rgb"), "folds": None, "against": None, "compare": ()}
    recipe = load_recipe(tmp_path / "mine.toml")
    plan = planned(recipe, base=tmp_path, seeds=3, quick=False, device="cpu", progress=Quiet(), **chosen)

    def outcomes(progress: Quiet) -> Iterator[Ran | Failed]:
        return (outcome for _, outcome in run_parts(plan.parts, device="cpu", workers=2, progress=progress))

    first = list(outcomes(KillsOne()))
    (failed,) = (outcome for outcome in first if isinstance(outcome, Failed))
    assert "killed by SIGKILL" in str(failed.error)
    assert len(first) == 3
    assert not multiprocessing.active_children()
    assert all(isinstance(outcome, Ran) for outcome in outcomes(Quiet()))
