"""Import of the authors' TadTR (xlliu7/TadTR): names of weights, and settings inferred from them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tadkit.errors import WeightsError
from tadkit.interop.heads.opentad import Asked, ForeignHead, only_level, tadtr_section

_NAMES = (
    (r"^input_proj\.0\.0\.", "embedding."),
    (r"^input_proj\.0\.1\.", "embedding_norm."),
    (r"^query_embed\.weight$", "queries"),
    (r"^transformer\.level_embed$", "place"),
    (r"^transformer\.reference_points\.", "reference."),
    (r"^class_embed\.", "classifiers."),
    (r"^(?:transformer\.decoder\.)?segment_embed\.(\d+)\.layers\.0\.", r"regressors.\1.0."),
    (r"^(?:transformer\.decoder\.)?segment_embed\.(\d+)\.layers\.1\.", r"regressors.\1.2."),
    (r"^(?:transformer\.decoder\.)?segment_embed\.(\d+)\.layers\.2\.", r"regressors.\1.4."),
    (r"^actionness_pred\.", "actionness.mlp."),
    (r"^transformer\.decoder\.layers\.(\d+)\.self_attn\.", r"decoder.\1.self_attention."),
    (r"^transformer\.decoder\.layers\.(\d+)\.norm2\.", r"decoder.\1.self_norm."),
    (r"^transformer\.decoder\.layers\.(\d+)\.norm3\.", r"decoder.\1.mlp_norm."),
    (r"^transformer\.encoder\.layers\.(\d+)\.norm2\.", r"encoder.\1.mlp_norm."),
    (r"^transformer\.(en|de)coder\.layers\.(\d+)\.(?:self|cross)_attn\.", r"\1coder.\2.attention."),
    (r"^transformer\.(en|de)coder\.layers\.(\d+)\.norm1\.", r"\1coder.\2.attention_norm."),
    (r"^transformer\.(en|de)coder\.layers\.(\d+)\.linear1\.", r"\1coder.\2.mlp.0."),
    (r"^transformer\.(en|de)coder\.layers\.(\d+)\.linear2\.", r"\1coder.\2.mlp.3."),
    (r"\.sampling_offsets\.", ".offsets."),
    (r"\.attention_weights\.", ".weights."),
    (r"\.value_proj\.", ".value."),
    (r"\.output_proj\.", ".out."),
)

_SETTINGS = {
    "attention_heads": "nheads",
    "window_steps": "slice_len",
    "dropout": "dropout",
    "class_cost": "set_cost_class",
    "segment_cost": "set_cost_seg",
    "iou_cost": "set_cost_iou",
    "class_weight": "cls_loss_coef",
    "segment_weight": "seg_loss_coef",
    "iou_weight": "iou_loss_coef",
    "actionness_weight": "act_loss_coef",
}

_EXPECTED = (
    "input_proj.0.0.weight",
    "query_embed.weight",
    "class_embed.0.bias",
    "transformer.level_embed",
    "transformer.decoder.segment_embed.0.layers.0.weight",
)

SEEN = {
    "enc_layers": "encoder_layers",
    "dec_layers": "decoder_layers",
    "dim_feedforward": "mlp_dim",
    "hidden_dim": "dim",
    "num_queries": "queries",
    "enc_n_points": "points",
    "dec_n_points": "points",
    "act_reg": "actionness",
}
"""Options that the weights show, and tadkit's settings."""


def name_from_authors(name: str) -> str:
    """The name in tadkit of a parameter; each regressor has two names."""
    name = name.removeprefix("module.")
    for pattern, ours in _NAMES:
        name = re.sub(pattern, ours, name)
    return name


def from_authors(state: Mapping[str, Tensor], config: Mapping[str, Any], *, where: str) -> ForeignHead:
    """Convert a state dict of the authors' code.

    Its positions are starts of steps, so import features for it with steps at multiples of their stride
    (``tadkit import features --clip-frames 1``).

    Args:
        state: under the authors' names.
        config: the authors' settings; may be empty.
        where: file name for error messages.

    Raises:
        WeightsError: other weights, or a variant of TadTR that tadkit does not support.
    """
    names = {name.removeprefix("module.") for name in state}
    lacking = next((name for name in _EXPECTED if name not in names), None)
    if lacking is not None:
        raise WeightsError(
            f"{where}: has no {lacking}, which the authors' TadTR has when it refines segments; import OpenTAD's "
            "TadTR with --from opentad"
        )
    tensors = {name_from_authors(name): value for name, value in state.items()}
    asked = Asked(config)
    tensors["place"] = only_level(tensors["place"], "num_feature_levels", where=where)
    section, channels = tadtr_section(tensors, asked, _SETTINGS, steps=128)
    section |= {"kind": "tadtr", "variant": "authors", "norm_groups": 32}
    return ForeignHead(section, channels, len(tensors["classifiers.0.bias"]), tensors, tuple(asked.assumed))
