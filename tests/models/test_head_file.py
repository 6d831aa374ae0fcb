from __future__ import annotations

from pathlib import Path

import pytest

from tadkit.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tadkit.config import ActionFormerSettings, TriDetSettings
from tadkit.errors import WeightsError
from tadkit.models.head_file import head_settings, load_head, save_head
from tadkit.models.heads import build_head


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"kind": "foo"}, "head.kind: must be one of 'actionformer', 'tridet'.*got 'foo'"),
        ({"levls": 3}, "head.levls: no such setting; did you mean levels?"),
        ({"dim": 130}, "head: dim 130 must be a multiple of attention_heads 4"),
    ],
)
def test_unsupported_settings_are_reported_in_one_line(section, said):
    with pytest.raises(
        WeightsError, match=rf"^there: head settings that this version of tadkit does not support \({said}.*\)$"
    ):
        head_settings(section, where="there")


def test_a_head_states_the_windows_that_it_was_trained_on(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    for kind, of_trained, of_foreign in ((TriDetSettings, 4 * 48, None), (ActionFormerSettings, None, None)):
        for steps, window in ((48, of_trained), (None, of_foreign)):
            made = build_head(kind(dim=16, levels=2), in_channels=4, num_classes=1, trained_steps=steps)
            save_head(path, made, labels=("walk",))
            head, _ = load_head(path)
            assert (head.trained_steps, head.window_steps) == (steps, window)


def test_windows_without_a_step_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    save_checkpoint(path, Checkpoint("head", {}, ("walk",), {}, trained_steps=0))
    with pytest.raises(WeightsError, match=r"its header is damaged \(trained_steps is 0\)"):
        load_checkpoint(path, kind="head")
