"""The training loop: a stopped and resumed run ends with the weights of an undisturbed one."""

from __future__ import annotations

import ast
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

from tadkit.checkpoint import load_checkpoint
from tadkit.config import TrainSettings
from tadkit.errors import TadkitError
from tadkit.progress import Quiet

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
        assert source.requested[0] >= step - 1  # it resumed, and did not start again


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
    assert source.requested == []
    assert log_of(tmp_path) == undisturbed[1]


def test_a_state_of_another_key_is_not_resumed(
    tmp_path: Path, undisturbed: tuple[Weights, list[dict[str, float]]]
) -> None:
    stopped_at(9, tmp_path, key="another")
    source = toy.Source()
    assert same(toy.run(tmp_path, source), undisturbed[0])
    assert source.requested == list(range(TOTAL))
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
    assert source.requested == list(range(TOTAL))
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


@pytest.mark.parametrize("torn", ['{"step": 4, "epo', "", '{"step"', "\xff", '{"step": 99, "total": 1.0}\n'])
def test_torn_lines_and_lines_of_steps_to_come_are_dropped_from_the_log(
    tmp_path: Path, undisturbed: tuple[Weights, list[dict[str, float]]], torn: str
) -> None:
    stopped_at(4, tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as log:
        log.write(torn)
    toy.run(tmp_path, toy.Source())
    assert log_of(tmp_path) == undisturbed[1]


class _Watched(Quiet):
    """Counts the lines of the log after each step, and remembers notes."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.log = folder / "metrics.jsonl"
        self.lines: list[int] = []
        self.notes: list[str] = []

    def advance(self, amount: float = 1.0, *, note: str = "") -> None:
        self.notes.append(note)
        if amount == 1:
            self.lines.append(len(self.log.read_text().splitlines()))


def test_losses_reach_the_log_at_its_interval_and_at_the_end(
    tmp_path: Path, undisturbed: tuple[Weights, list[dict[str, float]]]
) -> None:
    settings = toy.SETTINGS.model_copy(update={"log_every": 4, "checkpoint_s": 1000.0})
    watched = _Watched(tmp_path)
    toy.run(tmp_path, toy.Source(), settings=settings, progress=watched)
    assert watched.lines == [0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 15]
    assert log_of(tmp_path) == undisturbed[1]
    assert watched.notes[1:4] == ["", "", ""]
    assert watched.notes[4] == watched.notes[7] == f"loss {undisturbed[1][3]['total']:.3f}"


class _Drifting(nn.Module):
    """One weight that climbs at a steady pace; on validation batches the loss is its distance to 0.1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1))

    def forward(self, batch: Tensor | tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        if isinstance(batch, Tensor):
            assert not self.training
            return {"total": (self.weight - batch).abs().sum()}
        assert self.training
        return {"total": -self.weight.sum()}


class _Aside:
    """Validation batches: where the weight should be."""

    steps_per_epoch = 2
    validation = None

    def __init__(self, target: float = 0.1) -> None:
        self.target = target

    def batch(self, step: int) -> Tensor:
        assert step < self.steps_per_epoch
        return torch.tensor(self.target)


VALIDATED = toy.SETTINGS.model_copy(
    update={"validate_every": 2, "epochs": 9, "ema": 0.0, "lr": 0.01, "warmup": 0.0, "weight_decay": 0.0}
)


def validations(folder: Path) -> dict[int, float]:
    """Validation loss by the number of steps done."""
    return {line["step"] + 1: line["validation"]["total"] for line in log_of(folder) if "validation" in line}


def test_the_best_weights_are_used_and_the_last_are_kept(tmp_path: Path) -> None:
    watched = _Watched(tmp_path)
    source = toy.Source(validation=_Aside())
    trained = toy.train(tmp_path, source, settings=VALIDATED, objective=_Drifting(), progress=watched)
    found = validations(tmp_path)
    assert list(found) == [10, 20, 30, 40, 45]
    best = min(found, key=found.__getitem__)
    assert best == 10
    assert trained.provenance["weights"] == "best"
    assert trained.provenance["step"] == best
    assert trained.provenance["validation_loss"] == pytest.approx(found[best], abs=1e-6)
    weight = float(trained.tensors["weight"])
    assert abs(weight - 0.1) == pytest.approx(found[best], abs=1e-6)
    last = load_checkpoint(tmp_path / "last.safetensors", kind="training").tensors["averaged.weight"]
    assert float(last) > weight
    assert abs(float(last) - 0.1) == pytest.approx(found[45], abs=1e-6)
    assert same(load_checkpoint(tmp_path / "best.safetensors", kind="training").tensors, trained.tensors)
    assert watched.notes[-1] == "used the best weights, of step 10"


@pytest.mark.parametrize("step", [9, 10, 11, 25, 44])
def test_a_stopped_run_with_validation_resumes_bit_by_bit(tmp_path: Path, step: int) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    options = {"settings": VALIDATED, "objective": _Drifting()}
    expected = toy.train(whole, toy.Source(validation=_Aside(0.17)), **options)
    with pytest.raises(KeyboardInterrupt):
        toy.train(stopped, toy.Source(step, validation=_Aside(0.17)), **(options | {"objective": _Drifting()}))
    resumed = toy.train(stopped, toy.Source(validation=_Aside(0.17)), **(options | {"objective": _Drifting()}))
    assert resumed.provenance == expected.provenance
    assert same(resumed.tensors, expected.tensors)
    assert log_of(stopped) == log_of(whole)


def test_validation_does_not_change_the_training(
    tmp_path: Path, undisturbed: tuple[Weights, list[dict[str, float]]]
) -> None:
    settings = toy.SETTINGS.model_copy(update={"validate_every": 1})
    toy.run(tmp_path, toy.Source(validation=toy.Source()), settings=settings)
    log = log_of(tmp_path)
    assert [line.pop("validation", None) is not None for line in log] == [
        step % toy.STEPS_PER_EPOCH == toy.STEPS_PER_EPOCH - 1 for step in range(TOTAL)
    ]
    assert log == undisturbed[1]
    last = load_checkpoint(tmp_path / STATE, kind="training").tensors
    averaged = {name.removeprefix("averaged."): value for name, value in last.items() if name.startswith("averaged.")}
    assert same(averaged, undisturbed[0])


def test_the_best_weights_of_another_run_are_not_used(tmp_path: Path) -> None:
    options = {"settings": VALIDATED}
    toy.train(tmp_path, toy.Source(validation=_Aside(0.1)), key="other", objective=_Drifting(), **options)
    trained = toy.train(tmp_path, toy.Source(validation=_Aside(9.0)), objective=_Drifting(), **options)
    assert trained.provenance["step"] == 45


def test_without_a_finite_validation_loss_the_last_weights_are_used(tmp_path: Path) -> None:
    source = toy.Source(validation=_Aside(float("nan")))
    trained = toy.train(tmp_path, source, settings=VALIDATED, objective=_Drifting())
    assert trained.provenance == {"weights": "last", "step": 45}


def test_without_validation_the_last_weights_are_used(tmp_path: Path) -> None:
    assert toy.train(tmp_path, toy.Source()).provenance == {"weights": "last", "step": TOTAL}
    assert not (tmp_path / "best.safetensors").exists()


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


class _DivergingLater(toy.Objective):
    """Not finite from the eighth call on."""

    calls = 0

    def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        self.calls += 1
        losses = super().forward(batch)
        return {name: value / (self.calls < 8) for name, value in losses.items()}


def test_a_loss_that_is_no_longer_finite_stops_the_run_within_a_log_interval(
    tmp_path: Path, undisturbed: tuple[Weights, list[dict[str, float]]]
) -> None:
    settings = toy.SETTINGS.model_copy(update={"log_every": 10, "checkpoint_s": 1000.0})
    source = toy.Source()
    torch.manual_seed(1)
    with pytest.raises(TadkitError, match=r"not finite at step 7 \(error inf, size inf, total inf\); lower lr"):
        toy.run(tmp_path, source, settings=settings, objective=_DivergingLater())
    assert max(source.requested) <= 10
    assert log_of(tmp_path) == undisturbed[1][:7]
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


@pytest.mark.parametrize("step", [1, 7])
def test_a_stopped_run_in_half_precision_resumes_bit_by_bit(tmp_path: Path, step: int) -> None:
    settings = toy.SETTINGS.model_copy(update={"precision": "fp16"})
    expected = toy.run(tmp_path / "whole", toy.Source(), settings=settings)
    stopped_at(step, tmp_path / "stopped", settings=settings)
    assert same(toy.run(tmp_path / "stopped", toy.Source(), settings=settings), expected)


class _Placed(toy.Objective):
    """Notes where it is sent, and stays where it is."""

    def to(self, device: torch.device) -> _Placed:
        self.placed = device
        return self


def test_the_run_is_on_the_device_that_was_requested_index_included(tmp_path: Path) -> None:
    objective = _Placed()
    toy.run(tmp_path, toy.Source(), objective=objective, device="cuda:1")
    assert objective.placed == torch.device("cuda:1")


class _OnItsDevice(nn.Module):
    """Moves each batch to where its weights are."""

    def __init__(self) -> None:
        super().__init__()
        self.model = toy.Objective()
        self.seen: set[torch.device] = set()

    def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        device = next(self.parameters()).device
        self.seen.add(device)
        return self.model(tuple(x.to(device) for x in batch))


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_the_second_gpu_trains_when_it_is_requested(tmp_path: Path) -> None:
    objective = _OnItsDevice()
    torch.cuda.reset_peak_memory_stats(0)
    before = torch.cuda.max_memory_allocated(0)
    toy.run(tmp_path, toy.Source(), objective=objective, device="cuda:1")
    assert objective.seen == {torch.device("cuda:1")}
    assert torch.cuda.max_memory_allocated(0) == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_run_on_the_gpu_gives_back_weights_on_the_cpu(tmp_path: Path) -> None:
    weights = toy.run(tmp_path, toy.Source(), objective=_OnItsDevice(), device="cuda")
    assert {value.device.type for value in weights.values()} == {"cpu"}


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc and limits the address space")
def test_where_memory_does_not_hold_a_step_fewer_windows_pass_at_once_with_the_same_result(tmp_path: Path) -> None:
    def run(spare_mb: int) -> list[str]:
        folder = tmp_path / str(spare_mb)
        folder.mkdir()
        program = Path(__file__).with_name("little_memory.py")
        ended = subprocess.run(
            [sys.executable, str(program), str(folder), str(spare_mb)], check=True, capture_output=True, text=True
        )
        return ended.stdout.splitlines()

    *told, weights = run(500)
    assert told[0] == "out of memory at step 0: from now on windows pass through the backbone 2 at a time"
    (of_all_at_once,) = map(ast.literal_eval, run(0))
    assert ast.literal_eval(weights) == {name: pytest.approx(x, rel=1e-5) for name, x in of_all_at_once.items()}
