from __future__ import annotations

import click
import pytest

from tadkit.cli.options import POSITIVE
from tadkit.errors import UsageError, VideoError
from tadkit.video.discovery import VIDEO_SUFFIXES, videos_in


def test_a_folder_stands_for_its_videos_by_name(tmp_path):
    for name in ("b.mp4", "a.MKV", "notes.txt", "c.webm"):
        (tmp_path / name).touch()
    assert [path.name for path in videos_in([tmp_path])] == ["a.MKV", "b.mp4", "c.webm"]


def test_a_named_file_is_taken_whatever_its_suffix(tmp_path):
    assert videos_in([tmp_path / "clip.ts"]) == [tmp_path / "clip.ts"]


def test_a_folder_without_videos_is_refused(tmp_path):
    with pytest.raises(VideoError, match="no video in this folder"):
        videos_in([tmp_path])


def test_one_video_named_twice_is_refused(tmp_path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(UsageError, match="named twice"):
        videos_in([tmp_path, tmp_path / "a.mp4"])


@pytest.mark.parametrize(
    "words",
    [
        ["detect", "a.mp4", "b.mp4", "--out"],
        ["detect", "a.mp4", "--model", "b.mp4", "--out"],
        ["detect-features", "b.mp4", "--head", "h", "--out"],
        ["detect-features", "f.h5", "--head", "b.mp4", "--out"],
        ["extract-flow", "b.mp4", "--out"],
        ["extract-flow", "a.mp4", "--teacher", "b.mp4", "--out"],
        ["extract-features", "a.mp4", "--model", "b.mp4", "--out"],
        ["import", "features", "b.mp4", "--out"],
        ["import", "features", "a.mp4", "--annotations", "b.mp4", "--out"],
        ["import", "head", "--from", "tridet", "b.mp4", "--out"],
        ["import", "head", "--from", "tridet", "a.mp4", "--config", "b.mp4", "--out"],
        ["inspect", "f.h5", "--source", "b.mp4", "--preview"],
    ],
)
def test_what_a_command_reads_is_never_replaced_by_what_it_writes(tadkit, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / f"{name}.mp4").write_text(name)
    ran = tadkit(*words, "./b.mp4")
    told = f"tadkit: error: {words[-1]} b.mp4: is an input of this command; choose another file\n"
    assert (ran.code, ran.err) == (2, told)
    assert (tmp_path / "b.mp4").read_text() == "b"


@pytest.mark.parametrize(("out", "said"), [("folder", "is a folder"), ("a.mp4/x", "a.mp4 cannot be written to")])
@pytest.mark.parametrize(
    "words",
    [
        ["detect", "a.mp4"],
        ["detect-features", "f.h5", "--head", "h"],
        ["extract-flow", "a.mp4"],
        ["import", "features", "i3d"],
        ["import", "head", "--from", "tridet", "h.pth"],
    ],
)
def test_an_output_that_cannot_be_written_is_told_before_the_work(tadkit, tmp_path, monkeypatch, words, out, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.mp4").touch()
    ran = tadkit(*words, "--out", out)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert said in ran.err


@pytest.mark.parametrize("command", ["extract-flow", "extract-features"])
def test_a_store_does_not_go_to_stdout(tadkit, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").touch()
    ran = tadkit(command, "a.mp4", "--out", "-")
    assert (ran.code, "cannot be written to stdout" in ran.err) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(
    "words", [["detect", ""], ["detect", "a.mp4", "--out", ""], ["extract-flow", ""], ["inspect", ""], ["run", ""]]
)
def test_an_empty_word_is_not_the_folder_one_is_in(tadkit, words):
    ran = tadkit(*words)
    assert (ran.code, "is empty; give the path of a file or folder" in ran.err) == (2, True)


@pytest.mark.parametrize("value", ["nan", "inf", "0", "-1", "x"])
def test_a_positive_number_is_finite_and_above_zero(value):
    with pytest.raises(click.BadParameter):
        POSITIVE.convert(value, None, None)
    assert POSITIVE.convert("2.5", None, None) == 2.5


def test_a_folder_gives_every_kind_of_video_that_is_found_by_name(tmp_path):
    for suffix in VIDEO_SUFFIXES:
        (tmp_path / f"a{suffix}").touch()
    assert len(videos_in([tmp_path])) == len(VIDEO_SUFFIXES)
