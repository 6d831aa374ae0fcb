"""TadTR and BMN with OpenTAD's weights, from features to detections, and their losses and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tadkit.config import DecodeSettings
from tadkit.interop.heads.opentad import name_from_opentad
from tadkit.models.decode.decode import decode
from tadkit.timeline import Timeline

BARS = (0.5e-2 + 1e-4, 0.5e-4 + 1e-6)
"""OpenTAD rounds seconds to 2 decimals and scores to 4."""
BOUNDARY = {"iou": "iou", "iou_s_e": "iou*s*e"}


@pytest.fixture(scope="module")
def head(whole):
    """Their weights in our head."""
    return whole.head()


@pytest.fixture(scope="module")
def seen(whole, head):
    """Predictions for each length."""
    with torch.no_grad():
        return {n: head(whole.features(n), torch.ones(1, n, dtype=torch.bool)) for n in whole.lengths}


def test_predictions_are_theirs(whole, head, seen, compared):
    for length, found in seen.items():
        theirs = whole.predicted(length)
        if whole.kind == "BMN":
            compared("tem", torch.cat((found.start, found.end)), theirs["tem"])
            compared("iou_map", found.confidence[0], theirs["iou_map"])
        else:
            start, end = found.segments[0].unbind(dim=1)
            boxes = torch.stack(((start + end) / 2, end - start), dim=1) / head.settings.pad_to_steps
            compared("pred_logits", found.logits[0], theirs["pred_logits"])
            compared("pred_boxes", boxes, theirs["pred_boxes"])


def test_detections_are_theirs(whole, head, seen, compared):
    for length, found in seen.items():
        theirs, (fps, stride, first, duration_s) = whole.predicted(length), whole.meta(length)
        timeline = Timeline((np.arange(length) * stride + first) / fps)
        for setting in whole.config["eval"][f"T{length}"]["n_det"]:
            wanted = {field: theirs[f"det_{setting}_{field}"] for field in ("segments", "scores", "labels")}
            lasting = np.diff(wanted["segments"], axis=1)[:, 0] > 0  # clipping may leave theirs without length
            wanted = {field: of[lasting] for field, of in wanted.items()}
            update = {"score": BOUNDARY[setting]} if whole.kind == "BMN" else {}
            head.settings = head.settings.model_copy(update=update)
            best = head.candidates(found, min_score=0.0, limit=5000)
            ours = decode(best, timeline, duration_s, _settings(whole, setting))
            compared.detections(f"{setting} T{length}", ours, wanted, bars=BARS)


def _settings(whole: Any, setting: str) -> DecodeSettings:
    """Our settings for one of the project's suppression methods."""
    same = {"min_score": 0.001, "clip_first": False, "stretch_s": 0.0, "top_candidates": 5000}
    if whole.kind == "BMN":
        return DecodeSettings.model_validate(same | {"sigma": 0.75, "keep": 100, "class_agnostic": True})
    recorded = whole.config["nms"][setting]
    agnostic = not recorded["multiclass"]
    voting = {"voting": "score" if agnostic else "none", "voting_iou": recorded["voting_thresh"]}
    return DecodeSettings.model_validate(same | voting | {"class_agnostic": agnostic, "keep": recorded["max_seg_num"]})


def test_losses_and_gradients_are_theirs(whole, head, compared):
    held, recorded = whole.arrays("train"), whole.recorded("train")
    batch = held["batch_lengths"].tolist()
    truth = [[torch.from_numpy(held[f"gt_{name}_{n}"]) for n in range(len(batch))] for name in ("segments", "labels")]
    steps = head.settings.window_steps
    features, mask = torch.zeros(len(batch), head.in_channels, steps), torch.zeros(len(batch), steps, dtype=torch.bool)
    for row, length in enumerate(batch):
        features[row, :, :length], mask[row, :length] = whole.features(length)[0], True
    if whole.kind == "BMN":  # it has no classes
        truth[1] = [torch.zeros_like(labels) for labels in truth[1]]
    head.zero_grad()
    loss = head.loss(head(features, mask), *truth)
    if whole.kind == "BMN":  # its regression loss samples proposals at random, so theirs leaves it out
        cost, wanted = loss.classification, recorded["losses"]["loss_tem"] + recorded["losses"]["loss_cls"]
    else:
        cost, wanted = loss.total, recorded["losses"]["cost"]
        of_class = sum(value for name, value in recorded["losses"].items() if name.startswith("loss_class"))
        compared("losses", loss.classification.item(), of_class)
    compared("losses", cost.item(), wanted)
    cost.backward()
    own, theirs = dict(head.named_parameters()), whole.gradients()
    seen = set()
    for name_there, (norm, total, largest) in theirs.items():
        name = name_from_opentad(name_there, whole.kind.lower())
        # OpenTAD's sampler halves what it reads; our weights hold that half.
        gradient = own[name].grad / (2 if name_there.endswith("output_proj.weight") else 1)
        ours = [float(gradient.norm()), float(gradient.sum()), float(gradient.abs().max())]
        compared("gradients", ours, [norm, total, largest], scale=max(norm, 1e-2))
        seen.add(name)
    assert len(seen) == len(own)
