"""What ``tadkit import head`` takes, gives and refuses."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interop.published_weights import options_of, weights_of
from safetensors.torch import load, save_file

from tadkit.errors import SettingsError, UsageError, WeightsError
from tadkit.interop import Source
from tadkit.interop.heads.options import read_options
from tadkit.interop.import_head import import_head
from tadkit.models.head_file import load_head

GOLDEN = Path(__file__).parents[1] / "parity" / "golden" / "models" / "af_two_stream.zip"


@pytest.fixture(scope="module")
def peer() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """ActionFormer's weights, and its settings, 37 steps of features and the logits that it found in them."""
    with zipfile.ZipFile(GOLDEN) as archive:
        weights, told = load(archive.read("weights.safetensors")), json.loads(archive.read("config.json"))
        inputs, found = (np.load(io.BytesIO(archive.read(f"{name}.npz"))) for name in ("inputs", "eval_T37"))
        logits = np.concatenate([found[f"cls_l{level}"][found[f"mask_l{level}"]] for level in range(4)])
        return weights, {"config": told["kwargs"], "features": inputs["feats_T37"], "logits": logits}


@pytest.fixture
def config(tmp_path: Path, peer: tuple[dict[str, torch.Tensor], dict[str, Any]]) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(peer[1]["config"]))
    return path


def test_a_training_checkpoint_gives_a_head_with_the_peers_outputs(
    tmp_path: Path, peer: tuple[dict[str, torch.Tensor], dict[str, Any]], config: Path
) -> None:
    weights, golden = peer
    averaged = {f"module.{name}": value for name, value in weights.items()}
    others = {name: value + 1 for name, value in averaged.items()}
    torch.save({"epoch": 3, "state_dict": others, "state_dict_ema": averaged}, tmp_path / "epoch.pth.tar")
    out, labels = tmp_path / "head.safetensors", tmp_path / "labels.txt"
    labels.write_text("jump\nrun\nthrow\n")
    imported = import_head(tmp_path / "epoch.pth.tar", out, source="actionformer", config=config, labels=labels)
    assert imported.averaged
    assert imported.assumed == ()
    head, names = load_head(out)
    assert names == ("jump", "run", "throw")
    with torch.no_grad():
        features = torch.from_numpy(golden["features"])[None]
        predictions = head(features, torch.ones(1, 37, dtype=torch.bool))
    logits = np.concatenate([x[0][m[0]] for x, m in zip(predictions.logits, predictions.masks, strict=True)])
    np.testing.assert_allclose(logits, golden["logits"], rtol=1e-4, atol=1e-4)


def test_a_yaml_config_says_the_same(
    tmp_path: Path, peer: tuple[dict[str, torch.Tensor], dict[str, Any]], config: Path
) -> None:
    given = json.loads(config.read_text())
    training = given.pop("train_cfg")
    text = "\n".join(f"  {name}: {json.dumps(value)}" for name, value in given.items())
    train = "\n".join(f"  {name}: {json.dumps(value)}" for name, value in training.items())
    yaml = tmp_path / "thumos.yaml"
    yaml.write_text(f"dataset:\n  max_seq_len: 256\nmodel:\n{text}\ntrain_cfg:\n{train}\n")
    save_file(peer[0], tmp_path / "weights.safetensors")
    heads = [
        import_head(tmp_path / "weights.safetensors", tmp_path / "out.safetensors", source="actionformer", config=path)
        for path in (config, yaml)
    ]
    assert heads[0].head.settings == heads[1].head.settings


def test_what_nothing_tells_is_assumed_and_told(
    tmp_path: Path, peer: tuple[dict[str, torch.Tensor], dict[str, Any]]
) -> None:
    save_file(peer[0], tmp_path / "weights.safetensors")
    imported = import_head(tmp_path / "weights.safetensors", tmp_path / "out.safetensors", source="actionformer")
    sizes = {"attention_heads=4", "attention_windows=19", "pad_to_steps=2304"}
    assert set(imported.assumed) == sizes | {"absolute_positions=false"}
    assert load_head(tmp_path / "out.safetensors")[1] == ("0", "1", "2")


