"""Arguments and options that several commands share."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tadkit.errors import UsageError

Function = TypeVar("Function", bound=Callable[..., Any])


class NamedPath(click.Path):
    """A path; an empty word, such as an unset variable in quotes, would be the folder one is in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        if not str(value):
            self.fail("is empty; name a file or a folder.", param, ctx)
        return super().convert(value, param, ctx)


PATH = NamedPath(path_type=Path)
STDIN = Path("/dev/stdin")


class Positive(click.FloatRange):
    """A finite number above 0; click's own range lets nan and inf pass."""

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is no finite number.", param, ctx)
        return number


POSITIVE = Positive()


def device_option(function: Function) -> Function:
    """``--device``."""
    return click.option(
        "--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps."
    )(function)


def set_option(function: Function) -> Function:
    """``--set``, any number of times."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="NAME=TOML",
        help="Set one setting (docs/settings.md), as in --set decode.keep=50. May be given again.",
    )(function)


def video_scores_option(function: Function) -> Function:
    """``--video-scores``, of the commands that detect."""
    return click.option(
        "--video-scores",
        type=PATH,
        metavar="FILE",
        help="JSON of another classifier's scores of whole videos, {video: {label: score}}; they weight detections.",
    )(function)


def workers_options(function: Function) -> Function:
    """``--workers`` and ``--retry-failed``, of what extracts flow."""
    workers = click.option(
        "--workers",
        type=click.IntRange(min=1),
        metavar="N",
        help="Processes for flow, a video each at a time; 1, or one a device.",
    )
    retry = click.option("--retry-failed", is_flag=True, help="Try videos again whose flow failed before.")
    return workers(retry(function))


def example(*commands: str) -> str:
    """The closing words of a help text: commands that run as they stand."""
    return "\b\nExample:\n" + "\n".join(f"  {command}" for command in commands)


def refuse_output(out: Path, *inputs: Path | None, option: str = "--out") -> None:
    """Refuse an output that could not be written, or would replace what the command reads: before the work is done.

    Raises:
        UsageError: ``out`` is one of ``inputs`` or a folder, or is to lie where nothing can be written.
    """
    if out.resolve() in [path.resolve() for path in inputs if path is not None]:
        raise UsageError(f"{option} {out}: is what this command reads; name another file")
    if out.is_dir():
        raise UsageError(f"{option} {out}: is a folder; name a file in it")
    there = next(folder for folder in out.absolute().parents if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {out}: {there} cannot be written to; choose another place")


def or_stdin(path: Path) -> Path:
    """``path``, or where standard input is read from if it is ``-``."""
    return STDIN if str(path) == "-" else path


def refuse_stdin_twice(**paths: Path | None) -> None:
    """Refuse to read more than one of the named arguments from standard input, which ends with the first.

    Raises:
        UsageError: two are ``-``.
    """
    named = [name for name, path in paths.items() if str(path) == "-"]
    if len(named) > 1:
        raise UsageError(
            f"- stands for {' and '.join(named)}, but stdin holds one file; give a path for all of them but one"
        )


class InOrder(click.Group):
    """A group whose help lists commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        """Names in order of use, not of the alphabet."""
        return list(self.commands)


class SettingOption(click.Option):
    """An option that has its default and its help from ``tadkit.config``, read only when they are asked for."""

    def __init__(self, flag: str, field: str, *, settings: str, kind: Any, metavar: str | None) -> None:
        super().__init__([flag, field], type=kind, metavar=metavar, show_default=True)
        self._settings, self._field = settings, field

    def get_default(self, ctx: click.Context, call: bool = True) -> Any:  # noqa: ARG002 - the signature is click's
        """The field's default."""
        return self._info().default

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The option and the field's own words."""
        self.help = self._info().description
        return super().get_help_record(ctx)

    def _info(self) -> Any:
        from tadkit import config

        return getattr(config, self._settings).model_fields[self._field]
