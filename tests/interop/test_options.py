"""Options of other projects' configurations: imported with equal outputs, or refused by name."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interop.published import Published, Weights, options_of, weights_of
from safetensors.torch import load

from tadkit.errors import WeightsError
from tadkit.interop.import_head import build_imported
from tadkit.interop.option_tables import ONLY, OPTIONS, POST_PROCESSING, Family
from tadkit.models.heads import AnchorFreeHead

ACTIONFORMER: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no norm in the embedding": {"embd_with_ln": False},
    "no norm in the neck": {"fpn_with_ln": False},
    "no norm in the heads": {"head_with_ln": False},
    "no norm": {"embd_with_ln": False, "fpn_with_ln": False, "head_with_ln": False},
    "fpn": {"fpn_type": "fpn", "fpn_dim": 24},
    "fpn without norm": {"fpn_type": "fpn", "fpn_with_ln": False},
    "start level": {"fpn_start_level": 1},
    "start level of an fpn": {"fpn_start_level": 1, "fpn_type": "fpn"},
    "start level and windows": {"fpn_start_level": 1, "n_mha_win_size": [9, 3, 5]},
    "scale factor": {"scale_factor": 4},
    "scale factor of an fpn": {"scale_factor": 4, "fpn_type": "fpn"},
    "windows": {"n_mha_win_size": [5, -1, 3]},
    "even windows": {"n_mha_win_size": [4, 2, 1]},
    "global attention": {"n_mha_win_size": -1},
    "relative positions": {"use_rel_pe": True, "n_mha_win_size": [5, -1, 3]},
    "absolute positions": {"use_abs_pe": True},
    "convolutions": {"backbone_type": "conv"},
    "convolutions ignore positions": {"backbone_type": "conv", "use_abs_pe": True, "use_rel_pe": True, "n_head": 3},
    "convolutions by three": {"backbone_type": "conv", "scale_factor": 3, "max_seq_len": 36},
    "no embedding": {"backbone_arch": [0, 1, 2], "input_dim": 16},
    "no stem": {"backbone_arch": [1, 0, 2]},
    "one level": {"backbone_arch": [1, 2, 0]},
    "two streams": {"input_dim": [4, 2], "embd_dim": [10, 6]},
    "kernels": {"embd_kernel_size": 5, "head_kernel_size": 1},
    "one layer": {"head_num_layers": 1},
    "four layers": {"head_num_layers": 4, "head_dim": 20},
    "one attention head": {"n_head": 1},
    "no drop path": {"droppath": 0.0},
}
TRIDET: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no norm": {"embd_with_ln": False, "fpn_with_ln": False, "head_with_ln": False},
    "fpn": {"fpn_type": "fpn"},
    "windows": {"n_sgp_win_size": [9, 3, 5], "k": 1.25},
    "scale factor": {"scale_factor": 4},
    "average": {"downsample_type": "avg"},
    "average by four": {"downsample_type": "avg", "scale_factor": 4},
    "kernels": {"head_kernel_size": 5, "boudary_kernel_size": 1, "num_bins": 2},
    "no Trident head": {"use_trident_head": False},
    "absolute positions": {"use_abs_pe": True},
    "convolutions": {"backbone_type": "conv", "n_sgp_win_size": 3},
    "convolutions without Trident head": {"backbone_type": "conv", "use_trident_head": False},
    "no stem": {"backbone_arch": [1, 0, 2]},
    "no drop path": {"droppath": 0.0},
}
TEMPORALMAXER: dict[str, dict[str, Any]] = {
    "as it is": {},
    "two groups": {"num_group": 2},
    "layer norm": {"fpn_norm": "layernorm"},
    "no norm": {"fpn_norm": None, "embd_with_ln": False, "head_with_ln": False},
    "start level": {"fpn_start_level": 1},
    "scale factor": {"scale_factor": 4},
    "two streams": {"input_dim": [4, 2], "embd_dim": [10, 6]},
}
CASES = [
    pytest.param(project, changed, id=f"{project}: {name}")
    for project, cases in (("actionformer", ACTIONFORMER), ("tridet", TRIDET), ("temporalmaxer", TEMPORALMAXER))
    for name, changed in cases.items()
]


OPENTAD: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "ActionFormer": ("actionformer", {}, {}),
    "no norm in the neck": ("actionformer", {"fpn_with_ln": False}, {"neck": {"norm_cfg": None}}),
    "no norm in the embedding": ("actionformer", {"embd_with_ln": False}, {"projection": {"norm_cfg": None}}),
    "start level": ("actionformer", {"fpn_start_level": 1}, {"neck": {"start_level": 1}}),
    "windows": ("actionformer", {"n_mha_win_size": [5, -1, 3]}, {}),
    "two streams": ("actionformer", {"input_dim": [4, 2], "embd_dim": [10, 6]}, {}),
    "TriDet": ("tridet", {"n_sgp_win_size": [1, 3, 5], "boudary_kernel_size": 1, "head_kernel_size": 5}, {}),
    "absolute positions": ("tridet", {"use_abs_pe": True}, {}),
}
OF_OPENTAD = (
    (r"^backbone\.embd_norm\.(\d+)", r"projection.embed.\1.norm"),
    (r"^backbone\.embd\.", "projection.embed."),
    (r"^backbone\.", "projection."),
    (r"^(cls|reg)_head\.head\.(\d+)", r"rpn_head.\1_convs.\2"),
    (r"^(cls|reg)_head\.norm\.(\d+)", r"rpn_head.\1_convs.\2.norm"),
    (r"^(start|end)_head\.head\.(\d+)", r"rpn_head.cls_\1_convs.\2"),
    (r"^(start|end)_head\.norm\.(\d+)", r"rpn_head.cls_\1_convs.\2.norm"),
    (r"^reg_head\.scale", "rpn_head.scale"),
    (r"^(start|end)_head\.cls_head\.conv", r"rpn_head.cls_\1_head"),
    (r"^(cls|reg)_head\.(?:cls|offset)_head\.conv", r"rpn_head.\1_head"),
)
"""OpenTAD's names of weights."""


