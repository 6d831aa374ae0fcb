"""Import of OpenTAD's TadTR and BMN (sming256/OpenTAD): names of weights, and settings inferred from them.

Its other heads are in :mod:`tadkit.interop.heads.anchor_free`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from torch import Tensor

from tadkit.errors import WeightsError
from tadkit.interop.heads.actionformer import modules_of, renamed
from tadkit.interop.heads.decoding import UNKNOWN, Decoding

Kind = Literal["tadtr", "bmn"]

_TADTR = (
    (r"projection\.convs\.0\.conv\.", "embedding."),
    (r"projection\.convs\.0\.norm\.", "embedding_norm."),
    (r"transformer\.query_embedding\.weight", "queries"),
    (r"transformer\.level_embeds", "place"),
    (r"transformer\.reference_points\.", "reference."),
    (r"transformer\.actionness_pred\.", "actionness.mlp."),
    (r"transformer\.class_embed\.(\d+)\.", r"classifiers.\1."),
    (r"transformer\.(?:decoder\.)?bbox_embed\.(\d+)\.layers\.0\.", r"regressors.\1.0."),
    (r"transformer\.(?:decoder\.)?bbox_embed\.(\d+)\.layers\.1\.", r"regressors.\1.2."),
    (r"transformer\.(?:decoder\.)?bbox_embed\.(\d+)\.layers\.2\.", r"regressors.\1.4."),
    (r"transformer\.decoder\.layers\.(\d+)\.attentions\.0\.attn\.", r"decoder.\1.self_attention."),
    (r"transformer\.decoder\.layers\.(\d+)\.attentions\.1\.", r"decoder.\1.attention."),
    (r"transformer\.decoder\.layers\.(\d+)\.norms\.0\.", r"decoder.\1.self_norm."),
    (r"transformer\.decoder\.layers\.(\d+)\.norms\.1\.", r"decoder.\1.attention_norm."),
    (r"transformer\.decoder\.layers\.(\d+)\.norms\.2\.", r"decoder.\1.mlp_norm."),
    (r"transformer\.encoder\.layers\.(\d+)\.attentions\.0\.", r"encoder.\1.attention."),
    (r"transformer\.encoder\.layers\.(\d+)\.norms\.0\.", r"encoder.\1.attention_norm."),
    (r"transformer\.encoder\.layers\.(\d+)\.norms\.1\.", r"encoder.\1.mlp_norm."),
    (r"transformer\.(en|de)coder\.layers\.(\d+)\.ffns\.0\.layers\.0\.0\.", r"\1coder.\2.mlp.0."),
    (r"transformer\.(en|de)coder\.layers\.(\d+)\.ffns\.0\.layers\.1\.", r"\1coder.\2.mlp.3."),
    (r"\.sampling_offsets\.", ".offsets."),
    (r"\.attention_weights\.", ".weights."),
    (r"\.value_proj\.", ".value."),
    (r"\.output_proj\.", ".out."),
)

_TADTR_SETTINGS = {
    "attention_heads": "num_heads",
    "window_steps": "window_size",
    "dropout": "ffn_dropout",
    "class_cost": "cost_class",
    "segment_cost": "cost_bbox",
    "iou_cost": "cost_giou",
    "class_weight": "loss_class",
    "segment_weight": "loss_bbox",
    "iou_weight": "loss_iou",
    "actionness_weight": "loss_actionness",
}

TADTR_SEEN = {
    "transformer.num_proposals": "queries",
    "transformer.with_act_reg": "actionness",
    "transformer.roi_size": "actionness_bins",
    "projection.out_channels": "dim",
    **{
        f"transformer.{part}.{theirs}": ours
        for part in ("encoder", "decoder")
        for theirs, ours in {"embed_dim": "dim", "ffn_dim": "mlp_dim", "num_points": "points"}.items()
    },
    "transformer.encoder.num_layers": "encoder_layers",
    "transformer.decoder.num_layers": "decoder_layers",
    "transformer.encoder.num_heads": "attention_heads",
    "transformer.decoder.num_heads": "attention_heads",
}
BMN_SEEN = {
    "projection.out_channels": "dim",
    "projection.conv_cfg.groups": "groups",
    "rpn_head.conv_cfg.groups": "groups",
    "roi_head.proposal_roi_extractor.roi_channels": "roi_dim",
    "roi_head.proposal_roi_extractor.out_channels": "map_dim",
    "roi_head.proposal_roi_extractor.num_sample": "samples",
    "roi_head.proposal_roi_extractor.tscale": "window_steps",
    "roi_head.proposal_roi_extractor.dscale": "durations",
    "roi_head.proposal_head.num_convs": "map_layers",
}
"""Options that must agree with each other or with the weights, and tadkit's settings."""

