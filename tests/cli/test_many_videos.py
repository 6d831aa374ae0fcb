"""``tadkit detect`` of many videos and to many outputs, and ``tadkit data export-detections`` of what it has found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pympi
import pysubs2
import pytest

from tadkit.records import read_detections


@pytest.fixture
def folder(tmp_path: Path, write_squares: Callable[..., Path]) -> Path:
    """Three videos, two of them of the same name."""
    videos = tmp_path / "videos"
    for seed, name in enumerate(("monday/cam.mp4", "tuesday/cam.mp4", "door.mp4")):
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        write_squares(videos / name, 20, seed=seed)
    return videos


def results(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())["results"]
    return found


def test_shards_have_every_video_once_and_are_joined(
    tadkit: Any, folder: Path, tmp_path: Path, tiny_model: Path
) -> None:
    words = ("detect", folder, "--recursive", "--model", tiny_model)
    assert tadkit(*words, "--out", tmp_path / "all.json").code == 0
    shards = [tmp_path / f"{number}.json" for number in (1, 2, 3, 4)]
    for number, path in enumerate(shards, start=1):
        assert tadkit(*words, "--shard", f"{number}/4", "--out", path).code == 0
    assert [list(results(path)) for path in shards] == [["door"], ["monday/cam"], ["tuesday/cam"], []]
    forms = ("srt", "vtt", "eaf", "ffconcat", "boris", "labelstudio.json", "via.json", "csv", "jsonl", "fiftyone.json")
    outs = [tmp_path / f"none.{form}" for form in forms]
    assert tadkit(*words, "--shard", "4/4", *(word for out in outs for word in ("--out", out))).code == 0
    assert (outs[0].read_text(), outs[1].read_text()) == ("", "WEBVTT\n")
    assert pympi.Elan.Eaf(str(outs[2])).get_linked_files() == []
    assert all(out.is_file() for out in outs)
    ran = tadkit("data", "export-detections", *shards, "--out", tmp_path / "joined.json")
    assert (ran.code, ran.err) == (0, "")
    assert results(tmp_path / "joined.json") == results(tmp_path / "all.json")

    twice = tadkit("data", "export-detections", shards[0], tmp_path / "all.json", "--out", tmp_path / "x.json")
    assert (twice.code, twice.out) == (6, "")
    assert "all.json: 'door' is in another of these files, too" in twice.err
    other = json.loads(shards[1].read_text())
    other["external_data"]["model"]["sha256"] = "0"
    shards[1].write_text(json.dumps(other))
    mixed = tadkit("data", "export-detections", *shards, "--out", tmp_path / "x.json")
    assert mixed.code == 6
    assert "2.json: was made by another model or with other settings" in mixed.err
    assert not (tmp_path / "x.json").exists()


def test_a_resumed_run_skips_what_is_done_and_gives_the_same(
    tadkit: Any, folder: Path, tmp_path: Path, tiny_model: Path
) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    out = tmp_path / "d.json"
    words = ("detect", folder, tmp_path / "bad.mp4", "--recursive", "--model", tiny_model, "--out", out, "--resume")
    first = tadkit(*words)
    assert first.code == 3
    assert "bad.mp4: not a video" in first.err
    assert first.err.endswith("4 videos: 3 detected, 1 failed\n")
    before = out.read_bytes()
    again = tadkit(*words)
    assert (again.code, out.read_bytes()) == (3, before)
    assert again.err.endswith("4 videos: 3 skipped, as done, 1 failed\n")
    changed = tadkit(*words, "--set", "decode.keep=2")
    assert changed.err.endswith("4 videos: 3 detected, 1 failed\n")
    assert {len(found) for found in results(out).values()} == {2}


def test_a_killed_run_resumes_where_it_stopped(
    tadkit: Any, tmp_path: Path, tiny_model: Path, write_squares: Callable[..., Path]
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    write_squares(videos / "a.mp4", 20)
    write_squares(videos / "b.mp4", 500, seed=1)
    out = tmp_path / "d.json"
    words = ["detect", str(videos), "--model", str(tiny_model), "--out", str(out), "--resume"]
    with subprocess.Popen([sys.executable, "-m", "tadkit.cli", *words], stderr=subprocess.PIPE) as run:
        while not list(tmp_path.glob("d.json.parts/[0-9a-f]*.json")) and run.poll() is None:
            time.sleep(0.002)
        run.kill()
    assert run.returncode == -signal.SIGKILL
    assert not out.exists()
    ran = tadkit(*words)
    assert ran.code == 0
    assert ran.err.endswith("2 videos: 1 detected, 1 skipped, as done\n")
    assert list(results(out)) == ["a", "b"]


def test_lists_name_videos_by_lines_or_nul(
    tadkit: Any, folder: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = folder / "line\nbreak \udcff.mp4"
    (folder / "door.mp4").rename(odd)
    named = tmp_path / "list.txt"
    named.write_bytes(b"\xef\xbb\xbf" + os.fsencode(folder / "monday") + b"\r\n\r\nvideos/gone.mp4\r\n")
    monkeypatch.chdir(tmp_path)
    words = ("detect", "--model", tiny_model, "--out", "d.json")
    ran = tadkit(*words, "--list", named)
    assert ran.code == 3
    assert "videos/gone.mp4: no such file" in ran.err
    assert list(results(Path("d.json"))) == ["cam"]
    read, write = os.pipe()
    os.write(write, os.fsencode(odd) + b"\0" + os.fsencode(folder / "tuesday/cam.mp4") + b"\0")
    os.close(write)
    saved = os.dup(0)
    try:
        os.dup2(read, 0)
        assert tadkit(*words, "-").code == 0
    finally:
        os.dup2(saved, 0)
    assert list(results(Path("d.json"))) == ["line\nbreak \\udcff", "cam"]
    assert tadkit("data", "export-detections", "d.json", "--out", "e.json").code == 0
    assert Path("e.json").read_bytes() == Path("d.json").read_bytes()


def test_people_get_what_is_shown_and_evaluation_gets_everything(
    tadkit: Any, folder: Path, tmp_path: Path, tiny_model: Path
) -> None:
    video, json_out = folder / "door.mp4", tmp_path / "d.json"
    shown = ("--min-score", "0.1", "--per-class", "2", "--top", "3")
    ran = tadkit("detect", video, "--model", tiny_model, "--out", json_out, "--out", tmp_path / "d.srt", *shown)
    assert ran.code == 0
    found = read_detections(json_out)["door"]
    assert len(found) > 3
    assert f"{json_out}: {len(found)} detections, {len(found) - 3} more than shown\n" in ran.out
    assert f"{tmp_path / 'd.srt'}: 3 shown detections\n" in ran.out
    assert len([line for line in ran.out.splitlines() if line.startswith(" door")]) == 3
    cues = pysubs2.load(str(tmp_path / "d.srt"))
    labels = [cue.text.split()[0] for cue in cues]
    assert max(labels.count(label) for label in labels) == 2

    words = ("data", "export-detections", json_out, "--videos", folder, *shown)
    again = tadkit(*words, "--out", tmp_path / "e.srt", "--out", tmp_path / "e.json", "--clips", tmp_path / "clips")
    assert (again.code, again.err) == (0, "")
    assert (tmp_path / "e.srt").read_bytes() == (tmp_path / "d.srt").read_bytes()
    assert (tmp_path / "e.json").read_bytes() == json_out.read_bytes()
    assert len(list((tmp_path / "clips").glob("*.mp4"))) == 3
    unknown = tadkit("data", "export-detections", json_out, "--overlay", tmp_path / "o.mp4", *shown)
    assert unknown.code == 3
    assert "finds it in the folder --videos DIR" in unknown.err


def test_one_output_that_fails_costs_no_other(tadkit: Any, tmp_path: Path) -> None:
    (tmp_path / "made.json").write_text(
        json.dumps({"results": {"v": [{"label": "a", "score": 0.9, "segment": [0, 1]}], "w": []}})
    )
    words = ("data", "export-detections", tmp_path / "made.json", "--out", tmp_path / "c.ffconcat")
    ran = tadkit(*words, "--out", tmp_path / "d.csv", "--overlay", tmp_path / "over")
    assert ran.code == 3
    assert (tmp_path / "d.csv").is_file()
    assert not (tmp_path / "c.ffconcat").exists()
    assert ran.err.count("its file is not known") == 3
    converted = tadkit("data", "convert", tmp_path / "made.json", "--out", tmp_path / "a.json")
    assert converted.code == 6
    assert "made.json: holds detections, not annotations; tadkit data export-detections" in converted.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--out", "d.txt"], 2, "d.txt: detections are written as .json, "),
        (["--out", "d.srt"], 2, "d.srt: .srt files have one video each, and there are 3; put {video} into the path"),
        (["--out", "d.json", "--out", "./d.json"], 2, "is written twice"),
        (["--out", "c/clips.jsonl", "--clips", "c"], 2, "is written twice"),
        (["--out", "list.csv", "--list", "list.csv"], 2, "is an input"),
        (["--overlay", "d.mp4"], 2, "is one file for 3 videos; name a folder"),
        (["--clips", "videos"], 2, "--clips videos: has videos that are read here"),
        (["--overlay", "videos/tuesday"], 2, "--overlay videos/tuesday: has videos that are read here"),
        (["--clips", "list.csv"], 2, "--clips list.csv: is a file; name a folder"),
        (["--shard", "3/2"], 2, "'3/2' is not a shard; expected K/N"),
        (["--resume"], 2, "--resume keeps results beside the file of --out"),
        (["--list", "gone.txt"], 2, "gone.txt: this list of videos cannot be read"),
        (["--list", "empty.txt"], 2, "empty.txt: this list names no video"),
        (["--list", "utf16.txt"], 2, "utf16.txt: this list of videos is in UTF-16; save it as UTF-8"),
        (["-", "--list", "-"], 2, "stdin is one file"),
    ],
)
def test_mistakes_are_reported_before_any_work(
    tadkit: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.csv").write_text("videos/gone.mp4\n")
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "utf16.txt").write_text("videos/door.mp4\n", encoding="utf-16")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    ran = tadkit("detect", folder.name, "--recursive", "--model", "none.safetensors", *words)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_no_videos_are_refused_in_words(tadkit: Any) -> None:
    assert "no videos; name files or folders" in tadkit("detect").err


def test_stdout_is_json_alone(tadkit: Any, folder: Path, tmp_path: Path, tiny_model: Path) -> None:
    ran = tadkit("detect", folder / "door.mp4", "--model", tiny_model, "--out", "-", "--out", tmp_path / "d.csv")
    assert list(json.loads(ran.out)["results"]) == ["door"]
    assert f"{tmp_path / 'd.csv'}: " in ran.err
