"""Videos are found in folders and by name, whatever the case of their suffix; nothing is left out in silence."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tadkit.errors import UsageError, VideoError
from tadkit.video.discovery import VIDEO_SUFFIXES, find_video, named, shard_of, videos_in


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_files_of_cameras_and_converters_are_found_in_any_case(tmp_path: Path) -> None:
    names = ["00001.MTS", "Mixed.Mp4", "a.m2ts", "b.TS", "c.vob", "d.WMV", "e.h264", "f.gif", "g.3GP", "h.mxf"]
    put(tmp_path, *names)
    assert [path.name for path in videos_in([tmp_path])] == sorted(names)
    for name in names:
        assert find_video(Path(name).stem, tmp_path) == tmp_path / name


@pytest.mark.parametrize("suffix", VIDEO_SUFFIXES)
def test_every_suffix_that_a_folder_is_searched_for_is_found_by_name(tmp_path: Path, suffix: str) -> None:
    put(tmp_path, f"a{suffix.title()}")
    assert videos_in([tmp_path]) == [tmp_path / f"a{suffix.title()}"] == [find_video("a", tmp_path)]


def test_other_files_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path, "a.mp4", "._a.mp4", "labels.json", "notes.txt", "more.txt", "deep/b.mp4")
    with caplog.at_level(logging.WARNING, logger="tadkit"):
        assert videos_in([tmp_path]) == [tmp_path / "a.mp4"]
    assert caplog.messages == [
        f"{tmp_path}: 1 video taken; skipped 4 other files: .txt, ._*, .json and 1 sub-folder "
        "(--recursive searches them, too)"
    ]


def test_a_folder_of_videos_alone_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    put(tmp_path, "a.mp4", "b.MTS")
    videos_in([tmp_path])
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), r"no video in this folder; expected"),
        (("a.xyz", "b.xyz", "._c.mp4"), r"no video in this folder \(only 3 other files: .xyz, ._\*\); expected"),
        (("deep/a.mp4",), r"no video in this folder; --recursive searches its 1 sub-folder, too; expected"),
    ],
)
def test_a_folder_without_videos_says_what_is_in_it(tmp_path: Path, names: tuple[str, ...], expected: str) -> None:
    put(tmp_path, *names)
    with pytest.raises(VideoError, match=expected) as caught:
        videos_in([tmp_path])
    assert "\n" not in str(caught.value)


def test_sub_folders_are_searched_if_asked_and_names_stay_unique(tmp_path: Path) -> None:
    put(tmp_path, "a.mp4", "x/a.mp4", "x/y/a.MOV", "z/b.avi")
    found = named(videos_in([tmp_path], recursive=True))
    assert list(found.values()) == [tmp_path / name for name in ("a.mp4", "x/a.mp4", "x/y/a.MOV", "z/b.avi")]
    assert list(found) == [f"{tmp_path.name}/a", "x/a", "y/a", "b"]
    assert find_video("x/a", tmp_path) == tmp_path / "x" / "a.mp4"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("clip.avi", "clip.mp4", "s/clip.mp4"), ["clip.avi", "clip.mp4", "s/clip"]),
        (("a/b/clip.mp4", "b/clip.avi", "b/clip.mp4"), ["a/b/clip", "clip.avi", "clip.mp4"]),
    ],
)
def test_no_video_has_the_stem_that_others_share(names: tuple[str, ...], expected: list[str], tmp_path: Path) -> None:
    put(tmp_path, *names)
    found = named(videos_in([tmp_path], recursive=True))
    assert [path.relative_to(tmp_path).as_posix() for path in found.values()] == list(names)
    assert list(found) == expected


def test_videos_that_share_a_stem_are_found_by_their_names(tmp_path: Path) -> None:
    for file in ("a.mp4", "a.mkv", "b.txt"):
        (tmp_path / file).write_bytes(b"x")
    for name, path in named(videos_in([tmp_path / "a.mp4", tmp_path / "a.mkv"])).items():
        assert find_video(name, tmp_path) == path
    assert find_video("b.txt", tmp_path) is None


def test_a_folder_named_like_a_video_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(VideoError, match="no video in this folder"):
        videos_in([tmp_path])
    assert find_video("a", tmp_path) is None


def test_one_video_in_a_folder_and_by_itself_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "x/a.mp4")
    with pytest.raises(UsageError, match="named twice"):
        videos_in([tmp_path, tmp_path / "x" / "a.mp4"], recursive=True)


@pytest.mark.parametrize("name", ["../a", "/etc/a", "x/../../a", "", "a\0b"])
def test_names_never_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    put(tmp_path, "a.mp4", "in/b.mp4")
    assert find_video(name, tmp_path / "in") is None


def test_a_new_file_is_found(tmp_path: Path) -> None:
    assert find_video("v_a", tmp_path) is None
    put(tmp_path, "a.webm")
    assert find_video("v_a", tmp_path) == tmp_path / "a.webm"
    put(tmp_path, "v_a.MKV")
    assert find_video("a", tmp_path) == tmp_path / "a.webm"
    assert find_video("v_a", tmp_path) == tmp_path / "v_a.MKV"
    put(tmp_path, "a.mp4")
    assert find_video("a", tmp_path) == tmp_path / "a.mp4"


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_shards_share_out_all_videos_independently_of_their_order(count: int) -> None:
    videos = {f"v{number}": Path(f"v{number}.mp4") for number in range(17)}
    backward = dict(reversed(videos.items()))
    shards = [shard_of(videos, number, count) for number in range(1, count + 1)]
    assert shards == [shard_of(backward, number, count) for number in range(1, count + 1)]
    assert sorted(name for shard in shards for name in shard) == sorted(videos)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
