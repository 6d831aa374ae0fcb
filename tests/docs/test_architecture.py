"""The page on the architecture says what the import contracts and the folders say."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
MOST_MODULES = 12
"""Modules in a folder; the annotation formats are one file each, however many there are."""


def section(heading: str) -> str:
    """The text below a heading of the page, up to the next one."""
    return PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def table(text: str) -> list[list[str]]:
    """Cells of the rows of a table, without its heading."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_the_layers_are_those_of_the_contract():
    (contract,) = (contract for contract in CONTRACTS if contract["name"] == "Imports point down")
    drawn = re.search(r"```text\n(.*?)```", section("Who may import whom"), re.DOTALL)
    assert drawn is not None
    assert [line.strip() for line in drawn[1].splitlines()] == contract["layers"]


def test_every_room_and_module_is_described_once():
    there = {
        path.stem for path in (ROOT / "tadkit").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    described = [name for row in table(section("Rooms")) for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(described) == sorted(there - {"__init__"})


def test_what_lives_in_one_room_is_what_the_contracts_protect():
    protected = {
        tuple(contract["protected_modules"]): [
            importer.removeprefix("tadkit.") for importer in contract["allowed_importers"]
        ]
        for contract in CONTRACTS
        if contract["type"] == "protected"
    }
    described = {
        tuple(re.findall(r"`([\w.]+)`", libraries)): re.findall(r"`([\w.]+)`", rooms)
        for libraries, rooms, *_ in table(section("What only one room knows"))
    }
    assert described == protected


@pytest.mark.parametrize("mention", sorted(set(re.findall(r"`(\w+(?:/\w+)*\.py)(?:::(\w+))?`", PAGE))))
def test_every_file_and_function_that_is_named_exists(mention):
    path, name = mention
    module = ROOT / "tadkit" / path
    assert module.is_file()
    if name:
        tree = ast.parse(module.read_text(encoding="utf-8"))
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_no_folder_holds_more_modules_than_a_reader_can_overlook():
    counts = {
        folder.relative_to(ROOT).as_posix(): len({*folder.glob("*.py")} - {folder / "__init__.py"})
        for folder in [ROOT / "tadkit", *(ROOT / "tadkit").rglob("*")]
        if folder.is_dir() and folder.name != "formats"
    }
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}
