"""Files that are no checkpoint, or that hold code, given to ``tadkit import head``."""

from __future__ import annotations

import pickle
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tadkit.errors import WeightsError
from tadkit.interop.import_head import import_head


class Code:
    """What a checkpoint must not be able to run."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return (print, ("run",))


@pytest.mark.parametrize("content", [b"nothing", b""])
def test_files_that_are_no_checkpoint_are_refused(tmp_path: Path, content: bytes) -> None:
    for name in ("a.pth.tar", "a.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match="without running code"):
            import_head(tmp_path / name, tmp_path / "out.safetensors", source="tridet")
    with pytest.raises(WeightsError, match="no such file"):
        import_head(tmp_path / "b.pth", tmp_path / "out.safetensors", source="tridet")


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": Code()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="without running code"):
        import_head(tmp_path / "evil.pth", tmp_path / "out.safetensors", source="tridet")
    assert capsys.readouterr().out == ""


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"weights": np.zeros(3)}, protocol=4))


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (
            lambda path: torch.save({"state_dict": {}, "args": Namespace()}, path),
            "it contains argparse.Namespace; if you made it",
        ),
        (
            lambda path: torch.save(torch.nn.Linear(2, 2), path),
            r"contains torch\.nn\.modules\.linear\.Linear; if you",
        ),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0"), "it is text"),
        (lambda path: torch.save({"epoch": 3, "x": torch.zeros(1)}, path), "'epoch' is not a tensor"),
        (pickled, "without running code"),
    ],
)
def test_other_files_are_refused_without_advice_to_run_them(
    write: Callable[[Path], object], said: str, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    write(tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=said) as error:
        import_head(tmp_path / "a.pth", tmp_path / "out.safetensors", source="tridet")
    assert not any(word in str(error.value) for word in ("weights_only", "trust", "\n"))
    assert not recwarn.list
