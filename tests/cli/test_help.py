from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import get_args

import click
import pytest

from tadkit import __version__
from tadkit.cli import app
from tadkit.config import Protocol, SynthSource
from tadkit.interop import Source

HEAVY = ("torch", "h5py", "cv2", "av", "decord", "rich")
ROOMS = ("tadkit.recipe", "tadkit.detection", "tadkit.extraction")


def commands(
    command: click.Command = app, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, (*words, name))


ALL = [pytest.param(words, command, id=" ".join(words) or "tadkit") for words, command in commands()]


def examples(command: click.Command) -> list[list[str]]:
    return [shlex.split(line) for line in (command.epilog or "").splitlines() if line.startswith("  ")]


def test_help_of_no_command_loads_anything_heavy():
    calls = [[*words, "-h"] for words, _ in commands()]
    code = (
        "import sys; from tadkit.cli import main\n"
        f"for words in {calls!r}: assert main(words) == 0, words\n"
        f"print([name for name in {(*HEAVY, *ROOMS)!r} if name in sys.modules], file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr.strip() == "[]"


def test_root_help_loads_click_and_little_of_tadkit():
    code = (
        "import sys; before = set(sys.modules)\n"
        "from tadkit.cli import main; assert main(['-h']) == 0\n"
        "print(*set(sys.modules) - before, sep='\\n', file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ran.stderr.split())
    assert {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names <= {"tadkit", "click", "colorama"}
    rooms = {".".join(name.split(".")[:2]) for name in loaded if name.startswith("tadkit.")}
    assert rooms == {
        f"tadkit.{room}" for room in ("annotations", "cli", "errors", "files", "interop", "records", "version")
    }


@pytest.mark.parametrize(("words", "command"), ALL)
def test_every_help_text_ends_with_an_example_whose_words_parse(words, command, tadkit, parse):
    shown = tadkit(*words, "--help")
    assert shown.code == 0
    lines = shown.out.rstrip().splitlines()
    last = len(lines) - 1 - lines[::-1].index("  Example:")
    assert [shlex.split(line) for line in lines[last + 1 :]] == examples(command) != []
    for example in examples(command):
        assert example[0] == "tadkit"
        parse(example[1:])


@pytest.mark.parametrize(("words", "command"), ALL)
def test_every_option_has_a_help_text(words, command, tadkit):
    ran = tadkit(*words, "-h")
    assert (ran.code, ran.err) == (0, "")
    shown = ran.out
    for option in command.params:
        if isinstance(option, click.Option):
            assert re.search(rf"{option.opts[-1]}\b.*\S", shown)


def test_groups_list_commands_in_order_of_use(tadkit):
    shown = tadkit("-h").out
    places = [shown.index(f"  {name} ") for name in ("extract-flow", "train-teacher", "distill", "train-head")]
    assert places == sorted(places)
    assert "..." not in shown.partition("Commands:")[2]


def test_version(tadkit):
    assert tadkit("--version").out == f"tadkit {__version__}\n"


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (("import", "head", "--from"), get_args(Source)),
        (("data", "synth", "--camera"), get_args(SynthSource.model_fields["camera"].annotation)),
        (("evaluate", "--protocol"), get_args(Protocol)),
    ],
)
def test_choices_are_those_of_the_one_literal(tadkit, words, values):
    ran = tadkit(*words, "none of them")
    assert ran.code == 2
    assert [word for word in re.findall(r"'([^']*)'", ran.err) if not word.startswith("-")][1:] == list(values)
    shown = " ".join(tadkit(*words[:-1], "-h").out.split())
    assert f"{words[-1]} [{'|'.join(values)}]" in shown
