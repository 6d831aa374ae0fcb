"""Detections do not depend on how many processes find them, nor on who dies of it."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tadkit.detection.detect import load_detector
from tadkit.errors import WeightsError
from tadkit.progress import Quiet
from tadkit.records import read_detections

WriteSquares = Callable[..., Path]


class KillsOne(Quiet):
    """Progress that kills a worker on the video ``victim``."""

    def __init__(self, victim: str) -> None:
        super().__init__()
        self._victim = victim
        self.killed = False

    def advance(self, amount: float = 1.0, *, note: str = "") -> None:  # noqa: ARG002 - the signature is Progress's
        for child in () if self.killed else multiprocessing.active_children():
            opened = [link.resolve().stem for link in Path(f"/proc/{child.pid}/fd").iterdir()]
            if self._victim in opened:
                os.kill(child.pid or 0, signal.SIGKILL)
                self.killed = True


@pytest.fixture
def videos(tmp_path: Path, write_squares: WriteSquares) -> Path:
    """Videos of different lengths, one of them damaged; the largest is neither the first nor the last."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for seed, (name, frames) in enumerate({"a": 20, "c": 600, "d": 30}.items()):
        write_squares(folder / f"{name}.mp4", frames, seed=seed)
    (folder / "b.mp4").write_bytes(b"no video")
    return folder


def test_workers_write_and_print_what_one_process_does(
    tadkit: Any, tmp_path: Path, videos: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "list.txt").write_text("videos/d.mp4\nvideos/b.mp4\nvideos/c.mp4\nvideos/a.mp4\n")
    words = ("detect", "--list", tmp_path / "list.txt", "--model", tiny_model, "--show-score", "0.1", "--top", "2")
    outs = ("--out", "d.json", "--out", "{video}.srt", "--out", "d.csv", "--clips", "clips", "--resume")
    said, written = [], []
    for workers in ("1", "2"):
        folder = tmp_path / workers
        folder.mkdir()
        monkeypatch.chdir(folder)
        (folder / "videos").symlink_to(videos)
        if written:  # one of the videos is done
            done = min(path for path in written[0] if path.parent.name == "d.json.parts")
            done.parent.mkdir()
            done.write_bytes(written[0][done])
        ran = tadkit(*words, *outs, "--workers", workers)
        assert (ran.code, not multiprocessing.active_children()) == (3, True)
        assert "error: videos/b.mp4: not a video" in ran.err
        said.append((ran.out, ran.err))
        files = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "videos"]
        written.append({path.relative_to(folder): path.read_bytes() for path in files})
    (out, err), (out_of_two, err_of_two) = said
    assert out_of_two == out
    assert err_of_two == err.replace("3 detected, 1 failed", "2 detected, 1 skipped, as done, 1 failed") != err
    assert written[0] == written[1]
    assert len(list(Path("clips").glob("*.mp4"))) == 6
    assert list(read_detections(Path("d.json"))) == ["d", "c", "a"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's list of open files")
def test_a_worker_that_dies_costs_its_video_alone(videos: Path, tiny_model: Path) -> None:
    detector, kills = load_detector(tiny_model, device="cpu"), KillsOne("c")
    items = {name: videos / f"{name}.mp4" for name in "acd"}
    found = detector.detect_named(items, workers=2, on_error="collect", progress=kills)
    assert kills.killed
    assert list(found) == ["a", "d"]
    assert re.search(r"c\.mp4: the worker process died on it \(killed by SIGKILL\)", str(found.failed["c"]))
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_a_model_that_is_gone_is_one_error(tmp_path: Path, videos: Path, tiny_model: Path) -> None:
    model = tmp_path / "m.safetensors"
    model.write_bytes(tiny_model.read_bytes())
    detector = load_detector(model, device="cpu")
    model.unlink()
    items = {name: videos / f"{name}.mp4" for name in "ad"}
    with pytest.raises(WeightsError, match=r"m\.safetensors"):
        detector.detect_named(items, workers=2, on_error="collect")
    assert not multiprocessing.active_children()


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_ctrl_c_leaves_whole_files_and_no_process(
    tmp_path: Path, write_squares: WriteSquares, tiny_model: Path
) -> None:
    write_squares(tmp_path / "short.mp4", 20)
    shutil.copy(write_squares(tmp_path / "long.mp4", 2000), tmp_path / "other.mp4")
    videos = [str(tmp_path / f"{name}.mp4") for name in ("short", "long", "other")]
    words = ["detect", *videos, "--model", str(tiny_model), "--out", str(tmp_path / "d.json"), "--resume"]
    command = [sys.executable, "-m", "tadkit.cli", *words, "--workers", "2"]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    ) as run:
        while not list(tmp_path.glob("d.json.parts/[0-9a-f]*.json")) and run.poll() is None:
            time.sleep(0.002)
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to the workers, too
        _, said = run.communicate(timeout=30)  # ends when the last worker lets go of the pipe
    assert (run.returncode, said) == (130, "engine: torch\n\ntadkit: interrupted\n")
    (kept,) = (tmp_path / "d.json.parts").iterdir()
    assert len(read_detections(kept)) == 1
    assert not (tmp_path / "d.json").exists()
