"""What differs between imported heads of ActionFormer, TriDet and TemporalMaxer: the layers of their pyramids.

Each function adds to ``seen`` the options of its project that the weights show, and returns settings of the head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tadkit.errors import WeightsError
from tadkit.interop.heads.options import Options

_HEADS, _WINDOW = 4, 19
"""Attention of ActionFormer's and OpenTAD's recipes for THUMOS14, which weights do not show."""
_MAXER_GROUPS = 4
"""Groups of the norm without weights in TemporalMaxer's recipes (THUMOS14, EPIC-Kitchens nouns in OpenTAD)."""
_GROUPED, _LAYERED = ("groupnorm", "GN"), ("layernorm", "LN")


def actionformer(
    tensors: Mapping[str, Tensor], options: Options, seen: dict[str, Any], assumed: list[str]
) -> dict[str, Any]:
    """Settings of ActionFormer; only relative positions show the numbers of attention heads and windows."""
    conv, levels = any(".widen." in name for name in tensors), seen["levels"]
    distances = next((value for name, value in tensors.items() if name.endswith(".distances")), None)
    kernels = [value.shape[2] for name, value in tensors.items() if ".branches.0.attention.query.conv" in name]
    seen |= {"backbone_type": "conv" if conv else "convTransformer"}
    seen |= {"scale_factor": kernels[0] - 1} if kernels else {}
    seen |= {} if distances is None else {"n_head": distances.shape[-2]}
    given, heads = _attention(options, seen, assumed), seen.get("n_head", options.get("n_head", _HEADS))
    windows = [given] * levels if isinstance(given, int) else [int(window) for window in given]
    if not conv and max(windows) > 1:
        seen["use_rel_pe"] = distances is not None
    return {
        "level_ratio": int(seen.get("scale_factor", options.get("scale_factor", 2))),
        "blocks": "conv" if conv else "transformer",
        "attention_heads": 1 if conv else int(heads),
        "attention_windows": [window // 2 * 2 + 1 if window > 1 else 0 for window in windows],  # even ones are wider
        "relative_positions": distances is not None,
    }


def _attention(options: Options, seen: Mapping[str, Any], assumed: list[str]) -> Any:
    """Windows of the attention; reports which numbers are assumed. Convolutions have them for their padding only."""
    if "n_head" not in options and not options.whole and "n_head" not in seen and seen["backbone_type"] != "conv":
        assumed.append(f"attention_heads={_HEADS}")
    if "n_mha_win_size" in options or options.whole:
        return options.get("n_mha_win_size")
    assumed.append(f"attention_windows={_WINDOW}")
    return _WINDOW


def tridet(tensors: Mapping[str, Tensor], options: Options, seen: dict[str, Any]) -> dict[str, Any]:
    """Settings of TriDet; granularities follow from the shapes of the branches."""
    boundary, regressed = tensors.get("starts.out.conv.weight"), tensors["regressor.out.conv.bias"].shape[0]
    seen |= {"use_trident_head": boundary is not None}
    if boundary is not None:
        seen |= {"num_bins": regressed // 2 - 1, "boudary_kernel_size": boundary.shape[2]}
    section: dict[str, Any] = {
        "bins": seen.get("num_bins", 0),
        "boundary_kernel": seen.get("boudary_kernel_size", 3),
        "iou_power": float(options.get("iou_weight_power", 0.2)),
        "input_noise": float(options.get("input_noise", 0.0)),
    }
    given = options.get("n_sgp_win_size", 1)
    windows = [given] * seen["levels"] if isinstance(given, int) else list(given)
    blocks = [name.removesuffix(".gate.weight") for name in tensors if name.endswith(".gate.weight")]
    if not blocks:
        seen |= {"backbone_type": "conv"}
        return section | {"blocks": "conv", "granularity_windows": [max(int(window), 1) for window in windows]}
    sizes = {
        block: (tensors[f"{block}.short.weight"].shape[2], tensors[f"{block}.long.weight"].shape[2]) for block in blocks
    }
    short = [sizes[f"pyramid.branches.{n}"][0] for n in range(seen["levels"] - 1)]
    first = windows[0] if "n_sgp_win_size" in options else (short or [1])[0]  # only counts in the padding
    shown = [first, *short]
    pooled = "pyramid.branches.0.pooled.weight" in tensors
    mlp_dim = tensors[f"{blocks[0]}.mlp_in.weight"].shape[0]
    seen |= {
        "backbone_type": "SGP",
        "n_sgp_win_size": given if isinstance(given, int) and set(short) <= {given} else shown,
        "sgp_mlp_dim": mlp_dim,
        "k": _ratio(list(sizes.values()), options.get("k")),
        **({"downsample_type": "avg" if pooled else "max"} if short else {}),
    }
    return section | {
        "granularity_windows": [max(int(window), 1) for window in shown],
        "granularity_ratio": float(seen["k"]),
        "mlp_dim": mlp_dim,
        "pooling": "avg" if pooled else "max",
    }


def _ratio(sizes: list[tuple[int, int]], given: Any) -> float:
    """Ratio of the long and the short branches: the given one if it fits the shapes, else one that fits them all."""
    if given is not None and all(_long(short, float(given)) == long for short, long in sizes):
        return float(given)
    lowest = max((long - 1.5) / (short + 1) for short, long in sizes)
    highest = min((long + 0.5) / (short + 1) for short, long in sizes)
    return (lowest + highest) / 2


def _long(short: int, ratio: float) -> int:
    """Size of the long branch in TriDet's code."""
    size = round((short + 1) * ratio)
    return size + (size % 2 == 0)


def temporal_maxer(options: Options, seen: dict[str, Any], assumed: list[str], *, where: str) -> dict[str, Any]:
    """Settings of TemporalMaxer; a neck without weights has a group norm, which weights do not show."""
    weighted = seen.pop("fpn_with_ln")  # TemporalMaxer does not read this option
    norm = options.get("fpn_norm", "layernorm" if weighted else "groupnorm")
    if len(arch := options.get("backbone_arch") or ()) == 2:  # embedding and levels, without a stem
        seen["backbone_arch"] = [seen["backbone_arch"][0], seen["levels"] - 1]
    elif arch:
        seen["backbone_arch"][1] = arch[1]  # it has no stem
    if weighted != (norm in _LAYERED):
        shown = "has weights" if weighted else "has no weights"
        raise WeightsError(
            f"{where}: the norm of the neck {shown}, but {options.name('fpn_norm')} is {norm} in --config; expected a "
            "layer norm, with weights, or a group norm without (affine=False)"
        )
    groups = 0
    if norm in _GROUPED:
        groups = options.get("num_group")
        if groups is None:
            groups = _MAXER_GROUPS
            assumed.append(f"neck_groups={groups}")
    return {"neck_groups": int(groups), "neck_norm": weighted or bool(groups), "regress_to": "cheapest"}
