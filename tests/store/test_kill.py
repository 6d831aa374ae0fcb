"""A writer killed at any moment leaves a store that opens, whose videos are whole, and that goes on."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tadkit.store import open_store, read_store

# Writes videos for ever, new ones and old ones in turn, small so that most of the time goes to making them appear; says
# which are complete.
WRITER = """
import sys
from pathlib import Path
import numpy as np
from tadkit.store import open_store
rounds = int(sys.argv[2])
with open_store(Path(sys.argv[1]), kind="features", settings={"rounds": rounds}) as store:
    for i in range(10**9):
        name, value = f"v{i % 40}" if i % 2 else f"n{rounds}_{i}", rounds * 10**6 + i
        with store.video(name, key=str(value), stamps_s=np.arange(50.0), attributes={}) as entry:
            for _ in range(5):
                entry.append("x", np.full((10, 8), value, np.float64))
        print(name, value, flush=True)
"""

# Completes "a", then is killed just before the n-th step of completing a new or a replaced video.
STEPS = """
import os, signal, sys
from pathlib import Path
import numpy as np
from tadkit.store import open_store
def write(store, name, value):
    with store.video(name, key=str(value), stamps_s=np.arange(50.0), attributes={}) as entry:
        entry.append("x", np.full((50, 8), value, np.float64))
left = int(sys.argv[2])
def hook(event, args):
    global left
    if event in ("tempfile.mkstemp", "os.chmod", "os.rename", "os.remove"):
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
with open_store(Path(sys.argv[1]), kind="features", settings={}) as store:
    write(store, "a", 1)
    sys.addaudithook(hook)
    write(store, sys.argv[3], 2)
"""


def killed_writer(path: Path, rounds: int, after_s: float) -> dict[str, int]:
    """Run the writer, kill it ``after_s`` seconds after its first video, and return what it had said is complete."""
    command = [sys.executable, "-c", WRITER, str(path), str(rounds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline()]
        time.sleep(after_s)
        writer.kill()
        said += writer.stdout.read().splitlines(keepends=True)
    assert writer.returncode == -signal.SIGKILL
    pairs = [re.fullmatch(r"(\w+) (\d+)\n", line) for line in said]
    return {pair[1]: int(pair[2]) for pair in pairs if pair}


def check(path: Path, said: dict[str, int]) -> int:
    """Every video listed is whole and is what its key says; each said to be complete is there, or a newer one."""
    with read_store(path, kind="features") as reader:
        assert set(said) <= set(reader.videos())
        for video in reader.videos():
            values = reader.read(video, "x")
            assert values.shape == (50, 8)
            assert (values == int(reader.key(video))).all()
            assert int(reader.key(video)) >= said.get(video, 0)
        return len(reader.videos())


def kill_often(path: Path, times: int) -> None:
    said: dict[str, int] = {}
    moments = random.Random(times)
    for rounds in range(1, times + 1):
        said.update(killed_writer(path, rounds, moments.uniform(0, 0.15)))
        assert check(path, said) > 0
    with open_store(path, kind="features", settings={}) as store:
        with store.video("last", key="1", stamps_s=np.arange(50.0), attributes={}) as entry:
            entry.append("x", np.ones((50, 8)))
        assert store.has("last", "1")
    check(path, said)
    left = sorted(file.name for file in path.parent.rglob(".*.h5"))
    assert left == []


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize(("name", "step"), [*(("b", step) for step in range(8)), *(("a", step) for step in range(4))])
def test_a_kill_before_any_step_of_completing_a_video(tmp_path: Path, name: str, step: int) -> None:
    path = tmp_path / "f.h5"
    writer = subprocess.run([sys.executable, "-c", STEPS, str(path), str(step), name], check=False)
    assert writer.returncode == -signal.SIGKILL
    check(path, {"a": 1})
    with open_store(path, kind="features", settings={}) as store:
        moved = step >= 3
        assert store.has(name, "2") == moved
        assert store.has("a", "1") == (name == "b" or not moved)
    check(path, {name: 2} if moved else {"a": 1})


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_ten_kills_lose_nothing(tmp_path: Path) -> None:
    kill_often(tmp_path / "f.h5", 10)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_forty_kills_lose_nothing(tmp_path: Path) -> None:
    kill_often(tmp_path / "f.h5", 40)
