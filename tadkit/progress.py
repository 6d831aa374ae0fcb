"""How the library tells how far it is, without ever printing."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What pipelines report to; the command line draws it, a notebook may ignore it."""

    def start(self, task: str, *, total: float, unit: str) -> None:
        """A piece of work named ``task`` begins; ``total`` of ``unit`` lie ahead."""

    def advance(self, amount: float = 1.0, *, note: str = "") -> None:
        """``amount`` more of the current task is done; ``note`` is a short live figure such as a loss."""

    def warn(self, message: str) -> None:
        """Something a user should know about that does not stop the work."""


class Quiet:
    """A :class:`Progress` that says nothing; warnings are kept in ``warnings``."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def start(self, task: str, *, total: float, unit: str) -> None:
        """Say nothing."""

    def advance(self, amount: float = 1.0, *, note: str = "") -> None:
        """Say nothing."""

    def warn(self, message: str) -> None:
        """Keep the warning."""
        self.warnings.append(message)