Change = Callable[[dict[str, torch.Tensor]], object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda held: held.pop("cls_head.cls_head.conv.bias"), "no classifier"),
        (lambda held: held.pop("cls_head.norm.0.weight"), "missing classifier.norms"),
        (lambda held: held.update({"backbone.wings": torch.zeros(2)}), "unknown backbone.wings"),
        (lambda held: held.update({"reg_head.offset_head.conv.bias": torch.zeros(7)}), "has shape"),
    ],
)
def test_weights_of_something_else_are_refused_in_one_line(
    tmp_path: Path, peer: tuple[dict[str, torch.Tensor], dict[str, Any]], config: Path, change: Change, message: str
) -> None:
    weights = dict(peer[0])
    change(weights)
    path, out = tmp_path / "weights.safetensors", tmp_path / "out.safetensors"
    save_file(weights, path)
    with pytest.raises(WeightsError, match=message) as error:
        import_head(path, out, source="actionformer", config=config)
    assert "\n" not in str(error.value)
    assert not out.exists()


def test_labels_and_configs_that_do_not_fit_are_refused(
    tmp_path: Path, peer: tuple[dict[str, torch.Tensor], dict[str, Any]], config: Path
) -> None:
    save_file(peer[0], tmp_path / "weights.safetensors")
    (tmp_path / "labels.txt").write_text("one\ntwo\n")
    (tmp_path / "broken.yaml").write_text("model: [1, 2")
    call: dict[str, Any] = {"source": "actionformer"}
    with pytest.raises(UsageError, match="2 different classes; the head has 3"):
        import_head(
            tmp_path / "weights.safetensors",
            tmp_path / "out.safetensors",
            config=config,
            labels=tmp_path / "labels.txt",
            **call,
        )
    refused = {
        "broken.yaml": "neither YAML nor JSON",
        "missing.json": "cannot be read",
        "missing.py": "cannot be read",
    }
    for name, message in refused.items():
        with pytest.raises(SettingsError, match=message):
            import_head(tmp_path / "weights.safetensors", tmp_path / "out.safetensors", config=tmp_path / name, **call)


def test_the_other_peers_names_are_not_taken_for_this_ones(
    tmp_path: Path, peer: tuple[dict[str, torch.Tensor], dict[str, Any]], config: Path
) -> None:
    save_file(peer[0], tmp_path / "weights.safetensors")
    with pytest.raises(WeightsError, match="names of actionformer, tridet or temporalmaxer; pass that with --from"):
        import_head(tmp_path / "weights.safetensors", tmp_path / "out.safetensors", source="opentad", config=config)


@pytest.mark.parametrize("configured", [False, True])
@pytest.mark.parametrize(("project", "source"), list(permutations(("actionformer", "tridet", "temporalmaxer"), 2)))
def test_a_head_of_another_project_than_the_given_one_is_refused(
    project: str, source: Source, configured: bool, tmp_path: Path
) -> None:
    weights, config = weights_of(options_of(project)), tmp_path / "c.json"
    save_file(weights, tmp_path / "w.safetensors")
    config.write_text(json.dumps(options_of(project)))
    with pytest.raises(WeightsError, match=rf"those of a head of {project}, not of {source}; pass --from {project}$"):
        import_head(
            tmp_path / "w.safetensors", tmp_path / "o.safetensors", source=source, config=config if configured else None
        )
    assert not (tmp_path / "o.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x.reshape(-1) if x.ndim == 3 else x, "do not match a head of actionformer"),
        (lambda x: x[:0], r"embd_dim is \[20, 12\] in --config, but the weights show \[0, 0\]"),
        (lambda x: x * float("nan"), "holds values that are not finite"),
    ],
)
def test_weights_of_strange_shapes_or_values_are_refused_in_one_line(
    tmp_path: Path,
    peer: tuple[dict[str, torch.Tensor], dict[str, Any]],
    config: Path,
    change: Callable[[torch.Tensor], torch.Tensor],
    said: str,
) -> None:
    save_file({n: change(x).clone() if x.ndim else x for n, x in peer[0].items()}, tmp_path / "weights.safetensors")
    with pytest.raises(WeightsError, match=said):
        import_head(tmp_path / "weights.safetensors", tmp_path / "o.safetensors", source="actionformer", config=config)


