"""``python -m tadkit.cli``: the command line if the script is not on the path."""

from tadkit.cli import run_process

run_process()
