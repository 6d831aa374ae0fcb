"""Options and synthetic weights of other projects' anchor-free heads, under their names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

Weights = dict[str, Tensor]
Shapes = Iterator[tuple[str, tuple[int, ...]]]
BASE: dict[str, dict[str, Any]] = {
    "actionformer": {"backbone_type": "convTransformer", "backbone_arch": [2, 1, 2], "n_head": 4, "n_mha_win_size": 5},
    "tridet": {
        "backbone_type": "SGP",
        "backbone_arch": [2, 1, 2],
        "n_sgp_win_size": 1,
        "sgp_mlp_dim": 24,
        "k": 5,
        "downsample_type": "max",
        "use_trident_head": True,
        "num_bins": 4,
        "boudary_kernel_size": 3,
    },
    "temporalmaxer": {
        "backbone_type": "convPooler",
        "backbone_arch": [2, 2],
        "fpn_norm": "groupnorm",
        "num_group": 4,
    },
}
SHARED: dict[str, Any] = {
    "fpn_type": "identity",
    "scale_factor": 2,
    "input_dim": 6,
    "num_classes": 3,
    "max_seq_len": 32,
    "embd_dim": 16,
    "embd_kernel_size": 3,
    "embd_with_ln": True,
    "fpn_dim": 16,
    "fpn_with_ln": True,
    "fpn_start_level": 0,
    "head_dim": 16,
    "head_num_layers": 3,
    "head_kernel_size": 3,
    "head_with_ln": True,
    "use_abs_pe": False,
    "use_rel_pe": False,
    "droppath": 0.1,
}


def options_of(project: str, **changed: Any) -> dict[str, Any]:
    """A complete configuration with some options changed."""
    options = SHARED | BASE[project] | changed
    options["regression_range"] = [[0, 4 * 2**n] for n in range(levels_of(options) - options["fpn_start_level"])]
    return options


def levels_of(options: dict[str, Any]) -> int:
    return int(options["backbone_arch"][-1]) + 1


def each(given: Any, count: int) -> list[int]:
    return list(given) if isinstance(given, list) else [given] * count


def _conv(name: str, out: int, inner: int, kernel: int, *, bias: bool = True) -> Shapes:
    yield f"{name}.weight", (out, inner, kernel)
    if bias:
        yield f"{name}.bias", (out,)


def _norm(name: str, dim: int) -> Shapes:
    yield f"{name}.weight", (1, dim, 1)
    yield f"{name}.bias", (1, dim, 1)


def _transformer(name: str, options: dict[str, Any], window: int, stride: int) -> Shapes:
    dim = _width(options)
    for part in ("query", "key", "value"):
        yield from _conv(f"{name}.attn.{part}_conv.conv", dim, 1, stride + 1 if stride > 1 else 3, bias=False)
        yield from _norm(f"{name}.attn.{part}_norm", dim)
        yield from _conv(f"{name}.attn.{part}", dim, dim, 1)
    yield from _conv(f"{name}.attn.proj", dim, dim, 1)
    if options["use_rel_pe"] and window > 1:
        yield f"{name}.attn.rel_pe", (1, 1, options["n_head"], window)
    for norm in ("ln1", "ln2"):
        yield from _norm(f"{name}.{norm}", dim)
    yield from _conv(f"{name}.mlp.0", 4 * dim, dim, 1)
    yield from _conv(f"{name}.mlp.3", dim, 4 * dim, 1)
    if options["droppath"] > 0:
        for path in ("attn", "mlp"):
            yield f"{name}.drop_path_{path}.scale", (1, dim, 1)


def _convolutions(name: str, dim: int, stride: int) -> Shapes:
    yield from _conv(f"{name}.conv1.conv", 2 * dim, dim, 3)
    yield from _conv(f"{name}.conv2.conv", dim, 2 * dim, 3)
    if stride > 1:
        yield from _conv(f"{name}.downsample.conv", dim, dim, 1)


def _granularity(name: str, options: dict[str, Any], window: int, stride: int) -> Shapes:
    dim, long = _width(options), round((window + 1) * options["k"])
    for norm in ("ln", "gn"):
        for part in ("weight", "bias"):
            yield f"{name}.{norm}.{part}", (1, dim, 1) if norm == "ln" else (dim,)
    for part, kernel in (
        ("psi", window),
        ("fc", 1),
        ("convw", window),
        ("convkw", long + 1 - long % 2),
        ("global_fc", 1),
    ):
        yield from _conv(f"{name}.{part}", dim, 1, kernel)
    yield from _conv(f"{name}.mlp.0", options["sgp_mlp_dim"], dim, 1)
    yield from _conv(f"{name}.mlp.2", dim, options["sgp_mlp_dim"], 1)
    if stride > 1 and options["downsample_type"] == "avg":
        yield from _conv(f"{name}.downsample.1", dim, dim, 1)
    if stride > 1 and options["droppath"] > 0:
        for path in ("out", "mlp"):
            yield f"{name}.drop_path_{path}.scale", (1, dim, 1)


def _width(options: dict[str, Any]) -> int:
    return sum(options["embd_dim"]) if isinstance(options["embd_dim"], list) else int(options["embd_dim"])


def blocks(options: dict[str, Any]) -> Iterator[tuple[str, int, int]]:
    """Name, window and stride of the layers of stem and branch."""
    windows = each(options.get("n_mha_win_size", options.get("n_sgp_win_size", 0)), levels_of(options))
    if options["backbone_type"] == "convPooler":
        return
    for n in range(options["backbone_arch"][1]):
        yield f"backbone.stem.{n}", 1 if options["backbone_type"] == "SGP" else windows[0], 1
    for n, window in enumerate(windows[1:]):
        yield f"backbone.branch.{n}", window, options["scale_factor"]


def _shapes(options: dict[str, Any]) -> Shapes:
    dim, inner = _width(options), options["input_dim"]
    if isinstance(inner, list):
        for n, (wide, narrow) in enumerate(zip(inner, options["embd_dim"], strict=True)):
            yield from _conv(f"backbone.proj.{n}.conv", narrow, wide, 1)
        inner = dim
    for n in range(options["backbone_arch"][0]):
        bias = not options["embd_with_ln"]
        yield from _conv(f"backbone.embd.{n}.conv", dim, dim if n else inner, options["embd_kernel_size"], bias=bias)
        if options["embd_with_ln"]:
            yield from _norm(f"backbone.embd_norm.{n}", dim)
    for name, window, stride in blocks(options):
        match options["backbone_type"]:
            case "convTransformer":
                yield from _transformer(name, options, window, stride)
            case "SGP":
                yield from _granularity(name, options, window, stride)
            case _:
                yield from _convolutions(name, dim, stride)
    yield from _neck_and_heads(options, dim)


def _neck_and_heads(options: dict[str, Any], dim: int) -> Shapes:
    wide, head, layers = options["fpn_dim"], options["head_dim"], options["head_num_layers"]
    normed = options.get("fpn_norm", "layernorm" if options["fpn_with_ln"] else None) == "layernorm"
    for n in range(levels_of(options) - options["fpn_start_level"]):
        if options["fpn_type"] == "fpn":
            yield from _conv(f"neck.lateral_convs.{n}.conv", wide, dim, 1, bias=not normed)
            yield from _conv(f"neck.fpn_convs.{n}.conv", wide, 1, 3, bias=not normed)
        if normed:
            yield from _norm(f"neck.fpn_norms.{n}", wide)
        yield f"reg_head.scale.{n}.scale", ()
    trident = options.get("use_trident_head", False)
    towers = {"cls_head": options["num_classes"], "reg_head": 2 * (options["num_bins"] + 1) if trident else 2}
    towers |= {"start_head": options["num_classes"], "end_head": options["num_classes"]} if trident else {}
    for tower, out in towers.items():
        kernel = options["boudary_kernel_size" if tower in ("start_head", "end_head") else "head_kernel_size"]
        for n in range(layers - 1):
            bias = not options["head_with_ln"]
            yield from _conv(f"{tower}.head.{n}.conv", head, head if n else wide, kernel, bias=bias)
            if options["head_with_ln"]:
                yield from _norm(f"{tower}.norm.{n}", head)
        last = "offset_head" if tower == "reg_head" else "cls_head"
        yield from _conv(f"{tower}.{last}.conv", out, head if layers > 1 else wide, kernel)


def weights_of(options: dict[str, Any]) -> Weights:
    """Random weights, all away from trivial values."""
    torch.manual_seed(0)
    return {name: torch.randn(shape) * 0.3 + (0.0 if shape else 0.8) for name, shape in _shapes(options)}


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
