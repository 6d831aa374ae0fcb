"""Docs run: Python blocks, recipes, command lines and links of README.md and docs/."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from doctest import ELLIPSIS
from pathlib import Path

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import PythonCodeBlockParser

from tadkit.config.loading import parse_recipe

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[object]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            line = text[: match.start()].count("\n") + 1
            found.append(pytest.param(match[1], id=f"{page.name}:{line}"))
    return found


def python_blocks() -> list[object]:
    """One parameter for each block; blocks of a page share their names, as they do for its reader."""
    sybil = Sybil(parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS)], encoding="utf-8")
    found = []
    for page in PAGES:
        document = sybil.parse(page)
        found += [pytest.param(example, id=f"{page.name}:{example.line}") for example in document.examples()]
    return found


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the examples, where blocks may write."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copytree(ROOT / "examples", folder / "examples")
    return folder


@pytest.mark.parametrize("example", python_blocks())
def test_python_blocks_run(example: Example, monkeypatch, scratch: Path):
    monkeypatch.chdir(scratch)
    example.evaluate()


@pytest.mark.parametrize("text", blocks("toml"))
def test_recipes_are_valid(text):
    assert parse_recipe(text, name="page").labels


@pytest.mark.parametrize("text", blocks("sh"))
def test_command_lines_parse(text, parse):
    commands = [command for line in text.splitlines() for command in re.split(r"\s+&&\s+", line)]
    for command in commands:
        words = shlex.split(command, comments=True)
        if words and Path(words[0]).name == "tadkit":
            parse(words[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


def anchors(page: Path) -> set[str]:
    """Anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_generated_pages_are_what_the_code_says():
    pages = ["docs/cli.md", "docs/settings.md"]
    command = [sys.executable, "-m", "cogapp", "--check", "-P", "-I", "docs", *pages]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"write them anew: cog -r -P -I docs {' '.join(pages)}\n{ran.stdout}{ran.stderr}"


def shown_output(page: Path, command: str) -> str:
    """The text block that follows the shell block that ends with a command."""
    text = page.read_text(encoding="utf-8")
    found = re.search(rf"^```sh\n[^`]*{re.escape(command)}\n```\n\n```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"{page.name} shows no output of: {command}"
    return found[1]


@pytest.mark.parametrize("page", ["README.md"])
def test_the_output_of_detect_is_the_one_shown(page, tadkit, scratch, monkeypatch):
    monkeypatch.chdir(scratch)
    ran = tadkit("detect", "examples/room.mp4", "--out", "dets.json")
    shown = shown_output(ROOT / page, "tadkit detect examples/room.mp4 --out dets.json")
    assert [line.rstrip() for line in ran.out.strip("\n").splitlines()] == shown.rstrip("\n").splitlines()
