"""``tadkit detect --live``: its options, and its reports as JSON lines."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import wraps
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from tadkit.cli.console import print_line, print_note, show_error
from tadkit.cli.options import POSITIVE
from tadkit.errors import UsageError, VideoError

if TYPE_CHECKING:
    from types import FrameType

    from tadkit.detection.detect import Detector
    from tadkit.detection.live import Report

Function = TypeVar("Function", bound=Callable[..., Any])
_TAKEN = frozenset({"live", "delay_s", "patience_s", "model", "least", "device", "engine", "overrides"})
"""Parameters of ``tadkit detect`` that have a meaning with ``--live``."""


@dataclass(frozen=True)
class Live:
    """What the user asked for; there is no source without ``--live``."""

    source: str | None
    delay_s: float | None
    patience_s: float

    def refuse(self, ctx: click.Context) -> None:
        """Refuse options that do not go together.

        Raises:
            UsageError: one has no meaning with ``--live``, or only with it.
        """
        given = {name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
        if self.source is None:
            wrong, why = given & {"delay_s", "patience_s"}, "needs --live SOURCE; leave it out"
        else:
            wrong, why = given - _TAKEN, "has no meaning with --live, which prints JSON lines on stdout; leave it out"
        for parameter in ctx.command.params:
            if parameter.name in wrong:
                raise UsageError(f"{parameter.opts[-1] if parameter.opts[0][0] == '-' else 'VIDEOS'} {why}")


def live_options(function: Function) -> Function:
    """``--live`` and what it takes; the command gets them as ``live``, a :class:`Live`."""

    @wraps(function)
    def command(*arguments: Any, live: str | None, delay_s: float | None, patience_s: float, **values: Any) -> Any:
        return function(*arguments, live=Live(live, delay_s, patience_s), **values)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command  # type: ignore[return-value] # options are added to it, and one argument less is asked for


_OPTIONS = (
    click.option(
        "--live",
        metavar="SOURCE",
        help="Detect in video as it comes, and print JSON lines: a camera's index, a file that is being written, a "
        "named pipe, - for encoded video on stdin, or a URL that FFmpeg reads, such as rtsp://camera/1.",
    ),
    click.option(
        "--delay",
        "delay_s",
        type=POSITIVE,
        metavar="S",
        help="With --live: print detections S seconds after their end. By default, so late that later video rarely "
        "changes them; one that it does change is withdrawn.",
    ),
    click.option(
        "--reconnect",
        "patience_s",
        type=click.FloatRange(min=0, max=1e6),
        default=60.0,
        show_default=True,
        metavar="S",
        help="With --live: for how many seconds to try again when the source is lost, or to wait for a file to grow.",
    ),
)


def print_live(detector: Detector, live: Live, *, least: float | None) -> int:
    """Print what is found in the live source, until it ends or the user interrupts.

    Returns:
        The exit code.

    Raises:
        UsageError: the detector cannot run on live video, or not within the delay.
        VideoError: the source cannot be opened, or has no frame.
        KeyboardInterrupt: the user has interrupted; everything that was seen is printed.
    """
    from tadkit.detection.live import Ended, Opened, live_detections
    from tadkit.video.live import live_source

    assert live.source is not None
    stopped = Event()
    source = live_source(live.source, patience_s=live.patience_s, stopped=stopped)
    failed = False
    with _interrupt_sets(stopped):
        reports = live_detections(detector, source, patience_s=live.patience_s, delay_s=live.delay_s, least=least)
        for report in reports:
            if isinstance(report, Opened):
                print_note(_delay_note(source.name, report.delay_s, report.full_s))
                continue
            print_line(json.dumps(_record(report)))
            if isinstance(report, Ended) and report.failed:
                failed = True
                show_error(VideoError(f"{source.name}: lost at {report.at_s:.1f} s ({report.reason}); see --reconnect"))
    if stopped.is_set():
        raise KeyboardInterrupt
    return VideoError.exit_code if failed else 0


def _delay_note(name: str, delay_s: float, full_s: float) -> str:
    said = f"{name}: open; detections are printed at most {delay_s:.1f} s after their end"
    if delay_s >= full_s:
        return f"{said}, and do not change"
    return f"{said}; later video may change them for {full_s - delay_s:.1f} s more: they are then withdrawn"


def _record(report: Report) -> Mapping[str, Any]:
    """A report as a JSON object; ``event`` says what it is."""
    from tadkit.detection.live import Ended, Found, Lost, Withdrawn

    match report:
        case Found(detection, at_s):
            return {"event": "detection", **asdict(detection), "at_s": at_s}
        case Withdrawn(detection, at_s):
            return {"event": "withdrawn", **asdict(detection), "at_s": at_s}
        case Lost():
            return {"event": "lost", **report._asdict()}
        case Ended(at_s, reason):
            return {"event": "end", "at_s": at_s, "reason": reason}
        case _:
            raise AssertionError(report)


@contextmanager
def _interrupt_sets(stopped: Event) -> Iterator[None]:
    """Let the first Ctrl-C set ``stopped``; a second one interrupts at once. Where Ctrl-C is ignored, it stays so."""

    def stop(signum: int, frame: FrameType | None) -> None:
        if stopped.is_set():
            signal.default_int_handler(signum, frame)
        stopped.set()

    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
