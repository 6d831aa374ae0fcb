"""The command line: the only package that prints or exits."""

import sys

try:
    from tadkit.cli.app import app, main
    from tadkit.cli.process import run_process
except KeyboardInterrupt:  # Ctrl-C while the command line starts
    sys.exit(130)

__all__ = ["app", "main", "run_process"]