_BMN = (
    (r"projection\.convs\.(\d+)\.", r"embedding.\1."),
    (r"rpn_head\.tem\.0\.", "start."),
    (r"rpn_head\.tem\.1\.", "end."),
    (r"roi_head\.proposal_roi_extractor\.reduce_dim\.0\.", "reduced.conv."),
    (r"roi_head\.proposal_roi_extractor\.conv3d\.0\.", "matching."),
    (r"roi_head\.proposal_roi_extractor\.conv2d\.0\.", "narrowed."),
    (r"roi_head\.proposal_head\.head\.(\d+)\.0\.", r"tower.\1."),
    (r"roi_head\.proposal_head\.head\.\d+\.", "confidence."),
)


class ForeignHead(NamedTuple):
    """Everything needed to build and load an imported head.

    Attributes:
        section: head settings, plain values.
        in_channels: channels of the feature track.
        num_classes: classes; 1 for BMN, which is class-agnostic.
        tensors: under tadkit's names.
        assumed: settings found in neither weights nor config, as ``name=value``.
        decoding: how to decode as the config says.
    """

    section: dict[str, Any]
    in_channels: int
    num_classes: int
    tensors: dict[str, Tensor]
    assumed: tuple[str, ...]
    decoding: Decoding = UNKNOWN


def opentad_kind(state: Mapping[str, Tensor]) -> Kind | None:
    """Which of the two heads these weights are of, or None."""
    names = {name.removeprefix("module.") for name in state}
    if "transformer.query_embedding.weight" in names and "transformer.level_embeds" in names:
        return "tadtr"
    return "bmn" if any(name.startswith("roi_head.proposal_roi_extractor.conv3d.") for name in names) else None


def name_from_opentad(name: str, kind: Kind) -> str:
    """The name in tadkit of a parameter; TadTR has two names for each regressor."""
    return renamed(name, _TADTR if kind == "tadtr" else _BMN)


def state_from_opentad(state: Mapping[str, Tensor], kind: Kind) -> dict[str, Tensor]:
    """State of a :class:`TadtrHead`, or of a :class:`BmnHead` without classifier, from OpenTAD's.

    OpenTAD's TadTR samples points on the edge of a one-pixel-wide image, where bilinear interpolation averages each
    value with the zeros outside; that factor of a half is folded into the next layer.
    """
    tensors = {name_from_opentad(name, kind): value for name, value in state.items()}
    for name, value in tensors.items():
        if name == "place":
            tensors[name] = only_level(value, "transformer.encoder.num_feature_levels", where="these weights")
        elif name == "matching.weight":
            tensors[name] = value[..., 0]
        elif kind == "tadtr" and name.endswith(".attention.out.weight"):
            tensors[name] = value / 2
    return tensors


def only_level(places: Tensor, option: str, *, where: str) -> Tensor:
    """The embedding of the only level of TadTR's encoder.

    Raises:
        WeightsError: there are more levels.
    """
    if len(places) != 1:
        raise WeightsError(f"{where}: TadTR with {option} = {len(places)} is not supported; expected 1")
    return places[0]


def from_opentad(state: Mapping[str, Tensor], config: Mapping[str, Any], *, where: str) -> ForeignHead:
    """Convert a state dict of OpenTAD.

    Args:
        state: of a kind that :func:`opentad_kind` recognises.
        config: OpenTAD's settings, nested as in its files; may be empty.
        where: file name for error messages.

    Raises:
        WeightsError: a TadTR with another embedding, or a BMN with other maps.
    """
    kind = opentad_kind(state)
    assert kind is not None, where
    projection = _find(config, "projection")
    if kind == "tadtr" and isinstance(projection, Mapping) and "act_cfg" not in projection and "type" in projection:
        raise WeightsError(
            f"{where}: OpenTAD's TadTR without projection.act_cfg = None is not supported: it adds a ReLU"
        )
    tensors = state_from_opentad(state, kind)
    strange = sorted(
        name for name in tensors if re.match(r"transformer\.|projection\.|roi_head\.|rpn_head\.|neck\.", name)
    )
    if strange:
        raise WeightsError(
            f"{where}: {strange[0]} is not part of a supported {kind}; expected TadTR after one convolution, or BMN as "
            "published"
        )
    asked = Asked(config)
    section, channels = _tadtr(tensors, asked) if kind == "tadtr" else _bmn(tensors, asked)
    classes = len(tensors["classifiers.0.bias"]) if kind == "tadtr" else 1
    return ForeignHead({"kind": kind, **section}, channels, classes, tensors, tuple(asked.assumed))


