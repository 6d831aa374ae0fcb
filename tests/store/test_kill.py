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
def test_ten_kills_lose_nothing(tmp_path: Path) -> None:
    kill_often(tmp_path / "f.h5", 10)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_forty_kills_lose_nothing(tmp_path: Path) -> None:
    kill_often(tmp_path / "f.h5", 40)
