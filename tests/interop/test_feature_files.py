from __future__ import annotations

import os
import pickle
import tempfile
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from tadkit.errors import StoreError
from tadkit.interop.feature_files import FeatureFile, feature_files, read_features

VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)


def features(path: Path, *, channels_first: bool = False) -> list[FeatureFile]:
    return [found.features(channels_first=channels_first) for found in read_features(path)]


def npy(path: Path) -> None:
    np.save(path, VALUES)


def npz(path: Path) -> None:
    np.savez(path, feats=VALUES, fps=25, feature_stride=np.array(4), labels=np.zeros(3))


def pt(path: Path) -> None:
    torch.save(torch.from_numpy(VALUES), path)


def pt_of_a_parameter(path: Path) -> None:
    torch.save(torch.from_numpy(VALUES).requires_grad_(), path)


def pt_of_a_dict(path: Path) -> None:
    torch.save({"features": torch.from_numpy(VALUES)[None], "clip_frames": 16}, path)


def csv(path: Path) -> None:
    lines = [",".join(map(str, row)) for row in VALUES]
    path.write_text("\n".join(["a,b,c", *lines]) + "\n")


def csv_without_heading(path: Path) -> None:
    np.savetxt(path, VALUES, delimiter=",")


def h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["features"] = VALUES.astype(np.float64)
        file.attrs["fps"] = 25.0


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        (".npy", npy),
        (".npz", npz),
        (".pt", pt),
        (".pt", pt_of_a_parameter),
        (".pt", pt_of_a_dict),
        (".csv", csv),
        (".csv", csv_without_heading),
        (".h5", h5),
    ],
)
def test_each_kind_of_file_gives_the_same_features(suffix, write, tmp_path):
    path = tmp_path / f"v_1{suffix}"
    write(path)
    (found,) = features(path)
    assert found.name == "v_1"
    assert found.values.dtype == np.float32
    np.testing.assert_array_equal(found.values, VALUES)


def test_what_files_say_of_themselves_is_read(tmp_path):
    npz(tmp_path / "a.npz")
    pt_of_a_dict(tmp_path / "b.pt")
    h5(tmp_path / "c.h5")
    said = [features(path)[0] for path in feature_files(tmp_path)]
    assert [(f.stride_frames, f.clip_frames, f.fps) for f in said] == [
        (4.0, None, 25.0),
        (None, 16.0, None),
        (None, None, 25.0),
    ]


def test_one_hdf5_file_may_hold_all_videos(tmp_path):
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file["v_1"] = VALUES
        file["v_2/c3d_features"] = VALUES * 2
    first, second = features(tmp_path / "all.h5")
    assert (first.name, second.name) == ("v_1", "v_2")
    np.testing.assert_array_equal(second.values, VALUES * 2)


def test_channels_first_is_turned(tmp_path):
    np.save(tmp_path / "v.npy", VALUES.T)
    (found,) = features(tmp_path / "v.npy", channels_first=True)
    np.testing.assert_array_equal(found.values, VALUES)


EVIL = Path(tempfile.gettempdir()) / f"tadkit-test-evil-{os.getpid()}"


