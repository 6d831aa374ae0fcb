"""Model files: what comes back is what was stored, and what is no model is refused in one line."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tadkit.checkpoint import (
    FORMAT,
    VERSION,
    Checkpoint,
    copy_with_operating_points,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from tadkit.errors import WeightsError
from tadkit.files import digest_of_file

CHECKPOINT = Checkpoint(
    kind="student",
    settings={"head": {"levels": 5}, "views": ["original", "mirror"], "weights": None},
    labels=("walk", "bend down", "ümlaut"),
    tensors={
        "weight": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
        "counter": torch.tensor(7),
        "mask": torch.tensor([True, False]),
    },
    provenance={"key": "abc", "figure": 0.25},
)


def saved(folder: Path, *, half: bool = False) -> Path:
    path = folder / "model.safetensors"
    save_checkpoint(path, CHECKPOINT, half=half)
    return path


def one_line(error: pytest.ExceptionInfo[WeightsError], path: Path) -> str:
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def raw(path: Path, **changed: str | None) -> Path:
    """A file of the right format but for some header entries; None leaves one out."""
    header = {"format": FORMAT, "version": str(VERSION), "producer": "tadkit 9", "kind": "student"}
    header |= {"settings": "{}", "labels": "[]", "provenance": "{}"}
    kept = {name: value for name, value in (header | changed).items() if value is not None}
    save_file({"x": torch.zeros(1)}, path, metadata=kept)
    return path


def test_everything_comes_back(tmp_path: Path) -> None:
    path = saved(tmp_path)
    loaded = load_checkpoint(path, kind="student")
    assert (loaded.kind, loaded.settings, loaded.labels) == ("student", CHECKPOINT.settings, CHECKPOINT.labels)
    assert loaded.provenance == CHECKPOINT.provenance
    assert loaded.digest == digest_of_file(path)
    assert loaded.tensors.keys() == CHECKPOINT.tensors.keys()
    assert all(torch.equal(loaded.tensors[name], value) for name, value in CHECKPOINT.tensors.items())


def test_half_stores_float16_and_gives_back_float32(tmp_path: Path) -> None:
    path = saved(tmp_path, half=True)
    with safe_open(path, framework="pt") as file:
        assert file.get_tensor("weight").dtype == torch.float16
    loaded = load_checkpoint(path, kind="student")
    assert loaded.tensors["weight"].dtype == torch.float32
    assert torch.equal(loaded.tensors["weight"], CHECKPOINT.tensors["weight"].half().float())
    assert torch.equal(loaded.tensors["counter"], CHECKPOINT.tensors["counter"])


def test_the_same_checkpoint_is_the_same_file(tmp_path: Path) -> None:
    first = saved(tmp_path).read_bytes()
    assert saved(tmp_path).read_bytes() == first


def test_tensors_that_share_memory_or_are_views_can_be_stored(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {"all": base, "turned": base.T, "row": base[1]}
    path = tmp_path / "views.safetensors"
    save_checkpoint(path, Checkpoint(kind="student", settings={}, labels=(), tensors=tensors))
    loaded = load_checkpoint(path, kind="student").tensors
    assert all(torch.equal(loaded[name], value) for name, value in tensors.items())


def test_the_header_says_what_the_file_is(tmp_path: Path) -> None:
    with safe_open(saved(tmp_path), framework="pt") as file:
        header = file.metadata()
    assert header["format"] == "tadkit-checkpoint"
    assert header["version"] == "1"
    assert header["producer"].startswith("tadkit ")
    assert header["kind"] == "student"
    assert json.loads(header["settings"]) == CHECKPOINT.settings
    assert json.loads(header["labels"]) == list(CHECKPOINT.labels)


def test_another_kind_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    with pytest.raises(WeightsError) as error:
        load_checkpoint(path, kind="detector")
    assert "holds a student; expected a detector" in one_line(error, path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.safetensors"
    with pytest.raises(WeightsError) as error:
        load_checkpoint(path, kind="detector")
    assert "no such file" in one_line(error, path)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_cut_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError) as error:
        load_checkpoint(path, kind="student")
    assert "not a readable safetensors file" in one_line(error, path)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"hello, I am text\n" * 20])
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError) as error:
        load_checkpoint(path, kind="student")
    one_line(error, path)


def test_a_newer_version_is_refused_with_advice(tmp_path: Path) -> None:
    path = raw(tmp_path / "new.safetensors", version=str(VERSION + 1))
    with pytest.raises(WeightsError) as error:
        load_checkpoint(path, kind="student")
    message = one_line(error, path)
    assert "tadkit 9" in message
    assert "upgrade" in message


def test_safetensors_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(WeightsError) as error:
        load_checkpoint(path, kind="student")
    assert "not a tadkit checkpoint" in one_line(error, path)


@pytest.mark.parametrize(
    "damage", [{"settings": "{"}, {"labels": None}, {"version": "one"}, {"version": None}, {"kind": None}]
)
def test_a_damaged_header_is_refused(tmp_path: Path, damage: dict[str, str | None]) -> None:
    path = raw(tmp_path / "damaged.safetensors", **damage)
    with pytest.raises(WeightsError) as error:
        load_checkpoint(path, kind="student")
    assert "header is damaged" in one_line(error, path)


class _Trap:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_no_pickle_is_read(tmp_path: Path, name: str, how: str) -> None:
    path, trap = tmp_path / name, tmp_path / "sprung"
    if how == "pickle":
        path.write_bytes(pickle.dumps(_Trap(trap)))
    else:
        torch.save({"x": _Trap(trap)}, path)
    with pytest.raises(WeightsError) as error:
        load_checkpoint(path, kind="student")
    one_line(error, path)
    assert not trap.exists()
    if how == "pickle":  # the trap does work
        pickle.loads(path.read_bytes()).close()
        assert trap.exists()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = saved(tmp_path)
    before = path.read_bytes()
    bad = Checkpoint(kind="student", settings={}, labels=(), tensors={"x": torch.zeros(2, dtype=torch.complex128)})
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever safetensors says
        save_checkpoint(path, bad)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "tensors",
    [
        {"weight": torch.zeros(2, 3)},
        {"weight": torch.zeros(3, 2), "bias": torch.zeros(2)},
        {"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "more": torch.zeros(1)},
    ],
    ids=["lacking", "another shape", "too many"],
)
def test_weights_must_fit_exactly(tensors: dict[str, torch.Tensor]) -> None:
    module = torch.nn.Linear(3, 2)
    before = module.weight.detach().clone()
    with pytest.raises(WeightsError, match=r"^model\.safetensors: weights do not fit"):
        load_weights(module, Checkpoint("head", {}, (), tensors, path=Path("model.safetensors")))
    assert torch.equal(module.weight, before)


def detector(folder: Path, points: dict[str, float] | None = None) -> Path:
    path = folder / "detector.safetensors"
    given = replace(CHECKPOINT, kind="detector", operating_points=points or {})
    save_checkpoint(path, given, half=True)
    return path


def test_operating_points_come_back_and_files_without_them_have_none(tmp_path: Path) -> None:
    assert load_checkpoint(detector(tmp_path, {"walk": 0.25}), kind="detector").operating_points == {"walk": 0.25}
    path = detector(tmp_path)
    assert load_checkpoint(path, kind="detector").operating_points == {}
    with safe_open(path, framework="pt") as file:
        assert "operating_points" not in file.metadata(), "as version 1 was before"


@pytest.mark.parametrize("points", ['{"walk": 2}', '{"walk": "0.3"}', '{"walk": true}', "[0.3]", '{"walk": NaN}', "{"])
def test_operating_points_that_are_no_scores_are_reported(tmp_path: Path, points: str) -> None:
    path = raw(tmp_path / "model.safetensors", labels='["walk"]', operating_points=points)
    with pytest.raises(WeightsError, match="its header is damaged") as error:
        load_checkpoint(path, kind="student")
    one_line(error, path)


def test_a_copy_with_operating_points_has_the_same_weights_byte_for_byte(tmp_path: Path) -> None:
    path, out = detector(tmp_path), tmp_path / "copy.safetensors"
    copy_with_operating_points(path, out, {"ümlaut": 0.5, "walk": 0.123}, provenance={"videos": ["v"]})
    before, after = load_checkpoint(path, kind="detector"), load_checkpoint(out, kind="detector")
    assert after.operating_points == {"walk": 0.123, "ümlaut": 0.5}
    assert after.provenance == {**CHECKPOINT.provenance, "operating_points": {"videos": ["v"]}}
    assert (after.settings, after.labels) == (before.settings, before.labels)
    weights = [file.read_bytes()[8 + int.from_bytes(file.read_bytes()[:8], "little") :] for file in (path, out)]
    assert weights[0] == weights[1] != b""
    copy_with_operating_points(out, out, {"walk": 0.123}, provenance={})
    assert load_checkpoint(out, kind="detector").operating_points == {"walk": 0.123}