@pytest.mark.parametrize(
    "change",
    [
        {"n_mha_win_size": None},
        {"n_head": "x"},
        {"n_head": 0},
        {"max_seq_len": "a"},
        {"regression_range": 3},
        {"regression_range": [[0]]},
        {"train_cfg": {"dropout": "x"}},
    ],
)
def test_configs_with_strange_values_are_refused_in_one_line(
    tmp_path: Path, peer: tuple[dict[str, torch.Tensor], dict[str, Any]], config: Path, change: dict[str, Any]
) -> None:
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    save_file(peer[0], tmp_path / "w.safetensors")
    with pytest.raises(WeightsError) as caught:
        import_head(tmp_path / "w.safetensors", tmp_path / "o.safetensors", source="actionformer", config=config)
    assert "\n" not in str(caught.value)


def test_classes_that_are_no_text_are_refused(
    tmp_path: Path, peer: tuple[dict[str, torch.Tensor], dict[str, Any]]
) -> None:
    save_file(peer[0], tmp_path / "w.safetensors")
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is not text"):
        import_head(
            tmp_path / "w.safetensors",
            tmp_path / "o.safetensors",
            source="actionformer",
            labels=tmp_path / "labels.txt",
        )


@pytest.mark.parametrize("prefix", ["module.module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_names_of_wrapped_models_are_unwrapped(
    prefix: str, tmp_path: Path, peer: tuple[dict[str, torch.Tensor], dict[str, Any]], config: Path
) -> None:
    optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))]).state_dict()
    weights = {f"{prefix}{name}": value for name, value in peer[0].items()}
    held = {"epoch": 3, "state_dict": weights, "state_dict_ema": {}, "optimizer": optimiser}
    torch.save(held, tmp_path / "epoch.pth.tar")
    imported = import_head(
        tmp_path / "epoch.pth.tar", tmp_path / "out.safetensors", source="actionformer", config=config
    )
    assert not imported.averaged
    assert imported.head.num_classes == 3


def test_a_class_list_may_number_its_classes(
    tmp_path: Path, peer: tuple[dict[str, torch.Tensor], dict[str, Any]], config: Path
) -> None:
    save_file(peer[0], tmp_path / "weights.safetensors")
    (tmp_path / "detclasslist.txt").write_text("7 BaseballPitch\n9 BasketballDunk\n12 Billiards\n")
    out = tmp_path / "out.safetensors"
    labels = tmp_path / "detclasslist.txt"
    import_head(tmp_path / "weights.safetensors", out, source="actionformer", config=config, labels=labels)
    assert load_head(out)[1] == ("BaseballPitch", "BasketballDunk", "Billiards")


def test_all_sections_of_opentads_model_are_read() -> None:
    """The model of its recipe for Ego4D, shortened."""
    model = {
        "projection": {
            "type": "Conv1DTransformerProj",
            "max_seq_len": 1024,
            "use_abs_pe": True,
            "path_pdrop": 0.1,
            "conv_cfg": {"kernel_size": 3, "proj_pdrop": 0.2},
            "attn_cfg": {"n_head": 4, "n_mha_win_size": [9, -1]},
        },
        "neck": {"type": "FPNIdentity", "in_channels": 384},
        "rpn_head": {
            "loss_normalizer": 250,
            "num_convs": 2,
            "prior_generator": {"strides": [1, 2], "regression_range": [[0, 4], [2, 8]]},
        },
    }
    wanted = {
        "max_seq_len": 1024,
        "use_abs_pe": True,
        "droppath": 0.1,
        "dropout": 0.2,
        "n_head": 4,
        "n_mha_win_size": [9, -1],
        "init_loss_norm": 250,
        "head_num_layers": 3,
        "strides": [1, 2],
        "regression_range": [[0, 4], [2, 8]],
    }
    for config in (model, {"model": model, "solver": {"clip_grad_norm": 1}}):
        options = read_options(config, "opentad", where="here")
        assert {name: options.get(name) for name in wanted} == wanted
        assert options.name("n_mha_win_size") == "projection.attn_cfg.n_mha_win_size"
