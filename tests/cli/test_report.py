"""``tadkit report``: what is written, and one clear line for what is wrong."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tadkit.records import Annotation, Dataset, Detection, VideoRecord, write_dataset, write_detections
from tadkit.video import write_video


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a video, its detections and annotations; a second video has no file."""
    frames = [np.full((32, 48, 3), 10 * n, np.uint8) for n in range(10)]
    write_video(tmp_path / "videos" / "a.mp4", frames, fps=10)
    found = {name: [Detection(0.0, 0.5, "walk", 0.9)] for name in ("a", "b")}
    external = {"operating_points": {"walk": 0.4}, "durations_s": {"a": 1.0}, "model": {"file": "m.safetensors"}}
    write_detections(tmp_path / "dets.json", found, external=external)
    records = {name: VideoRecord(name, 1.0, "", (Annotation(0.1, 0.5, "walk"),)) for name in ("a", "c")}
    write_dataset(tmp_path / "truth.json", Dataset(records))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def data_of(path: Path) -> dict[str, Any]:
    """What the page embeds."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(encoding="utf-8"))
    assert found is not None
    content: dict[str, Any] = json.loads(found[1])
    return content


def test_a_page_has_the_videos_of_the_detections(here, tadkit):
    ran = tadkit("report", "dets.json", "--videos", "videos", "--truth", "truth.json", "--out", "out/page.html")
    assert (ran.code, ran.out) == (0, "out/page.html: 2 videos, 2 detections, 1 annotation\n")
    assert ran.err == "tadkit: warning: 1 of 2 videos have no file in --videos: 'b'\n"
    data = data_of(here / "out" / "page.html")
    assert [video["name"] for video in data["videos"]] == ["a", "b"]
    assert data["videos"][0]["url"] == "../videos/a.mp4"
    assert data["videos"][0]["thumbnail"].startswith("data:image/jpeg;base64,")
    assert (data["videos"][1]["url"], data["videos"][1]["matches"]) == (None, None)
    assert "no file for 'b'" in data["videos"][1]["problem"]
    assert data["shown_from"] == {"walk": 0.4}
    assert "m.safetensors" in data["about"]


def test_editing_keeps_every_annotated_video(here, tadkit):
    assert tadkit("report", "dets.json", "--truth", "truth.json", "--edit", "--out", "page.html").code == 0
    assert [video["name"] for video in data_of(here / "page.html")["videos"]] == ["a", "b", "c"]


def test_labelling_starts_from_the_videos_of_a_folder(here, tadkit):
    (here / "videos" / "deep").mkdir()
    shutil.copy(here / "videos" / "a.mp4", here / "videos" / "deep" / "a b#.mp4")
    ran = tadkit("report", "--videos", "videos", "--recursive", "--labels", "walk, fall", "--edit", "--out", "p.html")
    assert ran.code == 0
    data = data_of(here / "p.html")
    assert data["labels"] == ["walk", "fall"]
    assert {video["name"]: video["url"] for video in data["videos"]} == {
        "a": "videos/a.mp4",
        "deep/a b#": "videos/deep/a%20b%23.mp4",
    }
    assert [video["duration"] for video in data["videos"]] == pytest.approx([1.0, 1.0])


def test_a_video_that_cannot_be_read_is_reported_and_the_page_is_written(here, tadkit):
    (here / "videos" / "b.mp4").write_bytes(b"no video")
    ran = tadkit("report", "dets.json", "--videos", "videos", "--out", "page.html")
    assert ran.code == 0
    assert "videos/b.mp4: not a video" in ran.err
    assert data_of(here / "page.html")["videos"][1]["problem"].startswith("videos/b.mp4: not a video")


def test_the_same_input_gives_the_same_page(here, tadkit):
    for name in ("one.html", "two.html"):
        tadkit("report", "dets.json", "--videos", "videos", "--out", name)
    assert (here / "one.html").read_bytes() == (here / "two.html").read_bytes()


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["dets.json", "--out", "dets.json"], 2, "--out dets.json: is an input of this command"),
        (["dets.json", "--out", "page.pdf"], 2, "page.pdf: the report is an HTML page"),
        (["--videos", "videos", "--out", "page.html"], 2, "nothing to show: give a detections file"),
        (["--out", "page.html"], 2, "nothing to show"),
        (["dets.json", "--labels", "x", "--out", "page.html"], 2, "--labels: needs --edit"),
        (["dets.json", "--labels", "x,x", "--edit", "--out", "page.html"], 2, "'x' is given twice"),
        (["truth.json", "--out", "page.html"], 6, "truth.json: no 'results' object but 'database'"),
        (["dets.json", "--truth", "dets.json", "--out", "page.html"], 6, "dets.json: no 'database' object"),
        (["none.json", "--out", "page.html"], 6, "none.json: no such file"),
        (["points.json", "--out", "page.html"], 6, "external_data.operating_points: 'walk' value is 'x'"),
        (["empty.json", "--out", "page.html"], 2, "empty.json: has no video to show"),
        (["dets.json", "--videos", "none", "--out", "page.html"], 3, "none: no such folder"),
        (["twice.json", "--videos", "videos", "--out", "page.html"], 3, "is the file of both 'a' and 'v_a'"),
        (["--videos", "clash", "--edit", "--out", "page.html"], 3, "both are 'a' in annotations; rename one"),
    ],
)
@pytest.mark.usefixtures("here")
def test_what_is_wrong_is_one_line(words, code, why, tadkit):
    Path("empty.json").write_text('{"results": {}}')
    Path("points.json").write_text('{"results": {"a": []}, "external_data": {"operating_points": {"walk": "x"}}}')
    Path("twice.json").write_text('{"results": {"a": [], "v_a": []}}')
    Path("clash").mkdir()
    for name in ("a.mp4", "a.mov"):
        shutil.copy("videos/a.mp4", f"clash/{name}")
    ran = tadkit("report", *words)
    assert ran.code == code
    assert why in ran.err
    assert ran.err.count("tadkit: error:") == 1
    assert not Path("page.html").exists()