def as_opentad(weights: Weights) -> Weights:
    renamed = {}
    for name, value in weights.items():
        for theirs, its in OF_OPENTAD:
            name = re.sub(theirs, its, name)
        renamed[name] = value.flatten() if re.search(r"norm\w*\.|\.ln\d?\.", name) else value
    return renamed


def recipe_of(options: dict[str, Any], changed: dict[str, Any]) -> dict[str, Any]:
    """A recipe with these options."""
    start, levels = options["fpn_start_level"], options["backbone_arch"][-1] + 1
    rest = ("n_head", "n_mha_win_size")
    projection = {
        "type": "Conv1DTransformerProj" if "n_head" in options else "TriDetProj",
        "in_channels": options["input_dim"],
        "out_channels": options["embd_dim"],
        "arch": tuple(options["backbone_arch"]),
        "conv_cfg": {"kernel_size": 3, "proj_pdrop": 0.0},
        "norm_cfg": {"type": "LN"},
        "path_pdrop": 0.1,
        "use_abs_pe": options["use_abs_pe"],
        "max_seq_len": options["max_seq_len"],
    }
    if "n_head" in options:
        projection["attn_cfg"] = {name: options[name] for name in rest}
    else:
        projection |= {
            "sgp_mlp_dim": options["sgp_mlp_dim"],
            "sgp_win_size": options["n_sgp_win_size"],
            "k": options["k"],
        }
    generator = {
        "type": "PointGenerator",
        "strides": [2**level for level in range(start, levels)],
        "regression_range": options["regression_range"],
    }
    neck = {"type": "FPNIdentity", "in_channels": 16, "out_channels": 16, "num_levels": levels}
    head = {"num_classes": 3, "in_channels": 16, "feat_channels": 16, "num_convs": 2, "prior_generator": generator}
    model = {"type": "ActionFormer", "projection": projection, "neck": neck, "rpn_head": head}
    return {
        "model": {
            name: part | changed.get(name, {}) if isinstance(part, dict) else part for name, part in model.items()
        }
    }


