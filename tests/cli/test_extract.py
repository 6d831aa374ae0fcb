from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tadkit.store import read_store
from tadkit.video import write_video


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["extract-flow", "a.mp4"], "videos need an output file, such as --out flow.h5"),
        (["extract-flow", "a.mp4", "--out", "f.h5", "--set", "flow.warps=0"], "flow.warps: must be greater"),
        (["extract-flow", "a.mp4", "--out", "f.h5", "--set", "flow.method=tvl2"], "'opencv-tvl1'"),
        (["extract-flow", "a.mp4", "--out", "f.h5", "--device", "meta"], "--device meta: not usable here"),
        (["extract-flow", "a.mp4", "--out", "f.h5", "--set", "flow.lam=inf"], "flow.lam: must be a finite"),
        (["extract-flow", "a.mp4", "--out", "./a.mp4"], "--out a.mp4: is an input of this command"),
        (["extract-flow", "r.toml", "--out", "f.h5"], "--out f.h5: only for videos"),
        (["extract-flow", "r.toml", "--teacher", "t"], "--teacher t: only for videos"),
        (
            ["extract-flow", "a.mp4", "--out", "f.h5", "--teacher", "t", "--teacher", "u"],
            "--teacher u: a store has the",
        ),
        (["extract-features", "r.toml", "--model", "m"], "--model m: only for videos"),
        (["extract-features", "a.mp4", "--out", "f.h5", "--set", "video.rate_hz=3"], "--set needs a recipe"),
        (["extract-features", "a.mp4", "a.mp4", "--out", "f.h5"], "named twice"),
        (["extract-features", "no.toml"], "no such recipe"),
    ],
)
def test_mistakes_are_told_before_any_work(tadkit, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").touch()
    ran = tadkit(*words)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err
    assert ran.err.count("\n") == 1


def test_one_bad_video_is_told_and_the_others_are_kept(tadkit, tmp_path):
    assert tadkit("data", "synth", tmp_path / "made", "--count", "1", "--duration", "5").code == 0
    (video,) = (tmp_path / "made" / "videos").iterdir()
    (tmp_path / "bad.mp4").write_bytes(b"this is no video")
    words = ["extract-flow", video, tmp_path / "bad.mp4", "--out", tmp_path / "flow.h5"]
    small = ["--set", "flow.method=temporal-gradient", "--set", "video.rate_hz=2"]
    first, second = tadkit(*words, *small), tadkit(*words, *small)
    assert (first.code, second.code) == (3, 3)
    assert "add --retry-failed to try again" in second.err
    assert "--retry-failed" not in tadkit(*words, *small, "--retry-failed").err
    assert (tmp_path / "flow.h5.failed.json").is_file()
    assert "1 extracted, 0 kept, 1 failed" in first.out
    assert "0 extracted, 1 kept, 1 failed" in second.out
    assert "bad.mp4" in first.err
    assert "Traceback" not in first.err


def test_workers_and_devices_are_counted(tadkit, tmp_path):
    (tmp_path / "a.mp4").touch()
    words = ["extract-flow", tmp_path / "a.mp4", "--out", tmp_path / "flow.h5"]
    few, none = tadkit(*words, "--device", "cpu,cpu,cpu", "--workers", "2"), tadkit(*words, "--workers", "0")
    assert (few.code, none.code) == (2, 2)
    assert "3 devices for 2 workers; add --workers 3" in few.err
    assert "is empty (0 bytes)" in tadkit(*words, "--device", "cpu,cpu").err


def test_weights_that_cannot_be_had_leave_nothing_behind_and_a_store_as_it_was(tadkit, tmp_path):
    assert tadkit("data", "synth", tmp_path / "made", "--count", "1", "--duration", "5").code == 0
    (video,) = (tmp_path / "made" / "videos").iterdir()
    (tmp_path / "wrong.pt").write_bytes(b"no weights")
    (tmp_path / "stores").mkdir()
    out = tmp_path / "stores" / "flow.h5"
    words = ["extract-flow", video, "--out", out, "--set", "video.rate_hz=2", "--set"]
    raft = [
        [*words, "flow.method=raft-small", "--set", f"flow.weights={tmp_path / name}"] for name in ("no.pt", "wrong.pt")
    ]

    def refused(*more: str) -> None:
        for wrong in raft:
            ran = tadkit(*wrong, *more)
            assert (ran.code, ran.out, ran.err.count("\n")) == (5, "", 1)

    refused()
    refused("--workers", "2")
    assert not list(out.parent.iterdir())
    assert tadkit(*words, "flow.method=temporal-gradient").code == 0
    before = out.read_bytes()
    refused()
    assert out.read_bytes() == before


def test_folders_are_searched_for_every_kind_of_video(tadkit, tmp_path):
    for name in ("00001.MTS", "deep/Mixed.Mp4", "deep/er/00001.mkv"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        container = tmp_path / f"plain{Path(name).suffix.lower().replace('.mts', '.ts')}"
        write_video(container, [np.full((32, 32, 3), 9 * k, np.uint8) for k in range(6)], fps=5)
        container.rename(tmp_path / "in" / name)
    (tmp_path / "in" / "._00001.MTS").write_bytes(b"of macOS")
    words = ["extract-flow", tmp_path / "in", "--out", tmp_path / "f.h5", "--set", "flow.method=temporal-gradient"]
    shallow = tadkit(*words)
    assert shallow.code == 0
    assert "1 video taken; skipped 1 other file: ._* and 1 sub-folder" in shallow.err
    deep = tadkit(*words[:-3], tmp_path / "g.h5", *words[-2:], "--recursive")
    assert deep.code == 0
    assert "3 videos taken; skipped 1 other file: ._*" in deep.err
    with read_store(tmp_path / "g.h5", kind="flow") as store:
        assert sorted(store.videos()) == ["Mixed", "er/00001", "in/00001"]


def test_a_folder_of_unknown_files_is_one_line(tadkit, tmp_path):
    (tmp_path / "a.xyz").touch()
    ran = tadkit("extract-flow", tmp_path, "--out", tmp_path / "f.h5")
    assert ran.code == 3
    assert ran.err.count("\n") == 1
    assert "no video in this folder (only 1 other file: .xyz)" in ran.err


def test_a_recipe_is_not_searched(tadkit):
    ran = tadkit("extract-flow", "examples/synth.toml", "--recursive")
    assert (ran.code, ran.err.count("--recursive: only for folders of videos")) == (2, 1)
