"""What all tests share: the command line in process, the shared data, quiet property tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

from tadkit.cli import main

# Machines differ in speed and run several jobs; how long one example takes is no truth about tadkit.
settings.register_profile("tadkit", deadline=None, print_blob=True)
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
