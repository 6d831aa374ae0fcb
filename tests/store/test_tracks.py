"""What is written to a store is what is read from it."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tadkit.errors import StoreError
from tadkit.store import open_store, read_store
from tadkit.store.layout import quoted, unquoted

SETTINGS = {"method": "tvl1", "rate_hz": 10.0, "size_hw": [8, 6]}
SOURCE = {"source": "a.mp4", "source_sha256": "00ff", "duration_s": 1.5}


def flow_like(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-127, 128, (frames - 1, 2, 8, 6), dtype=np.int8)


def write_flow(path: Path, name: str, frames: int, *, key: str = "k", seed: int = 0) -> np.ndarray:
    values = flow_like(frames, seed)
    with (
        open_store(path, kind="flow", settings=SETTINGS) as store,
        store.video(name, key=key, stamps_s=np.arange(frames) / 10, attributes=SOURCE) as entry,
    ):
        entry.append("motion", values, bound=20.0)
        entry.describe(clipped=0.25)
    return values


def test_flow_round_trip(tmp_path: Path) -> None:
    values = write_flow(tmp_path / "flow.h5", "a", 16)
    with read_store(tmp_path / "flow.h5", kind="flow") as reader:
        assert reader.videos() == ["a"]
        assert reader.settings == SETTINGS
        assert reader.labels is None
        assert reader.key("a") == "k"
        assert reader.tracks("a") == ["motion"]
        assert reader.attributes("a") == {**SOURCE, "clipped": 0.25}
        assert (reader.length("a", "motion"), reader.channels("a", "motion")) == (15, 2)
        assert reader.bound("a", "motion") == 20.0
        np.testing.assert_array_equal(reader.stamps_s("a"), np.arange(16) / 10)
        read = reader.read("a", "motion")
        assert read.dtype == np.int8
        np.testing.assert_array_equal(read, values)
        np.testing.assert_array_equal(reader.read("a", "motion", 3, 9), values[3:9])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_features_keep_views_labels_and_type(tmp_path: Path, dtype: type) -> None:
    values = np.random.default_rng(1).normal(size=(7, 5)).astype(dtype)
    with (
        open_store(tmp_path / "t.h5", kind="features", settings={}, labels=["run", "Stürzen"]) as store,
        store.video("a", key="k", stamps_s=np.arange(7.0), attributes={}) as entry,
    ):
        entry.append("original/motion", values)
        entry.append("mirror/motion", -values)
    reader = read_store(tmp_path / "t.h5", kind="features")
    assert reader.labels == ("run", "Stürzen")
    assert reader.tracks("a") == ["mirror/motion", "original/motion"]
    assert reader.bound("a", "original/motion") is None
    assert reader.read("a", "mirror/motion").dtype == dtype
    np.testing.assert_array_equal(reader.read("a", "mirror/motion"), -values)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 1500), max_size=6))
def test_appending_in_pieces_equals_writing_at_once(tmp_path: Path, cuts: list[int]) -> None:
    values = np.random.default_rng(2).normal(size=(1500, 3)).astype(np.float32)
    with (
        open_store(tmp_path / "f.h5", kind="features", settings={}) as store,
        store.video("a", key="k", stamps_s=np.arange(1500.0), attributes={}) as entry,
    ):
        for piece in np.split(values, sorted(cuts)):
            entry.append("x", piece)
    np.testing.assert_array_equal(read_store(tmp_path / "f.h5", kind="features").read("a", "x"), values)


@given(name=st.text(alphabet=st.characters(), min_size=1))
def test_quoting_loses_nothing_and_leaves_one_level(name: str) -> None:
    assert unquoted(quoted(name)) == name
    assert "/" not in quoted(name)
    assert quoted(name).strip(".")


@pytest.mark.parametrize(
    "name", ["a/b", ".", "..", "/", "Sprung über 50 %", "跳远", "a b", "A b", "x" * 300, "\udcff", "%2F"]
)
def test_any_name_round_trips(tmp_path: Path, name: str) -> None:
    values = write_flow(tmp_path / "flow.h5", name, 4)
    write_flow(tmp_path / "flow.h5", "other", 4, seed=1)
    reader = read_store(tmp_path / "flow.h5", kind="flow")
    assert set(reader.videos()) == {name, "other"}
    np.testing.assert_array_equal(reader.read(name, "motion"), values)


def test_an_empty_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="empty name"):
        write_flow(tmp_path / "flow.h5", "", 4)


def test_a_store_without_videos_is_readable(tmp_path: Path) -> None:
    open_store(tmp_path / "flow.h5", kind="flow", settings=SETTINGS).close()
    assert read_store(tmp_path / "flow.h5", kind="flow").videos() == []


def test_any_hdf5_reader_can_follow_the_index(tmp_path: Path) -> None:
    values = write_flow(tmp_path / "flow.h5", "a/b", 5)
    with h5py.File(tmp_path / "flow.h5") as file:
        assert file.attrs["format"] == "tadkit-tracks"
        assert file.attrs["version"] == 1
        assert file["videos/a%2Fb"].attrs["complete"]
        np.testing.assert_array_equal(file["videos/a%2Fb/motion"][()], values)


def test_a_store_may_be_moved_with_its_parts(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    values = write_flow(tmp_path / "old/flow.h5", "a", 5)
    (tmp_path / "old").rename(tmp_path / "new")
    np.testing.assert_array_equal(read_store(tmp_path / "new/flow.h5", kind="flow").read("a", "motion"), values)


def test_a_pickled_reader_reads(tmp_path: Path) -> None:
    values = write_flow(tmp_path / "flow.h5", "a", 5)
    reader = read_store(tmp_path / "flow.h5", kind="flow")
    reader.read("a", "motion")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader)).read("a", "motion"), values)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
def test_a_forked_reader_reads_and_leaves_the_parents_open(tmp_path: Path) -> None:
    values = write_flow(tmp_path / "flow.h5", "a", 5)
    with read_store(tmp_path / "flow.h5", kind="flow") as reader:
        reader.read("a", "motion")
        context = multiprocessing.get_context("fork")
        results = context.Queue()
        child = context.Process(target=lambda: results.put(reader.read("a", "motion")))
        child.start()
        np.testing.assert_array_equal(results.get(timeout=30), values)
        child.join()
        np.testing.assert_array_equal(reader.read("a", "motion"), values)


def test_many_videos_do_not_keep_many_files_open(tmp_path: Path) -> None:
    with open_store(tmp_path / "f.h5", kind="features", settings={}) as store:
        for i in range(20):
            with store.video(f"v{i}", key="k", stamps_s=np.arange(2.0), attributes={}) as entry:
                entry.append("x", np.full((2, 3), i, np.float32))
    with read_store(tmp_path / "f.h5", kind="features") as reader:
        for i in [*range(20), 0]:
            assert (reader.read(f"v{i}", "x") == i).all()
        assert len(reader._files) <= 16
