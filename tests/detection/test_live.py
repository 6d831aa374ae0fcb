"""Live video gives the detections of a file of the same frames, each within the stated delay; parts stand alone."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tadkit import Detection
from tadkit.detection.detect import Detector, load_detector
from tadkit.detection.live import Ended, Found, Lost, Opened, Report, Withdrawn, delays_of, live_detections
from tadkit.errors import UsageError
from tadkit.video.live import live_source

STRETCH_S = 4.0


@pytest.fixture(scope="session")
def detector(live_model: Path) -> Detector:
    decode = {"min_score": 0.3, "stretch_s": STRETCH_S, "keep": 12}
    return load_detector(live_model, device="cpu", overrides={"decode": decode})


@pytest.fixture(scope="session")
def stream(
    tmp_path_factory: pytest.TempPathFactory, write_squares: Callable[..., Path], remux: Callable[..., Path]
) -> Path:
    """A minute of MPEG-TS."""
    folder = tmp_path_factory.mktemp("stream")
    return remux(write_squares(folder / "a.mp4", 600, seed=5), folder / "a.ts")


def live(detector: Detector, source: Path | str, **options: float) -> list[Report]:
    opened = live_source(str(source), patience_s=0.1, stopped=threading.Event())
    return list(live_detections(detector, opened, **{"patience_s": 0.1, "least": 0.0, **options}))


def standing(reports: list[Report]) -> list[Detection]:
    """What was reported and not withdrawn."""
    found: list[Detection] = []
    for report in reports:
        if isinstance(report, Found):
            found.append(report.detection)
        elif isinstance(report, Withdrawn):
            found.remove(report.detection)
    return found


def assert_same(ours: list[Detection], theirs: list[Detection], *, least: int) -> None:
    assert len(theirs) >= least
    assert len(ours) == len(theirs)

    def ordered(found: list[Detection]) -> list[Detection]:
        return sorted(found, key=lambda d: (d.label, round(d.end_s, 3), round(d.start_s, 3), d.score))

    for a, b in zip(ordered(ours), ordered(theirs), strict=True):
        assert a.label == b.label
        assert (a.start_s, a.end_s) == pytest.approx((b.start_s, b.end_s), abs=1e-3)
        assert a.score == pytest.approx(b.score, abs=1e-3)


def assert_in_time(reports: list[Report], *, seen_s: float) -> None:
    """Each detection comes within the stated delay, and many before the end."""
    (opened,) = (report for report in reports if isinstance(report, Opened))
    found = [report for report in reports if isinstance(report, Found)]
    assert all(report.at_s - report.detection.end_s <= opened.delay_s for report in found)
    assert sum(report.at_s < seen_s for report in found) > 20


def test_live_detections_are_those_of_the_file(detector: Detector, stream: Path) -> None:
    reports, expected = live(detector, stream), detector.detect(stream)
    assert not [report for report in reports if isinstance(report, Withdrawn)]
    assert_same(standing(reports), list(expected), least=60)
    assert_in_time(reports, seen_s=expected.duration_s)
    assert reports[-1] == Ended(expected.duration_s, "the source has ended", failed=False)


def test_what_is_shown_comes_sooner(detector: Detector, stream: Path) -> None:
    delays, expected = delays_of(detector), detector.detect(stream)
    reports = live(detector, stream, least=0.5)
    assert reports[0] == Opened(delays.usual_s, delays.full_s)
    assert_same(standing(reports), list(expected.shown(least=0.5)), least=30)
    assert delays.full_s == delays.usual_s + 2 * STRETCH_S


def test_with_a_short_delay_what_changes_is_withdrawn(detector: Detector, stream: Path) -> None:
    delays = delays_of(detector)
    reports = live(detector, stream, delay_s=delays.least_s)
    assert [report for report in reports if isinstance(report, Withdrawn)]
    assert_same(standing(reports), list(detector.detect(stream)), least=60)
    with pytest.raises(UsageError, match="--delay 1: this model needs"):
        live(detector, stream, delay_s=1.0)


def test_a_slow_source_is_later(
    detector: Detector, tmp_path: Path, write_squares: Callable[..., Path], remux: Callable[..., Path]
) -> None:
    slow = remux(write_squares(tmp_path / "a.mp4", 280, fps=2), tmp_path / "a.mkv")
    reports = live(detector, slow)
    delays = delays_of(detector, 2.0)
    assert reports[0] == Opened(delays.full_s, delays.full_s)
    assert delays.least_s == pytest.approx(2.5 * delays_of(detector).least_s)
    assert_same(standing(reports), list(detector.detect(slow)), least=60)
    assert_in_time(reports, seen_s=140)


def test_delays_of_a_detector(detector: Detector, live_model: Path) -> None:
    delays = delays_of(detector)
    context_s = detector.net.context_s
    assert context_s is not None
    assert context_s <= delays.least_s <= context_s + 8
    assert delays.usual_s == pytest.approx(delays.least_s + 1.5 * 3.2)
    assert delays.full_s == pytest.approx(delays.usual_s + 2 * STRETCH_S)
    whole = load_detector(live_model, device="cpu", overrides={"decode": {"stretch_s": 0}})
    with pytest.raises(UsageError, match="depends on the whole video"):
        delays_of(whole)


@pytest.fixture
def served() -> Iterator[Callable[..., str]]:
    """Serve contents over TCP, one a connection, and be away in between; gives the URL."""
    threads: list[threading.Thread] = []

    def serve(*contents: bytes, away_s: float) -> str:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        listening = threading.Event()

        def run() -> None:
            for number, content in enumerate(contents):
                if number:
                    time.sleep(away_s)
                with socket.create_server(("127.0.0.1", port)) as server:
                    listening.set()
                    connection, _ = server.accept()
                    with connection:
                        connection.sendall(content)

        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()
        listening.wait()
        return f"tcp://127.0.0.1:{port}"

    yield serve
    for thread in threads:
        thread.join(timeout=20)


@pytest.mark.parametrize("away_s", [1.5, pytest.param(10.0, marks=pytest.mark.slow)])
def test_a_source_that_was_cut_is_taken_up_again(
    detector: Detector,
    stream: Path,
    tmp_path: Path,
    write_squares: Callable[..., Path],
    remux: Callable[..., Path],
    served: Callable[..., str],
    away_s: float,
) -> None:
    other = remux(write_squares(tmp_path / "b.mp4", 150, seed=9), tmp_path / "b.ts")
    content = stream.read_bytes()
    cut = tmp_path / "cut.ts"
    cut.write_bytes(content[: len(content) // 2 // 188 * 188])
    url = served(cut.read_bytes(), other.read_bytes(), away_s=away_s)
    reports = live(detector, url, patience_s=away_s + 3)
    place = next(at for at, report in enumerate(reports) if isinstance(report, Lost))
    lost, end = reports[place], reports[-1]
    assert isinstance(lost, Lost)
    assert lost.reason == "the server has closed the connection"
    before, after = detector.detect(cut), detector.detect(other)
    assert lost.from_s == pytest.approx(before.duration_s)
    assert 0 <= lost.to_s - lost.from_s <= away_s + 20  # counted from when the last frame was read, after it was sent
    assert_same(standing(reports[:place]), list(before), least=20)
    moved = [replace(d, start_s=d.start_s + lost.to_s, end_s=d.end_s + lost.to_s) for d in after]
    assert_same(standing(reports[place:]), moved, least=10)
    assert all(d.end_s <= lost.from_s for d in standing(reports[:place]))
    assert isinstance(end, Ended)
    assert end.failed
    assert end.at_s == pytest.approx(lost.to_s + after.duration_s)
