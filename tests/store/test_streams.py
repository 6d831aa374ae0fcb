"""The RGB and flow halves of stored features."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tadkit.config import FeatureStreams
from tadkit.errors import StoreError
from tadkit.store import TrackReader, open_store, read_store
from tadkit.store.streams import FeatureStream, rgb_stream

RGB, FLOW = (np.random.default_rng(seed).normal(size=(9, width)).astype(np.float32) for seed, width in ((0, 4), (1, 3)))
RANGES = FeatureStreams(rgb="0:4", flow="4:7", rgb_channels=4, flow_channels=3, channels=7)
LAST = RANGES.model_copy(update={"rgb": "3:7", "flow": "0:3"})
TRACKS = RANGES.model_copy(update={"rgb": "appearance", "flow": "motion"})
Write = Callable[..., TrackReader]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A store of one video, ``v``, with these tracks."""

    def call(**tracks: np.ndarray) -> TrackReader:
        with (
            open_store(tmp_path / "f.h5", kind="features", settings={"imported": True}) as store,
            store.video("v", key="k", stamps_s=np.arange(9.0), attributes={"duration_s": 9.0}) as entry,
        ):
            for name, values in tracks.items():
                entry.append(f"original/{name}", values)
        return read_store(tmp_path / "f.h5", kind="features")

    return call


@pytest.mark.parametrize("tracks", [{"appearance": RGB, "motion": FLOW}, {"appearance": np.hstack([RGB, FLOW])}])
def test_a_range_counts_in_all_features_however_they_are_stored(write: Write, tracks: dict[str, np.ndarray]) -> None:
    with write(**tracks) as store:
        np.testing.assert_array_equal(FeatureStream(store, "0:4").read("v"), RGB)
        np.testing.assert_array_equal(FeatureStream(store, "4:7").read("v", 2, 5), FLOW[2:5])
        assert FeatureStream(store, "4:6").channels("v") == 2
        with pytest.raises(StoreError, match=r"'v' has 7 channels, so there are no channels 4:8"):
            FeatureStream(store, "4:8").read("v")


def test_a_track_goes_by_its_name_with_or_without_its_view(write: Write) -> None:
    with write(appearance=RGB, motion=FLOW) as store:
        for name in ("motion", "original/motion"):
            np.testing.assert_array_equal(FeatureStream(store, name).read("v"), FLOW)
        with pytest.raises(StoreError, match="has no track 'original/sound'"):
            FeatureStream(store, "sound").read("v")


def test_a_missing_track_is_reported_with_those_there_are_and_the_settings_to_change(write: Write) -> None:
    said = (
        r"no track 'original/sound' \(it has: original/appearance, original/motion\); name one of them in sources.rgb"
    )
    with (
        write(appearance=RGB, motion=FLOW) as store,
        pytest.raises(StoreError, match=rf"^[^\n]*{said}[^\n]*$") as raised,
    ):
        FeatureStream(store, "sound").channels("v")
    assert "extract-f" not in str(raised.value)


def test_features_without_rgb_are_reported_with_the_command_that_imports_them(write: Write) -> None:
    said = r"no features of RGB, track 'original/appearance' \(it has: original/motion\); .*tadkit import features$"
    with write(motion=FLOW) as store:
        for read in (store.features, store.feature_channels):
            with pytest.raises(StoreError, match=said):
                read("v")


def test_a_missing_part_of_imported_features_is_imported_again_or_copied(write: Write, tmp_path: Path) -> None:
    write(appearance=RGB).close()
    (tmp_path / "elsewhere").mkdir()
    copy = shutil.copy(tmp_path / "f.h5", tmp_path / "elsewhere" / "g.h5")
    advice = "import it again with: tadkit import features, or copy f.h5 together with f.h5.parts"
    with read_store(copy, kind="features") as store, pytest.raises(StoreError, match=f"which is missing; {advice}$"):
        store.features("v")


def test_streams_are_ranges_of_all_features(write: Write) -> None:
    expected = {"appearance": range(4), "original/motion": range(4, 7), "2:6": range(2, 6), "sound": None}
    with write(appearance=RGB, motion=FLOW, sound=RGB) as store:
        assert {name: FeatureStream(store, name).range_in_features("v") for name in expected} == expected


@pytest.mark.parametrize("streams", [RANGES, TRACKS], ids=["ranges", "tracks"])
def test_a_model_reads_rgb_of_both_or_rgb_alone(write: Write, streams: FeatureStreams) -> None:
    for tracks in ({"appearance": RGB, "motion": FLOW}, {"appearance": RGB}):
        with write(**tracks) as store:
            np.testing.assert_array_equal(rgb_stream(store, "v", streams, model="m").read("v"), RGB)


def test_rgb_alone_is_read_whole_also_where_rgb_was_last(write: Write) -> None:
    with write(appearance=RGB) as store:
        np.testing.assert_array_equal(rgb_stream(store, "v", LAST, model="m").read("v"), RGB)


@pytest.mark.parametrize(
    ("streams", "tracks"),
    [
        (RANGES, {"appearance": FLOW}),
        (RANGES, {"appearance": np.hstack([RGB, RGB])}),
        (TRACKS, {"appearance": np.hstack([RGB, FLOW])}),
    ],
    ids=["flow alone", "another width", "one track"],
)
def test_other_features_are_refused_in_one_line(
    write: Write, streams: FeatureStreams, tracks: dict[str, np.ndarray]
) -> None:
    with write(**tracks) as store, pytest.raises(StoreError, match=r"^[^\n]*but m reads 4 of RGB[^\n]*$"):
        rgb_stream(store, "v", streams, model="m")
