"""Flow of many videos, in this process or in worker processes; a worker that dies costs only its own video."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial

import torch

from tadkit.config import FlowSettings
from tadkit.errors import TadkitError
from tadkit.extraction.flow_video import Event, Failed, FlowJob, flow_events
from tadkit.flow import build_flow
from tadkit.flow.opencv import same_threads
from tadkit.runtime.processes import Died, Work, in_workers
from tadkit.video import decoder_threads

_PATIENCE_S = 1800.0
"""How long a worker may be silent; a block of frame pairs takes seconds, or minutes on a slow machine."""


def flow_of_jobs(
    jobs: Sequence[FlowJob], *, devices: Sequence[torch.device], workers: int
) -> Generator[tuple[FlowJob, Event], None, None]:
    """Compute the flow of ``jobs``, all of one method; each job's last event is ``Done`` or ``Failed``.

    Args:
        jobs: what to compute; several workers start with the longest.
        devices: assigned to the workers in turn.
        workers: number of processes; with 1 the work is done in this process. The result does not depend on it.

    Raises:
        TadkitError: the method cannot be built, or the store cannot be written.
    """
    count = min(workers, len(jobs))
    if count > 1:
        threads = max(1, torch.get_num_threads() // count)
        names = [str(devices[number % len(devices)]) for number in range(count)]
        setups = [partial(_worker, jobs[0].flow, name, threads) for name in names]
        longest_first = sorted(jobs, key=lambda job: -job.pairs)
        with closing(in_workers(longest_first, setups, patience_s=_PATIENCE_S)) as events:
            for job, event in events:
                yield job, _failed(job, event) if isinstance(event, Died) else event
    elif jobs:
        method = build_flow(jobs[0].flow, device=devices[0])
        for job in jobs:
            yield from ((job, event) for event in flow_events(job, method))


@contextmanager
def _worker(flow: FlowSettings, device: str, threads: int) -> Iterator[Work[FlowJob, Event]]:
    """What a worker does a job with: the flow method, loaded once."""

    def work(job: FlowJob, say: Callable[[Event], None]) -> None:
        for event in flow_events(job, method):
            say(event)

    with same_threads(threads), decoder_threads(threads):
        method = build_flow(flow, device=torch.device(device))
        yield work


def _failed(job: FlowJob, death: Died) -> Failed:
    return Failed(
        TadkitError(f"{job.path}: the worker process died on it ({death.how}); check for low memory or a damaged video")
    )
