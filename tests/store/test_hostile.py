"""HDF5 can lead anywhere: a store that does, or that states more than it holds, is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tadkit.errors import StoreError
from tadkit.report.inspect import inspect_store
from tadkit.store import open_store, read_store
from tadkit.store.foreign import foreign_names, read_foreign

Change = Callable[[h5py.File, Path], None]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with one video."""
    path = tmp_path / "inside" / "f.h5"
    path.parent.mkdir()
    with (
        open_store(path, kind="features", settings={}) as written,
        written.video("v", key="1", stamps_s=np.arange(5.0), attributes={}) as entry,
    ):
        entry.append("x", np.ones((5, 2), np.float32))
    return path


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A file outside of the store's folder, with values that nobody may see."""
    with h5py.File(tmp_path / "elsewhere.h5", "w") as file:
        file["videos/v/x"] = np.full((5, 2), 7, np.float32)
        file["videos/v/stamps_s"] = np.arange(5.0)
    return tmp_path / "elsewhere.h5"


def part_of(store: Path) -> Path:
    (part,) = store.with_name(f"{store.name}.parts").glob("*.h5")
    return part


def linked(file: h5py.File, elsewhere: Path) -> None:
    file["videos/v/x"] = h5py.ExternalLink(str(elsewhere), "/videos/v/x")


def linked_softly(file: h5py.File, elsewhere: Path) -> None:  # noqa: ARG001 - all changes have one signature
    file["videos/v/x"] = h5py.SoftLink("/videos/v/x")


def raw(file: h5py.File, elsewhere: Path) -> None:
    file.create_dataset("videos/v/x", shape=(5, 2), dtype="f4", external=[(str(elsewhere), 0, 40)])


def virtual(file: h5py.File, elsewhere: Path) -> None:
    layout = h5py.VirtualLayout((5, 2), "f4")
    layout[:] = h5py.VirtualSource(str(elsewhere), "videos/v/x", (5, 2))
    file.create_virtual_dataset("videos/v/x", layout)


def huge(file: h5py.File, elsewhere: Path) -> None:  # noqa: ARG001 - all changes have one signature
    file.create_dataset("videos/v/x", shape=(10**12, 2), dtype="f4", chunks=(64, 2), compression="gzip")


@pytest.mark.parametrize("change", [linked, linked_softly, raw, virtual, huge])
def test_a_part_that_leads_elsewhere_or_states_too_much_is_refused(
    change: Change, store: Path, elsewhere: Path
) -> None:
    with h5py.File(part_of(store), "r+") as file:
        del file["videos/v/x"]
        change(file, elsewhere)
    with read_store(store, kind="features") as reader, pytest.raises(StoreError, match="'videos/v/x'"):
        reader.read("v", "x")
    (problem,) = inspect_store(store).problems
    assert "'videos/v/x'" in problem


@pytest.mark.parametrize("where", ["{}", "../elsewhere.h5", "f.h5.parts/../../elsewhere.h5"])
def test_an_index_that_links_out_of_its_folder_is_refused(where: str, store: Path, elsewhere: Path) -> None:
    with h5py.File(store, "r+") as file:
        del file["videos/v"]
        file["videos/v"] = h5py.ExternalLink(where.format(elsewhere), "/videos/v")
    with pytest.raises(StoreError, match="a link to somewhere else"):
        read_store(store, kind="features")


def test_a_group_within_itself_is_read_once(store: Path) -> None:
    with h5py.File(part_of(store), "r+") as file:
        file["videos/v/again"] = file["videos/v"]
    with read_store(store, kind="features") as reader:
        assert reader.read("v", "x").tolist() == [[1, 1]] * 5


@pytest.mark.parametrize("value", ["x", np.arange(3), b"\xff", h5py.Empty("f4")])
def test_a_version_that_is_no_number_is_damage(value: Any, store: Path) -> None:
    with h5py.File(store, "r+") as file:
        file.attrs["version"] = value
    for read in (lambda: read_store(store, kind="features"), lambda: inspect_store(store)):
        with pytest.raises(StoreError, match=r"f\.h5"):
            read()


@pytest.mark.parametrize("change", [raw, virtual, huge])
def test_features_of_other_projects_are_in_their_own_file(change: Change, tmp_path: Path, elsewhere: Path) -> None:
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        change(file, elsewhere)
    with pytest.raises(StoreError, match="'videos/v/x'"):
        list(read_foreign(tmp_path / "theirs.h5", foreign_names(tmp_path / "theirs.h5")))
