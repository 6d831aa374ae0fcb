"""Flow extraction killed at any moment: what is complete is right, and what is resumed ends as if undisturbed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tadkit.extraction.flow_video import PIECE_PAIRS
from tadkit.store import read_store

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")

PAIRS = {"a": 2 * PIECE_PAIRS + 300, "b": 20, "c": PIECE_PAIRS + 1, "d": 200}
SETTINGS = ("flow.method=opencv-dis", "video.rate_hz=100", "video.height_px=96", "video.width_px=96")
LIMIT_S = 120.0
Content = Callable[[Path], dict[str, Any]]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory, write_squares: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seed, (name, pairs) in enumerate(PAIRS.items()):
        write_squares(folder / f"{name}.mp4", pairs + 1, fps=100, seed=seed)
    return folder


def start(videos: Path, out: Path, *, workers: int = 2) -> subprocess.Popen[bytes]:
    """An extraction, at work, in a process group of its own; its workers share the pipe that it talks to."""
    command = [sys.executable, "-m", "tadkit.cli", "extract-flow", str(videos), "--out", str(out), "--device", "cpu"]
    command += ["--workers", str(workers), *(word for setting in SETTINGS for word in ("--set", setting))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    before = written(out)
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    limit = time.monotonic() + LIMIT_S
    while not written(out) - before and process.poll() is None:
        assert time.monotonic() < limit, "no worker began"
        time.sleep(0.005)
    return process


def written(out: Path) -> set[tuple[str, int]]:
    """Files of the parts folder, whole or begun, and their versions."""
    found = set()
    for path in out.with_name(f"{out.name}.parts").rglob("*.h5"):
        try:
            found.add((path.name, path.stat().st_ino))
        except FileNotFoundError:
            continue
    return found


def kill(process: subprocess.Popen[bytes], *, group: bool) -> bytes:
    """Kill the parent, or all of them at once; returns what they said once all have ended."""
    (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
    said, _ = process.communicate(timeout=20)  # ends when the last worker lets go of the pipe
    return said


def finish(videos: Path, out: Path, *, workers: int = 2) -> float:
    """Extract to the end; seconds from the first thing written."""
    with start(videos, out, workers=workers) as process:
        began = time.monotonic()
        said, _ = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, said.decode()
        return time.monotonic() - began


def check(out: Path, whole: dict[str, Any], content: Content) -> int:
    """The store opens, and each of its videos is what an undisturbed run writes."""
    found = content(out)
    assert found.items() <= whole.items()
    with read_store(out, kind="flow") as store:
        for video in store.videos():
            assert store.length(video, "motion") == PAIRS[video]
            assert len(store.stamps_s(video)) == PAIRS[video] + 1
        return len(store.videos())


@pytest.mark.slow
def test_workers_end_with_their_parent_and_the_next_run_goes_on(
    tmp_path: Path, videos: Path, store_content: Content
) -> None:
    out, whole = tmp_path / "flow.h5", tmp_path / "whole.h5"
    process = start(videos, out)
    time.sleep(0.5)
    kill(process, group=False)
    finish(videos, out)
    finish(videos, whole, workers=1)
    assert store_content(out) == store_content(whole) != {}


@pytest.mark.slow
def test_forty_kills_lose_and_spoil_nothing(tmp_path: Path, videos: Path, store_content: Content) -> None:
    whole_s = finish(videos, tmp_path / "whole.h5")
    whole = store_content(tmp_path / "whole.h5")
    chance = random.Random(0)
    kills, rounds, found = 0, 0, 0
    out = tmp_path / "0.h5"
    while kills < 40:
        process = start(videos, out)
        try:
            process.wait(chance.uniform(0, whole_s / 2))
        except subprocess.TimeoutExpired:
            kill(process, group=bool(kills % 2))
            kills += 1
            found += check(out, whole, store_content)
            continue
        said, _ = process.communicate()
        assert process.returncode == 0, said.decode()
        assert store_content(out) == whole
        rounds += 1
        out = tmp_path / f"{rounds}.h5"
    finish(videos, out)
    assert store_content(out) == whole
    assert found > 0
    for store in tmp_path.glob("*.h5"):
        assert [path.name for path in store.with_name(f"{store.name}.parts").glob(".*")] == [".lock"]
