"""Known flow is read as it was written, judged as defined, and refused in one line where it is not whole."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadkit.errors import UsageError
from tadkit.flow.truth import TruthPair, end_point_distance, flow_error, read_flo, read_truth


def write_flo(path: Path, flow: np.ndarray) -> None:
    """``flow`` is (2, height, width)."""
    header = struct.pack("<fii", 202021.25, flow.shape[2], flow.shape[1])
    path.write_bytes(header + np.moveaxis(flow, 0, -1).astype("<f4").tobytes())


def pair(flow: np.ndarray, known: np.ndarray | None = None) -> TruthPair:
    height, width = flow.shape[1:]
    frames = np.zeros((2, height, width, 3), np.uint8)
    return TruthPair("p", frames, flow.astype(np.float32), np.ones((height, width), bool) if known is None else known)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One pair, ``a``, of 6 x 4 px: red, then blue."""
    rng = np.random.default_rng(0)
    for number, colour in ((1, (255, 0, 0)), (2, (0, 0, 255))):
        picture = np.full((4, 6, 3), colour, np.uint8)
        cv2.imwrite(str(tmp_path / f"a_img{number}.ppm"), picture[..., ::-1])
    write_flo(tmp_path / "a_flow.flo", rng.normal(size=(2, 4, 6)))
    return tmp_path


def test_what_opencv_writes_is_what_we_read(tmp_path: Path) -> None:
    flow = np.random.default_rng(0).normal(size=(5, 7, 2)).astype(np.float32)
    cv2.writeOpticalFlow(str(tmp_path / "f.flo"), flow)
    np.testing.assert_array_equal(read_flo(tmp_path / "f.flo"), np.moveaxis(flow, -1, 0))


@pytest.mark.parametrize("suffix", [".ppm", ".png", ".jpg"])
def test_pictures_are_rgb_in_order_of_time(folder: Path, suffix: str) -> None:
    for number in (1, 2):
        old = folder / f"a_img{number}.ppm"
        picture = cv2.imread(str(old))
        old.unlink()
        cv2.imwrite(str(folder / f"a_img{number}{suffix}"), picture)
    (read,) = read_truth(folder)
    assert (read.name, read.frames.shape, read.frames.dtype) == ("a", (2, 4, 6, 3), np.uint8)
    np.testing.assert_allclose(read.frames[:, 1, 1].astype(int), [[255, 0, 0], [0, 0, 255]], atol=2)


def test_pairs_come_by_name_and_may_differ_in_size(folder: Path) -> None:
    for name, side_px in (("c", 3), ("b", 5)):
        for number in (1, 2):
            cv2.imwrite(str(folder / f"{name}_img{number}.png"), np.zeros((side_px, side_px, 3), np.uint8))
        write_flo(folder / f"{name}_flow.flo", np.zeros((2, side_px, side_px)))
    assert [(read.name, read.flow.shape[1:]) for read in read_truth(folder)] == [
        ("a", (4, 6)),
        ("b", (5, 5)),
        ("c", (3, 3)),
    ]


@given(st.floats(-50, 50), st.floats(-50, 50))
def test_a_constant_offset_is_its_own_error(right_px: float, down_px: float) -> None:
    truth = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)
    flow = (truth + np.array([right_px, down_px]).reshape(2, 1, 1)).astype(np.float32)
    error = flow_error([flow], [pair(truth)])
    assert error.epe_px == pytest.approx(np.hypot(right_px, down_px), abs=1e-4)


def test_every_pixel_of_every_pair_weighs_the_same() -> None:
    small, large = np.zeros((2, 1, 2)), np.zeros((2, 1, 6))
    off = small + np.array([3.0, 4.0]).reshape(2, 1, 1)
    error = flow_error([off, large], [pair(small), pair(large)])
    assert error.epe_px == pytest.approx(2 * 5 / 8)
    assert error.outliers_over_3px == pytest.approx(2 / 8)


