"""Flow does not depend on who computes it, nor on who dies of it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tadkit.config import OpencvDisSettings, RaftSettings, Tvl1Settings
from tadkit.errors import TadkitError, UsageError
from tadkit.extraction.flow_video import PIECE_PAIRS
from tadkit.extraction.quarantine import Quarantine
from tadkit.extraction.results import ExtractionResult
from tadkit.progress import Quiet

DIS = OpencvDisSettings()
Content = Callable[[Path], dict[str, Any]]
Extracted = Callable[..., ExtractionResult]
WriteSquares = Callable[..., Path]


class KillsOne(Quiet):
    """Progress that kills the first worker found with a video open."""

    killed = False

    def advance(self, amount: float = 1.0, *, note: str = "") -> None:  # noqa: ARG002 - the signature is Progress's
        for child in () if self.killed else multiprocessing.active_children():
            opened = [link.resolve().suffix for link in Path(f"/proc/{child.pid}/fd").iterdir()]
            if ".mp4" in opened:
                os.kill(child.pid or 0, signal.SIGKILL)
                self.killed = True
                return


def interrupt() -> None:
    raise KeyboardInterrupt


def test_workers_write_what_one_process_does(
    tmp_path: Path,
    write_squares: WriteSquares,
    store_content: Content,
    long_video: Path,
    extracted: Extracted,
    long_pairs: int,
    counted: type[Any],
) -> None:
    gaps_s = np.random.default_rng(1).choice([0.02, 0.05, 0.1], 120)
    items = {"long": long_video, "varies": tmp_path / "varies.mp4", "one": write_squares(tmp_path / "one.mp4", 1)}
    write_squares(items["varies"], 121, stamps_s=[0.0, *np.cumsum(gaps_s).tolist()])
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    items["bad"] = tmp_path / "bad.mp4"
    stores = {}
    for workers, device in ((1, "cpu"), (3, "cpu,cpu")):
        out = tmp_path / f"{workers}.h5"
        progress = counted()
        result = extracted(items, out, flow=DIS, workers=workers, device=device, progress=progress)
        assert result.done == ["long", "varies", "one"]
        assert list(result.clipped) == result.done
        assert list(result.failed) == ["bad"]
        assert (progress.total, progress.unit) == (long_pairs + 120, "pairs")
        assert sum(progress.steps) == progress.total
        stores[workers] = store_content(out)
    assert stores[1]
    assert stores[1] == stores[3]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's list of open files")
def test_a_worker_that_dies_costs_its_video_alone(
    tmp_path: Path, write_squares: WriteSquares, long_video: Path, store_content: Content, extracted: Extracted
) -> None:
    items = {"long": long_video}
    for name in "abc":
        items[name] = write_squares(tmp_path / f"{name}.mp4", 300, fps=100, seed=ord(name))
    out = tmp_path / "flow.h5"

    result = extracted(items, out, flow=DIS, workers=2, progress=KillsOne())
    (lost,) = result.failed
    assert set(result.done) == set(items) - {lost}
    assert "SIGKILL" in str(result.failed[lost])
    assert lost in Quarantine(out).reasons
    assert not multiprocessing.active_children()
    assert extracted(items, out, flow=DIS, workers=2, retry_failed=True).done == [lost]
    assert extracted(items, tmp_path / "other.h5", flow=DIS).done == list(items)
    assert store_content(out) == store_content(tmp_path / "other.h5")


def test_interrupted_workers_leave_nothing_behind(
    tmp_path: Path, long_video: Path, extracted: Extracted, counted: type[Any]
) -> None:
    items = {"long": long_video, "other": tmp_path / "other.mp4"}
    items["other"].write_bytes(long_video.read_bytes())
    with pytest.raises(KeyboardInterrupt):
        extracted(items, tmp_path / "flow.h5", workers=2, progress=counted(PIECE_PAIRS, interrupt))
    assert not multiprocessing.active_children()
    assert not list((tmp_path / "flow.h5.parts").glob(".*.h5"))


def test_devices_are_dealt_to_workers_and_none_is_left_idle(tmp_path: Path, extracted: Extracted) -> None:
    with pytest.raises(UsageError, match="2 devices for 1 workers; add --workers 2"):
        extracted({}, tmp_path / "flow.h5", device="cpu,cpu")
    with pytest.raises(UsageError, match="not usable here"):
        extracted({}, tmp_path / "flow.h5", device="cpu,nothing", workers=2)


def test_workers_say_once_that_there_is_no_compiler(
    tmp_path: Path,
    write_squares: WriteSquares,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    extracted: Extracted,
) -> None:
    items = {name: write_squares(tmp_path / f"{name}.mp4", 5, seed=1) for name in "abc"}
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "file" / "cache"))
    result = extracted(items, tmp_path / "flow.h5", flow=Tvl1Settings(), workers=2)
    assert result.done == ["a", "b", "c"]
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "flow.compile = 'never'" in told


def test_weights_that_cannot_be_had_are_told_before_any_video(
    tmp_path: Path, write_squares: WriteSquares, extracted: Extracted
) -> None:
    items = {name: write_squares(tmp_path / f"{name}.mp4", 10) for name in "ab"}
    (tmp_path / "w.pt").write_bytes(b"no weights")
    for weights, workers in ((tmp_path / "none.pt", 1), (tmp_path / "w.pt", 1), (tmp_path / "w.pt", 2)):
        flow = RaftSettings(method="raft-small", weights=weights)
        with pytest.raises(TadkitError, match=r"\.pt: "):
            extracted(items, tmp_path / "flow.h5", flow=flow, workers=workers)
    assert not (tmp_path / "flow.h5.failed.json").exists()
