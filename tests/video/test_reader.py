from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tadkit.errors import VideoError
from tadkit.video import open_video, write_video

READERS = ["decord", "pyav"]
AWKWARD = ["video_0.mov", "video_90.mov", "unordered.mov"]


def encode(
    path: Path, frames: list[np.ndarray], codec: str, options: dict[str, str], *, ticks: np.ndarray | None = None
) -> None:
    """Write with a codec and options that the writer of ours does not offer; ``ticks`` are stamps in milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if ticks is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            if ticks is not None:
                frame.time_base, frame.pts = Fraction(1, 1000), int(ticks[number])
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.rate, sound.pts = 16000, 0
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))


def turn_by_90(path: Path) -> None:
    """Set the matrix in the track header to a clockwise quarter turn, as phones do."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    one, w = 1 << 16, 1 << 30
    content[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, w)
    path.write_bytes(content)


@pytest.mark.parametrize("reader", READERS)
def test_constant_rate_stamps_and_end(tmp_path, numbered, number_of, reader):
    write_video(tmp_path / "a.mp4", numbered(30), fps=25)
    with open_video(tmp_path / "a.mp4", reader=reader) as video:
        np.testing.assert_allclose(video.stamps_s, np.arange(30) / 25, atol=1e-9)
        assert video.duration_s == pytest.approx(1.2)
        assert video.size_hw == (32, 64)
        assert number_of(video.read(range(30))) == list(range(30))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("reader", READERS)
def test_variable_rate_stamps_are_the_written_ones_from_zero(tmp_path, numbered, number_of, reader, suffix):
    stamps_s = 0.5 + np.cumsum(np.random.default_rng(0).uniform(0.01, 0.4, size=50))
    path = tmp_path / f"a{suffix}"
    write_video(path, numbered(50), fps=10, stamps_s=stamps_s.tolist())
    with open_video(path, reader=reader) as video:
        np.testing.assert_allclose(video.stamps_s, stamps_s - stamps_s[0], atol=1.1e-3)
        assert video.duration_s == pytest.approx(stamps_s[-1] - stamps_s[0] + 0.1, abs=2e-3)
        assert number_of(video.read(range(50))) == list(range(50))


@pytest.mark.parametrize("reader", READERS)
def test_variable_rate_with_frames_stored_out_of_order(tmp_path, numbered, number_of, reader):
    ticks = np.cumsum(np.random.default_rng(2).integers(10, 400, size=60))
    encode(tmp_path / "a.mp4", numbered(60), "libx264", {"bf": "3", "g": "20"}, ticks=ticks)
    with open_video(tmp_path / "a.mp4", reader=reader) as video:
        np.testing.assert_allclose(video.stamps_s, (ticks - ticks[0]) / 1000, atol=1e-3)
        assert number_of(video.read(range(60))) == list(range(60))
        assert [number_of(video.read([index]))[0] for index in (41, 3, 19, 20, 59)] == [41, 3, 19, 20, 59]


@pytest.mark.parametrize("reader", READERS)
def test_random_access_equals_sequential_access(tmp_path, numbered, reader):
    write_video(tmp_path / "a.mp4", numbered(200), fps=25)  # several keyframes
    order = np.random.default_rng(1).permutation(200)[:40].tolist()
    with open_video(tmp_path / "a.mp4", reader=reader) as video, open_video(tmp_path / "a.mp4", reader=reader) as other:
        whole = video.read(range(200))
        for index in order:
            np.testing.assert_array_equal(other.read([index])[0], whole[index])
        np.testing.assert_array_equal(other.read([*order, order[0]]), whole[[*order, order[0]]])


@pytest.mark.parametrize("reader", READERS)
def test_one_frame_video(tmp_path, numbered, number_of, reader):
    write_video(tmp_path / "a.mp4", numbered(6)[5:], fps=10)
    with open_video(tmp_path / "a.mp4", reader=reader) as video:
        assert video.stamps_s.tolist() == [0.0]
        assert video.duration_s == pytest.approx(0.1)
        assert number_of(video.read([0, 0])) == [5, 5]


