from __future__ import annotations

import json
import struct

import cv2
import numpy as np
import pytest


@pytest.fixture
def truth(tmp_path):
    """One pair of 24 x 20 px that does not move."""
    picture = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    for number in (1, 2):
        cv2.imwrite(str(tmp_path / f"a_img{number}.ppm"), picture)
    header = struct.pack("<fii", 202021.25, 24, 20)
    (tmp_path / "a_flow.flo").write_bytes(header + bytes(24 * 20 * 8))
    return tmp_path


SMALL = [
    "--rounds",
    "1",
    "--threads",
    "1",
    "--device",
    "cpu",
    "--method",
    "opencv-dis",
    "--method",
    "temporal-gradient",
]


def test_json_is_all_that_stdout_holds(tadkit, truth):
    ran = tadkit("bench", "flow", "--truth", truth, "--json", *SMALL)
    assert ran.code == 0
    content = json.loads(ran.out)
    assert [row["method"] for row in content["methods"]] == ["opencv-dis", "temporal-gradient"]
    assert content["methods"][0]["epe_px"] == pytest.approx(0, abs=1e-3)
    assert (content["threads"], content["rounds"], content["video"]) == (1, 1, None)


def test_the_table_lists_every_method_with_dashes_for_what_was_not_compared(tadkit, truth):
    ran = tadkit("bench", "flow", "--truth", truth, *SMALL)
    rows = {cells[0]: cells[1:] for line in ran.out.splitlines() if (cells := line.split())}
    assert rows["opencv-dis"][:6] == ["0.000", "0.000", "-", "-", "-", "0.0%"]
    assert rows["temporal-gradient"][:6] == ["-"] * 6
    assert all(heading in ran.out for heading in ("0-1 px", "1-3 px", "3-10 px", "10 px on"))
    assert f"{truth}: 1 pairs of 24x20 px" in ran.out
    assert "1 thread, torch" in ran.out
    assert ran.out.splitlines()[0].endswith("; 1 round")


def test_a_video_has_a_table_of_its_own(tadkit, truth):
    made = truth / "made"
    assert tadkit("data", "synth", made, "--count", "1", "--duration", "5").code == 0
    (video,) = (made / "videos").iterdir()
    words = ["--video", video, "--pairs", "2", "--size", "48x32", "--rounds", "1", "--threads", "1"]
    ran = tadkit("bench", "flow", "--truth", truth, *words, "--method", "opencv-tvl1", "--method", "opencv-dis")
    assert ran.code == 0
    assert f"{video}: 2 adjacent pairs of 48x32 px from 2.3 s on at 10 Hz" in ran.out
    before, after = ran.out.split("2 adjacent pairs")
    assert before.count("opencv-dis") == after.count("opencv-dis") == 1
    assert ["opencv-tvl1", "0.000", "0.000"] in [line.split()[:3] for line in after.splitlines()]


def test_mistakes_have_the_exit_codes_of_the_documentation(tadkit, truth, tmp_path):
    (tmp_path / "no.mp4").write_bytes(b"this is no video")
    for words, code, said in [
        (["--truth", tmp_path / "none"], 2, "no such folder"),
        (["--truth", truth, "--method", "tvl2"], 2, "--method tvl2: no such method"),
        (["--truth", truth, "--size", "340"], 2, "expected WIDTHxHEIGHT"),
        (["--truth", truth, "--size", "4x256"], 2, "width_px: must be greater"),
        (["--truth", truth, "--rounds", "0"], 2, "--rounds"),
        (["--truth", truth, "--video", tmp_path / "no.mp4"], 3, "no.mp4"),
        (["--truth", truth, "--raft-large-weights", tmp_path / "no.pth"], 5, "no.pth: no such file"),
    ]:
        ran = tadkit("bench", "flow", *words)
        assert (ran.code, ran.out) == (code, ""), words
        assert said in ran.err
        assert "Traceback" not in ran.err


def test_damaged_truth_is_reported_in_one_line(tadkit, truth):
    flow = truth / "a_flow.flo"
    flow.write_bytes(flow.read_bytes()[:100])
    ran = tadkit("bench", "flow", "--truth", truth, *SMALL)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    assert f"{flow}: damaged" in ran.err
