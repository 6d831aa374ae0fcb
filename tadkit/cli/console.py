"""Output to a person: progress and remarks on stderr, results on stdout.

Names and labels come from files, and a terminal obeys control characters in them. Everything that is printed here goes
through :func:`~tadkit.errors.printable`, which makes them visible; no other module prints.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

import click

from tadkit.errors import TadkitError, printable

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

PLAIN_EVERY_S = 30.0
_LONGEST_MESSAGE = 1500
_PIPED_COLUMNS = 1 << 20


def print_line(text: str = "") -> None:
    """Print one line of a result on stdout."""
    click.echo(printable(text))


def print_note(text: str) -> None:
    """Print one line on stderr."""
    click.echo(printable(text), err=True)


def print_warning(text: str) -> None:
    """Print a warning on stderr."""
    print_note(f"tadkit: warning: {text}")


def show_error(error: TadkitError) -> None:
    """Print an error on stderr; each of its messages is one line, cut where a file's content makes it endless."""
    for message in map(str, error.args):
        cut = message if len(message) <= _LONGEST_MESSAGE else f"{message[:_LONGEST_MESSAGE]}..."
        print_note(f"tadkit: error: {cut}")


class TerminalProgress:
    """Draws progress bars on a terminal; elsewhere it prints a plain line every 30 s. Warnings are always printed.

    Use it in a ``with`` block, which restores the terminal. It is a :class:`tadkit.progress.Progress`.
    """

    def __init__(self, *, plain_every_s: float = PLAIN_EVERY_S) -> None:
        self._plain_every_s = plain_every_s
        self._bars: Bars | None = None
        self._task: TaskID | None = None
        self._name, self._unit = "", ""
        self._total = self._done = 0.0
        self._started_s = self._printed_s = time.monotonic()

    def __enter__(self) -> TerminalProgress:
        """Start the bars if stderr is a terminal."""
        if sys.stderr.isatty():
            self._bars = _bars()
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Restore the terminal."""
        if self._bars is not None:
            self._bars.stop()

    def start(self, task: str, *, total: float, unit: str) -> None:
        """Begin a task; the bar of the one before it stays on the screen."""
        self._name, self._unit, self._total, self._done = task, unit, total, 0.0
        self._started_s = self._printed_s = time.monotonic()
        if self._bars is not None:
            if self._task is not None:
                self._bars.stop_task(self._task)
            self._task = self._bars.add_task(printable(task), total=total or None, unit=unit, note="")

    def advance(self, amount: float = 1.0, *, note: str = "") -> None:
        """Advance the current task by ``amount``."""
        self._done += amount
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, advance=amount, note=printable(note))
            return
        now_s = time.monotonic()
        if now_s - self._printed_s >= self._plain_every_s:
            self._printed_s = now_s
            print_note(self._plain_line(now_s - self._started_s, note))

    def warn(self, message: str) -> None:
        """Print a warning, above the bars if there are any."""
        if self._bars is None:
            print_warning(message)
            return
        from rich.text import Text

        self._bars.console.print(Text(printable(f"tadkit: warning: {message}")), soft_wrap=True)

    def _plain_line(self, took_s: float, note: str) -> str:
        rate = self._done / took_s if took_s > 0 else 0.0
        left = f", {clock((self._total - self._done) / rate)} left" if rate > 0 and self._total > self._done else ""
        noted = f", {note}" if note else ""
        done = f"{_count(self._done)} of {_count(self._total)} {self._unit}"
        return f"{self._name}: {done}, {rate:.3g} a second{left}{noted}"


def _count(number: float) -> str:
    """A whole number as it is, a fraction of one with one decimal."""
    return f"{number:.0f}" if abs(number - round(number)) < 1e-6 else f"{number:.1f}"


def _bars() -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        """Units done, and units per second."""

        def render(self, task: Task) -> Text:
            of = f"/{_count(task.total)}" if task.total else ""
            speed = task.finished_speed or task.speed
            rate = f" ({speed:.3g}/s)" if speed else ""
            return Text(f"{_count(task.completed)}{of} {task.fields['unit']}{rate}")

    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), Rate(), TimeRemainingColumn())
    note = TextColumn("{task.fields[note]}", markup=False)
    return Progress(*columns, note, console=Console(stderr=True))


def clock(seconds: float) -> str:
    """Seconds as a video player shows them: ``m:ss.s``, or ``h:mm:ss.s`` from one hour."""
    tenths = round(max(seconds, 0.0) * 10)
    minutes, rest = divmod(tenths, 600)
    if minutes < 60:
        return f"{minutes}:{rest / 10:04.1f}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest / 10:04.1f}"


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print rows under headings on stdout; columns named in ``right`` are right-aligned.

    When piped, lines are as long as needed and have no trailing blanks.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(Text(printable(heading)), justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    if sys.stdout.isatty():
        Console().print(table)
        return
    console = Console(width=_PIPED_COLUMNS, color_system=None)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().removesuffix("\n").split("\n"):
        click.echo(line.rstrip())
