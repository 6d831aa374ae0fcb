from __future__ import annotations

import re
import subprocess
import sys
from typing import get_args

import pytest
import torch

from tadkit import __version__
from tadkit.config import RaftSettings, TorchvisionClipSettings, TorchvisionConvolutionalSettings, TsmResnetSettings


def rows_of(table: str) -> dict[str, list[str]]:
    return {cells[0]: cells[1:] for line in table.splitlines() if len(cells := re.split(r"\s{2,}", line.strip())) == 3}


def doctor_without(preparation: str) -> tuple[int, dict[str, list[str]]]:
    """Exit code and rows of ``tadkit doctor`` in a process that ``preparation`` has taken something from."""
    code = f"import sys\n{preparation}\nfrom tadkit.cli import main\nsys.exit(main(['doctor']))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stderr == ""
    return ran.returncode, rows_of(ran.stdout)


def needing_torchvision() -> set[str]:
    """Names of the nets that torchvision is needed for."""
    nets = (TsmResnetSettings, TorchvisionConvolutionalSettings, TorchvisionClipSettings)
    names = {name for kind in nets for name in get_args(kind.model_fields["name"].annotation)}
    return {*names, *get_args(RaftSettings.model_fields["method"].annotation), "resnet18", "mobilenet-v3-small"}


def test_an_installation_with_everything_is_healthy(tadkit):
    ran = tadkit("doctor")
    assert (ran.code, ran.err) == (0, "")
    rows = rows_of(ran.out)
    assert rows["tadkit"] == ["ok", __version__]
    assert torch.__version__ in rows["torch"][1]
    assert rows["bundled models"][1] == "people-motion.safetensors (research use)"
    assert needing_torchvision() <= set(re.findall(r"[a-z0-9-]+", rows["torchvision"][1]))
    parts = {"python", "device", "PyAV", "h5py", "cv2", "cv2.optflow", "torchvision", "bundled models"}
    assert parts <= {name for name, (state, _) in rows.items() if state == "ok"}


@pytest.mark.parametrize(
    ("module", "part", "remedy"),
    [
        ("decord", "decord", "only for video.reader=decord (PyAV is the default): pip install decord"),
        ("cv2", "cv2", "needed for flow and tadkit data synth: pip install opencv-contrib-python"),
        ("torchvision", "torchvision", "pip install torchvision"),
    ],
)
def test_a_part_that_detect_does_not_need_may_be_absent(module, part, remedy):
    code, rows = doctor_without(f"sys.modules[{module!r}] = None")
    state, what = rows[part]
    assert (code, state) == (0, "absent")
    assert module in what
    assert what.endswith(remedy)
    if part == "torchvision":
        assert needing_torchvision() <= set(re.findall(r"[a-z0-9-]+", what))


def test_an_opencv_without_contrib_modules_is_reported():
    code, rows = doctor_without("import cv2; del cv2.optflow")
    state, what = rows["cv2.optflow"]
    assert (code, state, rows["cv2"][0]) == (0, "absent", "ok")
    assert "has no module optflow; needed for flow.method opencv-tvl1: pip uninstall opencv-python" in what


@pytest.mark.parametrize(
    ("module", "part", "remedy"),
    [
        ("av", "PyAV", "pip install av"),
        (
            "h5py",
            "h5py",
            "needed for tadkit detect, tadkit run and all other commands that read videos, flow or features "
            "(.h5): pip install h5py",
        ),
        ("torch", "torch", "pip install torch"),
        ("einops", "packages", "pip install . in tadkit's source folder"),
    ],
)
def test_without_a_part_that_detect_needs_the_exit_code_is_1(module, part, remedy):
    code, rows = doctor_without(f"sys.modules[{module!r}] = None")
    state, what = rows[part]
    assert (code, state) == (1, "missing")
    assert what.endswith(remedy)
    if part == "h5py":
        assert rows["cv2"][0] == "ok"  # flow can be computed, only not stored


def test_without_a_bundled_model_the_exit_code_is_1_and_model_is_the_remedy(tmp_path):
    code, rows = doctor_without(
        f"import importlib.resources, pathlib; (folder := pathlib.Path({str(tmp_path)!r}) / 'zoo').mkdir()\n"
        "importlib.resources.files = lambda _: folder.parent"
    )
    state, what = rows["bundled models"]
    assert (code, state) == (1, "missing")
    assert what.endswith("install tadkit again, or name a detector with tadkit detect --model")


def test_a_part_that_is_installed_but_broken_is_reported_with_its_reason(tmp_path):
    (tmp_path / "decord.py").write_text("raise OSError('libavcodec.so: cannot open')\n")
    code, rows = doctor_without(f"sys.path.insert(0, {str(tmp_path)!r})")
    assert (code, rows["decord"][0]) == (0, "absent")
    assert rows["decord"][1].startswith("libavcodec.so: cannot open; ")
