"""The boundary-matching layer: features of every start and duration at once, through one sparse matrix.

After BMN (Lin et al., ICCV 2019, section 3.2). The paper multiplies with a dense mask of time x samples x durations x
time entries, nearly all zero, and keeps all samples of all proposals in memory. The samples are mixed linearly straight
afterwards, so they are mixed here *before* they are read, and read through a sparse matrix: the same numbers, and
memory only for the result.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as nnf
from jaxtyping import Bool, Float
from torch import Tensor, nn


class BoundaryMatching(nn.Module):
    """Reads ``samples`` features of every proposal and its surroundings, and mixes them to ``out_channels``.

    Args:
        in_channels: of the track.
        out_channels: of the map.
        durations: rows of the map; row ``d`` holds proposals of ``d + 1`` steps.
        samples: features read of each proposal.
        samples_per_bin: places averaged to one of them.
        context: surroundings on either side, as a share of the proposal's length.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        durations: int,
        samples: int,
        samples_per_bin: int,
        context: float,
    ) -> None:
        super().__init__()
        self.durations, self.samples, self.samples_per_bin, self.context = durations, samples, samples_per_bin, context
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, samples))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.xavier_uniform_(self.weight)

    def forward(
        self, x: Float[Tensor, "batch in_channels time"], valid: Bool[Tensor, "batch durations time"]
    ) -> Float[Tensor, "batch out_channels durations time"]:
        """Map of the proposals that start at each step; what is not ``valid`` holds the bias alone.

        Args:
            x: the track, zero at masked steps.
            valid: True where a proposal ends inside the track.
        """
        batch, _, time = x.shape
        mixed = torch.einsum("ocn,bct->ntbo", self.weight, x).reshape(self.samples * time, -1)
        cells = (self.durations, time, self.samples, self.samples_per_bin, self.context, str(x.device))
        read = _SparseProduct.apply(*_matrices(*cells), mixed)  # type: ignore[no-untyped-call]
        out = read.reshape(self.durations, time, batch, -1).permute(2, 3, 0, 1)
        return out * valid[:, None] + self.bias[:, None, None]  # type: ignore[no-any-return]


class _SparseProduct(torch.autograd.Function):
    """``matrix @ dense`` with a gradient for ``dense`` only; torch's own would transpose the matrix at every step.

    In float32 under mixed precision too: torch has no sparse product in half precision.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transposed: Tensor, dense: Tensor) -> Tensor:
        ctx.save_for_backward(transposed)
        return _product(matrix, dense)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        (transposed,) = ctx.saved_tensors
        return None, None, _product(transposed, gradients[0])


def _product(matrix: Float[Tensor, "rows inner"], dense: Float[Tensor, "inner cols"]) -> Float[Tensor, "rows cols"]:
    """Product with a sparse matrix, in the type of ``dense``."""
    with torch.autocast(dense.device.type, enabled=False):
        result: Tensor = (matrix @ dense.float().contiguous()).to(dense.dtype)
    return result


@lru_cache(maxsize=8)
def _matrices(
    durations: int, time: int, samples: int, samples_per_bin: int, context: float, device: str
) -> tuple[Float[Tensor, "cells places"], Float[Tensor, "places cells"]]:
    """What each cell (duration, start) reads of each place (sample, step), and its transpose, both sparse by row.

    Places before the track and beyond it read as zero; as in the authors' code, those between -1 and 0 read step 0.
    """
    duration, start = (x.ravel() for x in np.meshgrid(np.arange(durations), np.arange(time), indexing="ij"))
    cell = np.flatnonzero(start + duration < time)
    first, last = start[cell], start[cell] + duration[cell]
    around = (duration[cell] + 1) * context
    places = samples * samples_per_bin
    spacing = (last - first + 2 * around) / max(places - 1, 1)
    at = (first - around)[:, None] + spacing[:, None] * np.arange(places)
    below = np.trunc(at)
    share = at - below
    steps = np.stack((below, np.ceil(at))).astype(np.int64)
    weights = np.stack((1 - share, share)) / samples_per_bin
    row = np.broadcast_to(cell[:, None], steps.shape)
    column = np.repeat(np.arange(samples), samples_per_bin) * time + steps
    kept = (steps >= 0) & (steps < time) & (weights != 0)
    shape = (durations * time, samples * time)
    with torch.inference_mode(False), warnings.catch_warnings():  # what is cached in use must serve in training
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        indices = torch.from_numpy(np.stack((row[kept], column[kept])))
        values = torch.from_numpy(weights[kept].astype(np.float32))
        matrix = torch.sparse_coo_tensor(indices, values, shape, check_invariants=False).coalesce().to(device)
        return matrix.to_sparse_csr(), matrix.t().coalesce().to_sparse_csr()


def valid_proposals(mask: Bool[Tensor, "batch time"], durations: int) -> Bool[Tensor, "batch durations time"]:
    """True where the proposal of ``duration + 1`` steps from a start ends inside the real steps, which come first."""
    steps = torch.arange(mask.shape[1], device=mask.device)
    duration = torch.arange(durations, device=mask.device)[:, None]
    return steps + duration < mask.sum(dim=1)[:, None, None]


def means_inside(
    x: Float[Tensor, "batch channels time"], durations: int
) -> Float[Tensor, "batch channels durations time"]:
    """Mean over the steps inside every proposal, in float32 at least; past the end of the track are zeros.

    Args:
        x: the track.
        durations: rows of the map; row ``d`` holds proposals of ``d + 1`` steps.
    """
    time, precision = x.shape[-1], torch.promote_types(x.dtype, torch.float32)
    sums = nnf.pad(x, (1, durations)).cumsum(dim=-1, dtype=precision)
    rows = [(sums[..., steps : steps + time] - sums[..., :time]) / steps for steps in range(1, durations + 1)]
    return torch.stack(rows, dim=2)
