"""What a reader or writer says about files that it cannot use: one line, with the file and the way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tadkit.errors import StoreError
from tadkit.store import TrackReader, open_store, read_store
from tadkit.store.layout import Kind


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    path = tmp_path / "flow.h5"
    with (
        open_store(path, kind="flow", settings={}) as store,
        store.video("a", key="k", stamps_s=np.arange(65.0), attributes={}) as entry,
    ):
        noise = np.random.default_rng(0).integers(-99, 99, (64, 2, 16, 16), dtype=np.int8)
        entry.append("motion", noise)
    return path


def the_part(path: Path) -> Path:
    (part,) = path.with_name(f"{path.name}.parts").glob("*.h5")
    return part


def message(call: Callable[[], object]) -> str:
    with pytest.raises(StoreError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_missing_file(tmp_path: Path) -> None:
    text = message(lambda: read_store(tmp_path / "no.h5", kind="flow"))
    assert f"{tmp_path / 'no.h5'}: no such flow store" in text
    assert "tadkit extract-flow" in text


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all", b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_not_hdf5(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "flow.h5"
    path.write_bytes(content)
    assert "not an HDF5 file" in message(lambda: read_store(path, kind="flow"))
    assert "not an HDF5 file" in message(lambda: open_store(path, kind="flow", settings={}))
    assert path.read_bytes() == content


def test_index_cut_short(store_path: Path) -> None:
    store_path.write_bytes(store_path.read_bytes()[:-200])
    assert "damaged" in message(lambda: read_store(store_path, kind="flow"))


def test_foreign_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["videos"] = np.arange(3)
    assert "not a tadkit track store" in message(lambda: read_store(tmp_path / "x.h5", kind="flow"))


def test_foreign_hdf5_of_groups(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["videos/a"] = np.arange(3)
    assert "not a tadkit track store" in message(lambda: open_store(tmp_path / "x.h5", kind="flow", settings={}))


def test_other_kind(store_path: Path) -> None:
    for call in (read_store, lambda p, kind: open_store(p, kind=kind, settings={})):
        text = message(lambda call=call: call(store_path, kind="features"))  # type: ignore[misc]
        assert "kind 'flow', expected 'features'" in text


def test_newer_version(store_path: Path) -> None:
    with h5py.File(store_path, "r+") as file:
        file.attrs["version"] = 2
        file.attrs["producer"] = "tadkit 9.0"
    for call in (read_store, lambda p, kind: open_store(p, kind=kind, settings={})):
        text = message(lambda call=call: call(store_path, kind="flow"))  # type: ignore[misc]
        assert "version 2, written by tadkit 9.0" in text
        assert "upgrade tadkit" in text


def test_unreadable_settings(store_path: Path) -> None:
    with h5py.File(store_path, "r+") as file:
        file.attrs["settings"] = "{"
    assert "settings cannot be read" in message(lambda: read_store(store_path, kind="flow"))


def test_missing_video_and_track(store_path: Path) -> None:
    reader = read_store(store_path, kind="flow")
    assert "no video 'b' among its 1" in message(lambda: reader.stamps_s("b"))
    assert "no track 'colour' (it has: motion)" in message(lambda: reader.read("a", "colour"))


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (0, 65), (5, 4)])
def test_range_outside_the_track(store_path: Path, start: int, stop: int) -> None:
    text = message(lambda: read_store(store_path, kind="flow").read("a", "motion", start, stop))
    assert f"has 64 steps, requested {start} to {stop}" in text


def test_missing_part(store_path: Path) -> None:
    part = the_part(store_path)
    part.unlink()
    text = message(lambda: read_store(store_path, kind="flow").key("a"))
    assert f"'a' is in {part}, which is missing" in text
    assert text.endswith("make it with: tadkit extract-flow, or copy flow.h5 together with flow.h5.parts")


def test_part_cut_short(store_path: Path) -> None:
    part = the_part(store_path)
    part.write_bytes(part.read_bytes()[:-4000])
    assert str(part) in message(lambda: read_store(store_path, kind="flow").read("a", "motion"))


@pytest.mark.parametrize(
    ("kind", "settings", "command"),
    [
        ("flow", {"flow": {}, "video": {}}, "make it with: tadkit extract-flow"),
        ("features", {"model": "digest", "video": {}}, "make it with: tadkit extract-features"),
        ("features", {"teacher": "digest", "model": {}}, "make it with: tadkit extract-flow, of its recipe or with"),
        ("features", {"imported": True, "track": "t"}, "import it again with: tadkit import features"),
        ("features", {"imported": True, "track": "t", "made_up": "motion"}, "make it with: tadkit run RECIPE"),
    ],
)
@pytest.mark.parametrize("damage", ["cut short", "missing", "without its video"])
def test_a_damaged_part_is_made_again_by_the_command_that_made_the_store(
    tmp_path: Path, kind: Kind, settings: dict[str, object], command: str, damage: str
) -> None:
    path = tmp_path / "tracks.h5"
    with (
        open_store(path, kind=kind, settings=settings) as store,
        store.video("a", key="k", stamps_s=np.arange(4.0), attributes={}) as entry,
    ):
        entry.append("original/appearance", np.ones((4, 2), np.float32))
    part = the_part(path)
    if damage == "missing":
        part.unlink()
    elif damage == "cut short":
        part.write_bytes(part.read_bytes()[:-1000])
    else:
        with h5py.File(part, "a") as file:
            del file["videos/a"]
    text = message(lambda: read_store(path, kind=kind).key("a"))
    assert command in text
    assert sum(text.count(other) for other in ("tadkit extract", "tadkit import", "tadkit run")) == 1


def test_a_flipped_bit_in_the_values_is_noticed(store_path: Path) -> None:
    part = the_part(store_path)
    with h5py.File(part) as file:
        chunk = file["videos/a/motion"].id.get_chunk_info(0)
    content = bytearray(part.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 1
    part.write_bytes(content)
    assert "'a' is damaged" in message(lambda: read_store(store_path, kind="flow").read("a", "motion"))


def test_a_part_is_read_but_not_written(store_path: Path) -> None:
    part = the_part(store_path)
    assert read_store(part, kind="flow").videos() == ["a"]
    assert "read-only" in message(lambda: open_store(part, kind="flow", settings={}))
    assert read_store(part, kind="flow").videos() == ["a"]


def test_a_place_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "cannot be created" in message(lambda: open_store(tmp_path / "file" / "flow.h5", kind="flow", settings={}))


def test_a_reader_made_before_the_file_is_gone_says_so(store_path: Path) -> None:
    reader = TrackReader(store_path, kind="flow")
    store_path.unlink()
    assert "no such flow store" in message(reader.videos)


def test_what_the_disk_has_no_room_for_is_refused_before_it_is_written(store_path: Path) -> None:
    """After a write that failed HDF5 cannot close its file, and Python crashes at its end."""
    before = the_part(store_path).read_bytes()
    huge = np.broadcast_to(np.int8(1), (1 << 44, 2, 16, 16))
    with open_store(store_path, kind="flow", settings={}) as store:

        def write() -> None:
            with store.video("a", key="k2", stamps_s=np.arange(3.0), attributes={}) as entry:
                entry.append("motion", huge)

        assert "flow.h5: 'a': the disk is nearly full" in message(write)
    assert the_part(store_path).read_bytes() == before
    assert [path.name for path in the_part(store_path).parent.glob(".*")] == [".lock"]
