"""What a store is said to hold is what was put into it."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from tadkit.config import TemporalGradientSettings, VideoSettings
from tadkit.errors import StoreError, VideoError
from tadkit.extraction.extract_flow import extract_flow
from tadkit.extraction.quarantine import Quarantine
from tadkit.progress import Quiet
from tadkit.report.inspect import inspect_store, summary_json
from tadkit.store import Pieces, open_store
from tadkit.store.layout import part_path, parts_folder

SETTINGS = {
    "flow": {"method": "tvl1", "bound_px": 20.0},
    "video": {"rate_hz": 10.0, "height_px": 8, "width_px": 6},
}


def put(
    path: Path, name: str, frames: int, *, clipped: float = 0.0, dtype: type = np.int8, bound: float | None = 20.0
) -> None:
    attributes = {"source": f"{name}.mp4", "source_sha256": "00", "duration_s": frames / 10}
    with (
        open_store(path, kind="flow", settings=SETTINGS) as store,
        store.video(name, key="k", stamps_s=np.arange(frames) / 10, attributes=attributes) as entry,
    ):
        entry.append("motion", np.ones((frames - 1, 2, 8, 6), dtype), bound=bound)
        entry.describe(clipped=clipped)


@pytest.fixture
def two(tmp_path: Path) -> Path:
    put(tmp_path / "flow.h5", "calm", 301)
    put(tmp_path / "flow.h5", "wild", 101, clipped=0.4)
    return tmp_path / "flow.h5"


def test_a_flow_store_tells_how_it_was_made_and_how_much_it_is(two):
    told = inspect_store(two)
    assert (told.kind, told.version, told.method) == ("flow", 1, "tvl1")
    assert told.producer.startswith("tadkit ")
    assert (told.size_hw, told.rate_hz, told.codes) == ((8, 6), 10.0, ("int8, +-20 px",))
    assert told.frames == 402
    assert told.minutes == pytest.approx(40.2 / 60)
    on_disk = two.stat().st_size + sum(file.stat().st_size for file in parts_folder(two).glob("*.h5"))
    assert told.bytes == on_disk
    assert told.bytes_per_minute == pytest.approx(on_disk / (40.2 / 60))
    assert told.problems == []


def test_the_most_clipped_video_comes_first_and_the_share_is_over_all_values(two):
    told = inspect_store(two)
    assert [(video.name, video.clipped) for video in told.videos] == [("wild", 0.4), ("calm", 0.0)]
    assert told.clipped == pytest.approx(0.4 * 100 / 400)


def test_one_video_is_told_alone(two):
    told = inspect_store(two, video="wild")
    assert [video.name for video in told.videos] == ["wild"]
    assert told.frames == 101
    assert told.bytes == part_path(two, "wild").stat().st_size


def test_a_part_is_told_like_a_store(two):
    part = part_path(two, "wild")
    told = inspect_store(part)
    assert [video.name for video in told.videos] == ["wild"]
    assert told.bytes == part.stat().st_size
    assert (told.unlinked, told.unfinished) == ((), ())


def test_float16_has_no_bound(tmp_path):
    put(tmp_path / "flow.h5", "a", 5, dtype=np.float16, bound=None)
    assert inspect_store(tmp_path / "flow.h5").codes == ("float16",)


def test_a_feature_store_tells_its_model_and_tracks(tmp_path):
    settings = {"model": "abcdef0123456789", "video": SETTINGS["video"]}
    with (
        open_store(tmp_path / "f.h5", kind="features", settings=settings, labels=["run", "sit"]) as store,
        store.video("a", key="k", stamps_s=np.arange(7.0), attributes={"duration_s": 7.0}) as entry,
    ):
        entry.append("original/motion", np.zeros((7, 5), np.float16))
    told = inspect_store(tmp_path / "f.h5")
    assert (told.kind, told.method, told.labels) == ("features", "model abcdef012345", ("run", "sit"))
    assert (told.size_hw, told.rate_hz, told.clipped) == ((8, 6), 10.0, None)
    assert [(track.name, track.shape) for track in told.videos[0].tracks] == [("original/motion", (7, 5))]


def test_missing_and_damaged_videos_are_told_and_the_others_too(two):
    put(two, "whole", 11)
    part_path(two, "calm").unlink()
    part_path(two, "wild").write_bytes(b"no HDF5")
    told = inspect_store(two)
    assert [video.problem is None for video in told.videos] == [False, False, True]
    assert "is missing" in told.problems[0]
    assert "is damaged" in told.problems[1]


def test_a_video_that_is_not_complete_is_told(two):
    with h5py.File(part_path(two, "calm"), "r+") as file:
        file["videos/calm"].attrs["complete"] = False
    assert "is not complete" in inspect_store(two).problems[0]


def test_what_was_begun_and_what_no_index_names_is_told(two):
    put(two.with_name("other.h5"), "third", 11)
    part_path(two.with_name("other.h5"), "third").rename(part_path(two, "third"))
    (parts_folder(two) / ".begun.12345678.h5").touch()
    pieces = Pieces(two, "long", key="k")
    with pieces.write(0) as entry:
        entry.append("motion", np.zeros((2, 2, 8, 6), np.int8), bound=20.0)
    told = inspect_store(two)
    assert told.unlinked == (part_path(two, "third"),)
    assert set(told.unfinished) == {parts_folder(two) / ".begun.12345678.h5", pieces.folder}


def test_videos_that_failed_are_told_with_the_reason(two):
    Quarantine(two).add("bad", VideoError("bad.mp4: no video"), source_sha256="00", settings="s")
    assert inspect_store(two).quarantined == {"bad": "bad.mp4: no video"}
    assert inspect_store(two, video="calm").quarantined == {}


def test_videos_made_with_other_settings_are_told(two):
    with open_store(two, kind="flow", settings={**SETTINGS, "flow": {"method": "raft-small"}}):
        pass
    told = inspect_store(two)
    assert told.method == "raft-small"
    assert all(video.other_settings for video in told.videos)


def test_an_empty_store_is_told(tmp_path):
    with open_store(tmp_path / "flow.h5", kind="flow", settings=SETTINGS):
        pass
    told = inspect_store(tmp_path / "flow.h5")
    assert (told.videos, told.frames, told.bytes_per_minute, told.clipped) == ((), 0, None, None)


def test_the_summary_is_json(two):
    told = json.loads(json.dumps(summary_json(inspect_store(two))))
    assert told["path"] == str(two)
    assert told["videos"][0]["tracks"][0] | {"stored_bytes": 0} == {
        "name": "motion",
        "dtype": "int8",
        "shape": [100, 2, 8, 6],
        "bound": 20.0,
        "stored_bytes": 0,
    }


def test_what_extract_flow_wrote_is_told(tmp_path, write_squares):
    video = write_squares(tmp_path / "v.mp4", 40)
    settings, frames = TemporalGradientSettings(bound_px=1.0), VideoSettings(rate_hz=5.0, height_px=32, width_px=32)
    out = tmp_path / "flow.h5"
    done = extract_flow([video], out, flow=settings, video=frames, teacher=None, device="cpu", progress=Quiet())
    told = inspect_store(out)
    assert (told.method, told.codes) == ("temporal-gradient", ("int8, +-1 grey levels",))
    assert told.clipped == pytest.approx(done.clipped["v"])
    assert told.clipped > 0


@pytest.mark.parametrize("content", [None, b"no HDF5", b"h5"])
def test_other_files_are_refused_in_one_line(tmp_path, content):
    path = tmp_path / "x.h5"
    if content == b"h5":
        h5py.File(path, "w").close()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(StoreError, match=r"x\.h5: (no such file|not an HDF5 file|HDF5, but not a tadkit)") as error:
        inspect_store(path)
    assert "\n" not in str(error.value)


def test_an_unknown_video_is_refused_with_one_like_it(two):
    with pytest.raises(StoreError, match="no video 'calmm' among its 2; did you mean 'calm'\\?"):
        inspect_store(two, video="calmm")
