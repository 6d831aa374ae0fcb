"""Fusing of tensor functions by ``torch.compile``, where there is a compiler: C++ on a CPU, Triton on a GPU."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar, cast

import torch

Inputs = ParamSpec("Inputs")
Output = TypeVar("Output")

RECOMPILE_LIMIT = 256
"""Variants of one function that torch compiles at most (sizes, settings, devices): past its own 8 it silently runs the
function as it is."""

_log = logging.getLogger(__name__)
_told: set[str] = set()


class Fused(Generic[Inputs, Output]):
    """A pure tensor function, compiled on its first call for inputs of all sizes.

    Where that fails (no compiler, or nowhere to keep what it makes) the function runs as it is from then on, and the
    log says so once a process. What is compiled is kept on disk by torch (``TORCHINDUCTOR_CACHE_DIR``).
    """

    def __init__(self, function: Callable[Inputs, Output], *, compiled: bool) -> None:
        self._plain = function
        self._is_fused = compiled and not _disabled()
        self._fused: Callable[Inputs, Output] | None = None

    def __call__(self, *args: Inputs.args, **kwargs: Inputs.kwargs) -> Output:
        """The function's result."""
        if self._is_fused:
            try:
                return self._call_fused(*args, **kwargs)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, OSError, ImportError) as error:  # all errors of torch's compiler are RuntimeErrors
                self._is_fused = False
                _tell(error)
        return self._plain(*args, **kwargs)

    def _call_fused(self, *args: Inputs.args, **kwargs: Inputs.kwargs) -> Output:
        # Not before the first call: torch's compiler makes its cache's folder when it is imported.
        if self._fused is None:
            self._fused = cast(Callable[Inputs, Output], torch.compile(self._plain, dynamic=True))
        limit = torch._dynamo.config.patch(recompile_limit=RECOMPILE_LIMIT)
        # Threads of this process compile: no pool of processes to start, or to outlive us.
        with limit, torch._inductor.config.patch(compile_threads=1):
            return self._fused(*args, **kwargs)

    @property
    def is_fused(self) -> bool:
        """Whether calls run compiled, as far as is known."""
        return self._is_fused


def _disabled() -> bool:
    return os.environ.get("TORCH_COMPILE_DISABLE", "0") == "1"


def _tell(error: BaseException) -> None:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if "slow" not in _told:
        _told.add("slow")
        _log.warning(
            "TV-L1 runs several times slower than it could: torch.compile does not work here (%s); it needs g++ or "
            "clang, and TORCHINDUCTOR_CACHE_DIR where it can write; flow.compile = 'never' leaves this unsaid",
            reason[:200],
        )
