"""A video put together from pieces is the one that would have been written at once; other pieces are never taken."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from tadkit.errors import StoreError
from tadkit.store import Pieces, open_store, read_store

STEPS = 512
VALUES = np.random.default_rng(0).integers(-9, 9, (2 * STEPS + 37, 2, 5, 7)).astype(np.int8)


def write_pieces(path: Path, values: np.ndarray, *, key: str = "k", bound: float | None = 20.0) -> Pieces:
    pieces = Pieces(path, "v", key=key)
    for number, start in enumerate(range(0, len(values), STEPS)):
        with pieces.write(number) as entry:
            for at in range(start, min(start + STEPS, len(values)), 100):
                entry.append("motion", values[at : min(at + 100, start + STEPS)], bound=bound)
            entry.describe(clipped=number)
    return pieces


@pytest.mark.parametrize("dtype", ["int8", "float16"])
def test_a_video_of_pieces_is_the_video(tmp_path: Path, dtype: str) -> None:
    path, values = tmp_path / "f.h5", VALUES.astype(dtype)
    stamps_s = np.arange(len(values) + 1.0)
    with open_store(path, kind="flow", settings={}) as store:
        pieces = write_pieces(path, values, bound=20.0 if dtype == "int8" else None)
        with store.video("v", key="k", stamps_s=stamps_s, attributes={}) as entry:
            pieces.append_to(entry, "motion", range(3))
        with store.video("w", key="k", stamps_s=stamps_s, attributes={}) as entry:
            entry.append("motion", values, bound=20.0 if dtype == "int8" else None)
    with read_store(path, kind="flow") as reader:
        np.testing.assert_array_equal(reader.read("v", "motion"), values)
        np.testing.assert_array_equal(reader.read("w", "motion"), values)
        assert reader.bound("v", "motion") == reader.bound("w", "motion")


def test_a_piece_is_there_only_as_it_was_written(tmp_path: Path) -> None:
    pieces = write_pieces(tmp_path / "f.h5", VALUES)
    assert [pieces.has(number) for number in range(4)] == [True, True, True, False]
    assert pieces.attributes(2)["clipped"] == 2
    first, second, third = sorted(pieces.folder.iterdir())
    with h5py.File(first, "r+") as file:
        file["motion"][3] = 9
    with h5py.File(second, "r+") as file:
        file.attrs["clipped"] = 7
    third.write_bytes(third.read_bytes()[:-100])
    assert not any(pieces.has(number) for number in range(3))


def test_a_piece_of_another_key_is_not_there(tmp_path: Path) -> None:
    pieces, other = write_pieces(tmp_path / "f.h5", VALUES), Pieces(tmp_path / "f.h5", "v", key="other")
    assert not other.has(0)
    pieces.folder.rename(other.folder)
    assert not other.has(0)


def test_a_piece_that_fails_is_not_there(tmp_path: Path) -> None:
    pieces = Pieces(tmp_path / "f.h5", "v", key="k")

    def write() -> None:
        with pieces.write(0) as entry:
            entry.append("motion", VALUES[:STEPS])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert not pieces.has(0)
    assert not list(pieces.folder.iterdir())


def test_pieces_no_one_waits_for_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with open_store(path, kind="flow", settings={}) as store:
        wanted, stale = write_pieces(path, VALUES), write_pieces(path, VALUES, key="old")
        (wanted.folder / ".000003.begun.h5").touch()
        store.keep_pieces({"v": "k", "w": "k"})
        assert wanted.has(0)
        assert not stale.folder.exists()
        assert len(list(wanted.folder.iterdir())) == 3
        store.keep_pieces({})
        assert not wanted.folder.exists()


def test_a_piece_that_is_gone_is_told(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with open_store(path, kind="flow", settings={}) as store:
        pieces = write_pieces(path, VALUES)
        (pieces.folder / "000001.h5").unlink()
        with (
            pytest.raises(StoreError, match=r"000001\.h5: cannot be read .*; run the same command again"),
            store.video("v", key="k", stamps_s=np.arange(9.0), attributes={}) as entry,
        ):
            pieces.append_to(entry, "motion", range(3))
        assert store.videos() == []


def test_a_part_is_in_the_store_once_it_is_linked(tmp_path: Path) -> None:
    path = tmp_path / "f.h5"
    with open_store(path, kind="flow", settings={}) as store:
        with store.parts.video("v", key="k", stamps_s=np.arange(2.0), attributes={}) as entry:
            entry.append("motion", VALUES[:1])
        assert store.videos() == []
        store.link("v")
        assert store.has("v", "k")
    with read_store(path, kind="flow") as reader:
        assert reader.length("v", "motion") == 1