class Evil:
    """Creates a file when it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (EVIL,))


def test_the_evil_file_would_run_code_if_it_were_unpickled():
    try:
        pickle.loads(pickle.dumps(Evil()))
        assert EVIL.exists()
    finally:
        EVIL.unlink(missing_ok=True)


def evil_pt(path: Path) -> None:
    torch.save({"features": Evil()}, path)


def evil_npy(path: Path) -> None:
    np.save(path, np.array([Evil()], dtype=object), allow_pickle=True)


def two_arrays(path: Path) -> None:
    np.savez(path, a=VALUES, b=VALUES)


def one_dimension(path: Path) -> None:
    np.save(path, VALUES[0])


def not_finite(path: Path) -> None:
    np.save(path, VALUES * np.nan)


def complex_numbers(path: Path) -> None:
    np.save(path, VALUES * 1j)


def beyond_float32(path: Path) -> None:
    np.save(path, VALUES.astype(np.float64) * 1e300 + 1e300)


def a_heading_without_numbers(path: Path) -> None:
    head = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 8), }"
    path.write_bytes(head.ljust(127) + b"\n")


def complex_tensor(path: Path) -> None:
    torch.save(torch.from_numpy(VALUES) * 1j, path)


def tensors_of_several_lengths(path: Path) -> None:
    torch.save([torch.from_numpy(VALUES), torch.from_numpy(VALUES[:2])], path)


def meta_tensor(path: Path) -> None:
    torch.save(torch.empty(4, 3, device="meta"), path)


def objects_alone(path: Path) -> None:
    np.savez(path, feats=np.array([Evil()], dtype=object))


def cut_short(path: Path) -> None:
    npz(path)
    path.write_bytes(path.read_bytes()[:300])


def npy_by_another_name(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, VALUES)


def words(path: Path) -> None:
    path.write_text("a,b\nc,d\n")


@pytest.mark.parametrize(
    ("suffix", "write", "said"),
    [
        (".pt", evil_pt, "not a file of plain tensors"),
        (".npy", evil_npy, "not a NumPy file of plain numbers"),
        (".npz", two_arrays, r"2 arrays of \(steps, channels\) \(a, b\); expected one"),
        (".npy", one_dimension, r"has shape \(3,\)"),
        (".npy", not_finite, "not finite"),
        (".npy", complex_numbers, "of complex64; expected"),
        (".npy", beyond_float32, "not finite"),
        (".npy", a_heading_without_numbers, "not a NumPy file"),
        (".pt", complex_tensor, "of complex64; expected"),
        (".pt", tensors_of_several_lengths, "expected .steps, channels. numbers"),
        (".pt", meta_tensor, "expected .steps, channels. numbers"),
        (".npz", objects_alone, "0 arrays of"),
        (".npz", cut_short, "not a NumPy file"),
        (".npz", npy_by_another_name, "if it is a .npy"),
        (".csv", words, "not a table of comma-separated numbers"),
        (".h5", words, "not an HDF5 file"),
        (".npz", words, "not a NumPy file"),
    ],
)
def test_what_is_no_plain_array_is_refused_in_one_line_and_never_run(suffix, write, said, tmp_path):
    write(tmp_path / f"v{suffix}")
    with pytest.raises(StoreError, match=said) as caught:
        features(tmp_path / f"v{suffix}")
    assert "\n" not in str(caught.value)
    assert not any(word in str(caught.value) for word in ("weights_only", "allow_pickle", "trust"))
    assert not EVIL.exists()


@pytest.mark.parametrize(
    ("suffix", "write"), [(".npy", npy), (".npz", npz), (".pt", pt), (".pt", pt_of_a_dict), (".csv", csv), (".h5", h5)]
)
@pytest.mark.filterwarnings("ignore")
def test_files_with_bytes_changed_are_read_or_refused(suffix, write, tmp_path):
    path, rng = tmp_path / f"v{suffix}", np.random.default_rng(0)
    write(path)
    whole = path.read_bytes()
    for _ in range(100):
        content, places = bytearray(whole), rng.integers(0, min(len(whole), 400), rng.integers(1, 4))
        for place in places:
            content[place] = rng.integers(256)
        path.write_bytes(content[: rng.integers(1, len(content))] if rng.random() < 0.2 else content)
        with suppress(StoreError):
            features(path)


def test_a_name_in_an_hdf5_file_that_is_no_text_is_refused(tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file[b"v_\xff"] = VALUES
    with pytest.raises(StoreError, match="is not UTF-8"):
        features(tmp_path / "v.h5")


def test_objects_beside_the_features_are_passed_over(tmp_path):
    np.savez(tmp_path / "v.npz", feats=VALUES, meta=np.array([Evil()], dtype=object))
    (found,) = features(tmp_path / "v.npz")
    np.testing.assert_array_equal(found.values, VALUES)
    assert not EVIL.exists()


def test_sparse_and_half_tensors_are_read(tmp_path):
    torch.save(torch.from_numpy(VALUES).to_sparse(), tmp_path / "s.pt")
    torch.save(torch.from_numpy(VALUES).bfloat16(), tmp_path / "t.pt")
    for path in feature_files(tmp_path):
        np.testing.assert_array_equal(features(path)[0].values, VALUES)


def test_a_folder_holds_links_to_nowhere_and_what_macos_leaves(tmp_path):
    npy(tmp_path / "a.npy")
    (tmp_path / "._a.npy").write_bytes(b"\0\5\x16\7")
    (tmp_path / "b.npy").symlink_to(tmp_path / "gone.npy")
    assert [path.name for path in feature_files(tmp_path)] == ["a.npy", "b.npy"]


def test_a_file_of_another_kind_is_refused_with_those_that_are_read(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"x")
    with pytest.raises(StoreError, match=r"expected \.npy .* \(pickles are not loaded\)"):
        feature_files(tmp_path / "a.pkl")