@pytest.mark.parametrize("size_hw", [None, (48, 40)])
@pytest.mark.parametrize("reader", READERS)
def test_rotated_video_comes_upright(tmp_path, numbered, number_of, reader, size_hw):
    frames = [np.rot90(frame, 1) for frame in numbered(12)]  # stored lying; the matrix turns it clockwise, back up
    write_video(tmp_path / "a.mp4", frames, fps=25)
    turn_by_90(tmp_path / "a.mp4")
    with open_video(tmp_path / "a.mp4", reader=reader, size_hw=size_hw) as video:
        assert video.size_hw == (size_hw or (32, 64))
        assert video.read([3]).shape == (1, *video.size_hw, 3)
        assert number_of(video.read(range(12))) == list(range(12))


@pytest.mark.parametrize("reader", READERS)
def test_asked_size_is_the_size_returned(tmp_path, numbered, number_of, reader):
    write_video(tmp_path / "a.mp4", numbered(8), fps=25)
    with open_video(tmp_path / "a.mp4", reader=reader, size_hw=(50, 112)) as video:
        assert video.size_hw == (50, 112)
        assert video.read([2]).shape == (1, 50, 112, 3)
        assert number_of(video.read([7, 2])) == [7, 2]


@pytest.mark.parametrize("reader", READERS)
def test_no_indices_give_no_frames(tmp_path, numbered, reader):
    write_video(tmp_path / "a.mp4", numbered(3), fps=25)
    with open_video(tmp_path / "a.mp4", reader=reader) as video:
        assert video.read([]).shape == (0, 32, 64, 3)


@pytest.mark.parametrize("index", [-1, 3])
@pytest.mark.parametrize("reader", READERS)
def test_index_outside_is_an_error(tmp_path, numbered, reader, index):
    write_video(tmp_path / "a.mp4", numbered(3), fps=25)
    with open_video(tmp_path / "a.mp4", reader=reader) as video, pytest.raises(IndexError):
        video.read([0, index])


@pytest.mark.parametrize(
    ("name", "options"),
    [("open.mp4", {"x264-params": "open-gop=1:keyint=10:min-keyint=10:scenecut=0"}), ("stream.ts", {"g": "10"})],
)
def test_auto_leaves_decord_where_it_mixes_up_frames(tmp_path, numbered, number_of, name, options):
    encode(tmp_path / name, numbered(45), "libx264", options)
    with pytest.raises(VideoError, match="decord returns wrong frames"):
        open_video(tmp_path / name, reader="decord")
    with open_video(tmp_path / name) as video:
        assert number_of(video.read(range(45))) == list(range(45))
        order = np.random.default_rng(0).permutation(45).tolist()
        assert [number_of(video.read([index]))[0] for index in order] == order


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [("a.avi", "mpeg4", {}), ("b.avi", "mpeg4", {"bf": "2"}), ("c.webm", "libvpx-vp9", {})],
)
def test_other_containers(tmp_path, numbered, number_of, name, codec, options):
    encode(tmp_path / name, numbered(30), codec, options)
    with open_video(tmp_path / name) as video:
        np.testing.assert_allclose(video.stamps_s, np.arange(30) / 25, atol=1e-3)
        assert number_of(video.read(range(30))) == list(range(30))
        assert number_of(video.read([20, 4])) == [20, 4]


def test_what_an_edit_list_cuts_off_is_not_shown(tmp_path, numbered, number_of):
    write_video(tmp_path / "full.mp4", numbered(100), fps=25)
    options = {"avoid_negative_ts": "disabled"}
    with av.open(str(tmp_path / "full.mp4")) as full, av.open(str(tmp_path / "cut.mp4"), "w", options=options) as cut:
        source = full.streams.video[0]
        stream = cut.add_stream_from_template(source)
        for packet in full.demux(source):
            if packet.dts is not None:
                thirty = int(30 / 25 / source.time_base)
                packet.stream, packet.pts, packet.dts = stream, packet.pts - thirty, packet.dts - thirty
                cut.mux(packet)
    with open_video(tmp_path / "cut.mp4") as video:
        np.testing.assert_allclose(video.stamps_s, np.arange(70) / 25, atol=1e-9)
        assert number_of(video.read(range(70))) == list(range(30, 100))
        assert number_of(video.read([40, 10])) == [70, 40]


