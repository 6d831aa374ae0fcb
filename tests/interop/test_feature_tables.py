"""Which lines and columns of a csv are features."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tadkit.errors import StoreError
from tadkit.interop.feature_tables import read_feature_table

VALUES = np.arange(12, dtype=np.float32).reshape(4, 3) / 8


def pandas_like(values: np.ndarray, *, heading: bool, index: bool, names: str = "", corner: str = "") -> str:
    """A table as pandas writes it: numbers as heading and row numbers, unless told otherwise."""
    steps, channels = values.shape
    lines = [",".join([*[corner] * index, *(f"{names}{n}" for n in range(channels))])] * heading
    for n in range(steps):
        lines.append(",".join([*[str(n)] * index, *(repr(float(x)) for x in values[n])]))
    return "\n".join(lines) + "\n"


@settings(max_examples=80)
@given(
    st.integers(1, 6), st.integers(2, 5), st.booleans(), st.booleans(), st.sampled_from(["", "f"]), st.integers(0, 99)
)
def test_headings_and_row_numbers_are_no_features(steps, channels, heading, index, names, seed):
    values = np.random.default_rng(seed).normal(size=(steps, channels)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "v.csv"
        path.write_text(pandas_like(values, heading=heading, index=index, names=names))
        found = read_feature_table(path, "detect")
    np.testing.assert_allclose(found.values, values)
    assert bool(found.note) == (index or heading)


@pytest.mark.parametrize("corner", ["", '""', "frame", "Unnamed: 0", "timestamp"])
def test_a_named_index_is_no_channel(corner, tmp_path):
    path = tmp_path / "v.csv"
    path.write_text(pandas_like(VALUES, heading=True, index=True, names="f", corner=corner))
    found = read_feature_table(path, "detect")
    np.testing.assert_array_equal(found.values, VALUES)
    assert found.note == (
        "the first line has the names of the columns and is no step; "
        "the first column has row numbers or times and is no channel"
    )


@pytest.mark.parametrize("layout", ["detect", "heading+index"])
@pytest.mark.parametrize(
    "names", ["start,end", "Start (s),End (s)", ",time_ms", "frame number,t", "start_frame,end_frame,duration"]
)
def test_all_first_columns_of_times_by_their_names_are_no_channels(names, layout, tmp_path):
    path, times = tmp_path / "v.csv", np.arange(4)[:, None] + np.zeros(names.count(",") + 1)
    heading = f"{names},f0,f1,f2\n"
    rows = "\n".join(",".join(f"{x:.3f}" for x in row) for row in np.hstack([times, VALUES]))
    path.write_text(heading + rows)
    found = read_feature_table(path, layout)
    np.testing.assert_array_equal(found.values, VALUES)
    assert layout != "detect" or f"the first {times.shape[1]} columns have row numbers or times" in found.note


@pytest.mark.parametrize("heading", ["phase,f0,f1,f2", "f0,f1,f2,time", "f0,f1,f2,phase"])
def test_a_column_whose_name_is_unlike_the_others_is_asked_about(heading, tmp_path):
    values = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    path = tmp_path / "v.csv"
    path.write_text("\n".join([heading, *(",".join(map(str, row)) for row in values)]))
    with pytest.raises(StoreError, match=r"its column '(phase|time)' may be no feature; .* --csv heading"):
        read_feature_table(path, "detect")
    np.testing.assert_allclose(read_feature_table(path, "heading").values, values)


@pytest.mark.parametrize("times", [np.arange(8.0), np.arange(8) * 0.4, np.arange(8) / 29.97 + 0.25, np.arange(8) + 5.0])
@pytest.mark.parametrize("form", ["%.18e", "%.3f"])
@pytest.mark.parametrize("heading", ["", "0,1,2,3,4,5\n", "a,b,c,d,e,f\n"])
def test_times_without_a_name_are_asked_about(heading, form, times, tmp_path):
    values = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    path = tmp_path / "v.csv"
    for column, table in ((1, np.column_stack([times, values])), (6, np.column_stack([values, times]))):
        path.write_text(heading + "\n".join(",".join(form % x for x in row) for row in table))
        with pytest.raises(StoreError, match=f"its column {column} rises in equal steps, .* with --csv") as error:
            read_feature_table(path, "detect")
        assert "\n" not in str(error.value)
        plain = read_feature_table(path, "heading" if heading else "plain").values
        np.testing.assert_allclose(plain, table, atol=1e-3)


@pytest.mark.parametrize(
    ("text", "what"), [("0,1,2\n3,4,5\n6,7,8\n", "first line"), ("0,5,7\n1,9,4\n2,3,3\n", "first column")]
)
def test_whole_numbers_that_could_be_either_are_asked_about(text, what, tmp_path):
    path = tmp_path / "v.csv"
    path.write_text(text)
    with pytest.raises(
        StoreError, match=f"its {what} counts 0, 1, 2 .* say with --csv plain, heading, index or"
    ) as error:
        read_feature_table(path, "detect")
    assert "\n" not in str(error.value)
    rows = np.loadtxt(text.splitlines(), delimiter=",", dtype=np.float32)
    for layout, wanted in (
        ("plain", rows),
        ("heading", rows[1:]),
        ("index", rows[:, 1:]),
        ("heading+index", rows[1:, 1:]),
    ):
        np.testing.assert_array_equal(read_feature_table(path, layout).values, wanted)


@pytest.mark.parametrize("text", ["0.0,1.0,2.0\n0.5,1,2\n", "1e0,nan,inf\n", "0,2,1\n0,0.5,1\n", "-1,0.5\n0,0.5\n"])
def test_what_only_resembles_a_heading_or_an_index_is_a_step_and_a_channel(text, tmp_path):
    (tmp_path / "v.csv").write_text(text)
    found = read_feature_table(tmp_path / "v.csv", "detect")
    assert found.values.shape == (len(text.splitlines()), len(text.splitlines()[0].split(",")))
    assert found.note == ""


def test_the_command_says_what_it_took_for_a_heading_and_an_index(tadkit, tmp_path):
    (tmp_path / "in").mkdir()
    values = np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)
    (tmp_path / "in" / "a.csv").write_text(pandas_like(values, heading=True, index=False))
    (tmp_path / "in" / "b.csv").write_text(pandas_like(values, heading=True, index=True))
    out = tmp_path / "f.h5"
    ran = tadkit("import", "features", tmp_path / "in", "--out", out, "--stride", "4", "--fps", "30")
    assert (ran.code, ran.out) == (0, f"{out}: 2 videos, 8 channels, 200 steps, 0 failed\n")
    assert "the first line, 0 to 7, is a heading and no step, in 1 files such as 'a.csv'" in ran.err
    assert "the first column has row numbers or times and is no channel, in 1 files such as 'b.csv'" in ran.err
