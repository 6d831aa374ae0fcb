"""The anchor-free heads of other projects, written out plainly by their published code's behaviour, as a reference.

Options and names of weights are those of ActionFormer, TriDet and TemporalMaxer. One padded track at a time, dense
attention, no deliberate speed.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as nnf
from interop.published_weights import Weights, blocks, each, levels_of
from torch import Tensor


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
        for name, window, stride in blocks(options):
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
            windows = each(options["n_mha_win_size"], levels_of(options))
            multiple = max(s * (w // 2 * 2) if w > 1 else s for s, w in zip(strides, windows, strict=False))
        elif "n_sgp_win_size" in options:
            windows = each(options["n_sgp_win_size"], levels_of(options))
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
