"""The anchor-free heads of other projects, written out plainly by their published code's behaviour, as a reference.

Options and names of weights are those of ActionFormer, TriDet and TemporalMaxer. One padded track at a time, dense
attention, no deliberate speed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as nnf
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


def _each(given: Any, count: int) -> list[int]:
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


def _blocks(options: dict[str, Any]) -> Iterator[tuple[str, int, int]]:
    """Name, window and stride of the layers of stem and branch."""
    windows = _each(options.get("n_mha_win_size", options.get("n_sgp_win_size", 0)), levels_of(options))
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
    for name, window, stride in _blocks(options):
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


class Published:
    """A forward pass over one padded track.

    Args:
        options: complete.
        weights: under the project's names.
        opentad: OpenTAD's masks and epsilon instead.
    """

    def __init__(self, options: dict[str, Any], weights: Weights, *, opentad: bool = False) -> None:
        self.options, self.weights, self.opentad = options, weights, opentad

    def conv(self, x: Tensor, name: str, mask: Tensor | None = None, *, stride: int = 1) -> Tensor:
        weight = self.weights[f"{name}.weight"]
        groups, bias = x.shape[1] // weight.shape[1], self.weights.get(f"{name}.bias")
        out = nnf.conv1d(x, weight, bias, stride=stride, padding=weight.shape[2] // 2, groups=groups)
        return out if mask is None else out * mask[..., ::stride]

    def norm(self, x: Tensor, name: str, *, eps: float = 1e-5) -> Tensor:
        if f"{name}.weight" not in self.weights:
            return x
        mean, spread = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
        return (x - mean) / (spread + eps).sqrt() * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def hidden(self, x: Tensor, mask: Tensor, conv: str, norm: str) -> Tensor:
        """Convolution, norm and ReLU of embedding and towers; OpenTAD masks after them too."""
        x = self.norm(self.conv(x, f"{conv}.conv", mask), norm, eps=1e-6 if self.opentad else 1e-5).relu()
        return x * mask if self.opentad else x

    def attention(self, x: Tensor, mask: Tensor, name: str, window: int, stride: int) -> Tensor:
        half, parts = mask[..., ::stride], []
        for part in ("query", "key", "value"):
            y = self.norm(self.conv(x, f"{name}.{part}_conv.conv", mask, stride=stride), f"{name}.{part}_norm")
            parts.append(self.conv(y, f"{name}.{part}").unflatten(1, (self.options["n_head"], -1)))
        query, key, value = parts
        logits = torch.einsum("bhct,bhcs->bhts", query, key) / query.shape[2] ** 0.5
        step = torch.arange(x.shape[2] // stride)
        apart = step[None, :] - step[:, None]
        if window > 1:
            if f"{name}.rel_pe" in self.weights:
                places = (apart + window // 2).clamp(0, window - 1)
                logits = logits + self.weights[f"{name}.rel_pe"][0, 0][:, places]
            logits = logits.masked_fill(apart.abs() > window // 2, -math.inf)
        share = logits.masked_fill(half[:, None] == 0, -1e9).softmax(-1)
        mixed = torch.einsum("bhts,bhcs->bhct", share, value * half[:, None]).flatten(1, 2)
        return self.conv(mixed, f"{name}.proj") * half

    def pooled(self, x: Tensor, stride: int) -> Tensor:
        return nnf.max_pool1d(x, stride + 1, stride, (stride + 1) // 2) if stride > 1 else x

    def transformer(self, x: Tensor, mask: Tensor, name: str, window: int, stride: int) -> Tensor:
        half, one = mask[..., ::stride], torch.ones(())
        attended = self.attention(self.norm(x, f"{name}.ln1"), mask, f"{name}.attn", window, stride)
        x = self.pooled(x, stride) * half + attended * self.weights.get(f"{name}.drop_path_attn.scale", one)
        wide = nnf.gelu(self.conv(self.norm(x, f"{name}.ln2"), f"{name}.mlp.0"))
        return x + self.conv(wide, f"{name}.mlp.3") * half * self.weights.get(f"{name}.drop_path_mlp.scale", one)

    def convolutions(self, x: Tensor, mask: Tensor, name: str, stride: int) -> Tensor:
        half = mask[..., ::stride]
        out = self.conv(self.conv(x, f"{name}.conv1.conv", mask, stride=stride).relu(), f"{name}.conv2.conv", half)
        same = self.conv(x, f"{name}.downsample.conv", mask, stride=stride) if stride > 1 else x
        return (out + same).relu()

    def granularity(self, x: Tensor, mask: Tensor, name: str, stride: int) -> Tensor:
        half, one = mask[..., ::stride], torch.ones(())
        if stride > 1 and self.options["downsample_type"] == "avg":
            x = self.conv(nnf.avg_pool1d(x, stride), f"{name}.downsample.1")
        else:
            x = self.pooled(x, stride)
        y = self.norm(x, f"{name}.ln")
        overall = self.conv(y.mean(2, keepdim=True), f"{name}.global_fc").relu()
        near = (self.conv(y, f"{name}.convw") + self.conv(y, f"{name}.convkw")) * self.conv(y, f"{name}.psi")
        y = self.conv(y, f"{name}.fc") * overall + near + y
        x = x * half + y * self.weights.get(f"{name}.drop_path_out.scale", one)
        groups = nnf.group_norm(x, 16, self.weights[f"{name}.gn.weight"], self.weights[f"{name}.gn.bias"])
        wide = self.conv(nnf.gelu(self.conv(groups, f"{name}.mlp.0")), f"{name}.mlp.2")
        return x + wide * self.weights.get(f"{name}.drop_path_mlp.scale", one)

    def positions(self, x: Tensor) -> Tensor:
        limit, dim = self.options["max_seq_len"], x.shape[1]
        table = torch.zeros(dim, limit)
        for n in range(dim):
            for step in range(limit):
                angle = step / 10000 ** (2 * (n // 2) / dim)
                table[n, step] = (math.cos if n % 2 else math.sin)(angle) / dim**0.5
        if x.shape[2] > limit:
            table = nnf.interpolate(table[None], x.shape[2], mode="linear", align_corners=False)[0]
        return table[None, :, : x.shape[2]]

    def pyramid(self, x: Tensor, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
        options = self.options
        if isinstance(options["input_dim"], list):
            parts = x.split(options["input_dim"], dim=1)
            x = torch.cat([self.conv(part, f"backbone.proj.{n}.conv", mask) for n, part in enumerate(parts)], dim=1)
        for n in range(options["backbone_arch"][0]):
            x = self.hidden(x, mask, f"backbone.embd.{n}", f"backbone.embd_norm.{n}")
        if options["use_abs_pe"] and options["backbone_type"] in ("convTransformer", "SGP"):
            x = x + self.positions(x) * mask
        levels = [(x, mask)]
        for name, window, stride in _blocks(options):
            match options["backbone_type"]:
                case "convTransformer":
                    x = self.transformer(x, mask, name, window, stride)
                case "SGP":
                    x = self.granularity(x, mask, name, stride)
                case _:
                    x = self.convolutions(x, mask, name, stride)
            mask = mask[..., ::stride]
            levels = [*levels, (x, mask)] if stride > 1 else [(x, mask)]
        if options["backbone_type"] == "convPooler":
            for _ in range(options["backbone_arch"][1]):
                mask = mask[..., :: options["scale_factor"]]
                x = nnf.max_pool1d(x, 3, options["scale_factor"], 1) * mask
                levels.append((x, mask))
        return levels

    def neck(self, levels: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
        levels = levels[self.options["fpn_start_level"] :]
        if self.options["fpn_type"] == "fpn":
            sides = [self.conv(x, f"neck.lateral_convs.{n}.conv", mask) for n, (x, mask) in enumerate(levels)]
            for n in range(len(sides) - 1, 0, -1):
                sides[n - 1] = sides[n - 1] + nnf.interpolate(sides[n], scale_factor=self.options["scale_factor"])
            levels = [
                (self.conv(x, f"neck.fpn_convs.{n}.conv", mask), mask)
                for n, (x, (_, mask)) in enumerate(zip(sides, levels, strict=True))
            ]
        if self.options.get("fpn_norm") == "groupnorm":
            return [(nnf.group_norm(x, self.options["num_group"]), mask) for x, mask in levels]
        eps = 1e-6 if self.opentad else 1e-5
        return [(self.norm(x, f"neck.fpn_norms.{n}", eps=eps), mask) for n, (x, mask) in enumerate(levels)]

    def tower(self, x: Tensor, mask: Tensor, name: str, last: str = "cls_head") -> Tensor:
        for n in range(self.options["head_num_layers"] - 1):
            x = self.hidden(x, mask, f"{name}.head.{n}", f"{name}.norm.{n}")
        return self.conv(x, f"{name}.{last}.conv", None if self.opentad else mask)

    def ends(self, x: Tensor, mask: Tensor, level: int) -> Tensor:
        """Distances to start and end: (steps, 2), or (steps, 2 * classes) with the Trident head."""
        scale = self.weights[f"reg_head.scale.{level}.scale"]
        relative = (self.tower(x, mask, "reg_head", "offset_head") * scale).relu()[0].T
        if not self.options.get("use_trident_head"):
            return relative
        starts, ends = self.tower(x, mask, "start_head")[0], self.tower(x, mask, "end_head")[0]
        bins, steps = self.options["num_bins"], len(relative)
        found = torch.zeros(steps, 2 * len(starts))
        for step in range(steps):
            for label in range(len(starts)):
                before = [starts[label, step - n] if step >= n else torch.zeros(()) for n in range(bins, -1, -1)]
                after = [ends[label, step + n] if step + n < steps else torch.zeros(()) for n in range(bins + 1)]
                shares = (torch.stack(before) + relative[step, : bins + 1]).softmax(0)
                found[step, 2 * label] = sum(share * n for share, n in zip(shares, range(bins, -1, -1), strict=True))
                shares = (torch.stack(after) + relative[step, bins + 1 :]).softmax(0)
                found[step, 2 * label + 1] = sum(share * n for n, share in enumerate(shares))
        return found

    def padded_steps(self, time: int) -> int:
        options = self.options
        if time <= options["max_seq_len"]:
            return int(options["max_seq_len"])
        strides = [options["scale_factor"] ** n for n in range(options["fpn_start_level"], levels_of(options))]
        multiple = max(strides)
        if "n_mha_win_size" in options:
            windows = _each(options["n_mha_win_size"], levels_of(options))
            multiple = max(s * (w // 2 * 2) if w > 1 else s for s, w in zip(strides, windows, strict=False))
        elif "n_sgp_win_size" in options:
            windows = _each(options["n_sgp_win_size"], levels_of(options))
            multiple = max(s * w if w > 1 else s for s, w in zip(strides, windows, strict=False))
        return -(-time // multiple) * multiple

    def levels(self, features: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Features and mask of each predicted level, for (1, channels, time)."""
        padded = self.padded_steps(features.shape[2])
        mask = (torch.arange(padded) < features.shape[2]).float()[None, None]
        return self.neck(self.pyramid(nnf.pad(features, (0, padded - features.shape[2])), mask))

    def forward(self, features: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Logits and distances to the ends at the real steps of each predicted level."""
        found = []
        for level, (x, real) in enumerate(self.levels(features)):
            steps = int(real.sum())
            found.append((self.tower(x, real, "cls_head")[0].T[:steps], self.ends(x, real, level)[:steps]))
        return found
