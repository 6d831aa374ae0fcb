"""Golden outputs of other projects beside ours: `pytest -v tests/parity` also reports the largest differences.

They are read from ``TADKIT_FIXTURES``, from ``../shared/fixtures`` beside the checkout, or else from ``golden``, which
holds part of them (its README says which).
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike
from safetensors.torch import load

from tadkit.interop.import_head import build_imported
from tadkit.models.decode.decode import Decoded
from tadkit.models.heads import Head

GOLDEN = Path(__file__).parent / "golden"
BESIDE = Path(__file__).parents[3] / "shared/fixtures"
FIXTURES = Path(os.environ.get("TADKIT_FIXTURES") or (BESIDE if BESIDE.is_dir() else GOLDEN))
PROJECTS = {
    "happyharrycn/actionformer_release": "actionformer",
    "dingfengshi/TriDet": "tridet",
    "sming256/OpenTAD": "opentad",
}
SAME_SCORE = 1e-6
"""Scores of other projects that differ by less may come in either order.

Their logits have recorded errors of up to 2.1e-6 (``max_abs_err_fp32_vs_fp64``), and a sigmoid is nowhere steeper
than 1/4: half a millionth for each of the two scores.
"""
MEASURED: dict[tuple[str, str], float] = {}
SWAPPED: dict[str, list[str]] = defaultdict(list)


class Files:
    """The files of one folder of fixtures, or of a zip archive of such a folder."""

    def __init__(self, place: Path) -> None:
        self.place, self.name = place, place.stem

    @cached_property
    def held(self) -> Mapping[str, bytes]:
        """Contents by name."""
        if self.place.suffix == ".zip":
            with zipfile.ZipFile(self.place) as archive:
                return {name: archive.read(name) for name in archive.namelist()}
        files = (path for path in self.place.rglob("*") if path.is_file())
        return {path.relative_to(self.place).as_posix(): path.read_bytes() for path in files}

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """One ``.npz`` file."""
        return dict(np.load(io.BytesIO(self.held[f"{name}.npz"])))

    def recorded(self, name: str) -> Any:
        """One ``.json`` file."""
        return json.loads(self.held[f"{name}.json"])


class Case(Files):
    """One model of another project: weights, settings, inputs and outputs."""

    @cached_property
    def config(self) -> dict[str, Any]:
        """Who made it and with which settings."""
        return dict(self.recorded("config"))

    @cached_property
    def project(self) -> str:
        """Short name of the project."""
        return PROJECTS[self.config["peer"]]

    @cached_property
    def kind(self) -> str:
        """The project's name of the architecture."""
        return str(self.config.get("config", {}).get("type", self.project))

    @cached_property
    def weights(self) -> dict[str, torch.Tensor]:
        """Weights under the project's names."""
        return dict(load(self.held["weights.safetensors"]))

    @cached_property
    def lengths(self) -> list[int]:
        """Steps of the tracks whose predictions are here."""
        return sorted(int(name[6:-4]) for name in self.held if name.startswith("eval_T"))

    def predicted(self, length: int) -> dict[str, np.ndarray]:
        """The project's predictions for one track."""
        return self.arrays(f"eval_T{length}")

    def meta(self, length: int) -> tuple[float, float, float, float]:
        """Frames a second, frames from step to step, frame of the first step, seconds of the video."""
        recorded = self.config["eval"][f"T{length}"]["meta"]
        if "feat_stride" in recorded:
            return recorded["fps"], recorded["feat_stride"], recorded["feat_num_frames"] / 2, recorded["duration"]
        return recorded["fps"], recorded["snippet_stride"], recorded["offset_frames"], recorded["duration"]

    def features(self, length: int) -> torch.Tensor:
        """(1, channels, length)."""
        return torch.from_numpy(self.arrays("inputs")[f"feats_T{length}"])[None]

    def truth(self, place: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Segments and labels of one video of the batch that they trained on."""
        held = self.arrays("train")
        key = f"T{length}" if f"gt_segments_T{length}" in held else str(place)
        return torch.from_numpy(held[f"gt_segments_{key}"]).float(), torch.from_numpy(held[f"gt_labels_{key}"])

    def gradients(self) -> dict[str, list[float]]:
        """Norm, sum and largest of each parameter's gradient, except for those that are rounding noise."""
        recorded = self.recorded("train")
        noise = recorded["grad_stability"]["noise_only_gradients"]
        kinds = ("norm", "sum", "absmax")
        return {name: [held[kind] for kind in kinds] for name, held in recorded["grad"].items() if name not in noise}

    def head(self) -> Head:
        """Their weights in our head, as `tadkit import head` makes it."""
        config = dict(self.config.get("kwargs") or self.config["config"])
        if self.project == "opentad":  # its data loader pads, not its head
            config |= {"max_seq_len": 256, "window_size": 256}
        return build_imported(self.weights, self.project, config, where=self.name).head  # type: ignore[arg-type]


class Compared:
    """Compares ours with theirs, and remembers the largest difference of each kind."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(
        self, what: str, ours: ArrayLike, theirs: ArrayLike, *, bar: float = 1e-4, scale: ArrayLike = 1.0
    ) -> None:
        """Equal to ``bar``, which is relative where their value, or ``scale``, is large."""
        found, wanted = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
        assert found.shape == wanted.shape, (what, found.shape, wanted.shape)
        assert np.isfinite(found).all(), what
        apart = np.abs(found - wanted) / np.maximum(np.abs(wanted), scale)
        self.note(what, float(apart.max(initial=0.0)))
        assert apart.max(initial=0.0) <= bar, (what, apart.max(), np.unravel_index(apart.argmax(), apart.shape))

    def note(self, what: str, apart: float) -> None:
        """Remember a difference."""
        MEASURED[self.name, what] = max(MEASURED.get((self.name, what), 0.0), apart)

    def detections(
        self, what: str, ours: Decoded, theirs: Mapping[str, np.ndarray], *, bars: tuple[float, float]
    ) -> None:
        """The same detections in the same order; those with practically equal scores are compared as sets.

        Args:
            what: name of the comparison.
            ours: by descending score.
            theirs: their ``segments``, ``scores`` and ``labels``.
            bars: how far ends and scores may be apart.
        """
        order = np.argsort(-theirs["scores"], kind="stable")  # where nothing is suppressed they do not sort
        segments, scores, labels = (theirs[field][order] for field in ("segments", "scores", "labels"))
        self("detections: scores", ours.scores, scores, bar=bars[1])
        first = np.flatnonzero(np.diff(ours.scores) < -SAME_SCORE) + 1
        for rows in np.split(np.arange(len(scores)), first):
            apart = np.abs(ours.segments_s[rows, None] - segments[None, rows]).max(axis=2)
            apart[ours.labels[rows, None] != labels[None, rows]] = np.inf
            match = _matched(apart)
            self.note("detections: ends", float(apart[np.arange(len(rows)), match].max(initial=0.0)))
            assert (apart[np.arange(len(rows)), match] <= bars[0]).all(), (what, rows, apart)
            if (match != np.arange(len(rows))).any() and np.ptp(scores[rows]) + np.ptp(ours.scores[rows]) > 0:
                gaps = f"{np.ptp(ours.scores[rows]):.1e} apart, theirs {np.ptp(scores[rows]):.1e}"
                SWAPPED[self.name].append(f"{what} {rows.tolist()} ({gaps})")


def _matched(apart: np.ndarray) -> np.ndarray:
    """For each row the nearest column, each column once; its own index if that is as near as any."""
    taken = np.zeros(len(apart), dtype=np.int64)
    left = apart.copy()
    for row in range(len(apart)):
        taken[row] = row if left[row, row] == left[row].min() else left[row].argmin()
        left[:, taken[row]] = np.inf
    return taken


def _cases() -> list[Case]:
    folders = [path.parent for path in FIXTURES.glob("*/*/config.json")]
    return [Case(place) for place in sorted([*folders, *FIXTURES.glob("models/*.zip")])]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that take ``dense`` see each model whose steps find segments, those that take ``whole`` each other one."""
    for name in {"dense", "whole"} & set(metafunc.fixturenames):
        wanted = [case for case in _cases() if (case.name in ("ot_bmn", "ot_tadtr")) == (name == "whole")]
        metafunc.parametrize(name, wanted, ids=[case.name for case in wanted], scope="module")


@pytest.fixture(scope="session")
def needed() -> Callable[[str], Path]:
    """Path of a part of the fixtures; skips the test if it is missing."""

    def find(part: str) -> Path:
        if not (FIXTURES / part).exists():
            pytest.skip(f"needs {part} of the shared fixtures (TADKIT_FIXTURES)")
        return FIXTURES / part

    return find


@pytest.fixture(scope="session")
def evaluators() -> Files:
    """Synthetic truths and detections, and the results of other projects' evaluators."""
    for place in (FIXTURES / "evaluation", FIXTURES / "evaluation.zip"):
        if place.exists():
            return Files(place)
    return pytest.skip("needs evaluation of the shared fixtures (TADKIT_FIXTURES)")


@pytest.fixture
def compared(request: pytest.FixtureRequest) -> Compared:
    """Compares under the name of the model, or else of the test."""
    names = {"dense", "whole"} & set(request.fixturenames)
    return Compared(request.getfixturevalue(names.pop()).name if names else request.node.originalname)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """With -v, report the largest differences and the detections that come in another order."""
    if terminalreporter.verbosity < 1:
        return
    for (name, what), apart in sorted(MEASURED.items()):
        terminalreporter.write_line(f"{name:45} {what:30} {apart:.1e}")
    for name, rows in sorted(SWAPPED.items()):
        terminalreporter.write_line(f"{name:45} in another order: {'; '.join(rows)}")
