"""Docs run: Python blocks, recipes, command lines and links of README.md and docs/.

A ``text`` block right after a Python or shell block is its output, and is compared; ``...`` stands for anything.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from doctest import ELLIPSIS, OutputChecker
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


LINES = r"((?:(?!```).*\n)*)```"


def shown_outputs(language: str) -> Iterator[tuple[Path, int, str, str]]:
    """Page, line, text and shown output of each block of a language that is followed by one."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}\n{LINES}\n\n```text\n{LINES}", text, re.MULTILINE):
            yield page, text[: match.start()].count("\n") + 1, match[1], match[2]


OUTPUTS = {(page.name, line): output for page, line, _, output in shown_outputs("python")}


def assert_shown(output: str, shown: str) -> None:
    """Compare line by line without blanks at the ends of lines and blank lines around the whole."""
    found, wanted = ("\n".join(line.rstrip() for line in text.strip().splitlines()) for text in (output, shown))
    assert OutputChecker().check_output(f"{wanted}\n", f"{found}\n", ELLIPSIS), output


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the examples, where blocks may write."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copytree(ROOT / "examples", folder / "examples")
    return folder


@pytest.mark.parametrize("example", python_blocks())
def test_python_blocks_run_and_print_what_the_page_shows(example: Example, monkeypatch, capsys, scratch: Path):
    monkeypatch.chdir(scratch)
    example.evaluate()
    if shown := OUTPUTS.get((Path(example.path).name, example.line)):
        assert_shown(capsys.readouterr().out, shown)


def test_every_output_of_python_that_a_page_shows_is_compared():
    lines = {(Path(param.values[0].path).name, param.values[0].line) for param in python_blocks()}
    assert OUTPUTS
    assert OUTPUTS.keys() <= lines


def command_blocks() -> list[object]:
    """Shell blocks of tadkit commands whose output is shown; those that train take minutes."""
    return [
        pytest.param(text, shown, id=f"{page.name}:{line}", marks=[pytest.mark.slow] if "tadkit run" in text else [])
        for page, line, text, shown in shown_outputs("sh")
    ]


@pytest.mark.parametrize(("text", "shown"), command_blocks())
def test_commands_print_what_the_page_shows(text, shown, tadkit, scratch, monkeypatch):
    monkeypatch.chdir(scratch)
    lines = [line.split(" && ")[-1] for line in text.splitlines()]  # installation comes before
    ran = [tadkit(*shlex.split(line, comments=True)[1:]) for line in lines]
    assert [one.code for one in ran] == [0] * len(ran)
    assert_shown("".join(one.out for one in ran), shown)


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
    pages = ["docs/cli.md", "docs/settings.md", "docs/reliability.md"]
    command = [sys.executable, "-m", "cogapp", "--check", "-P", "-I", "docs", *pages]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"write them anew: cog -r -P -I docs {' '.join(pages)}\n{ran.stdout}{ran.stderr}"


def test_an_optional_setting_takes_the_values_of_its_kind():
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert "| `fallback_fps` | number, >= 0.01, <= 1000 | none |" in page
