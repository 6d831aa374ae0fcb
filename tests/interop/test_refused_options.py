"""Options of other projects' configurations that are refused, and weights that do not fit: by name, in one line."""

from __future__ import annotations

from typing import Any

import pytest
from interop.published_weights import Weights, as_opentad, options_of, recipe_of, weights_of

from tadkit.errors import WeightsError
from tadkit.interop.import_head import build_imported


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
