"""How the library reports its progress without printing."""

from __future__ import annotations

import logging
from typing import Protocol

from tadkit.errors import printable


class Progress(Protocol):
    """Receives progress reports; the command line draws them, a notebook may ignore them."""

    def start(self, task: str, *, total: float, unit: str) -> None:
        """Start a task named ``task`` of ``total`` ``unit``, such as 300 frames; 0 if the total is unknown."""

    def advance(self, amount: float = 1.0, *, note: str = "") -> None:
        """Report ``amount`` more of the current task as done; ``note`` is a short live figure such as a loss."""

    def warn(self, message: str) -> None:
        """Report something the user should know that does not stop the work."""


class Quiet:
    """A :class:`Progress` that shows nothing; it keeps warnings in ``warnings``."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def start(self, task: str, *, total: float, unit: str) -> None:
        """Do nothing."""

    def advance(self, amount: float = 1.0, *, note: str = "") -> None:
        """Do nothing."""

    def warn(self, message: str) -> None:
        """Keep the warning."""
        self.warnings.append(message)


class LogWarnings(Quiet):
    """A :class:`Progress` that logs warnings and shows nothing else: the default of the Python functions."""

    def warn(self, message: str) -> None:
        """Log the warning under the name ``tadkit``."""
        super().warn(message)
        logging.getLogger("tadkit").warning("%s", printable(message))
