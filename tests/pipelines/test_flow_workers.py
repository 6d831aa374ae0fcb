"""Flow does not depend on who computes it, nor on how often it was broken off."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tadkit.config import FlowSettings, OpencvDisSettings, TemporalGradientSettings, Tvl1Settings, VideoSettings
from tadkit.errors import StoreError, TadkitError, UsageError, VideoError
from tadkit.pipelines.extract_flow import extract_flow_of, flow_key
from tadkit.pipelines.extraction import ExtractionResult
from tadkit.pipelines.flow_video import PIECE_PAIRS
from tadkit.progress import Quiet

VIDEO = VideoSettings(rate_hz=100.0, height_px=32, width_px=32)
GRADIENT = TemporalGradientSettings()
DIS = OpencvDisSettings()
LONG = 2 * PIECE_PAIRS + 77
WriteSquares = Callable[..., Path]
Content = Callable[[Path], dict[str, Any]]


class Counted(Quiet):
    """Progress that remembers each step, and does something at a certain pair."""

    def __init__(self, at: float = float("inf"), act: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.total, self.unit = 0.0, ""
        self.steps: list[float] = []
        self.notes: list[str] = []
        self._at, self._act, self._works = at, act, False

    def start(self, task: str, *, total: float, unit: str) -> None:
        self.total, self.unit = total, unit
        self.steps, self.notes, self._works = [], [], task == "extract-flow"

    def advance(self, amount: float = 1.0, *, note: str = "") -> None:
        self.steps.append(amount)
        self.notes.append(note)
        if self._works and sum(self.steps) >= self._at:
            self._at = float("inf")
            self._act()


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


def extracted(
    items: dict[str, Path],
    out: Path,
    *,
    flow: FlowSettings = GRADIENT,
    video: VideoSettings = VIDEO,
    progress: Quiet | None = None,
    device: str = "cpu",
    workers: int = 1,
    retry_failed: bool = False,
) -> ExtractionResult:
    return extract_flow_of(
        items,
        out,
        flow=flow,
        video=video,
        device=device,
        progress=progress or Quiet(),
        workers=workers,
        retry_failed=retry_failed,
    )


@pytest.fixture(scope="session")
def long_video(tmp_path_factory: pytest.TempPathFactory, write_squares: WriteSquares) -> Path:
    return write_squares(tmp_path_factory.mktemp("long") / "long.mp4", LONG + 1, fps=100)


@pytest.fixture(scope="session")
def undisturbed_flow(long_video: Path, store_content: Content) -> dict[str, Any]:
    out = long_video.with_name("flow.h5")
    assert extracted({"long": long_video}, out).done == ["long"]
    return store_content(out)


def pieces(out: Path) -> list[Path]:
    return sorted(out.with_name(f"{out.name}.parts").glob(".pieces-*/*"))


def listed(out: Path) -> dict[str, Any]:
    videos = json.loads(out.with_name(f"{out.name}.failed.json").read_text())["videos"]
    assert isinstance(videos, dict)
    return videos


def test_workers_write_what_one_process_does(
    tmp_path: Path, write_squares: WriteSquares, store_content: Content, long_video: Path
) -> None:
    gaps_s = np.random.default_rng(1).choice([0.02, 0.05, 0.1], 120)
    items = {"long": long_video, "varies": tmp_path / "varies.mp4", "one": write_squares(tmp_path / "one.mp4", 1)}
    write_squares(items["varies"], 121, stamps_s=[0.0, *np.cumsum(gaps_s).tolist()])
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    items["bad"] = tmp_path / "bad.mp4"
    stores = {}
    for workers, device in ((1, "cpu"), (3, "cpu,cpu")):
        out = tmp_path / f"{workers}.h5"
        progress = Counted()
        result = extracted(items, out, flow=DIS, workers=workers, device=device, progress=progress)
        assert result.done == ["long", "varies", "one"]
        assert list(result.clipped) == result.done
        assert list(result.failed) == ["bad"]
        assert (progress.total, progress.unit) == (LONG + 120, "pairs")
        assert sum(progress.steps) == progress.total
        stores[workers] = store_content(out)
    assert stores[1]
    assert stores[1] == stores[3]


def test_what_was_computed_of_a_video_is_not_computed_again(
    tmp_path: Path, long_video: Path, store_content: Content, undisturbed_flow: dict[str, Any]
) -> None:
    out = tmp_path / "flow.h5"
    with pytest.raises(KeyboardInterrupt):
        extracted({"long": long_video}, out, progress=Counted(PIECE_PAIRS + 100, interrupt))
    assert len(pieces(out)) == 1
    assert not store_content(out)
    progress = Counted()
    assert extracted({"long": long_video}, out, progress=progress).done == ["long"]
    assert progress.steps[0] == PIECE_PAIRS, "counted at once"
    assert sum(progress.steps) == progress.total == LONG
    assert store_content(out) == undisturbed_flow
    assert [path.name for path in out.with_name("flow.h5.parts").glob(".*")] == [".lock"]


def test_a_damaged_piece_is_computed_again(
    tmp_path: Path, long_video: Path, store_content: Content, undisturbed_flow: dict[str, Any]
) -> None:
    out = tmp_path / "flow.h5"
    with pytest.raises(KeyboardInterrupt):
        extracted({"long": long_video}, out, progress=Counted(2 * PIECE_PAIRS + 1, interrupt))
    first, second = pieces(out)
    with h5py.File(first, "r+") as file:
        file["motion"][100] += 1
    second.write_bytes(second.read_bytes()[:-1000])
    progress = Counted()
    extracted({"long": long_video}, out, progress=progress)
    assert max(progress.steps) < PIECE_PAIRS
    assert store_content(out) == undisturbed_flow


def test_pieces_made_with_other_settings_are_not_used_but_removed(tmp_path: Path, long_video: Path) -> None:
    out = tmp_path / "flow.h5"
    with pytest.raises(KeyboardInterrupt):
        extracted({"long": long_video}, out, progress=Counted(PIECE_PAIRS + 1, interrupt))
    (left,) = pieces(out)
    with pytest.raises(KeyboardInterrupt):
        extracted({"long": long_video}, out, flow=DIS, progress=Counted(1, interrupt))
    assert not left.exists()


def test_a_video_of_one_piece_is_written_without_pieces(tmp_path: Path, write_squares: WriteSquares) -> None:
    video, out = write_squares(tmp_path / "v.mp4", PIECE_PAIRS + 1, fps=100), tmp_path / "flow.h5"
    with pytest.raises(KeyboardInterrupt):
        extracted({"v": video}, out, progress=Counted(PIECE_PAIRS, interrupt))
    assert [path.name for path in out.with_name("flow.h5.parts").iterdir()] == [".lock"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's list of open files")
def test_a_worker_that_dies_costs_its_video_alone(
    tmp_path: Path, write_squares: WriteSquares, long_video: Path, store_content: Content
) -> None:
    items = {"long": long_video}
    for name in "abc":
        items[name] = write_squares(tmp_path / f"{name}.mp4", 300, fps=100, seed=ord(name))
    out = tmp_path / "flow.h5"

    result = extracted(items, out, flow=DIS, workers=2, progress=KillsOne())
    (lost,) = result.failed
    assert set(result.done) == set(items) - {lost}
    assert "SIGKILL" in str(result.failed[lost])
    assert lost in listed(out)
    assert not multiprocessing.active_children()
    assert extracted(items, out, flow=DIS, workers=2, retry_failed=True).done == [lost]
    assert extracted(items, tmp_path / "other.h5", flow=DIS).done == list(items)
    assert store_content(out) == store_content(tmp_path / "other.h5")


def test_interrupted_workers_leave_nothing_behind(tmp_path: Path, long_video: Path) -> None:
    items = {"long": long_video, "other": tmp_path / "other.mp4"}
    items["other"].write_bytes(long_video.read_bytes())
    with pytest.raises(KeyboardInterrupt):
        extracted(items, tmp_path / "flow.h5", workers=2, progress=Counted(PIECE_PAIRS, interrupt))
    assert not multiprocessing.active_children()
    assert not list((tmp_path / "flow.h5.parts").glob(".*.h5"))


def test_a_video_that_failed_is_tried_again_only_when_something_changed(
    tmp_path: Path, write_squares: WriteSquares
) -> None:
    bad, out = tmp_path / "bad.mp4", tmp_path / "flow.h5"
    bad.write_bytes(b"no video")
    first = extracted({"bad": bad}, out).failed["bad"]
    entry = listed(out)["bad"]
    assert entry["reason"] == str(first)
    assert entry["error"] == "VideoError"
    assert set(entry) == {"source_sha256", "settings", "error", "reason", "when", "tadkit"}
    again = extracted({"bad": bad}, out).failed["bad"]
    assert isinstance(again, VideoError)
    assert str(again).startswith(str(first))
    assert "--retry-failed tries it again" in str(again)
    for changed in ({"retry_failed": True}, {"video": VIDEO.model_copy(update={"reader": "pyav"})}):
        assert str(extracted({"bad": bad}, out, **changed).failed["bad"]) == str(first)  # type: ignore[arg-type]
    write_squares(bad, 20)
    assert extracted({"bad": bad}, out).done == ["bad"]
    assert not out.with_name("flow.h5.failed.json").exists()


def test_a_video_that_is_missing_is_listed_and_looked_for_again(tmp_path: Path, write_squares: WriteSquares) -> None:
    out = tmp_path / "flow.h5"
    items = {"late": tmp_path / "late.mp4"}
    assert list(extracted(items, out).failed) == ["late"]
    assert "no such file" in listed(out)["late"]["reason"]
    write_squares(items["late"], 5)
    assert extracted(items, out).done == ["late"]


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "tadkit-failed", "version": 9}'])
def test_a_list_of_failures_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "flow.h5.failed.json").write_text(text)
    with pytest.raises(StoreError, match=r"flow\.h5\.failed\.json: "):
        extracted({}, tmp_path / "flow.h5")


def test_float16_keeps_what_int8_rounds_and_clips(tmp_path: Path, write_squares: WriteSquares) -> None:
    from tadkit.data.batches import read_flow
    from tadkit.store import read_store

    items = {"v": write_squares(tmp_path / "v.mp4", 40)}
    coded, half = tmp_path / "coded.h5", tmp_path / "half.h5"
    narrow = TemporalGradientSettings(bound_px=40)
    assert extracted(items, coded, flow=narrow).clipped["v"] > 0
    assert extracted(items, half, flow=narrow.model_copy(update={"code": "float16"})).clipped["v"] == 0
    with read_store(coded, kind="flow") as one, read_store(half, kind="flow") as other:
        assert (one.bound("v", "motion"), other.bound("v", "motion")) == (40, None)
        assert other.read("v", "motion").dtype == np.float16
        near, exact = (read_flow(store, "v", 0, 40) for store in (one, other))
        assert near.dtype == exact.dtype == np.float32
        assert np.abs(exact).max() > 100
        assert np.array_equal(exact, exact.round()), "differences of grey levels are whole"
        np.testing.assert_allclose(near, exact.clip(-40, 40), atol=40 / 254 + 1e-5)


def test_the_note_tells_the_share_of_clipped_values(tmp_path: Path, write_squares: WriteSquares) -> None:
    progress = Counted()
    result = extracted(
        {"v": write_squares(tmp_path / "v.mp4", 40)},
        tmp_path / "flow.h5",
        flow=TemporalGradientSettings(bound_px=2),
        progress=progress,
    )
    assert progress.notes[-1] == f"{result.clipped['v']:.2%} clipped, v"
    assert result.clipped["v"] > 0.01


def test_devices_are_dealt_to_workers_and_none_is_left_idle(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 devices for 1 workers; add --workers 2"):
        extracted({}, tmp_path / "flow.h5", device="cpu,cpu")
    with pytest.raises(UsageError, match="not usable here"):
        extracted({}, tmp_path / "flow.h5", device="cpu,nothing", workers=2)


def test_workers_say_once_that_there_is_no_compiler(
    tmp_path: Path, write_squares: WriteSquares, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    items = {name: write_squares(tmp_path / f"{name}.mp4", 5, seed=1) for name in "abc"}
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "file" / "cache"))
    result = extracted(items, tmp_path / "flow.h5", flow=Tvl1Settings(), workers=2)
    assert result.done == ["a", "b", "c"]
    (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "flow.compile = 'never'" in told


def test_weights_that_cannot_be_had_are_told_before_any_video(tmp_path: Path, write_squares: WriteSquares) -> None:
    from tadkit.config import RaftSettings

    items = {name: write_squares(tmp_path / f"{name}.mp4", 10) for name in "ab"}
    (tmp_path / "w.pt").write_bytes(b"no weights")
    for weights, workers in ((tmp_path / "none.pt", 1), (tmp_path / "w.pt", 1), (tmp_path / "w.pt", 2)):
        flow = RaftSettings(method="raft-small", weights=weights)
        with pytest.raises(TadkitError, match=r"\.pt: "):
            extracted(items, tmp_path / "flow.h5", flow=flow, workers=workers)
    assert not (tmp_path / "flow.h5.failed.json").exists()


def test_the_key_of_flow_depends_on_weights_and_not_on_speed(tmp_path: Path) -> None:
    from tadkit.config import RaftSettings

    weights = tmp_path / "w.pt"
    keys = set()
    for content, batch in ((b"1", 4), (b"2", 4), (b"2", 8)):
        weights.write_bytes(content)
        keys.add(flow_key("s", RaftSettings(method="raft-small", weights=weights, batch_pairs=batch), VIDEO))
    keys.add(flow_key("s", GRADIENT, VIDEO))
    keys.add(flow_key("s", GRADIENT.model_copy(update={"code": "float16"}), VIDEO))
    assert len(keys) == 4
