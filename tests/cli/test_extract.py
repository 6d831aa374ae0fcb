from __future__ import annotations

import pytest


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
