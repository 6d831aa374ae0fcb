"""A preview shows each flow beside its own frame, at its own second."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tadkit.config import OpencvDisSettings, TemporalGradientSettings, VideoSettings
from tadkit.errors import StoreError, TadkitError, UsageError, VideoError
from tadkit.extraction.extract_flow import extract_flow
from tadkit.progress import Quiet
from tadkit.report.preview import parse_seconds, source_folders, write_preview
from tadkit.store import open_store, read_store
from tadkit.video import open_video, write_video
from tadkit.video.digests import source_digest

VIDEO = VideoSettings(rate_hz=5.0, height_px=32, width_px=32)
FULL_PX = 4.0
PANEL_PX = 448
FRAME_AT = 16 + PANEL_PX // 2
FLOW_AT = 32 + PANEL_PX + PANEL_PX // 2
WriteSquares = Callable[..., Path]


def store_of(folder: Path, *shifts_px: float) -> Path:
    """A store of flow that goes ``shifts_px[k]`` right everywhere, of a video whose frame k has grey level 10 k."""
    frames = [np.full((32, 32, 3), min(10 * k, 250), np.uint8) for k in range(len(shifts_px) + 1)]
    stamps_s = [0.2 * k + 0.05 * (k % 2) for k in range(len(frames))]
    write_video(folder / "v.mp4", frames, fps=5, stamps_s=stamps_s, crf=1)
    attributes = {"source": "v.mp4", "source_sha256": source_digest(folder / "v.mp4"), "duration_s": stamps_s[-1] + 0.2}
    with (
        open_store(folder / "flow.h5", kind="flow", settings={"video": VIDEO.model_dump()}) as store,
        store.video("v", key="k", stamps_s=np.array(stamps_s), attributes=attributes) as entry,
    ):
        motion = np.zeros((len(shifts_px), 2, 32, 32), np.float16)
        motion[:, 0] = np.array(shifts_px)[:, None, None]
        entry.append("motion", motion)
    return folder / "flow.h5"


def shown(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with open_video(path, reader="pyav") as video:
        return video.read(range(len(video.stamps_s))), video.stamps_s


def test_flow_k_stands_beside_frame_k_at_its_stamp(tmp_path):
    store = store_of(tmp_path, 0.0, 1.0, 2.0, 3.0, 4.0)
    quiet = Quiet()
    result = write_preview(store, None, tmp_path / "p.mp4", full_px=FULL_PX, progress=quiet)
    pictures, stamps_s = shown(tmp_path / "p.mp4")
    assert (result.pairs, result.source, quiet.warnings) == (5, tmp_path / "v.mp4", [])
    np.testing.assert_allclose(stamps_s, [0.0, 0.25, 0.4, 0.65, 0.8], atol=1e-5)
    np.testing.assert_allclose(pictures[:, 200, FRAME_AT, 0], [0, 10, 20, 30, 40], atol=4)
    np.testing.assert_allclose(pictures[:, 200, FLOW_AT, 1], 255 * (1 - np.arange(5) / 4), atol=6)


def test_seconds_choose_pairs_by_their_stamps(tmp_path):
    store = store_of(tmp_path, 0.0, 1.0, 2.0, 3.0, 4.0)
    result = write_preview(store, "v", tmp_path / "p.mp4", seconds=(0.25, 0.65), full_px=FULL_PX, progress=Quiet())
    pictures, stamps_s = shown(tmp_path / "p.mp4")
    assert result.pairs == 2
    np.testing.assert_allclose(stamps_s, [0.0, 0.15], atol=1e-5)
    np.testing.assert_allclose(pictures[:, 200, FRAME_AT, 0], [10, 20], atol=4)


def test_a_still_shows_the_pair_that_moves_most(tmp_path):
    store = store_of(tmp_path, 0.0, 1.0, 4.0, 3.0)
    result = write_preview(store, None, tmp_path / "p.png", full_px=FULL_PX, progress=Quiet())
    picture = cv2.imread(str(tmp_path / "p.png"))[..., ::-1]
    assert result.pairs == 1
    assert picture[200, FLOW_AT].tolist() == [255, 0, 0]
    assert abs(int(picture[200, FRAME_AT, 0]) - 20) <= 4


def test_the_full_colour_is_the_99th_percentile_of_what_is_shown(tmp_path):
    store = store_of(tmp_path, *[1.5] * 30, 9.0)
    whole = write_preview(store, None, tmp_path / "p.mp4", progress=Quiet())
    calm = write_preview(store, None, tmp_path / "p.mp4", seconds=(0.0, 5.0), progress=Quiet())
    assert whole.full_px == pytest.approx(9.0, abs=0.02)
    assert calm.full_px == pytest.approx(1.5, abs=0.02)


def test_the_full_colour_of_a_still_is_its_own(tmp_path):
    store = store_of(tmp_path, *[1.5] * 120, 9.0)
    assert write_preview(store, None, tmp_path / "p.jpg", progress=Quiet()).full_px == pytest.approx(9.0, abs=0.02)


def test_without_motion_noise_stays_pale(tmp_path):
    assert write_preview(store_of(tmp_path, 0.01), None, tmp_path / "p.png", progress=Quiet()).full_px == 0.5


def test_without_the_original_flow_is_shown_alone_and_that_is_said(tmp_path):
    store, quiet = store_of(tmp_path, 1.0, 4.0), Quiet()
    (tmp_path / "v.mp4").unlink()
    result = write_preview(store, None, tmp_path / "p.png", full_px=FULL_PX, progress=quiet)
    assert result.source is None
    assert "'v.mp4' was not found; the preview shows flow alone" in quiet.warnings[0]
    assert cv2.imread(str(tmp_path / "p.png"))[200, FRAME_AT].tolist() == [0, 0, 255]


def test_another_video_of_the_same_name_is_never_shown(tmp_path, write_squares: WriteSquares):
    store, quiet = store_of(tmp_path, 1.0, 4.0), Quiet()
    other = write_squares(tmp_path / "v.mp4", 20)
    assert write_preview(store, None, tmp_path / "p.png", progress=quiet).source is None
    assert "is a different video" in quiet.warnings[0]
    with pytest.raises(VideoError, match=r"not the source of 'v' in .* \(SHA-256 differs\)"):
        write_preview(store, None, tmp_path / "q.png", source=other, progress=quiet)
    assert not (tmp_path / "q.png").exists()


def test_the_original_may_be_named_and_have_another_name(tmp_path):
    store = store_of(tmp_path, 1.0, 4.0)
    moved = (tmp_path / "v.mp4").rename(tmp_path / "moved.mp4")
    assert write_preview(store, None, tmp_path / "p.png", source=moved, progress=Quiet()).source == moved


def test_the_original_is_never_written_over(tmp_path):
    store = store_of(tmp_path, 1.0, 4.0)
    before = (tmp_path / "v.mp4").read_bytes()
    with pytest.raises(UsageError, match="is the original video"):
        write_preview(store, None, tmp_path / "v.mp4", progress=Quiet())
    assert (tmp_path / "v.mp4").read_bytes() == before


def test_the_temporal_gradient_has_no_full_scale(tmp_path, write_squares: WriteSquares):
    video, flow, out = write_squares(tmp_path / "v.mp4", 20), TemporalGradientSettings(), tmp_path / "f.h5"
    extract_flow([video], out, flow=flow, video=VIDEO, teacher=None, device="cpu", progress=Quiet())
    with pytest.raises(UsageError, match="has no flow, only the temporal gradient"):
        write_preview(out, None, tmp_path / "p.png", full_px=2.0, progress=Quiet())


def test_originals_are_looked_for_beside_the_store_in_the_run_and_here(tmp_path):
    (tmp_path / "data" / "0-synth" / "videos").mkdir(parents=True)
    folders = source_folders(tmp_path / "flow.h5.parts" / "a-00.h5")
    assert folders == [tmp_path, tmp_path / "data" / "0-synth" / "videos", Path(), Path("examples")]


@pytest.mark.parametrize("settings", [OpencvDisSettings(), TemporalGradientSettings()])
def test_flow_and_gradient_as_extracted_can_be_shown(tmp_path, write_squares: WriteSquares, settings):
    video, out = write_squares(tmp_path / "v.mp4", 20), tmp_path / "flow.h5"
    extract_flow([video], out, flow=settings, video=VIDEO, teacher=None, device="cpu", progress=Quiet())
    with read_store(out, kind="flow") as reader:
        pairs = reader.length("v", "motion")
    result = write_preview(out, "v", tmp_path / "p.mp4", progress=Quiet())
    assert result.pairs == len(shown(tmp_path / "p.mp4")[0]) == pairs
    assert (result.full_px is None) == (settings.method == "temporal-gradient")


def test_a_part_can_be_shown(tmp_path):
    store_of(tmp_path, 1.0, 4.0)
    (part,) = (tmp_path / "flow.h5.parts").glob("*.h5")
    assert write_preview(part, None, tmp_path / "p.png", progress=Quiet()).source == tmp_path / "v.mp4"


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"out": "p.gif"}, UsageError, r"p\.gif: unknown preview format"),
        ({"video": "w"}, StoreError, "no video 'w'"),
        ({"seconds": (0.0, 99.0)}, UsageError, r"seconds 0 to 99 of 'v': out of range; the video lasts 0\.6 s"),
        ({"seconds": (-1.0, 0.3)}, UsageError, "out of range"),
        ({"seconds": (0.3, 0.3)}, UsageError, "out of range"),
        ({"seconds": (0.05, 0.1)}, UsageError, "no flow starts there"),
        ({"source": Path("none.mp4")}, VideoError, r"none\.mp4: no such file"),
    ],
)
def test_mistakes_are_told_in_one_line_and_nothing_is_written(tmp_path, options, error, said):
    store = store_of(tmp_path, 1.0, 4.0)
    out = tmp_path / options.pop("out", "p.mp4")
    with pytest.raises(error, match=said) as raised:
        write_preview(store, options.pop("video", None), out, progress=Quiet(), **options)
    assert "\n" not in str(raised.value)
    assert not out.exists()


def test_stores_without_anything_to_show_are_refused(tmp_path, write_squares: WriteSquares):
    out = tmp_path / "p.mp4"
    with open_store(tmp_path / "empty.h5", kind="flow", settings={}):
        pass
    with pytest.raises(StoreError, match="has no videos"):
        write_preview(tmp_path / "empty.h5", None, out, progress=Quiet())
    with open_store(tmp_path / "features.h5", kind="features", settings={}):
        pass
    with pytest.raises(StoreError, match="a store of kind 'features', expected 'flow'"):
        write_preview(tmp_path / "features.h5", None, out, progress=Quiet())
    videos = [write_squares(tmp_path / f"{name}.mp4", 1) for name in "ab"]
    flow = TemporalGradientSettings()
    extract_flow(videos, tmp_path / "f.h5", flow=flow, video=VIDEO, teacher=None, device="cpu", progress=Quiet())
    with pytest.raises(UsageError, match=r"has 2 videos .*--video NAME"):
        write_preview(tmp_path / "f.h5", None, out, progress=Quiet())
    with pytest.raises(StoreError, match="'a' has a single frame"):
        write_preview(tmp_path / "f.h5", "a", out, progress=Quiet())


@pytest.mark.parametrize(("text", "span"), [("1:2.5", (1.0, 2.5)), ("3:", (3.0, None)), (":4", (None, 4.0))])
def test_seconds_are_read(text, span):
    assert parse_seconds(text) == span


@pytest.mark.parametrize("text", ["", "3", "a:b", "1:2:3", "nan:1", "0:inf"])
def test_other_words_are_no_seconds(text):
    with pytest.raises(TadkitError, match="is not a range of seconds"):
        parse_seconds(text)


def test_a_store_of_version_1_shows_the_frames_of_a_late_video_that_its_flow_is_of(tmp_path):
    late = tmp_path / "late.mp4"
    shutil.copy(Path(__file__).parents[1] / "video" / "cases" / "late_picture.mp4", late)
    with open_video(late, size_hw=(PANEL_PX, PANEL_PX)) as video:
        seconds_apart = video.read(range(0, 150, 25))
    first_s = {}
    for zero_s in (0.0, 1.0):  # counted from the first frame, as in version 1, and as players count
        store = tmp_path / f"flow{zero_s:g}.h5"
        attributes = {"source": "late.mp4", "source_sha256": source_digest(late), "duration_s": zero_s + 6}
        with (
            open_store(store, kind="flow", settings={"video": VIDEO.model_dump()}) as writer,
            writer.video("late", key="k", stamps_s=zero_s + np.arange(6.0), attributes=attributes) as entry,
        ):
            entry.append("motion", np.ones((5, 2, 32, 32), np.float16))
        write_preview(store, None, tmp_path / "p.mp4", full_px=FULL_PX, progress=Quiet())
        pictures, first_s[zero_s] = shown(tmp_path / "p.mp4")
        frames = pictures[:, 16 : 16 + PANEL_PX, 16 : 16 + PANEL_PX].astype(int)
        assert np.abs(frames - seconds_apart[:5]).mean() < 10
    np.testing.assert_array_equal(first_s[0.0], first_s[1.0])
