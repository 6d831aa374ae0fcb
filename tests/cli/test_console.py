from __future__ import annotations

import os
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadkit.cli.console import TerminalProgress, clock, print_line, print_table, print_warning, show_error
from tadkit.errors import TadkitError, printable

OVERRIDES = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0:00.0"),
        (9.96, "0:10.0"),
        (59.96, "1:00.0"),
        (61.25, "1:01.2"),
        (3599.99, "1:00:00.0"),
        (3725.5, "1:02:05.5"),
    ],
)
def test_clock(seconds, shown):
    assert clock(seconds) == shown


@given(st.floats(0, 1e5))
def test_clock_is_within_a_twentieth_of_a_second_and_never_shows_60(seconds):
    *hours_minutes, rest = (float(part) for part in clock(seconds).split(":"))
    hours, minutes = hours_minutes if len(hours_minutes) == 2 else (0, hours_minutes[0])
    assert abs(3600 * hours + 60 * minutes + rest - seconds) <= 0.05 + 1e-6
    assert minutes < 60
    assert rest < 60


def test_tables_keep_every_letter_when_piped(capsys):
    name = "a" * 300
    print_table(("video", "score"), [(name, "[bold]0.5")], right=("score",))
    out = capsys.readouterr().out
    assert name in out
    assert "[bold]0.5" in out


def test_progress_is_quiet_where_there_is_no_terminal(capsys):
    with TerminalProgress() as progress:
        progress.start("decode", total=10, unit="frames")
        progress.advance(10)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_long_work_prints_a_plain_line_now_and_then(capsys):
    with TerminalProgress(plain_every_s=0) as progress:
        progress.start("train", total=4, unit="steps")
        progress.advance(1, note="loss 0.5")
        progress.advance(3)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("train: 1 of 4 steps, ")
    assert " left, loss 0.5" in first
    assert second.startswith("train: 4 of 4 steps, ")
    assert "left" not in second


def test_warnings_are_always_printed_on_stderr(capsys):
    with TerminalProgress() as progress:
        progress.warn("2% clipped [at] 20 px")
    assert capsys.readouterr().err == "tadkit: warning: 2% clipped [at] 20 px\n"


HOSTILE = "a\x1b[31mb [red]c[/red] :smile: d\ne\u202ef"
SHOWN = r"a\x1b[31mb [red]c[/red] :smile: d\ne\u202ef"


def test_what_a_terminal_would_obey_is_shown_as_escapes():
    assert printable(HOSTILE) == SHOWN
    assert printable("\x00\t\r\x7f\x9b\u2028\u2066\u200f\udc80") == r"\x00\t\r\x7f\x9b\u2028\u2066\u200f\udc80"


@pytest.mark.parametrize(
    "text", ["Längerer Name", "日本語\u3000", "नमस्\u200dते", "👩\u200d🔬", "שלום", "[bold]", "a\\nb"]
)
def test_names_in_any_script_are_left_alone(text):
    assert printable(text) == text


@given(st.text(st.characters(codec=None)))
def test_visible_text_is_one_line_without_controls(text):
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert not any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in shown)
    assert not any(unicodedata.bidirectional(letter) in OVERRIDES for letter in shown)


def test_lines_warnings_and_errors_are_escaped(capsys):
    print_line(HOSTILE)
    print_warning(HOSTILE)
    show_error(TadkitError(HOSTILE, "second"))
    captured = capsys.readouterr()
    assert captured.out == f"{SHOWN}\n"
    assert captured.err.splitlines() == [
        f"tadkit: warning: {SHOWN}",
        f"tadkit: error: {SHOWN}",
        "tadkit: error: second",
    ]


def test_tables_are_escaped_and_have_one_line_a_row(capsys):
    print_table([HOSTILE, "score"], [[HOSTILE, "1"], ["b", HOSTILE]], right=["score"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert len(lines) == 4
    assert all(SHOWN in line for line in (lines[0], *lines[2:]))


def test_plain_progress_is_escaped(capsys):
    with TerminalProgress(plain_every_s=0) as progress:
        progress.start(HOSTILE, total=4, unit="steps")
        progress.advance(1, note=HOSTILE)
        progress.warn(HOSTILE)
    line, warning = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{SHOWN}: 1 of 4 steps")
    assert line.endswith(SHOWN)
    assert warning == f"tadkit: warning: {SHOWN}"


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are POSIX")
def test_a_terminal_shows_bars_with_rate_and_warnings():
    import pty

    code = (
        "from tadkit.cli.console import TerminalProgress\n"
        "with TerminalProgress() as progress:\n"
        "    progress.start('decode [x]\\x1b[31m', total=10, unit='frames')\n"
        "    progress.advance(4)\n"
        "    progress.warn('dark [red]video[/red] :smile: \\u202e')\n"
        "    progress.advance(6, note='loss [b]1\\x07')\n"
    )
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    ran = subprocess.run(
        [sys.executable, "-c", code], stderr=theirs, stdout=subprocess.PIPE, env=environment, check=True
    )
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert ran.stdout == b""
    assert r"decode [x]\x1b[31m" in shown
    assert "10/10 frames" in shown
    assert r"tadkit: warning: dark [red]video[/red] :smile: \u202e" in shown
    assert r"loss [b]1\x07" in shown


def test_a_piped_table_is_whole_and_has_no_blanks_at_the_ends_of_its_lines(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    long = "längerer Name " * 1000
    print_table(["name", "figure", ""], [["a", "1", ""], [long, "10", ""]], right=["figure"])
    lines = capsys.readouterr().out.split("\n")
    assert lines == [line.rstrip() for line in lines]
    assert long in lines[-3]
    assert lines[-4].endswith(" 1")
    assert lines[-3].endswith(" 10")
    assert len(lines[-4]) == len(lines[-3])
