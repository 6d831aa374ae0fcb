from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator

import click
import pytest

from tadkit import __version__
from tadkit.cli import app

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


def test_root_help_does_not_even_load_the_settings():
    code = "import sys; from tadkit.cli import main; main(['-h']); assert not {'pydantic', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


@pytest.mark.slow
def test_root_help_answers_within_400_ms():
    def once() -> float:
        start_s = time.perf_counter()
        subprocess.run([sys.executable, "-m", "tadkit.cli", "--help"], capture_output=True, check=True)
        return time.perf_counter() - start_s

    assert min(once() for _ in range(5)) < 0.4


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
def test_every_option_is_told(words, command, tadkit):
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