def test_an_outlier_is_more_than_3_px_off() -> None:
    flow = np.zeros((2, 1, 4))
    flow[0, 0] = [0, 3.0, 3.01, -9]
    assert flow_error([flow], [pair(np.zeros((2, 1, 4)))]).outliers_over_3px == 0.5


def test_unknown_flow_is_left_out(folder: Path) -> None:
    flow = np.zeros((2, 4, 6))
    flow[0, 0, 0], flow[1, 1, 1], flow[0, 2, 2] = 1.7e9, -1.7e9, np.nan
    write_flo(folder / "a_flow.flo", flow)
    (read,) = read_truth(folder)
    assert read.known.sum() == 24 - 3
    assert flow_error([np.zeros((2, 4, 6))], [read]).epe_px == 0


def test_distance_keeps_the_pairs_apart() -> None:
    a, b = np.zeros((3, 2, 4, 5), np.float32), np.zeros((3, 2, 4, 5), np.float32)
    b[1] = 1
    assert end_point_distance(a, b).shape == (3, 4, 5)
    np.testing.assert_allclose(end_point_distance(a, b).mean(axis=(1, 2)), [0, np.sqrt(2), 0], atol=1e-6)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def refill(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def resize(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((4, 7, 3), np.uint8))


DAMAGE = [
    pytest.param("a_flow.flo", Path.unlink, r"a_flow.flo: cannot be read \(No such file", id="no flow"),
    pytest.param("a_flow.flo", cut, "a_flow.flo: damaged: 203 bytes where 6x4 px of flow take 204", id="cut"),
    pytest.param("a_flow.flo", lambda path: refill(path, b"GIF89a" * 9), "not a .flo file", id="no .flo"),
    pytest.param("a_flow.flo", lambda path: refill(path, b""), "not a .flo file", id="empty flow"),
    pytest.param(
        "a_flow.flo", lambda path: refill(path, struct.pack("<4sii", b"PIEH", -1, -1) + bytes(8)), "damaged", id="sides"
    ),
    pytest.param(
        "a_flow.flo", lambda path: write_flo(path, np.full((2, 4, 6), 2e9)), "no pixel has known", id="unknown"
    ),
    pytest.param("a_img1.ppm", Path.unlink, "a_img1: no such picture; looked for .ppm .png .jpg", id="no picture 1"),
    pytest.param("a_img2.ppm", Path.unlink, "a_img2: no such picture", id="no picture 2"),
    pytest.param("a_img2.ppm", lambda path: refill(path, b""), "a_img2.ppm: cannot be read as a picture", id="empty"),
    pytest.param("a_img2.ppm", lambda path: refill(path, b"P6 no"), "cannot be read as a picture", id="no image"),
    pytest.param("a_img2.ppm", resize, r"ground truth is 6x4 px, but a_img2 is 7x4", id="size"),
]


@pytest.mark.parametrize(("name", "harm", "said"), DAMAGE)
def test_what_is_not_whole_is_refused_in_one_line(folder, capfd, name, harm, said):
    harm(folder / name)
    with pytest.raises(UsageError, match=said) as caught:
        read_truth(folder)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("name", "said"), [("", "no ground truth in this folder"), ("nowhere", "no such folder")])
def test_a_folder_without_truth_is_refused(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_truth(tmp_path / name)


def test_errors_are_also_given_by_the_length_of_the_true_displacement() -> None:
    """Pixels that move 0, 1, 2, 2 and 10 px, and one of unknown flow; 1, 2, 3, 4, 5 px off."""
    truth = np.zeros((2, 1, 6))
    truth[0, 0] = [0, 1, 2, 2, 10, 99]
    known = np.array([[True] * 5 + [False]])
    found = truth + np.array([[[0] * 6], [[1, 2, 3, 4, 5, 6]]])
    error = flow_error([found.astype(np.float32)], [pair(truth, known)])
    assert error.epe_px_by_band == (1.0, 3.0, None, 5.0)
    assert error.epe_px == 3.0
