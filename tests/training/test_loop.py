"""The training loop: what is stopped and resumed ends as if it had never been stopped."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from tadkit.config import TrainSettings
from tadkit.errors import TadkitError
from tadkit.training import fit

TOY = Path(__file__).with_name("toy.py")
STATE = "last.safetensors"
Weights = dict[str, Tensor]


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("toy", TOY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


toy = _load()
TOTAL = toy.SETTINGS.epochs * toy.STEPS_PER_EPOCH


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Weights, list[dict[str, float]]]:
    """Weights and log of a run from start to end."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return toy.run(folder, toy.Source()), log_of(folder)


def log_of(folder: Path) -> list[dict[str, float]]:
    """The log without what differs from run to run: the time."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "elapsed_s"} for line in lines]


def same(a: Weights, b: Weights) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def stopped_at(step: int, folder: Path, **options: object) -> None:
    with pytest.raises(KeyboardInterrupt):
        toy.run(folder, toy.Source(step), **options)


@pytest.mark.parametrize("step", [0, 1, 4, 7, TOTAL - 1])
def test_a_stopped_run_resumes_bit_by_bit(
    tmp_path: Path, undisturbed: tuple[Weights, list[dict[str, float]]], step: int
) -> None:
    stopped_at(step, tmp_path)
    source = toy.Source()
    weights = toy.run(tmp_path, source)
    assert same(weights, undisturbed[0])
    assert log_of(tmp_path) == undisturbed[1]
    if step > 1:
        assert source.asked[0] >= step - 1  # it did go on, and did not start again


def test_a_run_stopped_twice_between_states_resumes_bit_by_bit(
    tmp_path: Path, undisturbed: tuple[Weights, list[dict[str, float]]]
) -> None:
    stopped_at(6, tmp_path)
    rare = toy.SETTINGS.model_copy(update={"checkpoint_s": 1000.0})
    stopped_at(11, tmp_path, settings=rare)  # leaves no state of its own
    assert same(toy.run(tmp_path, toy.Source()), undisturbed[0])
    assert log_of(tmp_path) == undisturbed[1]


def test_a_killed_process_resumes_bit_by_bit(
    tmp_path: Path, undisturbed: tuple[Weights, list[dict[str, float]]]
) -> None:
    ended = subprocess.run([sys.executable, str(TOY), str(tmp_path), "8"], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert (tmp_path / STATE).exists()
    assert same(toy.run(tmp_path, toy.Source()), undisturbed[0])
    assert log_of(tmp_path) == undisturbed[1]


def test_a_finished_run_is_not_done_again(tmp_path: Path, undisturbed: tuple[Weights, list[dict[str, float]]]) -> None:
    toy.run(tmp_path, toy.Source())
    source = toy.Source()
    assert same(toy.run(tmp_path, source), undisturbed[0])
    assert source.asked == []
    assert log_of(tmp_path) == undisturbed[1]


def test_a_state_of_another_key_is_not_resumed(
    tmp_path: Path, undisturbed: tuple[Weights, list[dict[str, float]]]
) -> None:
    stopped_at(9, tmp_path, key="another")
    source = toy.Source()
    assert same(toy.run(tmp_path, source), undisturbed[0])
    assert source.asked == list(range(TOTAL))
    assert log_of(tmp_path) == undisturbed[1]


@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "other file"])
def test_a_damaged_state_starts_again(
    tmp_path: Path, undisturbed: tuple[Weights, list[dict[str, float]]], damage: str
) -> None:
    stopped_at(9, tmp_path)
    state = tmp_path / STATE
    whole = state.read_bytes()
    state.write_bytes({"empty": b"", "cut": whole[:-100], "noise": b"\xff" * 500, "other file": b"{}"}[damage])
    source = toy.Source()
    assert same(toy.run(tmp_path, source), undisturbed[0])
    assert source.asked == list(range(TOTAL))
    assert log_of(tmp_path) == undisturbed[1]


def test_the_log_has_a_line_a_step(undisturbed: tuple[Weights, list[dict[str, float]]]) -> None:
    log = undisturbed[1]
    assert [line["step"] for line in log] == list(range(TOTAL))
    assert [line["epoch"] for line in log] == [step // toy.STEPS_PER_EPOCH for step in range(TOTAL)]
    assert log[0].keys() == {"step", "epoch", "rate", "error", "size", "total"}
    assert all(line["total"] == pytest.approx(line["error"] + line["size"], abs=3e-6) for line in log)


def test_the_loss_falls_on_a_problem_that_can_be_learnt(tmp_path: Path) -> None:
    settings = toy.SETTINGS.model_copy(update={"epochs": 30, "checkpoint_s": 1000.0})
    weights = toy.run(tmp_path, toy.Source(), settings=settings)
    log = log_of(tmp_path)
    assert sum(line["error"] for line in log[-10:]) < 0.4 * sum(line["error"] for line in log[:10])
    objective = toy.Objective().eval()
    objective.load_state_dict(weights)
    with torch.no_grad():
        held_out = float(objective(toy.Source().batch(10_000))["error"])
    assert held_out < 0.3 * log[0]["error"]


def test_another_seed_drops_out_otherwise(tmp_path: Path, undisturbed: tuple[Weights, list[dict[str, float]]]) -> None:
    weights = toy.run(tmp_path, toy.Source(), settings=toy.SETTINGS.model_copy(update={"seed": 5}))
    assert not same(weights, undisturbed[0])


class _Diverging(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        error = self.layer(batch[0]).sum() * float("inf")
        return {"error": error, "total": error}


def test_a_loss_that_is_not_finite_stops_the_run_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(TadkitError) as error:
        toy.run(tmp_path, toy.Source(), objective=_Diverging())
    message = str(error.value)
    assert "not finite at step 0" in message
    assert "lower lr" in message
    assert "\n" not in message
    assert not (tmp_path / STATE).exists()


class _Steep(nn.Module):
    """A loss whose gradient is far past any clip."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 2))

    def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {"total": 1e6 * self.weight.sum() + 0 * batch[0].sum()}