def compare(head: Any, published: Published, features: torch.Tensor) -> None:
    assert isinstance(head, AnchorFreeHead)
    time = features.shape[2]
    with torch.no_grad():
        found = head(features, torch.ones(1, time, dtype=torch.bool))
        wanted = published.forward(features)
    assert len(found.logits) == len(wanted)
    for logits, offsets, real, theirs in zip(*found, wanted, strict=True):
        assert int(real.sum()) == len(theirs[0]) > 0
        torch.testing.assert_close(logits[real], theirs[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(offsets[real], theirs[1], rtol=1e-4, atol=1e-4)


GOLDEN = Path(__file__).parents[1] / "parity" / "golden" / "models"


@pytest.mark.parametrize("name", ["af_win9_fpn_pe", "af_mixwin_relpe", "af_two_stream", "af_convbackbone", "td_win1"])
def test_the_reference_computes_what_the_code_itself_did(name: str) -> None:
    with zipfile.ZipFile(GOLDEN / f"{name}.zip") as archive:
        weights, recorded = load(archive.read("weights.safetensors")), json.loads(archive.read("config.json"))["kwargs"]
        inputs, found = (np.load(io.BytesIO(archive.read(f"{part}.npz"))) for part in ("inputs", "eval_T37"))
        features, theirs = torch.from_numpy(inputs["feats_T37"])[None], {part: found[part] for part in found.files}
    reference = Published({"fpn_start_level": 0, "droppath": 0.1} | recorded, weights)
    for level, (x, mask) in enumerate(reference.levels(features)):
        real = theirs[f"mask_l{level}"]
        logits = reference.tower(x, mask, "cls_head")[0].T[: len(real)]
        np.testing.assert_allclose(logits[real], theirs[f"cls_l{level}"][real], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("project", "changed"), CASES)
def test_an_imported_head_computes_what_the_published_code_does(project: Any, changed: dict[str, Any]) -> None:
    options = options_of(project, **changed)
    weights = weights_of(options)
    config = {name: value for name, value in options.items() if name in OPTIONS[project]}
    imported = build_imported(weights, project, config, where="here")
    assert imported.assumed == ()
    torch.manual_seed(1)
    channels = options["input_dim"] if isinstance(options["input_dim"], int) else sum(options["input_dim"])
    for time in (21, 41):
        compare(imported.head, Published(options, weights), torch.randn(1, channels, time))


@pytest.mark.parametrize("name", OPENTAD)
def test_an_imported_head_of_opentad_computes_what_its_code_does(name: str) -> None:
    project, changed, its = OPENTAD[name]
    options = options_of(project, **changed)
    weights = weights_of(options)
    imported = build_imported(as_opentad(weights), "opentad", recipe_of(options, its), where="here")
    assert imported.assumed == ()
    torch.manual_seed(1)
    compare(imported.head, Published(options, weights, opentad=True), torch.randn(1, 6, 21))


def refused(weights: Weights, source: Any, config: dict[str, Any]) -> str:
    with pytest.raises(WeightsError) as caught:
        build_imported(weights, source, config, where="here")
    message = str(caught.value)
    assert message.startswith("here: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("project", "option", "said"),
    [
        ("actionformer", {"foo": 1}, "the option 'foo', which is not known for ActionFormer; remove it"),
        ("actionformer", {"train_cfg": {"foo": 1}}, "the option 'foo', which is not known"),
        ("actionformer", {"model": {"a": {"foo": 1}}}, "the option 'a.foo', which is not known"),
        ("actionformer", {"k": 5}, "the option 'k', which is not known for ActionFormer"),
        (
            "actionformer",
            {"backbone_type": "mamba"},
            "backbone_type = mamba in --config is not supported; expected conv",
        ),
        (
            "actionformer",
            {"fpn_type": "bifpn"},
            "fpn_type = bifpn in --config is not supported; expected identity or fpn",
        ),
        ("actionformer", {"nms_method": "linear"}, "nms_method = linear in --config is not supported"),
        ("actionformer", {"center_sample": "all"}, "center_sample = all in --config is not supported"),
        ("actionformer", {"model_name": "Other"}, "model_name = Other in --config is not supported"),
        ("actionformer", {"embd_dim": 32}, "embd_dim is 32 in --config, but the weights show 16"),
        (
            "actionformer",
            {"backbone_arch": [2, 2, 2]},
            "backbone_arch is [2, 2, 2] in --config, but the weights show [2, 1, 2]",
        ),
        ("actionformer", {"embd_with_ln": False}, "embd_with_ln is False in --config, but the weights show True"),
        ("actionformer", {"fpn_with_ln": False}, "fpn_with_ln is False"),
        ("actionformer", {"head_with_ln": False}, "head_with_ln is False"),
        ("actionformer", {"fpn_start_level": 1}, "fpn_start_level is 1 in --config, but the weights show 0"),
        ("actionformer", {"fpn_type": "fpn"}, "fpn_type is fpn"),
        ("actionformer", {"use_rel_pe": True}, "use_rel_pe is True"),
        ("actionformer", {"scale_factor": 4}, "scale_factor is 4 in --config, but the weights show 2"),
        ("actionformer", {"backbone_type": "conv"}, "backbone_type is conv"),
        ("actionformer", {"head_num_layers": 2}, "head_num_layers is 2"),
        ("actionformer", {"num_classes": 20}, "num_classes is 20"),
        ("actionformer", {"n_head": 3}, "n_head is 3, which does not divide embd_dim 16"),
        (
            "actionformer",
            {"n_mha_win_size": [5, 5]},
            "n_mha_win_size has 2 entries in --config for 3 levels of the pyramid",
        ),
        ("actionformer", {"regression_range": [[0, 9]]}, "regression_range has 1 entries in --config for 3 levels"),
        ("tridet", {"n_mha_win_size": 9}, "the option 'n_mha_win_size', which is not known for TriDet"),
        ("tridet", {"k": 3}, "k is 3 in --config, but the weights show"),
        ("tridet", {"n_sgp_win_size": 3}, "n_sgp_win_size is 3 in --config, but the weights show [3, 1, 1]"),
        ("tridet", {"downsample_type": "avg"}, "downsample_type is avg"),
        ("tridet", {"downsample_type": "min"}, "downsample_type = min in --config is not supported"),
        ("tridet", {"use_trident_head": False}, "use_trident_head is False"),
        ("tridet", {"num_bins": 16}, "num_bins is 16"),
        ("tridet", {"boudary_kernel_size": 1}, "boudary_kernel_size is 1"),
        ("temporalmaxer", {"use_abs_pe": True}, "the option 'use_abs_pe', which is not known for TemporalMaxer"),
        ("temporalmaxer", {"fpn_norm": "layernorm"}, "the norm of the neck has no weights, but fpn_norm is layernorm"),
        ("temporalmaxer", {"fpn_norm": "batchnorm"}, "fpn_norm = batchnorm in --config is not supported"),
        ("temporalmaxer", {"fpn_type": "fpn"}, "fpn_type = fpn in --config is not supported; expected identity"),
        (
            "temporalmaxer",
            {"backbone_arch": [2, 1]},
            "backbone_arch gives 2 levels in --config, but the weights predict 3",
        ),
        (
            "temporalmaxer",
            {"backbone_arch": [3, 2]},
            "backbone_arch is [3, 2] in --config, but the weights show [2, 2]",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused_by_name(project: Any, option: dict[str, Any], said: str) -> None:
    options = options_of(project)
    assert said in refused(weights_of(options), project, {"max_seq_len": 32} | option)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"neck": {"type": "FPN"}}, "neck.type = FPN in --config is not supported; expected FPNIdentity"),
        ({"neck": {"norm_cfg": {"type": "GN", "num_groups": 4}}}, "neck.norm_cfg.type is GN in --config, which is not"),
        ({"neck": {"norm_cfg": {"type": "BN"}}}, "neck.norm_cfg.type = BN in --config is not supported"),
        ({"neck": {"end_level": 2}}, "neck.end_level = 2 in --config is not supported"),
        ({"neck": {"start_level": 1}}, "neck.start_level is 1 in --config, but the weights show 0"),
        ({"projection": {"type": "VSGNProj"}}, "projection.type = VSGNProj in --config is not supported"),
        ({"projection": {"norm_cfg": {"type": "GN"}}}, "projection.norm_cfg.type = GN in --config is not supported"),
        (
            {"projection": {"arch": (2, 1, 5)}},
            "projection.arch is [2, 1, 5] in --config, but the weights show [2, 1, 2]",
        ),
        ({"projection": {"foo": 1}}, "the option 'projection.foo', which is not known for a head of OpenTAD"),
        ({"rpn_head": {"num_convs": 1}}, "rpn_head.num_convs, plus one, is 2 in --config, but the weights show 3"),
        (
            {"rpn_head": {"prior_generator": {"use_offset": True}}},
            "prior_generator.use_offset = True in --config is not",
        ),
        (
            {"rpn_head": {"prior_generator": {"strides": [1, 3, 9]}}},
            "strides is [1, 3, 9] in --config, expected [1, 2, 4]",
        ),
    ],
)
def test_options_of_opentad_that_do_not_fit_are_refused_by_name(changed: dict[str, Any], said: str) -> None:
    options = options_of("actionformer")
    assert said in refused(as_opentad(weights_of(options)), "opentad", recipe_of(options, changed))


def test_an_unknown_option_of_opentads_decoding_is_refused() -> None:
    options = options_of("actionformer")
    config = recipe_of(options, {}) | {"post_processing": {"nms": {"foo": 1}}}
    assert "'post_processing.nms.foo', which is not known" in refused(
        as_opentad(weights_of(options)), "opentad", config
    )


def test_shapes_that_do_not_fit_are_refused_with_the_options_that_explain_them() -> None:
    options = options_of("actionformer", use_rel_pe=True)
    message = refused(weights_of(options), "actionformer", {})
    assert "attention.distances has shape (1, 1, 4, 5)" in message
    assert "which depends on n_head, n_mha_win_size, use_rel_pe; give the --config" in message
    weights = weights_of(options_of("actionformer", backbone_type="conv"))
    weights["backbone.stem.0.conv1.conv.weight"] = weights["backbone.stem.0.conv1.conv.weight"].transpose(0, 1)
    assert "widen.conv.weight has shape (16, 32, 3), expected (32, 16, 3)" in refused(weights, "actionformer", {})


def test_missing_weights_are_refused_with_the_options_that_explain_them() -> None:
    weights = weights_of(options_of("actionformer"))
    del weights["backbone.embd_norm.1.weight"]
    assert "missing pyramid.embedding_norms.1.weight, which depends on embd_with_ln" in refused(
        weights, "actionformer", {}
    )


TABLES: dict[str, tuple[Family, ...]] = {
    "ActionFormer, TriDet and TemporalMaxer": ("actionformer", "tridet", "temporalmaxer"),
    "TadTR of its authors": ("tadtr",),
    "ActionFormer, TriDet and TemporalMaxer in OpenTAD": ("opentad",),
    "TadTR in OpenTAD": ("opentad-tadtr",),
    "BMN in OpenTAD": ("opentad-bmn",),
}


def documented(heading: str) -> dict[str, str]:
    """Options of one table of the docs, and the last column."""
    page = (Path(__file__).parents[2] / "docs" / "parity.md").read_text()
    lines = page.partition(f"| {heading} | use |\n")[2].partition("\n\n")[0].splitlines()[1:]
    rows = [line.strip("| ").rpartition(" | ") for line in lines]
    return {name: use for words, _, use in rows for name in re.findall(r"`([^-`][^`]*)`", words)}


@pytest.mark.parametrize("heading", TABLES)
def test_every_option_is_documented_with_its_use(heading: str) -> None:
    table = documented(heading)
    for family in TABLES[heading]:
        for name, use in OPTIONS[family].items():
            if (family, name) != ("temporalmaxer", "fpn_with_ln"):  # the table says that it is unused there
                assert table[name].startswith(use), (family, name)
    values = {str(value) for family in TABLES[heading] for allowed in ONLY[family].values() for value in allowed}
    values |= {"FPN"}
    assert table.keys() - {name for family in TABLES[heading] for name in OPTIONS[family]} <= values


def test_every_option_of_opentads_decoding_is_documented() -> None:
    assert documented("`post_processing` in OpenTAD") == POST_PROCESSING
