"""A part of the faults of ``python -m faults``: nothing is lost, and hostile files are read or refused in a line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from faults import files, places, videos
from faults.commands import COMMANDS
from faults.kills import killed
from faults.warm import Warm
from faults.worker import Outcome, Worker

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs signals, /proc and limits of Linux")
QUICK = ("data convert", "import features")


def lost(found: Iterable[tuple[str, int, Outcome]]) -> list[tuple[str, int, Outcome]]:
    return [(form, seed, outcome) for form, seed, outcome in found if outcome.lost]


@pytest.mark.parametrize(
    ("stages", "count"), [(QUICK, 2), pytest.param(tuple(COMMANDS), 4, marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_a_command_killed_at_any_moment_loses_nothing(
    stages: tuple[str, ...], count: int, everything: Path, tmp_path: Path, warm: Warm
) -> None:
    found = list(killed(stages, everything, tmp_path, count=count, seed=1000, warm=warm))
    assert len(found) == count * len(stages)
    assert any(kill.hit for kill in found)
    assert [kill for kill in found if kill.lost] == []


@pytest.mark.parametrize("count", [28, pytest.param(700, marks=pytest.mark.slow)])
def test_a_damaged_video_is_read_or_refused_in_a_line(
    count: int, everything: Path, tmp_path: Path, worker: Worker
) -> None:
    assert lost(videos.cases(everything, tmp_path, worker, count=count, seed=50_000)) == []


@pytest.fixture(scope="module")
def whole(everything: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "whole"
    files.write_whole(everything, folder)
    return folder


def test_a_file_that_nobody_damaged_is_read(whole: Path, tmp_path: Path, worker: Worker) -> None:
    kinds = {target.form: files.undamaged(target, whole, tmp_path / "case", worker).kind for target in files.TARGETS}
    refused = {target.form for target in files.TARGETS if target.name in files.REFUSED_WHOLE}
    assert kinds == {form: "refused" if form in refused else "read" for form in kinds}


@pytest.mark.parametrize("count", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_a_damaged_file_is_read_or_refused_in_a_line(count: int, whole: Path, tmp_path: Path, worker: Worker) -> None:
    found = [
        (target.form, seed, files.case(target, whole, tmp_path / "case", worker, seed))
        for target in files.TARGETS
        for seed in range(60_000, 60_000 + count)
    ]
    assert lost(found) == []


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_or_a_folder_that_vanishes_loses_nothing(everything: Path, tmp_path: Path, warm: Warm) -> None:
    with places.small_disk(tmp_path / "disk") as disk:
        found = list(places.faults(tuple(COMMANDS), everything, disk, count=1, seed=2000, warm=warm))
    assert [fault for fault in found if fault.lost] == []
