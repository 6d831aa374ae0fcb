"""Arguments and options that several commands share."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from tadkit.errors import UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

Function = TypeVar("Function", bound=Callable[..., Any])


class NamedPath(click.Path):
    """A path. The empty string, such as an unset variable in quotes, is refused: it would mean the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the path."""
        if not str(value):
            self.fail("is empty; give the path of a file or folder.", param, ctx)
        return super().convert(value, param, ctx)


PATH = NamedPath(path_type=Path)
STDIN = Path("/dev/stdin")


class Positive(click.FloatRange):
    """A finite number above 0; click's own range accepts nan and inf."""

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is not a finite number.", param, ctx)
        return number


POSITIVE = Positive()


class _Engine(click.ParamType):  # type: ignore[type-arg] # generic in new versions of click only
    """An engine's name; the names are imported when one is given, so that help stays fast."""

    name = "engine"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse what is no engine."""
        from tadkit.runtime.engines import EngineChoice

        if value not in (known := get_args(EngineChoice)):
            self.fail(f"'{value}' is not one of {', '.join(known)}.", param, ctx)
        return str(value)


def device_option(function: Function) -> Function:
    """``--device``."""
    return click.option(
        "--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps."
    )(function)


def engine_option(function: Function) -> Function:
    """``--engine``."""
    return click.option(
        "--engine",
        type=_Engine(),
        default="auto",
        show_default=True,
        metavar="NAME",
        help="What runs the backbone: torch, onnxruntime, openvino, or auto, the fastest of them that is installed and "
        "can run the model. onnxruntime and openvino come with pip install 'tadkit[export]'; they run the bundled "
        "model's backbone on the CPU, with the same results up to rounding. openvino-bf16 rounds to 8 bits: faster on "
        "CPUs that compute in bfloat16, and scores change by some hundredths.",
    )(function)


def set_option(function: Function) -> Function:
    """``--set``, which may be repeated."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="NAME=TOML",
        help="Change a setting (docs/settings.md), such as decode.keep=50. May be repeated.",
    )(function)


def video_scores_option(function: Function) -> Function:
    """``--video-scores``, for the commands that detect."""
    return click.option(
        "--video-scores",
        type=PATH,
        metavar="FILE",
        help="JSON file of video-level scores, {video: {label: score}}, that weight the detections.",
    )(function)


def recursive_option(function: Function) -> Function:
    """``--recursive``, for the commands that take folders of videos."""
    return click.option("--recursive", is_flag=True, help="Search the sub-folders of folders, too.")(function)


def workers_option(what: str) -> Callable[[Function], Function]:
    """``--workers``, each of which works on ``what`` at a time."""
    return click.option(
        "--workers",
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        metavar="N",
        help=f"Processes, each for {what} at a time, with its share of the threads.",
    )


def workers_options(function: Function) -> Function:
    """``--workers`` and ``--retry-failed``, for the commands that extract flow."""
    workers = click.option(
        "--workers",
        type=click.IntRange(min=1),
        metavar="N",
        help="Processes that compute flow, each for one video at a time; by default one per device.",
    )
    retry = click.option("--retry-failed", is_flag=True, help="Retry videos whose flow failed before.")
    return workers(retry(function))


def example(*commands: str) -> str:
    """The end of a help text: commands that run unchanged."""
    return "\b\nExample:\n" + "\n".join(f"  {command}" for command in commands)


def refuse_input(out: Path, inputs: Container[Path], *, option: str = "--out") -> None:
    """Refuse an output that would replace one of ``inputs``, which are resolved.

    Raises:
        UsageError: it would.
    """
    if out.resolve() in inputs:
        raise UsageError(f"{option} {out}: is an input of this command; choose another file")


def refuse_output(out: Path, *inputs: Path | None, option: str = "--out") -> None:
    """Refuse, before any work, an output that cannot be written or would replace an input.

    Raises:
        UsageError: ``out`` is one of ``inputs`` or a folder, or its folder cannot be written to.
    """
    refuse_input(out, {path.resolve() for path in inputs if path is not None}, option=option)
    if out.is_dir():
        raise UsageError(f"{option} {out}: is a folder; name a file in it")
    there = next(folder for folder in out.absolute().parents if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {out}: {there} cannot be written to; choose another folder")


def or_stdin(path: Path) -> Path:
    """``path``, or the path of standard input if it is ``-``."""
    return STDIN if str(path) == "-" else path


def refuse_stdin_twice(**paths: Path | None) -> None:
    """Refuse to read more than one of the named arguments from standard input.

    Raises:
        UsageError: two are ``-``.
    """
    named = [name for name, path in paths.items() if str(path) == "-"]
    if len(named) > 1:
        raise UsageError(
            f"- is given for {' and '.join(named)}, but stdin is one file; give paths for all but one of them"
        )


class InOrder(click.Group):
    """A group whose help lists commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        """Names in order of use, not alphabetical order."""
        return list(self.commands)


def _setting(name: str) -> FieldInfo:
    """The field ``Class.field`` of ``tadkit.config``, which is imported only when it is needed."""
    from tadkit import config

    settings, field = name.split(".")
    kind: type[BaseModel] = getattr(config, settings)
    return kind.model_fields[field]


class SettingChoice(click.Choice[str]):
    """The values of a ``Literal`` setting ``Class.field`` of ``tadkit.config``, read when they are needed."""

    def __init__(self, setting: str) -> None:
        self._setting = setting
        super().__init__(())

    @property  # type: ignore[override] # click stores it as an attribute, and only reads it
    def choices(self) -> Sequence[str]:
        """The setting's values."""
        return get_args(_setting(self._setting).annotation)

    @choices.setter
    def choices(self, values: Sequence[str]) -> None:
        """Ignore what click's constructor stores."""


class SettingOption(click.Option):
    """An option with the default and the description of the setting ``Class.field``, read when they are needed."""

    def __init__(self, flags: Sequence[str], *, setting: str, **attributes: Any) -> None:
        super().__init__(flags, show_default=True, **attributes)
        self._setting = setting

    def get_default(self, ctx: click.Context, call: bool = True) -> Any:  # noqa: ARG002 - the signature is click's
        """The setting's default."""
        return _setting(self._setting).default

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The option and the setting's description."""
        self.help = _setting(self._setting).description
        return super().get_help_record(ctx)
