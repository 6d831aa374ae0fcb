"""The parts of an ablation, in this process or in several; what is up to date is not done again."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import NamedTuple

import torch

from tadkit.ablation.plan import Part, Plan
from tadkit.errors import TadkitError
from tadkit.files import write_text
from tadkit.flow.opencv import same_threads
from tadkit.progress import Progress, Quiet
from tadkit.recipe.judge import detected_in_turn
from tadkit.recipe.stages import Resources, stages_of, stages_of_shared_flow
from tadkit.recipe.workspace import locked
from tadkit.runtime.processes import Died, Work, in_workers
from tadkit.video.digests import digest_ledger


class Ran(NamedTuple):
    """A part that is complete: how many of its stages were done now, and the rows that it has detections of."""

    done: int
    names: tuple[str, ...]


class Failed(NamedTuple):
    """A part that has failed, and why."""

    error: TadkitError


class _Advanced(NamedTuple):
    """A share of a part is done; ``note`` says where it is."""

    share: float
    note: str


class _Warned(NamedTuple):
    """A warning of a stage."""

    message: str


Event = Ran | Failed | _Advanced | _Warned


def compute_flow(plan: Plan, *, device: str, workers: int, progress: Progress) -> None:
    """Compute the flow that all parts share, where it is missing.

    Raises:
        TadkitError: the flow of a video cannot be computed.
    """
    with digest_ledger(plan.whole.digests):
        for stage in stages_of_shared_flow(plan.whole, Resources(device, progress, workers, retry_failed=True)):
            stage.run()


def run_parts(
    parts: Sequence[Part], *, device: str, workers: int, progress: Progress
) -> Generator[tuple[Part, Ran | Failed], None, None]:
    """Run the parts, each as far as it is out of date; one that fails does not affect the others.

    Args:
        parts: in the order in which they are begun.
        device: ``auto``, ``cpu`` ...; several, separated by commas, are assigned to the workers in turn.
        workers: processes, each with its share of the threads; with 1 the parts run in this process.
        progress: counts parts.
    """
    progress.start("ablate", total=len(parts), unit="runs")
    count, devices = min(workers, len(parts)), device.split(",")

    def tell(part: Part, event: _Advanced | _Warned) -> None:
        match event:
            case _Advanced(share, note):
                progress.advance(share, note=f"{part.title}: {note}")
            case _Warned(message):
                progress.warn(f"{part.title}: {message}")

    if count < 2:
        for part in parts:
            yield part, _run(part, devices[0], partial(tell, part))
        return
    threads = max(1, torch.get_num_threads() // count)
    setups = [partial(_worker, devices[number % len(devices)], threads) for number in range(count)]
    with closing(in_workers(parts, setups)) as events:
        for part, event in events:
            match event:
                case Died(how):
                    yield part, Failed(TadkitError(f"the worker process died ({how}); check for low memory"))
                case Ran() | Failed():
                    yield part, event
                case _:
                    tell(part, event)


@contextmanager
def _worker(device: str, threads: int) -> Iterator[Work[Part, Event]]:
    """What a worker runs a part with."""
    with same_threads(threads):
        yield lambda part, say: say(_run(part, device, say))


def _run(part: Part, device: str, say: Callable[[_Advanced | _Warned], None]) -> Ran | Failed:
    """Run a part in this process, as far as it is out of date."""
    workspace, done = part.workspace, 0
    try:
        workspace.folder.mkdir(parents=True, exist_ok=True)
        progress = _Shares(say)
        stages = stages_of(workspace, Resources(device, progress))
        with locked(workspace), digest_ledger(workspace.digests):
            for stage in stages:
                with progress.step(stage.name, of=len(stages) + 1):
                    done += stage.run()
            with progress.step("detect", of=len(stages) + 1):
                names = detected_in_turn(workspace, device)
    except TadkitError as error:
        return Failed(error)
    except Exception as error:
        path = workspace.folder / "error.txt"
        write_text(path, traceback.format_exc())
        return Failed(TadkitError(f"{type(error).__name__}: {error}; the traceback is in {path}"))
    return Ran(done, tuple(names))


class _Shares(Quiet):
    """Progress of a part as shares of the whole part, of which each step has the same."""

    def __init__(self, say: Callable[[_Advanced | _Warned], None]) -> None:
        super().__init__()
        self._say, self._step, self._share, self._reported, self._total = say, "", 0.0, 0.0, 0.0

    @contextmanager
    def step(self, name: str, *, of: int) -> Iterator[None]:
        """A step, one of several; its share is reported by the end, however little it has reported itself."""
        self._step, self._share, self._reported, self._total = name, 1 / of, 0.0, 0.0
        yield
        self._say(_Advanced(self._share * (1 - self._reported), name))

    def start(self, task: str, *, total: float, unit: str) -> None:  # noqa: ARG002 - the signature is Progress's
        """A task of the step begins; of several, the last fills what the others have left."""
        self._total = total

    def advance(self, amount: float = 1.0, *, note: str = "") -> None:
        """Report the share that is done."""
        share = min(amount / self._total if self._total else 0.0, 1 - self._reported)
        self._reported += share
        self._say(_Advanced(share * self._share, f"{self._step} {note}".rstrip()))

    def warn(self, message: str) -> None:
        """Pass the warning on."""
        self._say(_Warned(message))
