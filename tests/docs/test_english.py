"""Plain English: words that give a text away as translated are not in help, errors, docs, docstrings or comments."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tadkit.cli import app

ROOT = Path(__file__).parents[2]
HISTORY = ("changelog.md",)
AVOIDED = {
    "surer": "high-confidence",
    "less sure": "low-confidence",
    "hears?": "is trained on, receives",
    "told|tells?(?! (apart|whether|which))": "reported, shown, distinguished",
    "a choice that there is not|such as there (is|are)|(that|which) there (is|are) not": "invalid, available",
    "to be had": "available",
    "(goes|go|went|going) on": "resumes, continues",
    "what others (computed|trained|made)": "from other projects",
    "pupils?": "student",
    "peers?|strangers?": "other projects, or their names",
    "rivals?": "baseline, alternative, comparison",
    "nameless": "class-agnostic",
    "lets? it end": "say what happens",
    "(what|all that) \\w+ (makes|made) of": "result, output",
    "lies? (ahead|there)": "is, are",
    "anew": "again, regenerate",
    "take the place of|in the place of": "replace",
    "(is|are|be|was) put": "is placed, is set",
    "may be given again": "may be repeated",
    "passed over": "ignored, skipped",
    "(is|are) no (list|number|file|table|video|class|size|tadkit|mapping|text)": "is not a ...",
    "half[- ]done": "incomplete",
    "whatever (its|the|their)": "independently of",
}
"""Patterns of words to avoid, and what to write instead."""
WORDS = re.compile("|".join(rf"\b(?:{pattern})\b" for pattern in AVOIDED), re.IGNORECASE)


def found(text: str) -> list[str]:
    """Avoided words in ``text``, whose line breaks count as blanks, each with its line number there."""
    flat = re.sub(r"\s", " ", text)
    return [
        f"{text[: m.start()].count(chr(10)) + 1}: {m[0]!r} in ...{context(flat, m)}..." for m in WORDS.finditer(flat)
    ]


def context(text: str, match: re.Match[str]) -> str:
    return text[max(0, match.start() - 30) : match.end() + 30]


def helps(
    command: click.Command = app, words: tuple[str, ...] = ("tadkit",), parent: click.Context | None = None
) -> Iterator[tuple[str, str]]:
    """The help text of each command, in which settings' descriptions are filled in."""
    wide = {**command.context_settings, "terminal_width": 1000, "max_content_width": 1000}
    context = command.context_class(command, info_name=words[-1], parent=parent, **wide)
    yield " ".join(words), f"{command.short_help or ''}\n{command.get_help(context)}"
    for name, inner in getattr(command, "commands", {}).items():
        yield from helps(inner, (*words, name), context)


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers and texts of the strings (docstrings, messages) and comments of a module."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    comments: list[tuple[int, str]] = []
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                comments.append((token.start[0], token.string))
    yield from comments


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = sorted((ROOT / "tadkit").rglob("*.py"))


@pytest.mark.parametrize(("name", "text"), [pytest.param(*one, id=one[0]) for one in helps()])
def test_help_is_plain(name, text):
    assert not found(text), f"{name} --help"


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in HISTORY], ids=lambda page: page.name)
def test_pages_are_plain(page):
    assert not found(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(ROOT)))
def test_docstrings_messages_and_comments_are_plain(module):
    lines = [f"{line} + {hit}" for line, text in prose(module) for hit in found(text)]
    assert not lines


@pytest.mark.parametrize(
    "text",
    [
        "prints a table of the surer detections",
        "the motion branch hears the teacher",
        "a video that fails is told on stderr and the others are kept",
        "a choice that there is not is told with those that there are",
        "videos that are no longer to be had",
        "goes on after a kill",
        "bring what others computed\n   or trained",
        "the pupil",
        "Peers",
        "a nameless head",
    ],
)
def test_the_check_finds_such_words(text):
    assert found(text)


@pytest.mark.parametrize(
    "text",
    [
        "prints the high-confidence detections",
        "failed videos are reported on stderr; the rest are still processed",
        "resumes after being killed",
        "import features and heads from other projects",
        "a class-agnostic head of the student",
    ],
)
def test_the_check_leaves_plain_english_alone(text):
    assert not found(text)