class Asked:
    """Looks up settings in a nested table, and lists the missing ones."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.assumed: list[str] = []

    def get(self, name: str, otherwise: Any, *, ours: str | None = None) -> Any:
        """The first value called ``name`` at any depth; a missing one is reported as ``ours``."""
        found = _find(self.config, name)
        if found is not None:
            return found
        if ours is not None:
            self.assumed.append(f"{ours}={otherwise}")
        return otherwise


def _find(table: Mapping[str, Any], name: str) -> Any:
    if name in table:
        return table[name]
    parts = (_find(value, name) for value in table.values() if isinstance(value, Mapping))
    return next((found for found in parts if found is not None), None)


def _tadtr(tensors: Mapping[str, Tensor], asked: Asked) -> tuple[dict[str, Any], int]:
    """Settings and channels of OpenTAD's TadTR."""
    section, channels = tadtr_section(tensors, asked, _TADTR_SETTINGS, steps=256)
    section["norm_groups"] = int(asked.get("num_groups", 32, ours="norm_groups"))
    if section["actionness"]:
        context = asked.get("roi_extend_ratio", 0.25, ours="actionness_context")
        section["actionness_context"] = float(context)
    return section, channels


def tadtr_section(
    tensors: Mapping[str, Tensor], asked: Asked, names: Mapping[str, str], *, steps: int
) -> tuple[dict[str, Any], int]:
    """TadTR settings from weights and config, and its channels; defaults are those of recipes for THUMOS14.

    Args:
        tensors: under tadkit's names.
        asked: the project's config.
        names: the project's name of each setting.
        steps: default window length.
    """
    heads = int(asked.get(names["attention_heads"], 8, ours="attention_heads"))
    window = int(asked.get(names["window_steps"], steps, ours="pad_to_steps"))
    dim = tensors["reference.weight"].shape[1]
    section = {
        "dim": dim,
        "queries": len(tensors["queries"]),
        "encoder_layers": modules_of(tensors, "encoder"),
        "decoder_layers": modules_of(tensors, "decoder"),
        "attention_heads": heads,
        "points": len(tensors["decoder.0.attention.offsets.bias"]) // heads,
        "mlp_dim": len(tensors["decoder.0.mlp.0.bias"]),
        "dropout": float(asked.get(names["dropout"], 0.1)),
        "padding": "counted",
        "pad_to_steps": window,
        "window_steps": window,
    }
    section["actionness"] = "actionness.mlp.0.weight" in tensors
    if section["actionness"]:
        section |= {"actionness_bins": tensors["actionness.mlp.0.weight"].shape[1] // dim}
    weights = {ours: asked.get(names[ours], None) for ours in names if ours.endswith(("_cost", "_weight"))}
    section |= {ours: float(value) for ours, value in weights.items() if value is not None}
    return section, tensors["embedding.weight"].shape[1]


def _bmn(tensors: Mapping[str, Tensor], asked: Asked) -> tuple[dict[str, Any], int]:
    """Settings and channels of a BMN; defaults are those of its ActivityNet recipe."""
    roi_dim, map_dim, samples = tensors["matching.weight"].shape
    dim, share = tensors["start.0.conv.weight"].shape[:2]
    durations = int(asked.get("dscale", 128, ours="durations"))
    section = {
        "dim": dim,
        "map_dim": map_dim,
        "roi_dim": roi_dim,
        "groups": dim // share,
        "durations": durations,
        "samples": samples,
        "samples_per_bin": int(asked.get("num_sample_perbin", 3)),
        "context": float(asked.get("prop_extend_ratio", 0.5)),
        "map_layers": modules_of(tensors, "tower"),
        "edge_steps": 2.0,
        "window_steps": int(asked.get("tscale", durations)),
        "classifier": False,
        "score": asked.get("score_type", "iou"),
    }
    return section, tensors["embedding.0.conv.weight"].shape[1] * (dim // share)
