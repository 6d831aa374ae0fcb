"""Fuse tensor functions with ``torch.compile`` where a compiler is available: C++ on a CPU, Triton on a GPU."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar, cast

import torch

Inputs = ParamSpec("Inputs")
Output = TypeVar("Output")

RECOMPILE_LIMIT = 256
"""Most variants of one function that torch compiles (sizes, settings, devices); beyond its default of 8 it would
silently run the function uncompiled."""

_log = logging.getLogger(__name__)
_warned: set[str] = set()


class Fused(Generic[Inputs, Output]):
    """A pure tensor function, compiled on its first call for inputs of any size.

    If that fails (no compiler, or no writable cache), the function runs uncompiled from then on, and one warning per
    process is logged. Torch caches compiled code on disk (``TORCHINDUCTOR_CACHE_DIR``).
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
                _warn_once(error)
        return self._plain(*args, **kwargs)

    def _call_fused(self, *args: Inputs.args, **kwargs: Inputs.kwargs) -> Output:
        # Not before the first call: torch's compiler creates its cache folder on import.
        if self._fused is None:
            self._fused = cast(Callable[Inputs, Output], torch.compile(self._plain, dynamic=True))
        limit = torch._dynamo.config.patch(recompile_limit=RECOMPILE_LIMIT)
        # Compile in threads of this process: no process pool to start or to leave behind.
        with limit, torch._inductor.config.patch(compile_threads=1):
            return self._fused(*args, **kwargs)

    @property
    def is_fused(self) -> bool:
        """Whether calls run compiled, as far as known so far."""
        return self._is_fused


def _disabled() -> bool:
    return os.environ.get("TORCH_COMPILE_DISABLE", "0") == "1"


def _warn_once(error: BaseException) -> None:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if "slow" not in _warned:
        _warned.add("slow")
        _log.warning(
            "TV-L1 runs several times slower than it could because torch.compile does not work here (%s); install g++ "
            "or clang and point TORCHINDUCTOR_CACHE_DIR at a writable folder; flow.compile = 'never' silences this",
            reason[:200],
        )
