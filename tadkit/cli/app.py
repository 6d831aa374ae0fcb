"""The root command; it turns errors into one line and an exit code."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from tadkit.cli.commands.ablate import ablate
from tadkit.cli.commands.bench import bench
from tadkit.cli.commands.data import data
from tadkit.cli.commands.detect import detect, detect_features
from tadkit.cli.commands.doctor import doctor
from tadkit.cli.commands.evaluate import evaluate, operating_points
from tadkit.cli.commands.extract import extract_features, extract_flow
from tadkit.cli.commands.import_ import export, import_
from tadkit.cli.commands.inspect import inspect
from tadkit.cli.commands.report import report, suggest
from tadkit.cli.commands.stages import adapt, distill, run, train_head, train_teacher
from tadkit.cli.console import print_note, print_warning, show_error
from tadkit.cli.options import InOrder, example
from tadkit.errors import TadkitError, UsageError
from tadkit.files import FULL
from tadkit.version import __version__

INTERRUPTED = 130
TERMINATED = 143
_LINE_BREAK = re.compile(r"\s*\n\s*")


@click.group(
    cls=InOrder,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=example("tadkit detect examples/room.mp4 --out dets.json"),
)
@click.version_option(__version__, prog_name="tadkit", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def app(debug: bool) -> None:
    """Find actions in untrimmed video: what happens, and when it starts and ends.

    Models read RGB only; optical flow supervises them during training.

    An existing output file is replaced once the new one is complete. Stores (.h5) keep their contents and grow.
    """


for command in (
    detect,
    detect_features,
    evaluate,
    report,
    suggest,
    adapt,
    run,
    ablate,
    extract_flow,
    inspect,
    train_teacher,
    distill,
    extract_features,
    train_head,
    operating_points,
    data,
    import_,
    export,
    bench,
    doctor,
):
    app.add_command(command)


class Terminated(KeyboardInterrupt):
    """SIGTERM was received: what is running ends as after Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: those after ``tadkit``; by default those of the process.

    Returns:
        The exit code: 0 ok, 1 other, 2 usage or settings, 3 video, 4 store, 5 weights, 6 annotations, 130 interrupted,
        143 terminated.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    _open_closed_output()
    logging.getLogger("tadkit").addHandler(_WARNINGS)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for names that the pipe's encoding cannot represent
    try:
        code = app.main(words, prog_name="tadkit", standalone_mode=False, obj=words)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.UsageError as error:
        show_error(UsageError(_LINE_BREAK.sub(" ", error.format_message())))
        if error.ctx is not None:
            print_note(f"see: {error.ctx.command_path} --help")
        return error.exit_code
    except TadkitError as error:
        if "--debug" in words:
            for line in traceback.format_exc().splitlines():
                print_note(line)
        show_error(error)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        return _interrupted(error)
    except BrokenPipeError:
        _drop_output()  # the reader has closed the pipe, as in ``tadkit ... | head``
        return 1
    except ModuleNotFoundError as error:
        package = (error.name or "tadkit").partition(".")[0]
        if "--debug" in words or package == "tadkit":
            raise
        show_error(
            TadkitError(f"the package '{package}' is missing; install tadkit again, tadkit doctor shows what is there")
        )
        return TadkitError.exit_code
    except ImportError as error:
        if not isinstance(error.__cause__, KeyboardInterrupt):
            raise
        return _interrupted(error)  # while a compiled module was being loaded
    except OSError as error:
        if "--debug" in words or (error.errno not in FULL and (error.errno is None or error.filename is None)):
            raise
        if error.errno in FULL:
            _drop_output()
        show_error(_of_system(error))
        return TadkitError.exit_code
    except (MemoryError, RuntimeError) as error:
        if "--debug" in words or not _is_out_of_memory(error):
            raise
        show_error(
            TadkitError("out of memory; close other programs, or lower the size of frames, batches or --workers")
        )
        return TadkitError.exit_code
    return code if isinstance(code, int) else 0


def _interrupted(error: BaseException) -> int:
    """Say what ended the command; click wraps it."""
    terminated = isinstance(error, Terminated) or isinstance(error.__cause__, Terminated)
    print_note(f"tadkit: {'terminated' if terminated else 'interrupted'}")
    return TERMINATED if terminated else INTERRUPTED


def _of_system(error: OSError) -> TadkitError:
    """What the operating system refuses while a command runs: a disk that is full, or a path that has changed."""
    if error.errno in FULL:
        return TadkitError(f"{error.filename or 'output'}: cannot be written ({error.strerror}); free some disk space")
    return TadkitError(
        f"{error.filename}: cannot be read or written ({error.strerror}); check that it exists and its permissions"
    )


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, PyTorch's allocator or a device has no memory left."""
    return isinstance(error, MemoryError) or re.search("(out of|not enough|allocate) memory", str(error)) is not None


def _open_closed_output() -> None:
    """Discard output that the shell has closed (``tadkit ... >&-``) and keep its descriptor in use."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - open as long as the process


def _drop_output() -> None:
    """Discard what stdout still buffers; it could not be written at exit either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Warnings(logging.Handler):
    """Prints the library's warnings on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record's text."""
        print_warning(record.getMessage())


_WARNINGS = _Warnings(logging.WARNING)