def test_stamps_running_backward_are_refused(tmp_path, numbered):
    encode(tmp_path / "a.ts", numbered(10), "libx264", {})
    twice = tmp_path / "twice.ts"
    twice.write_bytes((tmp_path / "a.ts").read_bytes() * 2)
    with pytest.raises(VideoError, match=r"run backward at frame 10.*ffmpeg"):
        open_video(twice)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("missing.mp4", None, "no such file"),
        ("empty.mp4", b"", r"empty \(0 bytes\)"),
        ("text.mp4", b"this is no video\n" * 50, "not a video"),
        ("text.txt", b"this is no video\n" * 50, "not a video"),
    ],
)
@pytest.mark.parametrize("reader", ["auto", *READERS])
def test_what_is_no_video_is_refused_in_one_line(tmp_path, name, content, expected, reader):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(VideoError, match=expected) as caught:
        open_video(tmp_path / name, reader=reader)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_folder_is_refused(tmp_path):
    with pytest.raises(VideoError, match="is a folder"):
        open_video(tmp_path)


def test_sound_alone_is_refused(tmp_path):
    write_sound(tmp_path / "sound.mp4")
    with pytest.raises(VideoError, match="no video stream"):
        open_video(tmp_path / "sound.mp4")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a device")
def test_what_cannot_be_read_twice_is_refused():
    with pytest.raises(VideoError, match="is a device or a pipe"):
        open_video(Path("/dev/zero"))


def test_no_decodable_frame_is_refused(tmp_path, numbered):
    write_video(tmp_path / "a.mp4", numbered(5), fps=25)
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    begin = content.index(b"mdat") + 4
    content[begin : content.index(b"moov") - 4] = b"\xff" * (content.index(b"moov") - 4 - begin)
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(VideoError, match="no frame can be decoded"):
        open_video(tmp_path / "a.mp4")


@pytest.mark.parametrize("reader", ["auto", *READERS])
def test_damage_in_the_middle_names_the_time(shared_data, reader):
    path = shared_data / "decode" / "corrupted.mp4"
    with (
        open_video(path, size_hw=(48, 64), reader=reader) as video,
        pytest.raises(VideoError, match=r"corrupted.mp4: damaged .*[\d.]+ s.*repair it with") as caught,
    ):
        video.read(range(len(video.stamps_s)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("size_hw", [None, (96, 64)])
def test_readers_agree_on_awkward_videos(shared_data, name, size_hw):
    path = shared_data / "decode" / name
    with (
        open_video(path, size_hw=size_hw, reader="decord") as one,
        open_video(path, size_hw=size_hw, reader="pyav") as other,
    ):
        np.testing.assert_allclose(one.stamps_s, other.stamps_s, atol=1e-3)
        assert one.size_hw == other.size_hw
        everything = range(len(one.stamps_s))
        away = np.abs(one.read(everything).astype(int) - other.read(everything))
        assert away.mean() < 1.0


def test_rotated_phone_video_is_portrait(shared_data):
    with open_video(shared_data / "decode" / "video_90.mov") as video:
        assert video.size_hw == (568, 320)


def test_readers_agree_on_a_real_video(shared_data):
    path = sorted((shared_data / "room" / "videos").glob("*.mp4"))[0]
    indices = np.random.default_rng(0).integers(0, 600, size=8).tolist()
    with (
        open_video(path, size_hw=(112, 112), reader="decord") as one,
        open_video(path, size_hw=(112, 112), reader="pyav") as other,
    ):
        np.testing.assert_allclose(one.stamps_s, other.stamps_s, atol=1e-3)
        for start in (0, 59, 300):
            run = list(range(start, start + 5))
            assert np.abs(one.read(run).astype(int) - other.read(run)).mean() < 0.5
        np.testing.assert_array_equal(one.read(indices), np.concatenate([one.read([index]) for index in indices]))
        np.testing.assert_array_equal(other.read(indices), np.concatenate([other.read([index]) for index in indices]))


@pytest.mark.parametrize("width_px", [16, 24, 48, 72])
def test_auto_leaves_decord_where_it_cannot_scale(tmp_path, numbered, number_of, width_px):
    write_video(tmp_path / "a.mp4", numbered(12), fps=25)
    with open_video(tmp_path / "a.mp4", size_hw=(32, width_px)) as video:
        assert number_of(video.read(range(12))) == list(range(12))


def test_auto_is_pyav(tmp_path, numbered):
    write_video(tmp_path / "a.mp4", numbered(3), fps=25)
    with open_video(tmp_path / "a.mp4") as auto, open_video(tmp_path / "a.mp4", reader="pyav") as pyav:
        assert type(auto) is type(pyav)
