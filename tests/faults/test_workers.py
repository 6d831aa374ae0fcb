"""A worker that hangs costs its own job."""

from __future__ import annotations

import multiprocessing
import os

import pytest

from faults.stopping import stops
from tadkit.runtime.processes import Died, in_workers


@pytest.mark.skipif(os.name != "posix", reason="needs SIGSTOP")
def test_a_worker_that_hangs_costs_its_own_job() -> None:
    jobs = ["first", "hangs", "second", "third"]
    events = dict(in_workers(jobs, [stops, stops], patience_s=3.0))
    died = events.pop("hangs")
    assert isinstance(died, Died)
    assert died.how == "silent for 3 s"
    assert events == {name: f"{name} done" for name in ("first", "second", "third")}
    assert not multiprocessing.active_children()
