"""``tadkit doctor``: what is installed here and what works."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module, resources
from importlib.metadata import PackageNotFoundError, version

import click

from tadkit.cli.options import example


@click.command(short_help="Tell what is installed and works.", epilog=example("tadkit doctor"))
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Tell what is installed and what works: versions, device, decoders, models.

    The exit code is 1 if something that tadkit detect needs is missing.
    """
    from tadkit.cli.console import print_table

    checks: tuple[tuple[str, bool, Callable[[], str]], ...] = (
        ("python", True, _python),
        ("tadkit", True, lambda: version("tadkit")),
        ("torch", True, _torch),
        ("device", True, _device),
        ("decord", False, lambda: _module("decord")),
        ("PyAV", True, lambda: _module("av")),
        ("h5py", True, lambda: _module("h5py")),
        ("cv2", False, lambda: f"{_module('cv2')}, for flow.method opencv-dis"),
        ("cv2.optflow", False, _optflow),
        ("torchvision", False, _torchvision),
        ("bundled models", True, _models),
    )
    rows, healthy = [], True
    for name, needed, check in checks:
        try:
            rows.append((name, "ok", check()))
        except Exception as error:
            healthy = healthy and not needed
            rows.append((name, "missing" if needed else "absent", f"{type(error).__name__}: {error}".splitlines()[0]))
    print_table(("part", "state", "what"), rows)
    ctx.exit(0 if healthy else 1)


def _python() -> str:
    import platform

    return f"{platform.python_version()} on {platform.platform()}"


def _module(name: str) -> str:
    return str(getattr(import_module(name), "__version__", "installed"))


def _torch() -> str:
    import torch

    return f"{torch.__version__}, {torch.get_num_threads()} threads"


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"cuda: {torch.cuda.get_device_name()}"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _optflow() -> str:
    import cv2

    if not hasattr(cv2, "optflow"):
        raise PackageNotFoundError("opencv-contrib-python, which flow.method opencv-tvl1 needs")
    return f"{cv2.__version__}, for flow.method opencv-tvl1"


def _torchvision() -> str:
    from tadkit.torchvision_import import import_torchvision

    return f"{import_torchvision().__version__}, for flow.method raft-small and raft-large"


def _models() -> str:
    folder = resources.files("tadkit") / "zoo"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".safetensors"))
    if not names:
        raise FileNotFoundError(f"no .safetensors in {folder}; tadkit detect then needs --model")
    return ", ".join(names)
