"""``tadkit suggest``: unsure stretches come first, spread over videos, and the page opens there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tadkit.detection.suggest import suggest
from tadkit.progress import Quiet
from tadkit.records import (
    Dataset,
    Detection,
    VideoRecord,
    read_detections,
    read_detections_file,
    write_dataset,
    write_detections,
)


def written(path: Path, found: dict[str, list[Detection]], seconds: float, points: dict[str, float]) -> Path:
    external = {"operating_points": points, "durations_s": dict.fromkeys(found, seconds)}
    write_detections(path, found, external=external)
    return path


def test_scores_near_the_operating_point_come_first(tmp_path):
    found = {
        "sure": [Detection(1.0, 3.0, "walk", 0.97), Detection(25.0, 28.0, "walk", 0.01)],
        "unsure": [Detection(25.0, 28.0, "walk", 0.5)],
    }
    path = written(tmp_path / "dets.json", found, 40.0, {"walk": 0.5})
    first = suggest({}, detections=path, progress=Quiet()).stretches[0]
    assert (first.video, first.start_s, first.end_s, first.label) == ("unsure", 20.0, 40.0, "walk")
    assert first.uncertainty == pytest.approx(1.0)
    assert first.disagreement is None


def test_what_is_left_of_a_sure_detection_after_suppression_is_not_unsure(tmp_path):
    twice = [Detection(1.0, 5.0, "walk", 0.98), Detection(1.1, 5.0, "walk", 0.3)]
    path = written(tmp_path / "dets.json", {"a": twice}, 20.0, {})
    assert suggest({}, detections=path, progress=Quiet()).stretches[0].uncertainty < 0.01


def test_not_all_stretches_are_of_one_video(tmp_path):
    unsure = [Detection(s, s + 2, "walk", 0.3) for s in range(4, 200, 10)]
    found = {"full": unsure, "other": [Detection(4.0, 6.0, "walk", 0.2)], "third": [Detection(4.0, 6.0, "walk", 0.2)]}
    path = written(tmp_path / "dets.json", found, 200.0, {})
    chosen = suggest({}, detections=path, count=4, progress=Quiet()).stretches
    assert {one.video for one in chosen} == {"full", "other", "third"}


def test_stretches_cover_a_video_without_a_rest(tmp_path):
    path = written(tmp_path / "dets.json", {"a": [Detection(1.0, 2.0, "walk", 0.3)]}, 50.0, {})
    stretches = sorted(suggest({}, detections=path, progress=Quiet()).stretches, key=lambda one: one.start_s)
    assert [(one.start_s, one.end_s) for one in stretches] == [(0.0, 25.0), (25.0, 50.0)]


def test_a_model_compares_its_branches_and_leaves_out_what_is_labelled(tadkit, toy_data, tiny_model, tmp_path):
    labelled = VideoRecord("room0_0", 8.0, "", ())
    write_dataset(tmp_path / "known.json", Dataset({labelled.name: labelled}))
    out = tmp_path / "next.json"
    call = ("suggest", toy_data / "videos", "--model", tiny_model, "--annotations", tmp_path / "known.json")
    ran = tadkit(*call, "--stretch", 4, "--top", 5, "--out", out)
    assert ran.code == 0, ran.err
    rows = [line.split() for line in ran.out.splitlines() if line.strip().startswith("room")]
    assert len(rows) == 5
    assert all(len(row) == 6 and 0 <= float(row[4]) <= 1 and 0 <= float(row[5]) <= 1 for row in rows)
    file = read_detections_file(out)
    assert "room0_0" not in file.videos
    assert sum(len(stretches) for stretches in file.stretches.values()) == 5
    assert list(file.videos) == list(dict.fromkeys(row[0] for row in rows))
    detected = tmp_path / "dets.json"
    assert tadkit("detect", toy_data / "videos", "--model", tiny_model, "--out", detected).code == 0
    every = read_detections(detected)
    assert all(file.videos[name] == every[name] for name in file.videos)  # the whole video is to be labelled
    page = tmp_path / "next.html"
    assert tadkit("report", out, "--videos", toy_data / "videos", "--edit", "--out", page).code == 0
    embedded = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(encoding="utf-8"))
    assert embedded is not None
    videos = {video["name"]: video["stretches"] for video in json.loads(embedded[1])["videos"]}
    assert videos == {name: [list(one) for one in stretches] for name, stretches in file.stretches.items()}


def test_mistakes_are_one_line(tadkit, tmp_path):
    path = written(tmp_path / "dets.json", {"a": []}, 8.0, {})
    write_dataset(tmp_path / "known.json", Dataset({"a": VideoRecord("a", 8.0, "", ())}))
    for words, said in (
        (("--dets", path, "--model", "people-motion"), "leave out one of them"),
        ((), "no videos; name files or folders, or detections with --dets"),
        (("--dets", path, "--annotations", tmp_path / "known.json"), "all are labelled"),
    ):
        ran = tadkit("suggest", *words)
        assert ran.code == 2
        assert said in ran.err
        assert len(ran.err.splitlines()) == 1


def test_a_video_that_fails_costs_no_other(tadkit, toy_data, tiny_model, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    ran = tadkit("suggest", tmp_path / "bad.mp4", toy_data / "videos" / "room0_1.mp4", "--model", tiny_model)
    assert ran.code == 3
    assert "bad.mp4" in ran.err
    assert "room0_1" in ran.out
