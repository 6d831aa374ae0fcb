import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tadkit.errors import WeightsError
from tadkit.interop.heads.opentad import Kind, from_opentad, opentad_kind
from tadkit.interop.import_head import build_imported, import_head
from tadkit.models.head_file import head_settings, load_head
from tadkit.models.heads import build_head

CONFIG: dict[Kind, dict[str, Any]] = {
    "tadtr": {
        "projection": {"norm_cfg": {"type": "GN", "num_groups": 8}},
        "transformer": {"encoder": {"num_heads": 4}, "loss": {"matcher": {"cost_class": 6.0}}},
        "window_size": 256,
    },
    "bmn": {"roi_head": {"proposal_generator": {"tscale": 32, "dscale": 32}}},
}


def golden(kind: Kind) -> tuple[dict[str, torch.Tensor], dict[str, np.ndarray]]:
    """Weights under the peer's names, and all numbers."""
    numbers = dict(np.load(Path(__file__).parents[1] / "models" / "heads" / "golden" / f"opentad_{kind}.npz"))
    prefix = "weight/"
    return {n[len(prefix) :]: torch.from_numpy(x) for n, x in numbers.items() if n.startswith(prefix)}, numbers


@pytest.mark.parametrize("kind", ["tadtr", "bmn"])
def test_weights_alone_tell_whose_they_are(kind: Kind) -> None:
    state, _ = golden(kind)
    assert opentad_kind(state) == kind
    assert opentad_kind({f"module.{name}": value for name, value in state.items()}) == kind
    assert opentad_kind({"projection.embed.0.conv.weight": torch.zeros(1)}) is None


@pytest.mark.parametrize("kind", ["tadtr", "bmn"])
def test_a_head_is_built_from_weights_and_config(kind: Kind) -> None:
    state, numbers = golden(kind)
    imported = from_opentad({f"module.{name}": x for name, x in state.items()}, CONFIG[kind], where="here")
    assert imported.assumed == ()
    settings = head_settings(imported.section, where="here")
    head = build_head(settings, in_channels=imported.in_channels, num_classes=imported.num_classes).eval()
    head.load_state_dict(imported.tensors)
    time = 37 if kind == "tadtr" else 32
    with torch.no_grad():
        found = head(torch.from_numpy(numbers[f"feats_T{time}"])[None], torch.ones(1, time, dtype=torch.bool))
    ours, theirs = (found.logits, "pred_logits") if kind == "tadtr" else (found.confidence, "iou_map")
    expected = torch.from_numpy(numbers[f"T{time}/{theirs}"])
    torch.testing.assert_close(ours[0], expected, rtol=1e-4, atol=1e-4)


def test_what_nothing_tells_is_assumed_and_said() -> None:
    imported = from_opentad(golden("tadtr")[0], {}, where="here")
    assert imported.assumed == ("attention_heads=8", "pad_to_steps=256", "norm_groups=32")


def test_weights_of_another_embedding_are_refused() -> None:
    state, _ = golden("tadtr")
    state["projection.convs.1.conv.weight"] = torch.zeros(1)
    with pytest.raises(WeightsError, match=r"here: projection.convs.1.conv.weight .* after one convolution"):
        from_opentad(state, {}, where="here")


@pytest.mark.parametrize("kind", ["tadtr", "bmn"])
def test_the_import_gives_the_peers_outputs_from_a_file(kind: Kind, tmp_path: Path) -> None:
    state, numbers = golden(kind)
    torch.save({"state_dict_ema": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "epoch.pth")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG[kind]))
    out = tmp_path / "head.safetensors"
    imported = import_head(tmp_path / "epoch.pth", out, source="opentad", config=tmp_path / "config.json")
    assert imported.averaged
    head, labels = load_head(out)
    assert len(labels) == head.num_classes
    time = 37 if kind == "tadtr" else 32
    features = torch.from_numpy(numbers[f"feats_T{time}"])[None]
    with torch.no_grad():
        found = head(features, torch.ones(1, time, dtype=torch.bool))
    ours, theirs = (found.logits, "pred_logits") if kind == "tadtr" else (found.confidence, "iou_map")
    torch.testing.assert_close(ours[0], torch.from_numpy(numbers[f"T{time}/{theirs}"]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"roi_head": {"foo": 1}}, "the option 'roi_head.foo', which is not known for OpenTAD's BMN"),
        ({"rpn_head": {"shared": True}}, "rpn_head.shared = True in --config is not supported; expected False"),
        (
            {"roi_head": {"proposal_head": {"kernel_size": 5}}},
            "proposal_head.kernel_size = 5 in --config is not supported",
        ),
        (
            {"roi_head": {"proposal_head": {"num_convs": 5}}},
            "proposal_head.num_convs is 5 in --config, but the weights",
        ),
        ({"projection": {"norm_cfg": {"type": "BN"}}}, "projection.norm_cfg.type = BN in --config is not supported"),
        ({"projection": {"num_convs": 3}}, "projection.num_convs = 3 in --config is not supported"),
        ({"projection": {"out_channels": 7}}, "projection.out_channels is 7 in --config, but the weights show"),
    ],
)
def test_other_options_of_bmn_are_refused_by_name(config: dict[str, Any], said: str) -> None:
    with pytest.raises(WeightsError, match=re.escape(said)):
        build_imported(golden("bmn")[0], "opentad", config, where="here")
