"""Fusing of tensor functions by ``torch.compile``, where there is a compiler: C++ on a CPU, Triton on a GPU."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar, cast

import torch
from torch._dynamo.exc import TorchDynamoException
from torch._inductor.exc import InductorError

Inputs = ParamSpec("Inputs")
Output = TypeVar("Output")

_log = logging.getLogger(__name__)
_told: set[str] = set()


class Fused(Generic[Inputs, Output]):
    """A pure tensor function, compiled on its first call for inputs of all sizes.

    Where that fails (no compiler, or none that works) the function runs as it is from then on, and the log says so once
    a process. What is compiled is kept on disk by torch (``TORCHINDUCTOR_CACHE_DIR``).
    """

    def __init__(self, function: Callable[Inputs, Output], *, compiled: bool) -> None:
        self._plain = function
        self._fused: Callable[Inputs, Output] | None = None
        if compiled and not _disabled():
            self._fused = cast(Callable[Inputs, Output], torch.compile(function, dynamic=True))

    def __call__(self, *args: Inputs.args, **kwargs: Inputs.kwargs) -> Output:
        """The function's result."""
        if self._fused is not None:
            try:
                # Threads of this process compile: no pool of processes to start, or to outlive us.
                with torch._inductor.config.patch(compile_threads=1):
                    return self._fused(*args, **kwargs)
            except (TorchDynamoException, InductorError, RuntimeError, OSError, ImportError) as error:
                self._fused = None
                _tell(error)
        return self._plain(*args, **kwargs)

    @property
    def is_fused(self) -> bool:
        """Whether calls run compiled, as far as is known."""
        return self._fused is not None


def _disabled() -> bool:
    return os.environ.get("TORCH_COMPILE_DISABLE", "0") == "1"


def _tell(error: BaseException) -> None:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if "slow" not in _told:
        _told.add("slow")
        _log.warning(
            "TV-L1 runs several times slower than it could: torch.compile found no working compiler (%s); "
            "install g++ or clang, or set flow.compile = 'never' to leave this unsaid",
            reason[:200],
        )
