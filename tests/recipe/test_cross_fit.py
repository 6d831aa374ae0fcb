"""With cross-fitting, the joint head is trained on features of students that did not see the videos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tadkit.checkpoint import load_checkpoint
from tadkit.config.loading import load_recipe
from tadkit.progress import Quiet
from tadkit.recipe.workspace import Workspace, open_workspace
from tadkit.store import read_store

RGB = ('compare=["rgb"]', 'distill.method="rgb"')
CROSS_FIT = (*RGB, "train.head.cross_fit=2")
RunToy = Callable[..., dict[str, str]]


def test_every_group(finished: Path, run_toy: RunToy) -> None:
    states = run_toy(finished, *CROSS_FIT)
    print(states)
    assert 0
