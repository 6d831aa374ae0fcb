"""What the faults are injected into, made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.commands import make_everything
from faults.warm import Warm
from faults.worker import Worker


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, models and a finished run; not to be changed."""
    return make_everything(tmp_path_factory.mktemp("faults") / "everything")


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Starts commands without the time to import."""
    with Warm() as server:
        yield server


@pytest.fixture(scope="session")
def worker() -> Iterator[Worker]:
    """Runs commands on hostile files."""
    with Worker() as running:
        yield running
