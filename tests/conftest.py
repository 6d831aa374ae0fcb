"""What all tests share: the command line in process, the shared data, quiet property tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from hypothesis import settings

from tadkit.cli import app, main

pytest_plugins = ["toy_recipe"]

# Machines differ in speed and run several jobs; how long one example takes is no truth about tadkit.
# CI draws the same examples every time; elsewhere they are new ones.
settings.register_profile("tadkit", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI")))
settings.load_profile("tadkit")


@dataclass(frozen=True)
class Ran:
    """What a command gave back."""

    code: int
    out: str
    err: str


@pytest.fixture
def tadkit(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run ``tadkit WORDS...`` in this process."""

    def call(*words: str | Path) -> Ran:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of shared research data; tests that need it are skipped where it is not."""
    folder = os.environ.get("TADKIT_DATA")
    if not folder:
        pytest.skip("needs TADKIT_DATA, the shared research data")
    return Path(folder)


@pytest.fixture(scope="session")
def parse() -> Callable[[Sequence[str]], None]:
    """Parse the words after ``tadkit`` down to the last command; click raises where they do not fit."""

    def call(words: Sequence[str], command: click.Command = app, parent: click.Context | None = None) -> None:
        inner = command.commands.get(words[0]) if isinstance(command, click.Group) and words else None
        if inner is None:
            command.make_context(command.name, list(words), parent=parent)
        else:
            call(words[1:], inner, command.make_context(command.name, [words[0]], parent=parent))

    return call
