"""A store goes on from where it was, and a video is there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tadkit.errors import StoreError
from tadkit.store import TrackStore, open_store, read_store


def put(store: TrackStore, name: str, key: str, value: float, steps: int = 3) -> None:
    with store.video(name, key=key, stamps_s=np.arange(float(steps)), attributes={}) as entry:
        entry.append("x", np.full((steps, 2), value, np.float32))


def put_and_fail(store: TrackStore, name: str, key: str) -> None:
    with store.video(name, key=key, stamps_s=np.arange(3.0), attributes={}) as entry:
        entry.append("x", np.zeros((3, 2), np.float32))
        raise ZeroDivisionError


def features(path: Path, **settings: object) -> TrackStore:
    return open_store(path, kind="features", settings=settings)


def test_complete_videos_are_kept_and_others_added(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with features(path) as store:
        put(store, "a", "k1", 1)
        assert store.has("a", "k1")
        assert not store.has("a", "k2")
        assert not store.has("b", "k1")
    with features(path) as store:
        assert store.videos() == ["a"]
        assert store.has("a", "k1")
        put(store, "b", "k1", 2)
    assert read_store(path, kind="features").videos() == ["a", "b"]


def test_a_new_key_replaces_the_video_and_its_file(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with features(path) as store:
        put(store, "a", "k1", 1)
        put(store, "a", "k2", 2, steps=5)
        assert store.has("a", "k2")
    reader = read_store(path, kind="features")
    assert (reader.key("a"), reader.length("a", "x")) == ("k2", 5)
    assert (reader.read("a", "x") == 2).all()
    assert len(list((tmp_path / "f.h5.parts").glob("*.h5"))) == 1


def test_settings_become_the_last_ones_and_a_part_keeps_its_own(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with features(path, rate_hz=10) as store:
        put(store, "a", "k", 1)
    features(path, rate_hz=5).close()
    assert read_store(path, kind="features").settings == {"rate_hz": 5}
    (part,) = (tmp_path / "f.h5.parts").glob("*.h5")
    assert read_store(part, kind="features").settings == {"rate_hz": 10}


def test_an_exception_leaves_the_old_video(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with features(path) as store:
        put(store, "a", "k1", 1)
        with pytest.raises(ZeroDivisionError):
            put_and_fail(store, "a", "k2")
        assert store.has("a", "k1")
    assert (read_store(path, kind="features").read("a", "x") == 1).all()
    assert len(list((tmp_path / "f.h5.parts").glob("[!.]*"))) == 1
    assert not list((tmp_path / "f.h5.parts").glob(".*.h5"))


def test_a_damaged_or_missing_part_is_not_had(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with features(path) as store:
        put(store, "a", "k", 1)
        put(store, "b", "k", 1)
        for part in (tmp_path / "f.h5.parts").glob("a-*.h5"):
            part.write_bytes(part.read_bytes()[:400])
        for part in (tmp_path / "f.h5.parts").glob("b-*.h5"):
            part.unlink()
        assert not store.has("a", "k")
        assert not store.has("b", "k")
        put(store, "a", "k", 3)
        put(store, "b", "k", 3)
    reader = read_store(path, kind="features")
    assert (reader.read("a", "x") == 3).all()
    assert (reader.read("b", "x") == 3).all()


def test_a_lost_index_is_made_again_from_the_parts(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with features(path) as store:
        put(store, "a/b", "k", 1)
    path.unlink()
    with features(path) as store:
        assert store.has("a/b", "k")


def test_opening_for_writing_removes_leftovers_of_the_killed(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    features(path).close()
    begun = [tmp_path / ".f.abcd1234.h5", tmp_path / "f.h5.parts" / ".a-00.abcd1234.h5"]
    others = [tmp_path / ".g.abcd1234.h5", tmp_path / "f.txt"]
    for file in (*begun, *others):
        file.write_bytes(b"half")
    features(path).close()
    assert not any(file.exists() for file in begun)
    assert all(file.exists() for file in others)


def test_a_second_writer_is_refused_until_the_first_has_closed(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with features(path), pytest.raises(StoreError, match="another process is writing"):
        features(path)
    features(path).close()


def test_a_reader_sees_what_was_complete_when_it_asked(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with features(path) as store:
        put(store, "a", "k", 1)
        reader = read_store(path, kind="features")
        put(store, "b", "k", 2)
        assert reader.videos() == ["a"]
        assert read_store(path, kind="features").videos() == ["a", "b"]


def test_values_of_another_form_are_refused(tmp_path: Path) -> None:
    with (
        features(tmp_path / "f.h5") as store,
        store.video("a", key="k", stamps_s=np.arange(3.0), attributes={}) as entry,
    ):
        entry.append("x", np.zeros((3, 2), np.float32))
        with pytest.raises(StoreError, match=r"float64 \(2,\) after float32 \(2,\)"):
            entry.append("x", np.zeros((3, 2), np.float64))


def test_flow_must_have_one_step_fewer_than_frames(tmp_path: Path) -> None:
    with open_store(tmp_path / "flow.h5", kind="flow", settings={}) as store:
        with (
            pytest.raises(StoreError, match="3 flows for 3 frames"),
            store.video("a", key="k", stamps_s=np.arange(3.0), attributes={}) as entry,
        ):
            entry.append("motion", np.zeros((3, 2, 4, 4), np.int8))
        assert store.videos() == []
