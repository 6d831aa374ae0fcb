from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tadkit.cli import main
from tadkit.cli.app import app
from tadkit.cli.console import show_error
from tadkit.errors import TadkitError
from tadkit.store import open_store

EXAMPLE = Path(__file__).parents[2] / "examples" / "room.mp4"


def test_an_unknown_command_names_the_nearest_and_exits_2(tadkit):
    ran = tadkit("detec", "room.mp4")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("tadkit: error: ")
    assert "detect" in ran.err


def test_a_usage_error_says_where_help_is(tadkit):
    ran = tadkit("run")
    assert ran.code == 2
    assert ran.err == "tadkit: error: Missing argument 'RECIPE'.\nsee: tadkit run --help\n"


def test_no_command_shows_the_help_and_exits_2(tadkit):
    ran = tadkit()
    assert ran.code == 2
    assert "Commands:" in ran.err


def test_an_expected_error_is_one_line_without_traceback(tadkit, tmp_path):
    missing = tmp_path / "no.toml"
    ran = tadkit("run", missing)
    assert ran.code == 2
    assert ran.err.startswith(f"tadkit: error: {missing}: no such recipe")
    assert ran.err.count("\n") == 1


def test_debug_shows_the_traceback_too(tadkit, tmp_path):
    ran = tadkit("--debug", "run", tmp_path / "no.toml")
    assert ran.code == 2
    assert "Traceback" in ran.err
    assert "SettingsError" in ran.err


@pytest.mark.parametrize(("module", "package"), [("av", "av"), ("einops", "einops")])
def test_a_package_that_is_missing_is_named_in_one_line(module, package):
    code = f"import sys; sys.modules[{module!r}] = None; import tadkit.cli as cli; sys.exit(cli.main(sys.argv[1:]))"
    ran = subprocess.run([sys.executable, "-c", code, "detect", EXAMPLE], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == (
        f"tadkit: error: the package '{package}' is missing; install tadkit again, tadkit doctor shows what is there\n"
    )


def test_every_line_of_an_error_is_marked(capsys):
    show_error(TadkitError("one", "two"))
    assert capsys.readouterr().err == "tadkit: error: one\ntadkit: error: two\n"


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_ctrl_c_exits_130_without_traceback():
    code = (
        "import sys, tadkit.cli as cli; print('ready', file=sys.stderr, flush=True); sys.exit(cli.main(['run', '-']))"
    )
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A shell's background jobs ignore SIGINT, and so would what they start.
    with subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **pipes) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "ready\n"
        time.sleep(0.5)  # inside main, which waits for its recipe on stdin
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert "Traceback" not in process.stderr.read()


def test_ctrl_c_while_a_compiled_module_is_loaded_is_no_error(capsys):
    @app.command("load")
    def load() -> None:
        raise ImportError("initialization failed") from KeyboardInterrupt()  # as pybind11 does

    try:
        assert main(["load"]) == 130
    finally:
        del app.commands["load"]
    assert capsys.readouterr().err == "tadkit: interrupted\n"


@pytest.mark.skipif(os.name != "posix", reason="closes descriptors by a POSIX shell")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_output_is_no_error(closed):
    ran = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m tadkit.cli doctor {closed}"], capture_output=True, text=True
    )
    assert ran.returncode == 0
    assert ran.stderr == ""


@pytest.mark.skipif(os.name != "posix", reason="pipes as of POSIX")
def test_a_reader_that_leaves_early_is_no_error_message():
    command = f"{sys.executable} -m tadkit.cli detect -h | true"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert ran.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
@pytest.mark.parametrize("words", ["--help", "doctor", "inspect flow.h5 --json", "inspect flow.h5"])
def test_output_that_finds_no_room_is_one_line(tmp_path, words):
    with open_store(tmp_path / "flow.h5", kind="flow", settings={}):
        pass
    command = f"{sys.executable} -m tadkit.cli {words} > /dev/full"
    ran = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
    assert ran.stderr.startswith("tadkit: error: output: cannot be written (No space left on device)")


def test_a_name_that_the_output_cannot_spell_is_escaped(tmp_path):
    with open_store(tmp_path / "日.h5", kind="flow", settings={}):
        pass
    words = [sys.executable, "-m", "tadkit.cli", "inspect", "日.h5"]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    ran = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert b"\\u65e5.h5" in ran.stdout


def test_main_reads_the_words_of_the_process_by_default(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tadkit", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("tadkit ")
