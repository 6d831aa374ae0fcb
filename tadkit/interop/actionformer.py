"""Import of ActionFormer, TriDet and OpenTAD heads: names of weights, and settings inferred from them.

Formats: happyharrycn/actionformer_release, dingfengshi/TriDet, sming256/OpenTAD (ActionFormer, TriDet, TemporalMaxer).
Their outputs depend on padding, so imported heads pad as they do (``padding``, ``pad_to_steps``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from tadkit.errors import WeightsError
from tadkit.interop import Source

_NAMES: tuple[tuple[str, str], ...] = (
    (r"^(?:backbone|projection)\.proj\.", "pyramid.streams."),
    (r"^projection\.embed\.(\d+)\.norm\.", r"pyramid.embedding_norms.\1."),
    (r"^(?:backbone\.embd|projection\.embed)\.", "pyramid.embedding."),
    (r"^backbone\.embd_norm\.", "pyramid.embedding_norms."),
    (r"^(?:backbone|projection)\.stem\.", "pyramid.stem."),
    (r"^(?:backbone|projection)\.branch\.", "pyramid.branches."),
    (r"\.ln1\.", ".attention_norm."),
    (r"\.ln2\.", ".mlp_norm."),
    (r"\.attn\.(query|key|value)_conv\.conv\.", r".attention.\1.conv.conv."),
    (r"\.attn\.(query|key|value)_norm\.", r".attention.\1.norm."),
    (r"\.attn\.(query|key|value)\.", r".attention.\1.linear.conv."),
    (r"\.attn\.proj\.", ".attention.out.conv."),
    (r"\.attn\.rel_pe$", ".attention.distances"),
    (r"\.drop_path_attn\.", ".attention_path."),
    (r"\.drop_path_mlp\.", ".mlp_path."),
    (r"\.drop_path_out\.", ".branch_path."),
    (r"\.conv1\.conv\.", ".widen.conv."),
    (r"\.conv2\.conv\.", ".narrow.conv."),
    (r"\.downsample\.conv\.", ".skip.conv."),
    (r"\.downsample\.1\.", ".pooled."),
    (r"\.ln\.", ".norm."),
    (r"\.gn\.", ".group_norm."),
    (r"\.psi\.", ".gate."),
    (r"\.fc\.", ".instant."),
    (r"\.convw\.", ".short."),
    (r"\.convkw\.", ".long."),
    (r"\.global_fc\.", ".overall."),
    (r"^neck\.lateral_convs\.", "pyramid.fpn.laterals."),
    (r"^neck\.fpn_convs\.", "pyramid.fpn.convs."),
    (r"^neck\.fpn_norms\.", "pyramid.out_norms."),
    (r"^rpn_head\.cls_start_", "starts."),
    (r"^rpn_head\.cls_end_", "ends."),
    (r"^rpn_head\.cls_", "classifier."),
    (r"^rpn_head\.reg_", "regressor."),
    (r"^rpn_head\.(scale\.)", r"\1"),
    (r"^rpn_head\.loss_normalizer$", "running.mean"),
    (r"^cls_head\.", "classifier."),
    (r"^reg_head\.(scale\.)", r"\1"),
    (r"^reg_head\.", "regressor."),
    (r"^start_head\.", "starts."),
    (r"^end_head\.", "ends."),
    (r"^(classifier|regressor|starts|ends)\.convs\.(\d+)\.norm\.", r"\1.norms.\2."),
    (r"^(classifier|regressor|starts|ends)\.(?:convs|head)\.(\d+)\.", r"\1.hidden.\2."),
    (r"^(classifier|regressor|starts|ends)\.norm\.", r"\1.norms."),
    (r"^(classifier|regressor|starts|ends)\.(?:cls_head|offset_head)\.", r"\1.out."),
    (r"^(classifier|regressor|starts|ends)\.head\.", r"\1.out.conv."),
)

_THUMOS = {"n_head": 4, "n_mha_win_size": 19, "max_seq_len": 2304}
"""Settings of ActionFormer's and OpenTAD's recipes for THUMOS14 that weights do not show."""
_MAXER_GROUPS = 4
"""Groups of the norm without weights in OpenTAD's TemporalMaxer recipes (THUMOS14, EPIC-Kitchens nouns)."""


