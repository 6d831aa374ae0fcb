"""Peers' names of weights are ours (what the weights then give is compared in tests/parity)."""

from __future__ import annotations

import pytest
import torch

from tadkit.interop.heads.actionformer import translated


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("module.projection.embed.1.conv.weight", "pyramid.embedding.1.conv.weight"),
        ("projection.embed.1.norm.bias", "pyramid.embedding_norms.1.bias"),
        ("projection.stem.0.ln1.weight", "pyramid.stem.0.attention_norm.weight"),
        ("projection.branch.2.attn.key_conv.conv.weight", "pyramid.branches.2.attention.key.conv.conv.weight"),
        ("projection.branch.2.attn.value_norm.bias", "pyramid.branches.2.attention.value.norm.bias"),
        ("projection.branch.2.attn.query.bias", "pyramid.branches.2.attention.query.linear.conv.bias"),
        ("projection.branch.2.drop_path_mlp.scale", "pyramid.branches.2.mlp_path.scale"),
        ("projection.branch.0.convkw.weight", "pyramid.branches.0.long.weight"),
        ("projection.branch.0.gn.weight", "pyramid.branches.0.group_norm.weight"),
        ("neck.fpn_norms.3.weight", "pyramid.out_norms.3.weight"),
        ("rpn_head.cls_convs.1.norm.weight", "classifier.norms.1.weight"),
        ("rpn_head.cls_head.bias", "classifier.out.conv.bias"),
        ("rpn_head.reg_convs.0.conv.weight", "regressor.hidden.0.conv.weight"),
        ("rpn_head.cls_start_convs.0.conv.weight", "starts.hidden.0.conv.weight"),
        ("rpn_head.cls_start_head.weight", "starts.out.conv.weight"),
        ("rpn_head.cls_end_head.bias", "ends.out.conv.bias"),
        ("rpn_head.loss_normalizer", "running.mean"),
    ],
)
def test_opentads_names_of_other_heads_are_known_too(theirs: str, ours: str) -> None:
    assert list(translated({theirs: torch.zeros(1)})) == [ours]
