"""Any file gives detections or one clear failure, and one failure costs nobody else anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import av
import numpy as np
import pytest

from tadkit.checkpoint import Checkpoint, copy_with_operating_points, save_checkpoint
from tadkit.detection.detect import load_detector
from tadkit.detection.detections import VideoDetections
from tadkit.errors import SettingsError, UsageError, VideoError, WeightsError
from tadkit.models.detector import DetectorNet
from tadkit.records import read_detections
from tadkit.video.discovery import named

WriteSquares = Callable[..., Path]
LOW: Mapping[str, Any] = {"decode": {"min_score": 0.0}}


def detected(videos: list[Path], model: Path, overrides: Mapping[str, Any] = LOW) -> VideoDetections:
    return load_detector(model, device="cpu", overrides=overrides).detect(videos, on_error="collect")


def write_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return path


@pytest.fixture
def bad_files(tmp_path: Path) -> dict[str, Path]:
    """Files that hold no video, by what they are."""
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("This is no video.\n" * 100)
    files = {name: tmp_path / f"{name}.mp4" for name in ("folder", "empty", "text", "missing")}
    return files | {"sound": write_sound(tmp_path / "sound.mp4")}


def test_each_bad_file_is_one_failure_of_one_line_and_the_good_ones_are_kept(
    tmp_path: Path, bad_files: dict[str, Path], write_squares: WriteSquares, tiny_model: Path
) -> None:
    good = [write_squares(tmp_path / f"good{i}.mp4", 30, seed=i) for i in range(2)]
    result = detected([good[0], *bad_files.values(), good[1]], tiny_model)
    assert set(result) == {"good0", "good1"}
    assert set(result.failed) == set(bad_files)
    for name, error in result.failed.items():
        assert isinstance(error, VideoError), name
        assert "\n" not in str(error)
        assert str(bad_files[name]) in str(error)


@pytest.mark.parametrize("name", ["corrupted.mp4", "unordered.mov", "video_0.mov", "video_90.mov"])
def test_awkward_videos_give_detections_inside_them_or_one_failure(
    shared_data: Path, tiny_model: Path, name: str
) -> None:
    result = detected([shared_data / "decode" / name], tiny_model)
    assert len(result) + len(result.failed) == 1
    for error in result.failed.values():
        assert isinstance(error, VideoError)
        assert "\n" not in str(error)
    assert_within(result)


def assert_within(result: VideoDetections) -> None:
    for name, found in result.items():
        duration_s = result[name].duration_s
        scores = [d.score for d in found]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= d.start_s < d.end_s <= duration_s for d in found)
        assert all(0 <= d.score <= 1 for d in found)
        assert {d.label for d in found} <= {"slide", "rest"}


@pytest.mark.parametrize("frames", [1, 2, 3, 21, 150])
@pytest.mark.parametrize("variable", [False, True])
def test_detections_lie_inside_videos_of_any_length_best_first(
    tmp_path: Path, write_squares: WriteSquares, tiny_model: Path, frames: int, variable: bool
) -> None:
    gaps_s = np.random.default_rng(frames).choice([0.02, 0.1, 0.7], frames - 1)
    stamps_s = [0.0, *np.cumsum(gaps_s)] if variable else None
    result = detected([write_squares(tmp_path / "v.mp4", frames, stamps_s=stamps_s)], tiny_model)
    assert not result.failed
    assert result["v"]
    assert result["v"].duration_s == pytest.approx((gaps_s.sum() if variable else (frames - 1) / 10) + 0.1, abs=1e-3)
    assert_within(result)


def test_the_result_says_what_made_it(tmp_path: Path, write_squares: WriteSquares, tiny_model: Path) -> None:
    video = write_squares(tmp_path / "v.mp4", 20)
    result = detected([video], tiny_model, {"decode": {"keep": 3}, "video": {"reader": "pyav"}})
    assert result.origin["model"]["file"] == tiny_model.name
    assert len(result.origin["model"]["sha256"]) == 64
    assert result.origin["decode"]["keep"] == 3
    assert result.origin["video"]["reader"] == "pyav"
    assert json.loads(result.to_json())["external_data"] == {**result.origin, "durations_s": {"v": 2.0}}


def test_operating_points_say_what_is_shown_and_the_file_keeps_all(
    tmp_path: Path, write_squares: WriteSquares, tiny_model: Path
) -> None:
    video, model = write_squares(tmp_path / "v.mp4", 60), tmp_path / "points.safetensors"
    plain = detected([video], tiny_model)["v"]
    assert plain.operating_points == {}
    assert plain.shown() == plain.above(0.3)
    middle = sorted(d.score for d in plain if d.label == "slide")[len(plain) // 4]
    copy_with_operating_points(tiny_model, model, {"slide": middle}, provenance={})
    result = detected([video], model)
    found = result["v"]
    assert found == plain
    assert found.operating_points == {"slide": middle}
    shown = [d for d in plain if d.score >= (middle if d.label == "slide" else 0.3)]
    assert found.shown() == shown != list(plain.above(0.3))
    assert f"{len(shown)} of them with a score of their label's operating point or more" in repr(found)
    assert f"{len(shown)} of {len(plain)} detections, score ≥ that of the label" in found._repr_html_()
    assert json.loads(result.to_json())["external_data"]["operating_points"] == {"slide": middle}
    (tmp_path / "scores.json").write_text('{"v": {"slide": 0.5, "rest": 0.5}}')
    weighted = load_detector(model, device="cpu", overrides=LOW).detect(video, video_scores=tmp_path / "scores.json")
    assert weighted.operating_points == {}, "chosen for scores that are not weighted"


def test_decode_settings_can_be_set(tmp_path: Path, write_squares: WriteSquares, tiny_model: Path) -> None:
    video = write_squares(tmp_path / "v.mp4", 60)
    plenty = detected([video], tiny_model)["v"]
    few = detected([video], tiny_model, {"decode": {"min_score": 0.0, "keep": 4}})["v"]
    assert len(plenty) > 4
    assert few == plenty[:4]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"decode": {"keep": 0}}, r"decode\.keep: .*greater than or equal to 1, got 0"),
        ({"decode": {"kep": 3}}, r"decode\.kep: no such setting; did you mean keep\?"),
        ({"decode": 5}, r"decode: "),
        ({"decode": {"min_score": "high"}}, r"decode\.min_score: "),
        ({"video": {"reader": "vlc"}}, r"video\.reader: "),
        (
            {"video": {"rate_hz": 3}},
            r"video\.rate_hz: fixed when the model was trained; detect takes decode\.\*, video\.reader",
        ),
        ({"head": {"dim": 8}}, r"head: fixed when the model was trained"),
    ],
)
def test_a_setting_that_is_wrong_or_fixed_by_the_model_is_named(
    tiny_model: Path, overrides: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingsError, match=said) as raised:
        detected([], tiny_model, overrides)
    assert "\n" not in str(raised.value)


def damaged(folder: Path, detector: DetectorNet) -> dict[str, Path]:
    settings = detector.settings.model_dump(mode="json")
    weights = detector.state_dict()
    files = {
        name: folder / f"{name}.safetensors" for name in ("student", "cut", "text", "missing", "classes", "future")
    }
    save_checkpoint(files["student"], Checkpoint("student", settings, detector.labels, detector.student.state_dict()))
    save_checkpoint(files["cut"], Checkpoint("detector", settings, detector.labels, weights))
    files["cut"].write_bytes(files["cut"].read_bytes()[:-100])
    files["text"].write_text("no weights")
    save_checkpoint(files["classes"], Checkpoint("detector", settings, ("one",), weights))
    save_checkpoint(files["future"], Checkpoint("detector", settings | {"new": 1}, detector.labels, weights))
    return files


def test_a_model_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path, tiny_detector: DetectorNet) -> None:
    for name, path in damaged(tmp_path, tiny_detector).items():
        with pytest.raises(WeightsError) as raised:
            detected([], path)
        assert str(path) in str(raised.value), name
        assert "\n" not in str(raised.value), name


def test_weights_that_are_not_finite_fail_every_video_and_say_so(
    tmp_path: Path, tiny_detector: DetectorNet, write_squares: WriteSquares
) -> None:
    path = tmp_path / "nan.safetensors"
    weights = {name: value * float("nan") for name, value in tiny_detector.state_dict().items()}
    weights = {name: value.to(tiny_detector.state_dict()[name].dtype) for name, value in weights.items()}
    save_checkpoint(path, Checkpoint("detector", tiny_detector.settings.model_dump(mode="json"), ("a", "b"), weights))
    result = detected([write_squares(tmp_path / "v.mp4", 10)], path)
    assert list(result.failed) == ["v"]
    assert "not finite" in str(result.failed["v"])


def test_a_device_that_is_not_here_is_refused(tiny_model: Path) -> None:
    for device in ("cuda:99", "abacus"):
        with pytest.raises(UsageError, match=f"--device {device}: not usable here"):
            load_detector(tiny_model, device=device)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/x/a.mp4"], ["a"]),
        (["/x/a.mp4", "/y/a.mp4", "/y/b.mp4"], ["x/a", "y/a", "b"]),
        (["/x/d/a.mp4", "/y/d/a.mp4", "/y/a.mp4"], ["x/d/a", "y/d/a", "y/a"]),
        (["/x/a.mp4", "/x/a.avi"], ["a.mp4", "a.avi"]),
        (["/a.mp4", "/x/a.mp4"], ["a", "x/a"]),
        (["/x/a.mp4", "/x/a.mp4"], ["a"]),
        (["/x/a.mp4", "/x/a.avi", "/x/a.mp4.avi"], None),
    ],
)
def test_names_are_as_short_as_tells_videos_apart(paths: list[str], names: list[str] | None) -> None:
    found = named([Path(path) for path in paths])
    assert set(found.values()) == set(map(Path, paths))
    if names is not None:
        assert list(found) == names


def calls_to_name(count: int) -> int:
    """Function calls that it takes to name ``count`` videos."""
    alike = [Path(f"/data/{i // 2}/clip{i % 2}/video.mp4") for i in range(count // 2)]
    videos = [*alike, *(Path(f"/data/{i}.mp4") for i in range(count // 2))]
    calls = 0

    def profile(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        names = named(videos)
    finally:
        sys.setprofile(None)
    assert list(names)[:3] == ["0/clip0/video", "0/clip1/video", "1/clip0/video"]
    assert list(names.values()) == videos
    return calls


def test_the_work_of_naming_videos_grows_in_proportion_to_their_number() -> None:
    assert calls_to_name(2000) < 2.2 * calls_to_name(1000)


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tadkit.cli", "detect", *map(str, words), "--device", "cpu"],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )


def test_the_command_keeps_good_videos_and_exits_3_for_bad_ones(
    tmp_path: Path, bad_files: dict[str, Path], write_squares: WriteSquares, tiny_model: Path
) -> None:
    good, out = write_squares(tmp_path / "good.mp4", 30), tmp_path / "dets.json"
    ran = command(
        good, *(path for name, path in bad_files.items() if name != "folder"), "--model", tiny_model, "-o", out
    )
    assert ran.returncode == 3
    assert ran.stderr.count("tadkit: error: ") == len(bad_files) - 1
    assert "Traceback" not in ran.stderr
    assert list(read_detections(out)) == ["good"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, ("{good}", "--model", "{model}", "-o", "-")),
        (5, ("{good}", "--model", "{text}")),
        (2, ("{good}", "--model", "{model}", "--set", "decode.keep=0")),
        (2, ("{good}", "--model", "{model}", "--set", "video.rate_hz=3")),
    ],
)
def test_the_command_says_by_its_exit_code_what_was_wrong(
    tmp_path: Path, write_squares: WriteSquares, tiny_model: Path, code: int, words: tuple[str, ...]
) -> None:
    (tmp_path / "text.safetensors").write_text("no weights")
    files = {
        "good": write_squares(tmp_path / "good.mp4", 30),
        "model": tiny_model,
        "text": tmp_path / "text.safetensors",
    }
    ran = command(*(word.format(**files) for word in words))
    assert ran.returncode == code, ran.stderr
    assert "Traceback" not in ran.stderr
    if code == 0:
        assert list(json.loads(ran.stdout)["results"]) == ["good"]
    else:
        assert ran.stderr.count("tadkit: error: ") == 1
