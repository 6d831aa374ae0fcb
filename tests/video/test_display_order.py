"""Containers, codecs, groups of pictures and B-frames: FFmpeg's frames, in FFmpeg's order, read in any order.

Each frame spells its number. FFmpeg's own order is that in which its decoder returns the frames.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tadkit.errors import VideoError
from tadkit.video import open_video, write_video
from tadkit.video.index import build_index

FRAMES = 50
Numbered = Callable[[int], list[np.ndarray]]
NumberOf = Callable[[np.ndarray], list[int]]

X264 = {"preset": "veryfast"}
MATRIX = [
    *[("avi", "libx264", X264 | {"bf": bf, "g": g}) for bf in ("0", "2", "3") for g in ("6", "10", "12", "250")],
    *[("avi", "mpeg4", {"bf": bf, "g": "9"}) for bf in ("0", "2")],
    *[("avi", codec, {}) for codec in ("mjpeg", "msmpeg4", "huffyuv")],
    *[(name, "libx264", X264 | {"bf": "2", "g": "12"}) for name in ("mkv", "mov", "flv", "ts", "m2ts", "h264", "asf")],
    *[(name, "libx264", X264 | {"bf": "2", "g": "12"}) for name in ("mpg", "mxf", "3gp", "nut", "wtv")],
    *[(name, "mpeg2video", {"bf": "2", "g": "10"}) for name in ("mpg", "vob", "ts", "m2v", "asf")],
    *[("m4v", "mpeg4", {"bf": "2", "g": "10"}), ("mkv", "mpeg4", {"bf": "2"}), ("wmv", "wmv2", {"g": "8"})],
    *[("webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16"}), ("webm", "libvpx-vp9", {"g": "20"})],
    *[("flv", "flv", {}), ("wtv", "h263p", {}), ("mp4", "libx264", X264 | {"x264-params": "open-gop=1:keyint=10"})],
    *[(name, "libx264", {"x264-params": "intra-refresh=1:keyint=12"}) for name in ("mp4", "mkv", "ts", "avi")],
]
FORMATS = {"wmv": "asf", "m2v": "mpeg2video"}


def encode(path: Path, frames: list[np.ndarray], codec: str, options: dict[str, str], **more: object) -> None:
    """Write frames; ``ticks`` are their stamps in frames, ``pix_fmt`` the format of pictures."""
    ticks, pix_fmt = more.get("ticks", range(len(frames))), more.get("pix_fmt", "yuv420p")
    with av.open(str(path), "w", format=FORMATS.get(path.suffix[1:])) as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv422p" if codec == "huffyuv" else pix_fmt
        for tick, picture in zip(ticks, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.time_base, frame.pts = Fraction(1, 25), tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("suffix", "codec", "options"), MATRIX, ids=[f"{s}-{c}-{'-'.join(o.values())}" for s, c, o in MATRIX]
)
def test_every_frame_is_where_ffmpeg_shows_it(
    tmp_path: Path, numbered: Numbered, number_of: NumberOf, suffix: str, codec: str, options: dict[str, str]
) -> None:
    path = tmp_path / f"a.{suffix}"
    encode(path, numbered(FRAMES), codec, options)
    with av.open(str(path)) as container:
        decoded = number_of(np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]))
    assert decoded == list(range(FRAMES))
    with open_video(path) as video:
        np.testing.assert_allclose(video.stamps_s, np.arange(FRAMES) / 25, atol=1.1e-3)
        assert video.duration_s == pytest.approx(FRAMES / 25, abs=0.011)
        for step in (1, 3, 5, 7):
            assert number_of(video.read(range(0, FRAMES, step))) == decoded[::step]
    order = np.random.default_rng(1).permutation(FRAMES)[:25].tolist()
    with open_video(path) as video:
        assert [number_of(video.read([index]))[0] for index in order] == order


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
@pytest.mark.parametrize("b_frames", ["0", "2"])
def test_frames_that_an_avi_dropped_leave_a_gap(
    tmp_path: Path, numbered: Numbered, number_of: NumberOf, codec: str, b_frames: str
) -> None:
    ticks = [*range(20), *range(30, 60)]
    encode(tmp_path / "a.avi", numbered(FRAMES), codec, {"bf": b_frames, "g": "10"}, ticks=ticks)
    with open_video(tmp_path / "a.avi") as video:
        np.testing.assert_allclose(video.stamps_s, np.array(ticks) / 25, atol=1e-6)
        assert number_of(video.read([22, 19, 20])) == [22, 19, 20]


@pytest.mark.parametrize(("suffix", "codec"), [("avi", "rawvideo"), ("avi", "msrle"), ("mov", "rawvideo")])
def test_a_palette_holds_wherever_reading_starts(
    tmp_path: Path, numbered: Numbered, number_of: NumberOf, suffix: str, codec: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 64, "pal8"
        for number, picture in enumerate(numbered(FRAMES)):
            grey = av.VideoFrame.from_ndarray(picture[..., 0].copy(), format="gray").to_ndarray()
            palette = np.stack([np.full(256, 255, np.uint8), *[np.arange(256, dtype=np.uint8)] * 3], axis=1)
            frame = av.VideoFrame.from_ndarray((grey, palette), format="pal8")
            frame.time_base, frame.pts = Fraction(1, 25), number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    for index in (40, 7, 49):
        with open_video(path) as video:
            assert number_of(video.read([index])) == [index]


TURNS = {
    "as stored": ((1, 0, 0, 1), lambda p: p),
    "turned right": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "upside down": ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
    "turned left": ((0, -1, 1, 0), lambda p: np.rot90(p, 1)),
    "mirrored": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "flipped": ((1, 0, 0, -1), lambda p: p[::-1]),
    "transposed": ((0, 1, 1, 0), lambda p: p.swapaxes(0, 1)),
    "transposed the other way": ((0, -1, -1, 0), lambda p: np.rot90(p, 2).swapaxes(0, 1)),
    "turned right at half the size": ((0, 0.5, -0.5, 0), lambda p: np.rot90(p, -1)),
}


@pytest.mark.parametrize(("matrix", "turned"), TURNS.values(), ids=TURNS)
@pytest.mark.parametrize("size_hw", [None, (40, 56)])
def test_pictures_are_turned_and_flipped_as_their_matrix_says(
    tmp_path: Path, matrix: tuple[float, ...], turned: Callable[[np.ndarray], np.ndarray], size_hw: tuple[int, int]
) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:16, :24], picture[:16, 24:], picture[16:, :24] = 240, 160, 80
    path = tmp_path / "a.mp4"
    write_video(path, [picture] * 3, fps=25, crf=1)
    content = bytearray(path.read_bytes())
    a, b, c, d = (round(value * (1 << 16)) for value in matrix)
    at = content.index(b"tkhd") + 4 + 40
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    upright = turned(picture)
    with open_video(path, size_hw=size_hw) as video:
        height, width = video.size_hw
        assert (height, width) == (size_hw or upright.shape[:2])
        frame = video.read([1])[0]
    for row, column in ((0.1, 0.1), (0.1, 0.9), (0.9, 0.1), (0.9, 0.9)):
        seen = frame[int(row * height), int(column * width)].astype(int)
        right = upright[int(row * upright.shape[0]), int(column * upright.shape[1])]
        assert np.abs(seen - right).max() < 12


def copied(source: Path, target: Path, *, shift_s: float = 0.0) -> Path:
    """The packets of a file in another container, later by ``shift_s``."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        streams = {stream: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                shift = round(shift_s / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = streams[packet.stream]
                new.mux(packet)
    return target


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts", "flv"])
@pytest.mark.parametrize("shift_s", [0.0, 5.0])
def test_zero_is_the_start_of_the_earliest_stream(tmp_path: Path, suffix: str, shift_s: float) -> None:
    source = Path(__file__).parent / "cases" / "late_picture.mp4"
    index = build_index(copied(source, tmp_path / f"a.{suffix}", shift_s=shift_s))
    # Encoders of AAC start 21 ms early, which MP4 and MOV tell players to skip.
    np.testing.assert_allclose(index.stamps_s, 1 + np.arange(150) / 25, atol=0.065)
    assert np.ptp(index.stamps_s - np.arange(150) / 25) < 2e-3
    assert index.duration_s == pytest.approx(7, abs=0.065)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_stamps_that_a_converter_made_up_are_not_believed(
    tmp_path: Path, numbered: Numbered, number_of: NumberOf, suffix: str
) -> None:
    encode(tmp_path / "a.avi", numbered(FRAMES), "libx264", X264 | {"bf": "3", "g": "12"})
    path = copied(tmp_path / "a.avi", tmp_path / f"a.{suffix}")  # with FFmpeg's stamps, in the order of decoding
    with open_video(path) as video:
        assert number_of(video.read(range(FRAMES))) == list(range(FRAMES))
        np.testing.assert_allclose(video.stamps_s, np.arange(FRAMES) / 25, atol=1.1e-3)
        assert [number_of(video.read([index]))[0] for index in (41, 7, 30, 3)] == [41, 7, 30, 3]


def test_pictures_alone_start_at_zero(tmp_path: Path, numbered: Numbered) -> None:
    encode(tmp_path / "a.mkv", numbered(10), "libx264", {"bf": "0"}, ticks=range(75, 85))
    assert build_index(tmp_path / "a.mkv").stamps_s[0] == 0.0


@pytest.mark.parametrize("name", ["a.webm", "a.mkv"])
def test_decord_refuses_vp9(tmp_path: Path, numbered: Numbered, name: str) -> None:
    encode(tmp_path / name, numbered(10), "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"})
    with pytest.raises(VideoError, match=r"decord returns wrong frames .*VP9"):
        open_video(tmp_path / name, reader="decord")