def test_gradients_are_clipped_to_the_norm(tmp_path: Path) -> None:
    objective = _Steep()
    settings = TrainSettings(epochs=1, clip_norm=0.25, weight_decay=0.0)
    toy.run(tmp_path, toy.Source(), settings=settings, objective=objective)
    assert objective.weight.grad is not None
    assert float(objective.weight.grad.norm()) == pytest.approx(0.25, rel=1e-3)


def test_frozen_parameters_stay(tmp_path: Path) -> None:
    objective = toy.Objective()
    objective.backbone.requires_grad_(False)
    before = objective.backbone[0].weight.clone()
    weights = toy.run(tmp_path, toy.Source(), objective=objective)
    torch.testing.assert_close(weights["backbone.0.weight"], before)


def test_stages_of_one_process_may_differ_in_precision(tmp_path: Path) -> None:
    for precision in ("no", "bf16", "no"):
        settings = toy.SETTINGS.model_copy(update={"precision": precision, "epochs": 1})
        weights = toy.run(tmp_path / precision, toy.Source(), settings=settings, key=precision)
        assert {value.dtype for value in weights.values()} == {torch.float32, torch.int64}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_run_on_the_gpu_gives_back_weights_on_the_cpu(tmp_path: Path) -> None:
    from tadkit.progress import Quiet

    torch.manual_seed(1)
    objective = toy.Objective()

    class _OnGpu(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = objective

        def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
            return self.model(tuple(x.cuda() for x in batch))

    cuda = torch.device("cuda")
    weights = fit(
        _OnGpu(), toy.Source(), toy.SETTINGS, folder=tmp_path, key="k", device=cuda, progress=Quiet(), task="toy"
    )
    assert {value.device.type for value in weights.values()} == {"cpu"}
