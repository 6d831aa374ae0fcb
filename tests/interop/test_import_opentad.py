"""OpenTAD's checkpoints as its users have them: parallel and averaged, end to end, with recipes in Python or none."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load

from tadkit.errors import WeightsError
from tadkit.interop.import_head import import_head
from tadkit.models.head_file import load_head

GOLDEN = Path(__file__).parents[1] / "parity" / "golden" / "models" / "ot_temporalmaxer.zip"


class Peer(NamedTuple):
    """OpenTAD's TemporalMaxer: weights, settings, features (channels, steps), and the scores that it found for them."""

    weights: dict[str, torch.Tensor]
    config: dict[str, Any]
    features: torch.Tensor
    scores: np.ndarray


@pytest.fixture(scope="module")
def peer() -> Peer:
    with zipfile.ZipFile(GOLDEN) as archive:
        weights, told = load(archive.read("weights.safetensors")), json.loads(archive.read("config.json"))
        inputs, found = (np.load(io.BytesIO(archive.read(f"{name}.npz"))) for name in ("inputs", "eval_T37"))
        return Peer(weights, told["config"], torch.from_numpy(inputs["feats_T37"]), found["scores"])


@pytest.fixture
def checkpoint(peer: Peer, tmp_path: Path) -> Path:
    """What its training writes."""
    averaged = {f"module.{name}": value for name, value in peer.weights.items()}
    others = {name: value + 1 for name, value in averaged.items()}
    torch.save({"epoch": 3, "state_dict": others, "state_dict_ema": averaged}, tmp_path / "tm.pth")
    return tmp_path / "tm.pth"


def python(value: Any) -> str:
    """A recipe's way to write a value."""
    if isinstance(value, dict):
        return f"dict({', '.join(f'{name}={python(of)}' for name, of in value.items())})"
    if isinstance(value, list):
        return f"[{', '.join(python(of) for of in value)}]"
    return repr(value)


def test_a_temporal_maxer_needs_no_config_and_the_guess_is_told(checkpoint: Path, tmp_path: Path) -> None:
    imported = import_head(checkpoint, tmp_path / "head.safetensors", source="opentad")
    assert imported.averaged
    assert imported.assumed == ("neck_groups=4", "pad_to_steps=2304")
    head, _ = load_head(tmp_path / "head.safetensors")
    assert head.settings.neck_groups == 4


def test_a_python_recipe_gives_the_peers_outputs(peer: Peer, checkpoint: Path, tmp_path: Path) -> None:
    parts = {**peer.config, "projection": {**peer.config["projection"], "max_seq_len": 256}}
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "base.py").write_text(f"model = {python({**parts, 'neck': {'norm_cfg': {'type': 'LN'}}})}\n")
    neck = python({"norm_cfg": {"_delete_": True, **peer.config["neck"]["norm_cfg"]}})
    (tmp_path / "thumos.py").write_text(f'_base_ = ["models/base.py"]\nmodel = dict(neck={neck})\n')
    out = tmp_path / "head.safetensors"
    assert import_head(checkpoint, out, source="opentad", config=tmp_path / "thumos.py").assumed == ()
    head, _ = load_head(out)
    with torch.no_grad():
        found = head(peer.features[None], torch.ones(1, 37, dtype=torch.bool))
    scores = [logits[0][mask[0]].sigmoid() for logits, mask in zip(found.logits, found.masks, strict=True)]
    np.testing.assert_allclose(torch.cat(scores), peer.scores, rtol=1e-4, atol=1e-6)


def test_the_backbone_of_a_model_trained_end_to_end_is_left_out_and_told(
    peer: Peer, checkpoint: Path, tmp_path: Path, tadkit: Callable[..., Any]
) -> None:
    held = torch.load(checkpoint)["state_dict_ema"]
    network = {f"module.backbone.model.backbone.blocks.{n}.weight": torch.zeros(2) for n in range(3)}
    torch.save({"state_dict_ema": held | network}, checkpoint)
    (tmp_path / "model.json").write_text(json.dumps({"model": {"backbone": {"num_heads": 6}, **peer.config}}))
    command = ["import", "head", "--from", "opentad", str(checkpoint), "--config", str(tmp_path / "model.json")]
    done = tadkit(*command, "--out", str(tmp_path / "head.safetensors"))
    assert done.code == 0
    assert "left out 3 tensors of the model's backbone: only the head is imported" in done.err
    assert import_head(checkpoint, tmp_path / "again.safetensors", source="opentad").left_out == 3


def test_a_config_that_contradicts_the_weights_is_not_asked_for_again(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text('model = dict(neck=dict(type="FPNIdentity", norm_cfg=dict(type="LN")))\n')
    with pytest.raises(WeightsError, match=r"the norm of the neck has no weights, but neck\.norm_cfg\.type is LN"):
        import_head(checkpoint, tmp_path / "o.safetensors", source="opentad", config=tmp_path / "other.py")
