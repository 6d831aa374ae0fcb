from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from tadkit.data.feature_files import feature_files, read_features
from tadkit.errors import StoreError

VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)


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
    (found,) = read_features(path, channels_first=False)
    assert found.name == "v_1"
    assert found.values.dtype == np.float32
    np.testing.assert_array_equal(found.values, VALUES)


def test_what_files_say_of_themselves_is_read(tmp_path):
    npz(tmp_path / "a.npz")
    pt_of_a_dict(tmp_path / "b.pt")
    h5(tmp_path / "c.h5")
    said = [next(iter(read_features(path, channels_first=False))) for path in feature_files(tmp_path)]
    assert [(f.stride_frames, f.clip_frames, f.fps) for f in said] == [
        (4.0, None, 25.0),
        (None, 16.0, None),
        (None, None, 25.0),
    ]


def test_one_hdf5_file_may_hold_all_videos(tmp_path):
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file["v_1"] = VALUES
        file["v_2/c3d_features"] = VALUES * 2
    first, second = read_features(tmp_path / "all.h5", channels_first=False)
    assert (first.name, second.name) == ("v_1", "v_2")
    np.testing.assert_array_equal(second.values, VALUES * 2)


def test_channels_first_is_turned(tmp_path):
    np.save(tmp_path / "v.npy", VALUES.T)
    (found,) = read_features(tmp_path / "v.npy", channels_first=True)
    np.testing.assert_array_equal(found.values, VALUES)


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("/tmp/tadkit-test-evil"),))


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
        (".csv", words, "not a table of numbers"),
        (".h5", words, "not an HDF5 file"),
        (".npz", words, "not a NumPy file"),
    ],
)
def test_what_is_no_plain_array_is_refused_in_one_line_and_never_run(suffix, write, said, tmp_path):
    write(tmp_path / f"v{suffix}")
    with pytest.raises(StoreError, match=said) as caught:
        list(read_features(tmp_path / f"v{suffix}", channels_first=False))
    assert "\n" not in str(caught.value)
    assert not Path("/tmp/tadkit-test-evil").exists()
