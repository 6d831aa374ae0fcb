from __future__ import annotations

import json

import numpy as np
import pytest

from tadkit.store import open_store
from tadkit.store.layout import part_path

SETTINGS = {
    "flow": {"method": "tvl1", "bound_px": 20.0, "warps": 4},
    "video": {"rate_hz": 10.0, "height_px": 16, "width_px": 24},
}


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "flow.h5"
    with open_store(path, kind="flow", settings=SETTINGS) as written:
        for name, clipped in (("calm", 0.0), ("wild", 0.25)):
            attributes = {"source": f"{name}.mp4", "source_sha256": "00", "duration_s": 3.0}
            with written.video(name, key="k", stamps_s=np.arange(30) / 10, attributes=attributes) as entry:
                entry.append("motion", np.ones((29, 2, 16, 24), np.int8), bound=20.0)
                entry.describe(clipped=clipped)
    return path


def lines(text):
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def test_the_tables_tell_the_store_and_its_videos_worst_first(tadkit, store):
    ran = tadkit("inspect", store)
    assert (ran.code, ran.err) == (0, "")
    told = lines(ran.out)
    assert "method tvl1" in told
    assert "settings bound_px 20.0, warps 4" in told
    assert "frames 24 x 16 px (width x height), 10 frames per second" in told
    assert "code int8, +-20 px" in told
    assert "contents 2 videos, 60 frames, 0.1 minutes" in told
    assert "clipped 12.500% of the values" in told
    assert [line.split()[0] for line in told[-2:]] == ["wild", "calm"]
    assert told[-2].endswith("25.000% complete")


def test_one_video_is_told_with_its_tracks(tadkit, store):
    told = lines(tadkit("inspect", store, "--video", "calm").out)
    assert not any("wild" in line for line in told)
    assert told[-1].startswith("motion int8 29 x 2 x 16 x 24 20 ")


def test_json_is_for_machines(tadkit, store):
    told = json.loads(tadkit("inspect", store, "--json").out)
    assert (told["kind"], told["method"], told["clipped"]) == ("flow", "tvl1", 0.125)
    assert [video["name"] for video in told["videos"]] == ["wild", "calm"]


def test_of_many_videos_the_first_are_shown_and_the_rest_counted(tadkit, tmp_path):
    with open_store(tmp_path / "f.h5", kind="features", settings={"model": "ab"}) as written:
        for number in range(23):
            with written.video(f"v{number:02}", key="k", stamps_s=np.arange(2.0), attributes={}) as entry:
                entry.append("original/motion", np.zeros((2, 3), np.float16))
    told = lines(tadkit("inspect", tmp_path / "f.h5").out)
    assert sum(line.startswith("v") and line.endswith("complete") for line in told) == 20
    assert told[-1].startswith("3 more are not shown")


def test_holes_are_told_on_stderr_and_by_the_exit_code(tadkit, store):
    part_path(store, "calm").unlink()
    ran = tadkit("inspect", store)
    assert ran.code == 4
    assert "tadkit: warning: 'calm': " in ran.err
    assert ran.err.count("\n") == 1
    assert "unusable" in ran.out


def test_a_still_is_written_and_what_it_lacks_is_said(tadkit, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = tadkit("inspect", store, "--video", "wild", "--preview", tmp_path / "p.png", "--full-px", "2")
    assert ran.code == 0
    assert ran.out.endswith("p.png: 1 frame pair of 'wild', full colour 2 px\n")
    assert "shows flow alone" in ran.err
    assert (tmp_path / "p.png").stat().st_size > 0


def test_a_preview_takes_the_place_of_one_that_is_there_once_it_is_whole(tadkit, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.png").write_bytes(b"old")
    words = ["inspect", store, "--preview", tmp_path / "p.png", "--video"]
    assert tadkit(*words, "none").code == 4
    assert (tmp_path / "p.png").read_bytes() == b"old"
    assert tadkit(*words, "wild").code == 0
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["none.h5"], 4, "none.h5: no such file"),
        (["bad.h5"], 4, "bad.h5: not an HDF5 file"),
        (["flow.h5", "--video", "wil"], 4, "no video 'wil' among its 2; did you mean 'wild'?"),
        (["flow.h5", "--seconds", "1:2"], 2, "--seconds 1:2: needs --preview PATH"),
        (["flow.h5", "--source", "v.mp4"], 2, "--source v.mp4: needs --preview PATH"),
        (["flow.h5", "--json", "--preview", "p.mp4"], 2, "--json: cannot be combined with --preview"),
        (["flow.h5", "--preview", "p.gif"], 2, "p.gif: unknown preview format"),
        (["flow.h5", "--preview", "p.mp4"], 2, "choose one with --video NAME"),
        (["flow.h5", "--preview", "p.mp4", "--video", "calm", "--seconds", "1:9"], 2, "the video lasts 3 s"),
        (["flow.h5", "--preview", "p.mp4", "--video", "calm", "--seconds", "one"], 2, "is not a range of seconds"),
    ],
)
def test_mistakes_are_told_in_one_line(tadkit, store, monkeypatch, words, code, said):
    monkeypatch.chdir(store.parent)
    (store.parent / "bad.h5").write_bytes(b"no HDF5")
    ran = tadkit("inspect", *words)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
    assert ran.err.count("\n") == 1