def translated(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An imported state dict under tadkit's names; the scales of the levels become one vector."""
    own = {renamed(name, _NAMES): value for name, value in state.items()}
    own = {_mlp(name, own): value for name, value in own.items()}
    if any(name.startswith("pyramid.fpn.") for name in own):
        own = {name.replace("pyramid.out_norms.", "pyramid.fpn.norms."): value for name, value in own.items()}
    scales = [name for name in own if re.fullmatch(r"scale\.\d+\.scale", name)]
    if scales:
        in_order = sorted(scales, key=lambda name: int(name.split(".")[1]))
        own["scales"] = own[in_order[0]].new_tensor([float(own.pop(name)) for name in in_order])
    return own


def renamed(name: str, table: Sequence[tuple[str, str]]) -> str:
    """The name in tadkit of an imported parameter: every pattern of the table is replaced in turn."""
    own = name.removeprefix("module.")
    for pattern, ours in table:
        own = re.sub(pattern, ours, own)
    return own


def modules_of(names: Iterable[str], prefix: str) -> int:
    """Number of modules in a list of tadkit's, by the numbers in their names."""
    matches = (re.match(rf"{re.escape(prefix)}\.(\d+)\.", name) for name in names)
    return len({match[1] for match in matches if match})


def _mlp(name: str, names: Mapping[str, Tensor]) -> str:
    """Name in a layer's MLP: its convolutions are 0 and 3 in ActionFormer (masked here), 0 and 2 in TriDet."""
    layer, found, rest = name.partition(".mlp.")
    if not found:
        return name
    masked = f"{layer}.mlp.3.weight" in names
    number, _, kind = rest.partition(".")
    return f"{layer}.{'mlp_in' if number == '0' else 'mlp_out'}.{'conv.' if masked else ''}{kind}"


def settings_of(
    tensors: Mapping[str, Tensor], source: Source, config: Mapping[str, Any], *, where: str
) -> tuple[dict[str, Any], list[str]]:
    """The head settings that fit translated weights, and which of them are assumed.

    Args:
        tensors: under tadkit's names.
        source: project that they are from.
        config: the project's settings, flat, under its own names; may be empty.
        where: file name for error messages.

    Raises:
        WeightsError: the weights are not those of a supported head.
    """
    if "scales" not in tensors or "classifier.out.conv.bias" not in tensors:
        raise WeightsError(f"{where}: not a head of {source}: it has no classifier or no level scales")
    if source == "opentad" and any(name.startswith("pyramid.fpn.") for name in tensors):
        raise WeightsError(
            f"{where}: has OpenTAD's FPN neck, which tadkit does not support; expected FPNIdentity, as in recipes"
        )
    assumed: list[str] = []
    section = _common(tensors) | _training(config) | {"padding": "opentad" if source == "opentad" else "leaky"}
    if source == "opentad":
        section["norm_eps"] = 1e-6
    kind = _kind(tensors, source)
    if kind == "actionformer":
        section |= _actionformer(tensors, config, assumed)
    elif kind == "tridet":
        section |= _tridet(tensors, config)
    else:
        section |= _temporal_maxer(tensors, config, assumed)
    if config.get("max_seq_len") is None:
        assumed.append(f"pad_to_steps={_THUMOS['max_seq_len']}")
    section["pad_to_steps"] = int(config.get("max_seq_len") or _THUMOS["max_seq_len"])
    if not config and kind != "temporal-maxer":  # not visible in weights; a config without them means off
        assumed.append("absolute_positions=false")
    section["absolute_positions"] = bool(config.get("use_abs_pe", False))
    section["positions_steps"] = section["pad_to_steps"]
    return {"kind": kind, **section}, assumed


def _kind(tensors: Mapping[str, Tensor], source: Source) -> str:
    if any(".gate." in name for name in tensors):
        return "tridet"
    if source == "opentad" and not any(name.startswith("pyramid.branches.") for name in tensors):
        return "temporal-maxer"
    return "actionformer"


def _common(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Settings of any head that shapes and names show."""
    count = partial(modules_of, tensors)
    out, first = tensors["classifier.out.conv.weight"], tensors.get("classifier.hidden.0.conv.weight")
    streams = [tensors[f"pyramid.streams.{n}.conv.weight"] for n in range(count("pyramid.streams"))]
    embedding = tensors.get("pyramid.embedding.0.conv.weight")
    fpn = tensors.get("pyramid.fpn.laterals.0.conv.weight")
    neck_dim = (first if first is not None else out).shape[1]
    return {
        "levels": len(tensors["scales"]),
        "dim": neck_dim if fpn is None else fpn.shape[1],
        "stem_layers": count("pyramid.stem"),
        "embedding_layers": count("pyramid.embedding"),
        "embedding_kernel": 3 if embedding is None else embedding.shape[2],
        "streams": [(weight.shape[1], weight.shape[0]) for weight in streams],
        "neck": "identity" if fpn is None else "fpn",
        "neck_dim": 0 if fpn is None else neck_dim,
        "head_dim": out.shape[1],
        "head_layers": count("classifier.hidden") + 1,
        "head_kernel": out.shape[2],
        "layer_scale": any(name.endswith("_path.scale") for name in tensors),
        "normaliser": "running",
        "closed_ranges": True,
    }


def _training(config: Mapping[str, Any]) -> dict[str, Any]:
    """Training settings from the project's config."""
    section: dict[str, Any] = {"dropout": float(config.get("dropout", 0.0)), "drop_path": 0.1}
    ours = {
        "droppath": "drop_path",
        "center_sample_radius": "centre_radius",
        "loss_weight": "regression_weight",
        "cls_prior_prob": "prior_probability",
        "init_loss_norm": "normaliser_start",
        "label_smoothing": "label_smoothing",
    }
    section |= {own: float(config[theirs]) for theirs, own in ours.items() if theirs in config}
    if config.get("center_sample") == "none":
        section["centre_radius"] = 0.0
    if section.get("regression_weight", 1.0) < 0:
        section["regression_weight"] = 0.0
    if "regression_range" in config:
        section["ranges_steps"] = [(float(low), float(high)) for low, high in config["regression_range"]]
    return section


def _actionformer(tensors: Mapping[str, Tensor], config: Mapping[str, Any], assumed: list[str]) -> dict[str, Any]:
    """Settings of ActionFormer; no shape shows the numbers of attention heads and windows."""
    known = dict(config)
    for name, own in (("n_head", "attention_heads"), ("n_mha_win_size", "attention_windows")):
        if name not in config:
            known[name] = _THUMOS[name]
            assumed.append(f"{own}={_THUMOS[name]}")
    given = known["n_mha_win_size"]
    levels = len(tensors["scales"])
    windows = [int(given)] * levels if isinstance(given, int) else [int(window) for window in given]
    return {
        "blocks": "conv" if any(".widen." in name for name in tensors) else "transformer",
        "attention_heads": int(known["n_head"]),
        "attention_windows": [window if window > 1 else 0 for window in windows],
        "relative_positions": any(name.endswith(".distances") for name in tensors),
    }


def _tridet(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of TriDet; granularities follow from the shapes of the branches."""
    levels = len(tensors["scales"])
    short = [tensors[f"pyramid.branches.{n}.short.weight"].shape[2] for n in range(levels - 1)]
    longest = tensors["pyramid.branches.0.long.weight"].shape[2]
    regressed = tensors["regressor.out.conv.bias"].shape[0]
    boundary = tensors.get("starts.out.conv.weight")
    return {
        "granularity_windows": [short[0], *short],
        "granularity_ratio": float(config.get("k", longest / (short[0] + 1))),
        "mlp_dim": tensors["pyramid.branches.0.mlp_in.weight"].shape[0],
        "pooling": "avg" if "pyramid.branches.0.pooled.weight" in tensors else "max",
        "bins": 0 if boundary is None else regressed // 2 - 1,
        "boundary_kernel": 3 if boundary is None else boundary.shape[2],
        "iou_power": float(config.get("iou_weight_power", 0.2)),
        "input_noise": float(config.get("input_noise", 0.0)),
    }


def _temporal_maxer(tensors: Mapping[str, Tensor], config: Mapping[str, Any], assumed: list[str]) -> dict[str, Any]:
    """Settings of TemporalMaxer; a neck without weights has a group norm, which weights do not show."""
    groups = config.get("neck_groups")
    if groups is None:
        groups = 0 if any(name.startswith("pyramid.out_norms.") for name in tensors) else _MAXER_GROUPS
        if groups:
            assumed.append(f"neck_groups={groups}")
    return {"neck_groups": int(groups), "regress_to": "cheapest"}
