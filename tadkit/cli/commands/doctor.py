"""``tadkit doctor``: what is installed here and what works."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module, resources
from importlib.metadata import version
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

import click

from tadkit.cli.console import print_table
from tadkit.cli.options import example
from tadkit.errors import TadkitError


class _Part(NamedTuple):
    """Something that may be missing.

    Attributes:
        name: how the table names it.
        needed: whether ``tadkit detect`` needs it.
        module: what Python imports for it; empty where it is no module.
        remedy: what to do where it is missing.
        look: describes the part, or raises if it is missing or broken.
    """

    name: str
    needed: bool
    module: str
    remedy: str
    look: Callable[[], str]


@click.command(short_help="Show what is installed and what works.", epilog=example("tadkit doctor"))
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Show what is installed and what works: versions, device, decoders, models, entry points.

    Each missing part is shown with its remedy. The exit code is 1 if something that tadkit detect needs is missing.
    """
    rows, healthy = [], True
    for part in _PARTS:
        try:
            rows.append((part.name, "ok", part.look()))
        except Exception as error:
            healthy = healthy and not part.needed
            rows.append((part.name, "missing" if part.needed else "absent", _what_to_do(part, error)))
    print_table(("part", "state", "what"), rows + _plugin_rows())
    ctx.exit(0 if healthy else 1)


def _plugin_rows() -> list[tuple[str, str, str]]:
    """Entry points of other packages: backbones, heads and flow methods."""
    from tadkit.runtime.plugins import load_plugin, plugins

    rows = []
    for plugin in plugins():
        state, what = "ok", plugin.package
        try:
            load_plugin(plugin.group, plugin.name)
        except TadkitError as error:
            state, what = "broken", str(error)
        rows.append((f"{plugin.group} {plugin.name}", state, what))
    return rows


def _what_to_do(part: _Part, error: Exception) -> str:
    """Why a part does not work, and the remedy: that of the module that it failed to import, if that is a part too."""
    reason = (str(error) or type(error).__name__).splitlines()[0]
    lacking = error.name if isinstance(error, ModuleNotFoundError) else None
    remedy = next((other.remedy for other in _PARTS if other.module == lacking), part.remedy)
    return f"{reason}; {remedy}"


def _python() -> str:
    import platform

    return f"{platform.python_version()} on {platform.platform()}"


def _packages() -> str:
    for name in _ALWAYS_NEEDED:
        import_module(name)
    return ", ".join(_ALWAYS_NEEDED)


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


def _opencv() -> str:
    from tadkit.flow.opencv import opencv_version

    return f"{opencv_version()}, for flow.method opencv-dis"


def _optflow() -> str:
    from tadkit.flow.opencv import has_optflow, opencv_version

    if not has_optflow():
        raise ImportError(f"OpenCV {opencv_version()} has no module optflow")
    return f"{opencv_version()}, for flow.method opencv-tvl1"


def _torchvision() -> str:
    from tadkit.runtime.devices import import_torchvision

    return f"{import_torchvision().__version__}, for {_NEED_TORCHVISION}"


def _models() -> str:
    folder = resources.files("tadkit") / "zoo"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".safetensors"))
    if not names:
        raise FileNotFoundError(f"no .safetensors in {folder}")
    return ", ".join(f"{name} ({_terms(folder, Path(name).stem)})" for name in names)


def _terms(folder: Traversable, model: str) -> str:
    """What a model may be used for: the words after the colon in the first line of its licence."""
    first = (folder / f"LICENSE-{model}").read_text(encoding="utf-8").split("\n", 1)[0]
    return first.rpartition(": ")[2]


_ALWAYS_NEEDED = ("einops", "jaxtyping", "numpy", "pydantic", "rich", "safetensors", "scipy.optimize", "tomli_w")

_NEED_TORCHVISION = (
    "flow.method raft-small and raft-large, and the backbones resnet18, mobilenet-v3-small, tsm-resnet18, "
    "tsm-resnet50, tsm-resnet101, r2plus1d-18, s3d, mvit-v2-s and swin3d-t"
)
_NEED_H5PY = "tadkit detect, tadkit run and all other commands that read videos, flow or features (.h5)"

_PARTS = (
    _Part("python", True, "", "install Python 3.11 or newer", _python),
    _Part("tadkit", True, "tadkit", "pip install . in its source folder", lambda: version("tadkit")),
    _Part("packages", True, "", "pip install . in tadkit's source folder", _packages),
    _Part("torch", True, "torch", "pip install torch", _torch),
    _Part("device", True, "", "pip install torch", _device),
    _Part(
        "decord",
        False,
        "decord",
        "only for video.reader=decord (PyAV is the default): pip install decord",
        lambda: _module("decord"),
    ),
    _Part("PyAV", True, "av", "pip install av", lambda: _module("av")),
    _Part(
        "h5py",
        True,
        "h5py",
        f"needed for {_NEED_H5PY}: pip install h5py",
        lambda: f"{_module('h5py')}, for {_NEED_H5PY}",
    ),
    _Part("cv2", False, "cv2", "needed for flow and tadkit data synth: pip install opencv-contrib-python", _opencv),
    _Part(
        "cv2.optflow",
        False,
        "cv2.optflow",
        "needed for flow.method opencv-tvl1: pip uninstall opencv-python, then pip install opencv-contrib-python",
        _optflow,
    ),
    _Part(
        "torchvision",
        False,
        "torchvision",
        f"needed for {_NEED_TORCHVISION}: pip install torchvision",
        _torchvision,
    ),
    _Part("bundled models", True, "", "install tadkit again, or name a detector with tadkit detect --model", _models),
)
