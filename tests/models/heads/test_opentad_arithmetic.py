"""OpenTAD's ActionFormer and TriDet written out plainly, and our heads with the same weights.

Of OpenTAD (sming256/OpenTAD) only TemporalMaxer, TadTR and BMN have golden outputs. Its rules, with its names:
convolutions of embedding and head are masked before and after a layer norm with epsilon 1e-6; the norms of blocks
(epsilon 1e-5) and neck (1e-6) are not masked, so that their biases stand in the padding; tracks are zero-padded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor

from tadkit.errors import WeightsError
from tadkit.interop.import_head import build_imported
from tadkit.models.heads import AnchorFreeHead
from tadkit.models.heads.tridet import boundary_offsets

DIM, IN, CLASSES, LEVELS, HEADS, BINS = 32, 6, 3, 3, 4, 4
REAL, PADDED = 21, 32
Weights = dict[str, Tensor]


def _conv(name: str, out: int, inner: int, kernel: int, *, bias: bool = True) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (out, inner, kernel)
    if bias:
        yield f"{name}.bias", (out,)


def _norm(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (DIM,)
    yield f"{name}.bias", (DIM,)


def _embedding(name: str, inner: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from _conv(f"{name}.conv", DIM, inner, 3, bias=False)
    yield from _norm(f"{name}.norm")


def _transformer(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    for norm in ("ln1", "ln2"):
        yield from _norm(f"{name}.{norm}")
    for part in ("query", "key", "value"):
        yield from _conv(f"{name}.attn.{part}_conv.conv", DIM, 1, 3, bias=False)
        yield from _norm(f"{name}.attn.{part}_norm")
        yield from _conv(f"{name}.attn.{part}", DIM, DIM, 1)
    yield from _conv(f"{name}.attn.proj", DIM, DIM, 1)
    yield from _conv(f"{name}.mlp.0", 4 * DIM, DIM, 1)
    yield from _conv(f"{name}.mlp.3", DIM, 4 * DIM, 1)
    for path in ("attn", "mlp"):
        yield f"{name}.drop_path_{path}.scale", (1, DIM, 1)


def _granular(name: str, *, paths: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    for norm in ("ln", "gn"):
        yield from _norm(f"{name}.{norm}")
    for part, kernel in (("psi", 1), ("fc", 1), ("convw", 1), ("convkw", 5), ("global_fc", 1)):
        yield from _conv(f"{name}.{part}", DIM, 1, kernel)
    yield from _conv(f"{name}.mlp.0", 2 * DIM, DIM, 1)
    yield from _conv(f"{name}.mlp.2", DIM, 2 * DIM, 1)
    if paths:
        for path in ("out", "mlp"):
            yield f"{name}.drop_path_{path}.scale", (1, DIM, 1)


def _shapes(kind: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    for n in range(2):
        yield from _embedding(f"projection.embed.{n}", DIM if n else IN)
    for name in ("stem.0", *(f"branch.{n}" for n in range(LEVELS - 1))):
        if kind == "actionformer":
            yield from _transformer(f"projection.{name}")
        else:
            yield from _granular(f"projection.{name}", paths=name != "stem.0")
    for n in range(LEVELS):
        yield from _norm(f"neck.fpn_norms.{n}")
        yield f"rpn_head.scale.{n}.scale", ()
    towers = {"cls": CLASSES, "reg": 2} if kind == "actionformer" else {"cls": CLASSES, "reg": 2 * (BINS + 1)}
    if kind == "tridet":
        towers |= {"cls_start": CLASSES, "cls_end": CLASSES}
    for tower, out in towers.items():
        for n in range(2):
            yield from _embedding(f"rpn_head.{tower}_convs.{n}", DIM)
        yield from _conv(f"rpn_head.{tower}_head", out, DIM, 3)


def _weights(kind: str) -> Weights:
    """Random; what is normalised is so small before that epsilons show."""
    torch.manual_seed(0)
    size = {name: 1e-3 if name.endswith(".conv.weight") else 0.3 for name, _ in _shapes(kind)}
    return {name: torch.randn(shape) * size[name] + (0.6 if not shape else 0.0) for name, shape in _shapes(kind)}


class Plain:
    """A forward pass by OpenTAD's names, on one padded track."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    def conv(self, x: Tensor, name: str, *, stride: int = 1) -> Tensor:
        weight = self.weights[f"{name}.weight"]
        groups = x.shape[1] // weight.shape[1]
        bias = self.weights.get(f"{name}.bias")
        return nnf.conv1d(x, weight, bias, stride=stride, padding=weight.shape[2] // 2, groups=groups)

    def layer_norm(self, x: Tensor, name: str, *, eps: float = 1e-5) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return nnf.layer_norm(x.transpose(1, 2), (DIM,), weight, bias, eps).transpose(1, 2)

    def embedded(self, x: Tensor, mask: Tensor, name: str) -> Tensor:
        return self.layer_norm(self.conv(x, f"{name}.conv") * mask, f"{name}.norm", eps=1e-6).relu() * mask

    def transformer(self, x: Tensor, mask: Tensor, name: str, stride: int) -> tuple[Tensor, Tensor]:
        half, normed, parts = mask[..., ::stride], self.layer_norm(x, f"{name}.ln1"), []
        for part in ("query", "key", "value"):
            y = self.conv(normed, f"{name}.attn.{part}_conv.conv", stride=stride) * half
            y = self.conv(self.layer_norm(y, f"{name}.attn.{part}_norm"), f"{name}.attn.{part}")
            parts.append(y.unflatten(1, (HEADS, -1)))
        query, key, value = parts
        logits = torch.einsum("bhct,bhcs->bhts", query, key) / query.shape[2] ** 0.5
        share = logits.masked_fill(~half.bool()[:, None], -torch.inf).softmax(dim=-1)
        mixed = torch.einsum("bhts,bhcs->bhct", share, value * half[:, None]).flatten(1, 2)
        attended = self.conv(mixed, f"{name}.attn.proj") * half * self.weights[f"{name}.drop_path_attn.scale"]
        skipped = nnf.max_pool1d(x, 3, stride=2, padding=1) if stride > 1 else x
        out = skipped * half + attended
        hidden = nnf.gelu(self.conv(self.layer_norm(out, f"{name}.ln2"), f"{name}.mlp.0"))
        out = out + self.conv(hidden, f"{name}.mlp.3") * half * self.weights[f"{name}.drop_path_mlp.scale"]
        return out, half

    def granular(self, x: Tensor, mask: Tensor, name: str, stride: int) -> tuple[Tensor, Tensor]:
        x = nnf.max_pool1d(x, 3, stride=2, padding=1) if stride > 1 else x
        half, normed = mask[..., ::stride], self.layer_norm(x, f"{name}.ln")
        overall = self.conv(normed.mean(dim=2, keepdim=True), f"{name}.global_fc").relu()
        near = self.conv(normed, f"{name}.convw") + self.conv(normed, f"{name}.convkw")
        out = self.conv(normed, f"{name}.fc") * overall + near * self.conv(normed, f"{name}.psi") + normed
        out = x * half + out * self.weights.get(f"{name}.drop_path_out.scale", torch.ones(()))
        weight, bias = self.weights[f"{name}.gn.weight"], self.weights[f"{name}.gn.bias"]
        hidden = nnf.gelu(self.conv(nnf.group_norm(out, 16, weight, bias), f"{name}.mlp.0"))
        scale = self.weights.get(f"{name}.drop_path_mlp.scale", torch.ones(()))
        return out + self.conv(hidden, f"{name}.mlp.2") * scale, half

    def tower(self, x: Tensor, mask: Tensor, name: str) -> Tensor:
        for n in range(2):
            x = self.embedded(x, mask, f"rpn_head.{name}_convs.{n}")
        return self.conv(x, f"rpn_head.{name}_head").transpose(1, 2)

    def forward(self, x: Tensor, mask: Tensor, kind: str, *, places: bool) -> Iterator[tuple[Tensor, Tensor]]:
        """Logits and distances to the ends, level by level."""
        for n in range(2):
            x = self.embedded(x, mask, f"projection.embed.{n}")
        if places:
            angles = [[step / 10000 ** (2 * (n // 2) / DIM) for step in range(PADDED)] for n in range(DIM)]
            waves = [[(math.cos if n % 2 else math.sin)(a) for a in angles[n]] for n in range(DIM)]
            x = x + torch.tensor(waves) / DIM**0.5 * mask
        block = self.transformer if kind == "actionformer" else self.granular
        for level, name in enumerate(("stem.0", *(f"branch.{n}" for n in range(LEVELS - 1)))):
            x, mask = block(x, mask, f"projection.{name}", 2 if level else 1)
            read = self.layer_norm(x, f"neck.fpn_norms.{level}", eps=1e-6)
            offsets = (self.tower(read, mask, "reg") * self.weights[f"rpn_head.scale.{level}.scale"]).relu()
            if kind == "tridet":
                starts, ends = (self.tower(read, mask, f"cls_{end}") for end in ("start", "end"))
                offsets = boundary_offsets(starts, ends, offsets)
            yield self.tower(read, mask, "cls"), offsets


@pytest.mark.parametrize("places", [False, True])
@pytest.mark.parametrize("kind", ["actionformer", "tridet"])
def test_our_head_computes_what_opentads_rules_say(kind: str, places: bool) -> None:
    weights = _weights(kind)
    config = {"n_head": HEADS, "n_mha_win_size": -1, "max_seq_len": PADDED, "k": 2.0, "use_abs_pe": places}
    head = build_imported(weights, "opentad", config, where="here").head
    assert isinstance(head, AnchorFreeHead)
    features = torch.randn(1, IN, REAL)
    with torch.no_grad():
        ours = head(features, torch.ones(1, REAL, dtype=torch.bool))
        mask = (torch.arange(PADDED) < REAL).float()[None, None]
        theirs = list(Plain(weights).forward(nnf.pad(features, (0, PADDED - REAL)), mask, kind, places=places))
    for logits, offsets, real, wanted in zip(*ours, theirs, strict=True):
        steps = int(real.sum())
        assert steps > 0
        torch.testing.assert_close(logits[0, :steps], wanted[0][0, :steps], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(offsets[0, :steps], wanted[1][0, :steps], rtol=1e-4, atol=1e-4)


def test_opentads_fpn_is_refused() -> None:
    weights = _weights("actionformer")
    for n in range(LEVELS):
        del weights[f"neck.fpn_norms.{n}.weight"], weights[f"neck.fpn_norms.{n}.bias"]
        for name, shape in (
            *_conv(f"neck.lateral_convs.{n}.conv", DIM, DIM, 1),
            *_conv(f"neck.fpn_convs.{n}.conv", DIM, DIM, 3),
        ):
            weights[name] = torch.zeros(shape)
    with pytest.raises(WeightsError, match=r"here: has OpenTAD's FPN neck, .* expected FPNIdentity"):
        build_imported(weights, "opentad", {}, where="here")
