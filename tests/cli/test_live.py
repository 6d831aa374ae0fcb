"""``tadkit detect --live`` as a process: JSON lines while the source is open, and clean ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tadkit.detection.detect import load_detector
from tadkit.records import Detection

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and pipes are POSIX")
SETTINGS = ("--set", "decode.stretch_s=4", "--set", "decode.min_score=0.3", "--show-score", "0.5")


@pytest.fixture
def stream(tmp_path: Path, write_squares: Callable[..., Path], remux: Callable[..., Path]) -> Path:
    """100 s of MPEG-TS."""
    return remux(write_squares(tmp_path / "a.mp4", 1000, seed=5), tmp_path / "a.ts")


@contextmanager
def running(*words: str | Path) -> Iterator[Any]:
    """The command in a process of its own, in which Ctrl-C is not ignored as in background jobs."""
    command = [sys.executable, "-m", "tadkit.cli", "detect", *map(str, words)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def records(lines: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.splitlines()]


def feed(process: Any, content: bytes, *, seconds: float) -> None:
    """Write to stdin at the pace of a clock, and close it."""

    def run() -> None:
        begin_s, size = time.monotonic(), 188 * 20
        for at in range(0, len(content), size):
            time.sleep(max(0.0, begin_s + seconds * at / len(content) - time.monotonic()))
            process.stdin.write(content[at : at + size])
            process.stdin.flush()
        process.stdin.close()

    threading.Thread(target=run, daemon=True).start()


@pytest.mark.parametrize("speed", [25, pytest.param(1, marks=pytest.mark.slow)])
def test_a_pipe_gives_what_the_file_gives_while_it_is_fed(stream: Path, live_model: Path, speed: int) -> None:
    expected = load_detector(live_model, device="cpu", overrides={"decode": {"stretch_s": 4, "min_score": 0.3}})
    shown = expected.detect(stream).shown(least=0.5).in_order()
    with running("--live", "-", "--model", live_model, "--device", "cpu", *SETTINGS) as process:
        feed(process, stream.read_bytes(), seconds=100 / speed)
        lines, came_s = [], []
        for line in process.stdout:
            lines.append(json.loads(line))
            came_s.append(time.monotonic())
        assert process.wait(timeout=60) == 0
        notes = process.stderr.read().decode()
    stated = re.search(r"stdin: open; detections are printed at most ([\d.]+) s after their end; later video", notes)
    assert stated is not None
    *found, end = lines
    assert end == {"event": "end", "at_s": 100.0, "reason": "the source has ended"}
    assert {line["event"] for line in found} == {"detection"}
    assert all(line["at_s"] - line["end_s"] <= float(stated[1]) for line in found)
    assert sum(line["at_s"] < 95 for line in found) > len(found) / 3
    assert came_s[-1] - came_s[0] > 20 / speed  # some came long before the end
    ours = [Detection(d["start_s"], d["end_s"], d["label"], d["score"]) for d in found]
    assert len(ours) == len(shown) > 30
    for a, b in zip(sorted(ours, key=lambda d: (d.start_s, d.end_s)), shown, strict=True):
        assert a.label == b.label
        assert (a.start_s, a.end_s, a.score) == pytest.approx((b.start_s, b.end_s, b.score), abs=1e-3)


def test_ctrl_c_prints_what_was_seen_and_exits_130(stream: Path, live_model: Path) -> None:
    content = stream.read_bytes()
    with running("--live", "-", "--model", live_model, "--device", "cpu", *SETTINGS) as process:
        process.stdin.write(content[: len(content) * 3 // 4])
        process.stdin.flush()
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(timeout=60) == 130
        notes = process.stderr.read().decode()
    found = records(first + rest)
    assert found[0]["event"] == "detection"
    assert (found[-1]["event"], found[-1]["reason"]) == ("end", "interrupted")
    assert notes.endswith("tadkit: interrupted\n")
    assert "Traceback" not in notes
    assert max(line["end_s"] for line in found[:-1]) <= found[-1]["at_s"] <= 76


def test_a_reader_that_leaves_ends_it_without_a_message(stream: Path, live_model: Path) -> None:
    with running("--live", "-", "--model", live_model, "--device", "cpu", *SETTINGS) as process:
        feed_quietly(process, stream.read_bytes())
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=60) == 1
        assert "rror" not in process.stderr.read().decode()


def feed_quietly(process: Any, content: bytes) -> None:
    """Write all to stdin, which the process may close."""

    def run() -> None:
        with suppress(BrokenPipeError):
            process.stdin.write(content)
            process.stdin.close()

    threading.Thread(target=run, daemon=True).start()


def test_a_source_that_is_not_there_is_an_error(tadkit: Any, live_model: Path) -> None:
    ran = tadkit("detect", "--live", "tcp://127.0.0.1:9", "--model", live_model)
    assert (ran.code, ran.out) == (3, "")
    assert "tcp://127.0.0.1:9: not a video that FFmpeg can read (Connection refused); check the address" in ran.err


def test_an_early_delay_says_that_detections_may_change(tadkit: Any, stream: Path, live_model: Path) -> None:
    ran = tadkit(
        *("detect", "--live", stream, "--reconnect", "0.1", "--model", live_model, "--device", "cpu"),
        *("--delay", "32", *SETTINGS, "--show-score", "0", "--set", "decode.keep=12"),
    )
    assert ran.code == 0
    assert re.search(
        r"after their end; later video may change them for [\d.]+ s more: they are then withdrawn", ran.err
    )
    events = {line["event"] for line in records(ran.out.encode())}
    assert events == {"detection", "withdrawn", "end"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--live", "-", "v.mp4"], "VIDEOS has no meaning with --live, which prints JSON lines on stdout"),
        (["--live", "-", "--out", "d.json"], "--out has no meaning with --live"),
        (["--live", "-", "--top", "3"], "--top has no meaning with --live"),
        (["v.mp4", "--delay", "3"], "--delay needs --live SOURCE; leave it out"),
        (["--live", "-", "--delay", "1"], "--delay 1: this model needs "),
        (["--live", "-", "--set", "decode.stretch_s=0"], "--live: what this model finds depends on the whole video"),
    ],
)
def test_mistakes_are_told_before_anything_is_read(tadkit: Any, live_model: Path, words: list[str], said: str) -> None:
    ran = tadkit("detect", *words, "--model", live_model)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err


@pytest.mark.slow
def test_a_real_video_fed_in_real_time_gives_what_its_file_gives(
    tmp_path: Path, shared_data: Path, remux: Callable[..., Path]
) -> None:
    """The bundled model, in its shortest delay: what changes is withdrawn, and the rest is that of the file."""
    video = shared_data / "room" / "videos" / "20200628_183032_01_light_natural.mp4"
    stream = remux(video, tmp_path / "room.ts")
    expected = load_detector(device="cpu").detect(video)
    with running("--live", "-", "--delay", "46", "--device", "cpu") as process:
        feed(process, stream.read_bytes(), seconds=expected.duration_s)
        lines = [json.loads(line) for line in process.stdout]
        assert process.wait(timeout=600) == 0
    standing: list[dict[str, Any]] = []
    for line in lines[:-1]:
        of_file = {name: line[name] for name in ("start_s", "end_s", "label", "score")}
        if line["event"] == "detection":
            assert line["at_s"] - line["end_s"] <= 46
            standing.append(of_file)
        else:
            standing.remove(of_file)
    assert sum(line["at_s"] < expected.duration_s - 1 for line in lines[:-1]) > 3
    ours = sorted(standing, key=lambda d: (d["start_s"], d["end_s"]))
    theirs = expected.shown().in_order()
    assert [d["label"] for d in ours] == [d.label for d in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert (a["start_s"], a["end_s"], a["score"]) == pytest.approx((b.start_s, b.end_s, b.score), abs=1e-3)
