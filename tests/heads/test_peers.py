"""Heads with the peers' weights give the peers' numbers (golden/README.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tadkit.config import TrainSettings
from tadkit.heads import AnchorFreeHead, HeadLoss, HeadPredictions, assign_targets, candidates, head_loss
from tadkit.heads.peers import Source, translated
from tadkit.pipelines.import_head import build_imported
from tadkit.training.schedule import parameter_groups

GOLDEN = Path(__file__).parent / "golden"
CASES: dict[str, Source] = {
    "actionformer_win9_fpn_pe": "actionformer",
    "actionformer_mixwin_relpe": "actionformer",
    "actionformer_two_stream": "actionformer",
    "actionformer_convbackbone": "actionformer",
    "tridet_win1": "tridet",
    "tridet_notrident_avg": "tridet",
    "opentad_temporalmaxer": "opentad",
}
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
BATCH = (37, 200, 256)
each_case = pytest.mark.parametrize("case", CASES)


@cache
def golden(case: str) -> Mapping[str, Any]:
    held = dict(np.load(GOLDEN / f"{case}.npz"))
    return held | json.loads(str(held.pop("told")))


@cache
def weights(case: str) -> dict[str, torch.Tensor]:
    held = golden(case).items()
    return {name.removeprefix("weight/"): torch.from_numpy(x) for name, x in held if name.startswith("weight/")}


def imported(case: str) -> AnchorFreeHead:
    config = dict(golden(case)["config"])
    config.setdefault("max_seq_len", 256)  # OpenTAD's data loader, not its head, pads to it
    head = build_imported(weights(case), CASES[case], config, where=case).head
    assert isinstance(head, AnchorFreeHead)
    return head


def lengths(case: str) -> list[int]:
    return [int(name[1:].partition("/")[0]) for name in golden(case) if name.endswith("/steps")]


@torch.no_grad()
def predicted(case: str, length: int) -> HeadPredictions:
    features = torch.from_numpy(golden(case)[f"feats_T{length}"])[None]
    predictions: HeadPredictions = imported(case)(features, torch.ones(1, length, dtype=torch.bool))
    return predictions


def real_steps(field: tuple[torch.Tensor, ...], predictions: HeadPredictions) -> np.ndarray:
    return np.concatenate([x[0][mask[0]].numpy() for x, mask in zip(field, predictions.masks, strict=True)])


@each_case
def test_logits_offsets_and_masks_are_the_peers(case: str) -> None:
    wanted = golden(case)
    for length in lengths(case):
        found = predicted(case, length)
        assert [int(mask.sum()) for mask in found.masks] == wanted[f"T{length}/steps"].tolist()
        for name, field in (("cls", found.logits), ("off", found.offsets)):
            if f"T{length}/{name}" in wanted:
                np.testing.assert_allclose(real_steps(field, found), wanted[f"T{length}/{name}"], **CLOSE)
        if f"T{length}/scores" in wanted:
            scores = real_steps(tuple(x.sigmoid() for x in found.logits), found)
            np.testing.assert_allclose(scores, wanted[f"T{length}/scores"], **CLOSE)


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith(("tridet", "opentad"))])
def test_segments_are_the_peers(case: str) -> None:
    wanted = golden(case)
    for length in lengths(case):
        best = candidates(imported(case), predicted(case, length), min_score=0.0, limit=10**6)
        if f"T{length}/proposals" in wanted:
            proposals, scores = wanted[f"T{length}/proposals"], wanted[f"T{length}/scores"]
            truth = [np.repeat(proposals, scores.shape[1], axis=0), scores.ravel()]
            labels, ours = np.tile(np.arange(scores.shape[1]), len(scores)), best.positions
        else:
            fps, stride, frames, duration_s = wanted[f"T{length}/meta"]
            *truth, labels = (wanted[f"T{length}/cand_{name}"] for name in ("segments", "scores", "labels"))
            ours = np.clip((best.positions * stride + frames / 2) / fps, 0, duration_s)
        for segment, score, label in list(zip(*truth, labels, strict=True))[:200]:
            like = (best.labels == label) & (np.abs(best.scores - score) < 2e-6)
            assert np.abs(ours[like] - segment).max(axis=1).min() < 1e-4


def loss_of(
    head: AnchorFreeHead,
    case: str,
    *,
    batch: tuple[int, ...] = BATCH,
    empty: tuple[int, ...] = (),
    update: Mapping[str, Any] | None = None,
) -> HeadLoss:
    """The loss of a batch with dropout and drop-path off, as the golden ones are."""
    held, size = golden(case), len(batch)
    features, mask = torch.zeros(size, head.in_channels, 256), torch.zeros(size, 256, dtype=torch.bool)
    for n, length in enumerate(batch):
        features[n, :, :length], mask[n, :length] = torch.from_numpy(held[f"feats_T{length}"]), True
    segments = [torch.from_numpy(held[f"gt_segments_T{n}"]).float()[: 0 if n in empty else None] for n in batch]
    labels = [torch.from_numpy(held[f"gt_labels_T{n}"]).long()[: 0 if n in empty else None] for n in batch]
    head.anchor_free = head.anchor_free.model_copy(update=dict(update or {}))
    head.zero_grad()
    assert head.running is not None
    head.running.train()
    return head_loss(head, head(features, mask), segments, labels)


@each_case
@pytest.mark.parametrize(
    ("variant", "change"),
    [
        ("plain", {}),
        ("label_smoothing_0.1", {"update": {"label_smoothing": 0.1}}),
        ("loss_weight_auto", {"update": {"regression_weight": 0.0}}),
        ("center_none", {"update": {"centre_radius": 0.0}}),
        ("iou_weight_power_1", {"update": {"iou_power": 1.0}}),
        ("with_one_empty_video", {"batch": (200, 37), "empty": (37,)}),
        ("all_empty", {"batch": (200,), "empty": (200,)}),
    ],
)
def test_losses_are_the_peers(case: str, variant: str, change: dict[str, Any]) -> None:
    if variant not in golden(case)["losses"]:
        return  # the peer has no such variant
    head, wanted = imported(case), golden(case)["losses"][variant]
    found = loss_of(head, case, **change)
    assert found.classification.item() == pytest.approx(wanted["cls_loss"], rel=1e-5)
    assert found.regression.item() == pytest.approx(wanted["reg_loss"], rel=1e-5)
    assert found.total.item() == pytest.approx(wanted.get("final_loss", wanted.get("cost")), rel=1e-5)
    if wanted.get("loss_normalizer_after") is not None:
        assert head.running is not None
        assert head.running.mean.item() == pytest.approx(wanted["loss_normalizer_after"], rel=1e-6)


def own_names(case: str) -> dict[str, str]:
    """Our name of each of the peer's parameters, but for the scales of levels, which are one with us.

    Each parameter is filled with its number, so that what bears our name tells the peer's.
    """
    order = list(weights(case))
    numbered = {n: torch.full_like(x, k) if x.ndim else x for k, (n, x) in enumerate(weights(case).items())}
    return {order[int(x.flatten()[0])]: n for n, x in translated(numbered).items() if n != "scales" and x.ndim}


@each_case
def test_gradients_are_the_peers(case: str) -> None:
    head, wanted = imported(case), golden(case)["grad"]
    loss_of(head, case).total.backward()
    own = {name: parameter.grad for name, parameter in head.named_parameters()}
    told = {peer: name for peer, name in own_names(case).items() if peer in wanted}
    assert len(told) + head.anchor_free.levels == len(wanted)
    for peer, name in told.items():
        gradient = own[name]
        assert gradient is not None, peer
        norm, total, largest = wanted[peer]
        found = [float(x) for x in (gradient.norm(), gradient.double().sum(), gradient.abs().max())]
        assert found == pytest.approx([norm, total, largest], rel=1e-4, abs=1e-4 * max(norm, 1e-2)), peer
    scales = [wanted[peer][1] for peer in sorted(wanted) if ".scale." in peer and "head" in peer]
    assert own["scales"] is not None
    np.testing.assert_allclose(own["scales"].numpy(), scales, **CLOSE)


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("actionformer")])
def test_three_training_steps_are_the_peers(case: str) -> None:
    head, wanted = imported(case), golden(case)["three_steps"]
    optimiser = torch.optim.AdamW(parameter_groups(head, TrainSettings(weight_decay=0.05)))
    for step in wanted["steps"]:
        loss = loss_of(head, case, batch=tuple(step["batch"]))
        loss.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = step["lr"]
        optimiser.step()
        assert loss.total.item() == pytest.approx(step["final_loss"], rel=1e-5)
        assert norm.item() == pytest.approx(step["grad_norm_before_clip"], rel=1e-5)
    own = dict(head.named_parameters())
    for peer, name in own_names(case).items():
        if peer in wanted["after"]:
            total, norm = wanted["after"][peer]
            found = own[name].detach().double()
            assert [float(found.sum()), float(found.norm())] == pytest.approx([total, norm], abs=1e-5 * norm), peer


def test_targets_are_the_peers_with_and_without_centre_sampling() -> None:
    case = "actionformer_win9_fpn_pe"
    held, head = golden(case), imported(case)
    segments, labels = ([torch.from_numpy(held[f"gt_{x}_T{n}"]) for n in BATCH] for x in ("segments", "labels"))
    for name, radius in (("radius", 1.5), ("none", 0.0)):
        settings = head.anchor_free.model_copy(update={"centre_radius": radius})
        found = assign_targets([256, 128, 64, 32], head.strides, segments, labels, settings, head.num_classes)
        for n, length in enumerate(BATCH):
            wanted = held[f"target_cls_{name}_T{length}"]
            np.testing.assert_array_equal(found.classes[n].numpy(), wanted)
            positive = wanted.any(axis=1)
            np.testing.assert_allclose(
                found.offsets[n].numpy()[positive], held[f"target_off_{name}_T{length}"][positive], **CLOSE
            )


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
