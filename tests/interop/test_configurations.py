"""Python recipes of OpenTAD are read, and nothing in them is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tadkit.errors import SettingsError
from tadkit.interop.configurations import read_config


def test_values_of_every_form_that_recipes_have_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        '"""A recipe."""\n'
        'data_path = "data/"\n'
        'block_list = data_path + "missing.txt"\n'
        "window_size = 768\n"
        "model = dict(\n"
        "    arch=(2, 0, 5),  # layers\n"
        "    steps=window_size * 2 // 16, rate=-0.5, off=None, on=True,\n"
        '    ranges=[(0, 4), (4, 10000)], table={"type": "GN", 3: 1},\n'
        "    index=list(range(1, 12, 5)),\n"
        ")\n"
    )
    model = {
        "arch": (2, 0, 5),
        "steps": 96,
        "rate": -0.5,
        "off": None,
        "on": True,
        "ranges": [(0, 4), (4, 10000)],
        "table": {"type": "GN", 3: 1},
        "index": [1, 6, 11],
    }
    read = {"data_path": "data/", "block_list": "data/missing.txt", "window_size": 768, "model": model}
    assert read_config(tmp_path / "a.py") == read


def test_a_recipe_stands_over_its_bases_and_the_later_over_the_earlier(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "root.py").write_text('x = dict(a=1, norm=dict(type="LN", eps=1))\n')
    (tmp_path / "base" / "one.py").write_text('_base_ = "root.py"\nx = dict(b=1)\ny = 1\n')
    (tmp_path / "base" / "two.yaml").write_text("x: {b: 2}\n")
    (tmp_path / "a.py").write_text(
        '_base_ = ["base/one.py", "base/two.yaml"]\n'
        'x = dict(c=3, norm=dict(_delete_=True, type="GN"), new=dict(_delete_=True, of=4))\n'
        "y = [2]\n"
    )
    assert read_config(tmp_path / "a.py") == {
        "x": {"a": 1, "b": 2, "c": 3, "norm": {"type": "GN"}, "new": {"of": 4}},
        "y": [2],
    }


@pytest.mark.parametrize(
    "line",
    [
        "import os",
        'x = open("made", "w")',
        'x = __import__("os").getcwd()',
        "x = unknown",
        "x = dict(**known)",
        "x = {**known}",
        "x = {(1, [2]): 3}",
        "x = [n for n in [1]]",
        "x = f'{known}'",
        "x = list(range(10**12))",
        "x = list(range(1000000000000))",
        "x = list(range(1, 2, 0))",
        "x = 'a' * 1000000000",
        "x = 1 / 0",
        "x = 'a' + 1",
        "x = y = 1",
        "known.update(a=1)",
        "for n in [1]: pass",
        "_base_ = [1]",
    ],
)
def test_whatever_else_is_refused_by_its_line(line: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(f"known = dict(a=1)\n\n{line}\n")
    with pytest.raises(SettingsError, match=r"a\.py: line 3: '.*' is not read, since no code is run") as error:
        read_config(tmp_path / "a.py")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.py"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = (1,\n", "line 1: not Python"),
        ("x = 1\0", "a.py: "),
        ('_base_ = "a.py"\n', "line 1: is based on itself"),
        ('_base_ = "b.py"\n', r"b\.py: cannot be read"),
        (f"x = {'-' * 5000}1\n", "a.py: "),
    ],
)
def test_files_that_are_no_recipe_are_refused_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(text)
    with pytest.raises(SettingsError, match=said) as error:
        read_config(tmp_path / "a.py")
    assert "\n" not in str(error.value)
