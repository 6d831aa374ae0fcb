"""Videos at URLs are read once, through a real HTTP server, and give the detections of the file."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tadkit.detection.detect import load_detector
from tadkit.errors import VideoError
from tadkit.records import read_detections


class Files(ThreadingHTTPServer):
    """Serves files by name with range requests; ``cuts`` says after how many bytes a file's connection breaks off."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, bytes] = {}
        self.cuts: dict[str, int] = {}

    def url(self, name: str, *, user: str = "") -> str:
        return f"http://{user}127.0.0.1:{self.server_port}/{name}"


class Answer(BaseHTTPRequestHandler):
    server: Files

    def do_GET(self) -> None:
        name = self.path.lstrip("/").partition("?")[0]
        content, cut = self.server.files.get(name), self.server.cuts.get(name)
        if content is None:
            self.send_error(404)
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "bytes=0-"))
        assert asked is not None
        start, stop = int(asked[1]), int(asked[2] or len(content) - 1) + 1
        if cut is not None and start >= cut:
            self.close_connection = True
            return
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.send_header("Content-Length", str(stop - start))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        with suppress(OSError):  # FFmpeg may have seen enough of this range
            self.connection.sendall(content[start : min(stop, cut or stop)])

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Files]:
    with Files() as files:
        thread = threading.Thread(target=files.serve_forever)
        thread.start()
        yield files
        files.shutdown()
        thread.join()


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_a_video_at_a_url_gives_what_its_file_gives(
    server: Files, tmp_path: Path, write_squares: Callable[..., Path], tiny_model: Path, engine: Any
) -> None:
    video = write_squares(tmp_path / "door.mp4", 300)
    server.files["day/door.mp4"] = video.read_bytes()
    detector = load_detector(tiny_model, device="cpu", engine=engine)
    ours, theirs = detector.detect(server.url("day/door.mp4?key=1")), detector.detect(video)
    assert (ours.video, ours.duration_s) == ("door", theirs.duration_s)
    assert len(ours) > 10
    assert [d.label for d in ours] == [d.label for d in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert (a.start_s, a.end_s, a.score) == pytest.approx((b.start_s, b.end_s, b.score), abs=1e-3)


def test_urls_and_files_go_together_and_urls_are_never_kept(
    tadkit: Any, server: Files, tmp_path: Path, write_squares: Callable[..., Path], tiny_model: Path
) -> None:
    video, out = write_squares(tmp_path / "a.mp4", 40), tmp_path / "d.json"
    server.files["b.mp4"] = write_squares(tmp_path / "b.mp4", 40, seed=1).read_bytes()
    (tmp_path / "list.txt").write_text(server.url("b.mp4") + "\n")
    words = ("detect", video, "--list", tmp_path / "list.txt", "--model", tiny_model, "--out", out, "--resume")
    first = tadkit(*words)
    assert first.code == 0
    assert list(read_detections(out)) == ["a", "b"]
    again = tadkit(*words)
    assert again.err.endswith("2 videos: 1 detected, 1 skipped, as done\n")
    assert len(list((tmp_path / "d.json.parts").iterdir())) == 1


def test_a_url_that_cannot_be_read_is_one_line(tadkit: Any, server: Files, tiny_model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for url, said in (
        (f"http://127.0.0.1:{port}/a.mp4", "Connection refused"),
        (f"rtsp://user:secret@127.0.0.1:{port}/a", "Connection refused"),
        (server.url("none.mp4", user="user:secret@"), "404"),
    ):
        ran = tadkit("detect", url, "--model", tiny_model)
        assert (ran.code, ran.err.count("\n")) == (3, 2)  # and the engine
        assert said in ran.err
        assert "check the address and the network" in ran.err
        assert "secret" not in ran.err


def test_a_video_that_breaks_off_is_refused(
    server: Files, tmp_path: Path, write_squares: Callable[..., Path], remux: Callable[..., Path], tiny_model: Path
) -> None:
    stream = remux(write_squares(tmp_path / "a.mp4", 600), tmp_path / "a.ts").read_bytes()
    server.files["a.ts"], server.cuts["a.ts"] = stream, len(stream) // 2
    with pytest.raises(VideoError, match=r"a\.ts: breaks off at"):
        load_detector(tiny_model, device="cpu").detect(server.url("a.ts"))


def test_a_file_on_a_server_ends_as_a_live_source(
    tadkit: Any, server: Files, tmp_path: Path, write_squares: Callable[..., Path], tiny_model: Path
) -> None:
    video = write_squares(tmp_path / "a.mp4", 40)
    server.files["a.mp4"] = video.read_bytes()
    ran = tadkit("detect", "--live", server.url("a.mp4"), "--model", tiny_model, "--device", "cpu")
    assert ran.code == 0
    *found, end = (json.loads(line) for line in ran.out.splitlines())
    assert end == {"event": "end", "at_s": 4.0, "reason": "the source has ended"}
    shown = load_detector(tiny_model, device="cpu").detect(video).shown()
    assert len(found) == len(shown) > 3


def test_what_needs_a_file_refuses_urls_before_any_work(tadkit: Any, tmp_path: Path, tiny_model: Path) -> None:
    ran = tadkit("detect", "http://127.0.0.1:9/a.mp4", "--model", tiny_model, "--clips", tmp_path / "clips")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        "tadkit: error: --clips: reads the video again, and http://127.0.0.1:9/a.mp4 is a URL; download it first\n"
    )
    ran = tadkit("detect", "http://127.0.0.1:9/a.mp4", "--model", tiny_model, "--set", "video.reader='decord'")
    assert ran.code == 3
    assert "is a URL, and decord reads files; download it first" in ran.err


def test_the_json_of_a_url_says_how_long_it_is(
    tadkit: Any, server: Files, tmp_path: Path, write_squares: Callable[..., Path], tiny_model: Path
) -> None:
    server.files["b.mp4"] = write_squares(tmp_path / "b.mp4", 40).read_bytes()
    ran = tadkit("detect", server.url("b.mp4"), "--model", tiny_model, "--out", "-")
    content = json.loads(ran.out)
    assert list(content["results"]) == ["b"]
    assert content["external_data"]["durations_s"] == {"b": 4.0}
