"""Processes that train one model together, as ``torchrun`` starts them.

Every process decodes its share of a training step's windows and passes it through the backbone. The features of all
windows then go to all processes, which compute the same losses, however a head counts its positives; so the result is
that of one process, but for rounding. Work that is not training is done by the first process alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from tadkit.errors import UsageError

T = TypeVar("T")
_LONGEST_STAGE = timedelta(days=30)
"""How long the other processes wait for the first one, which may compute flow for days."""


class ReleasedError(Exception):
    """Training is over in a process that is not the first, which goes on alone; not an error that a user sees."""


@dataclass(frozen=True)
class World:
    """The processes that work on something together.

    Attributes:
        rank: number of this process, counted from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Which of ``count`` windows are this process's; shares differ by one at most, and none is padded.

        Raises:
            UsageError: there are fewer windows than processes.
        """
        if count < self.size:
            raise UsageError(
                f"torchrun: {self.size} processes cannot share the {count} windows of a training step; start fewer, or "
                "raise batch_windows"
            )
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def gathered(self, x: Tensor, count: int) -> Tensor:
        """All ``count`` windows, of which ``x`` has this process's share; the gradient of the share comes back.

        It is multiplied by the number of processes, because gradients are averaged over them.
        """
        if self.size == 1:
            return x
        return cast(Tensor, _Gathered.apply(x, self, count))  # type: ignore[no-untyped-call]

    def apart(self) -> AbstractContextManager[None]:
        """Random numbers drawn within do not shift those drawn after, which are then alike in all processes."""
        return torch.random.fork_rng(enabled=self.size > 1)

    def from_first(self, value: T) -> T:
        """The value that the first process has; waits for it."""
        if self.size == 1:
            return value
        shared = [value]
        dist.broadcast_object_list(shared, src=0, device=torch.device("cpu"))
        return shared[0]

    def wait(self) -> None:
        """Go on once all processes get here."""
        if self.size > 1:
            dist.all_reduce(torch.zeros(1))

    def release(self) -> None:
        """End the work of all processes but the first.

        Raises:
            ReleasedError: in all of them.
        """
        if not self.first:
            raise ReleasedError


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, world: World, count: int) -> Tensor:
        shares = [World(rank, world.size).share(count) for rank in range(world.size)]
        longest = max(share.stop - share.start for share in shares)
        padded = x.new_zeros((longest, *x.shape[1:]))
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in shares]
        dist.all_gather(parts, padded)
        ctx.world, ctx.share = world, shares[world.rank]
        return torch.cat([part[: share.stop - share.start] for part, share in zip(parts, shares, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0][ctx.share] * ctx.world.size, None, None


_ALONE = World()
_current = _ALONE


def world() -> World:
    """The processes that this one trains with; itself alone, except within :func:`together`."""
    return _current


@contextmanager
def together(processes: World) -> Iterator[None]:
    """What is trained within is trained by all processes, each of which gets there."""
    global _current  # the thread that reads batches must see it, too
    _current = processes
    try:
        yield
    finally:
        _current = _ALONE


@contextmanager
def joined() -> Iterator[World]:
    """The processes of ``torchrun``, connected; without it this process alone.

    Raises:
        UsageError: torchrun's variables are missing or wrong, or the processes do not find one another.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield _ALONE
        return
    try:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=_LONGEST_STAGE)
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"WORLD_SIZE is set, but the processes cannot be connected: {reason}; see torchrun") from error
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def own_device(devices: str, processes: World) -> str:
    """The device of a process: of several, separated by commas, or of all GPUs of its machine, one each.

    Args:
        devices: as users give them: ``auto``, ``cuda``, ``cuda:0,cuda:1`` ...
        processes: alone, the process keeps them as they are.
    """
    if processes.size == 1:
        return devices
    local, named = int(os.environ.get("LOCAL_RANK", processes.rank)), devices.split(",")
    if len(named) == 1 and named[0] in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{local % torch.cuda.device_count()}"
    return named[local % len(named)]
