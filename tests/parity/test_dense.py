"""ActionFormer, TriDet and TemporalMaxer with their authors' and OpenTAD's weights, from features to detections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf

from tadkit.config import DecodeSettings
from tadkit.config.loading import load_recipe
from tadkit.interop.heads.decoding import decoding_of
from tadkit.interop.heads.options import Options
from tadkit.models.decode.decode import Decoded, decode
from tadkit.models.heads import Candidates
from tadkit.timeline import Timeline

EVERYTHING = 10**6
BARS = {"actionformer": (1e-4, 1e-4), "tridet": (1e-4, 1e-4), "opentad": (0.5e-2 + 1e-4, 0.5e-4 + 1e-6)}
"""Seconds and scores; OpenTAD rounds seconds to 2 decimals and scores to 4."""


@pytest.fixture(scope="module")
def head(dense):
    """Their weights in our head."""
    return dense.head()


@pytest.fixture(scope="module")
def seen(dense, head):
    """For each length: the levels before the neck and after it as (channels, time), and the predictions."""
    pyramid, levels, found = head.pyramid, {"backbone": [], "neck": []}, {}
    readers = pyramid.fpn.laterals if pyramid.fpn else pyramid.out_norms or pyramid.grouped_norms
    hooks = [
        layer.register_forward_pre_hook(lambda _, given: levels["backbone"].append(given[0][0])) for layer in readers
    ]
    hooks.append(head.classifier.register_forward_pre_hook(lambda _, given: levels["neck"].append(given[0][0])))
    with torch.no_grad():
        for length in dense.lengths:
            predictions = head(dense.features(length), torch.ones(1, length, dtype=torch.bool))
            if pyramid.fpn:  # it reads the coarsest level first
                levels["backbone"].reverse()
            found[length] = {name: list(of) for name, of in levels.items()} | {"out": predictions}
            for of in levels.values():
                of.clear()
    for hook in hooks:
        hook.remove()
    return found


def test_logits_offsets_and_masks_of_every_level_are_theirs(dense, head, seen, compared):
    for length, found in seen.items():
        theirs = dense.predicted(length)
        for level, mask in enumerate(found["out"].masks):
            real = np.flatnonzero(mask[0].numpy())
            assert np.flatnonzero(theirs[f"mask_l{level}"]).tolist() == real.tolist()
            ours = _named(head, found, level)
            for name in {name.rpartition("_l")[0] for name in theirs if name.endswith(f"_l{level}")} - {
                "mask",
                "points",
            }:
                wanted = theirs[f"{name}_l{level}"]
                wanted = wanted.T if name in ("backbone", "neck", "proj") else wanted
                compared(name, ours[name][real], wanted[real])
            if f"points_l{level}" in theirs:
                position, low, high, stride = theirs[f"points_l{level}"].T
                assert position[real].tolist() == (real * head.strides[level]).tolist()
                assert set(stride) == {head.strides[level]}
                assert {(a, b) for a, b in zip(low, high, strict=True)} == {head.anchor_free.ranges_steps[level]}


def _named(head: Any, found: dict[str, Any], level: int) -> dict[str, np.ndarray]:
    """Our values at one level under the projects' names, one row per step."""
    out, after = found["out"], found["neck"][level][None]
    real = nnf.pad(out.masks[level], (0, after.shape[2] - out.masks[level].shape[1]))
    ours = {"cls": out.logits[level][0], "off": out.offsets[level][0]}
    ours |= {"backbone": found["backbone"][level].T, "proj": found["backbone"][level].T, "neck": after[0].T}
    with torch.no_grad():
        ours["rawoff"] = (head.regressor(after, real) * head.scales[level]).relu()[0]
        if getattr(head, "starts", None) is not None:
            ours |= {"start": head.starts(after, real)[0], "end": head.ends(after, real)[0]}
    return {name: of.numpy() for name, of in ours.items()}


def test_segments_before_suppression_are_theirs(dense, head, seen, compared):
    for length, found in seen.items():
        theirs = dense.predicted(length)
        if "cand_scores" in theirs:
            recorded = dense.config["kwargs"]["test_cfg"]
            best = head.candidates(found["out"], min_score=recorded["pre_nms_thresh"], limit=EVERYTHING)
            long = np.diff(best.positions, axis=1)[:, 0] > recorded["duration_thresh"]
            ours = Decoded(best.positions[long], best.scores[long], best.labels[long])
            wanted = {field: theirs[f"cand_{field}"] for field in ("segments", "scores", "labels")}
            compared.detections(f"candidates T{length}", ours, wanted, bars=(1e-4, 1e-4))
        if "proposals" in theirs:
            ends, scores = [], []
            for stride, logits, offsets, mask in zip(head.strides, *found["out"], strict=True):
                step, reach = mask[0].nonzero() * stride, offsets[0][mask[0]] * stride
                ends.append(torch.stack((step[:, 0] - reach[:, 0], step[:, 0] + reach[:, 1]), dim=1))
                scores.append(logits[0][mask[0]].sigmoid())
            compared("proposals", torch.cat(ends), theirs["proposals"])
            compared("scores", torch.cat(scores), theirs["scores"])


def test_detections_of_every_suppression_are_theirs(dense, head, seen, compared):
    for length, found in seen.items():
        theirs, (fps, stride, first, duration_s) = dense.predicted(length), dense.meta(length)
        timeline = Timeline((np.arange(length) * stride + first) / fps)
        least = dense.config.get("kwargs", {}).get("test_cfg", {}).get("pre_nms_thresh", 0.001)
        most = 2000 if dense.project == "opentad" else EVERYTHING  # of the video; ActionFormer's 2000 are of each level
        best = head.candidates(found["out"], min_score=least, limit=most)
        for setting in dense.config.get("post") or dense.config["nms"]:
            ours = decode(best, timeline, duration_s, _settings(dense, setting))
            compared.detections(f"{setting} T{length}", ours, _lasting(theirs, setting), bars=BARS[dense.project])


def test_detections_of_their_own_candidates_are_theirs_row_for_row(dense, compared):
    for length in dense.lengths:
        theirs, (fps, stride, first, duration_s) = dense.predicted(length), dense.meta(length)
        if "cand_scores" not in theirs:
            continue
        given = Candidates(*(theirs[f"cand_{field}"] for field in ("segments", "scores", "labels")))
        given = given._replace(positions=given.positions.astype(float), scores=given.scores.astype(float))
        timeline = Timeline((np.arange(length) * stride + first) / fps)
        for setting in dense.config["post"]:
            wanted, ours = _lasting(theirs, setting), decode(given, timeline, duration_s, _settings(dense, setting))
            order = np.argsort(-wanted["scores"], kind="stable")
            assert ours.labels.tolist() == wanted["labels"][order].tolist(), (setting, length)
            compared("own candidates: scores", ours.scores, wanted["scores"][order], bar=1e-5)
            compared("own candidates: ends", ours.segments_s, wanted["segments"][order])


RECIPES: dict[str, dict[str, Any]] = {
    "ActionFormer": {"duration_thresh": 0.05, "pre_nms_topk": 2000, "max_seg_num": 200, "multiclass_nms": True},
    "TriDet": {"duration_thresh": 0.05, "pre_nms_topk": 2000, "max_seg_num": 2000, "multiclass_nms": True},
    "OpenTAD": {"pre_nms_topk": 2000, "max_seg_num": 2000, "multiclass": True},
}
"""What the recipes for THUMOS14 and the defaults under them say, as far as they differ.

``configs/thumos_i3d.yaml`` of happyharrycn/actionformer_release (88f6110) and of dingfengshi/TriDet (70e774f), each
over ``libs/core/config.py``; ``configs/actionformer/thumos_i3d.py`` of sming256/OpenTAD (cd0ca96).
"""
SHARED = {"iou_threshold": 0.5, "sigma": 0.5, "min_score": 0.001, "voting_thresh": 0.7, "nms_method": "soft"}
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_the_docs_decode_as_the_projects_recipes_do(name):
    section = (ROOT / "docs" / "heads.md").read_text().partition("## Checkpoints from other projects")[2]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    column = rows[0].index(name)
    settings = {row[0].strip("`"): json.loads(row[column]) for row in rows[2:]}
    ours = {row[0].strip("`"): json.loads(row[1]) for row in rows[2:]}
    assert ours.items() <= DecodeSettings().model_dump().items()
    assert DecodeSettings.model_validate(settings | {"iou": 0.5}) == _of_recipe(name)


def test_the_recipe_of_features_decodes_as_actionformer_does():
    recipe = load_recipe(ROOT / "examples" / "thumos14-features.toml")
    assert recipe.decode == _of_recipe("ActionFormer")
    assert recipe.head.closed_ranges


def _of_recipe(name: str) -> DecodeSettings:
    """Our settings for a project's recipe; Gaussian suppression ignores ``iou``."""
    recorded, levels = RECIPES[name], 1 if name == "OpenTAD" else 6
    settings = _decoding(name.lower(), SHARED | recorded)
    return settings.model_copy(update={"top_candidates": recorded["pre_nms_topk"] * levels})


def _lasting(theirs: dict[str, np.ndarray], setting: str) -> dict[str, np.ndarray]:
    """Their detections without those that clipping left empty, which we drop."""
    lasting = np.diff(theirs[f"det_{setting}_segments"], axis=1)[:, 0] > 0
    return {field: theirs[f"det_{setting}_{field}"][lasting] for field in ("segments", "scores", "labels")}


def _settings(dense: Any, setting: str) -> DecodeSettings:
    """Our settings for one of the project's suppression methods."""
    recorded = dense.config.get("kwargs", {}).get("test_cfg", {})
    decoding = _decoding(dense.project, recorded | (dense.config.get("post") or dense.config["nms"])[setting])
    return decoding.model_copy(update={"top_candidates": EVERYTHING})  # the candidates given are the best already


def _decoding(project: str, recorded: dict[str, Any]) -> DecodeSettings:
    """Our settings for a project's decoding configuration, as `tadkit import head` prints them."""
    if project == "opentad":
        known = {name: value for name, value in recorded.items() if name not in ("duration_thresh", "nms_method")}
        values = {f"post_processing.{'' if 'pre_nms' in name else 'nms.'}{name}": of for name, of in known.items()}
        options = Options(values)
    else:
        options = Options({"nms_sigma" if name == "sigma" else name: of for name, of in recorded.items()}, whole=True)
    found = decoding_of(options, project, levels=1)  # type: ignore[arg-type]
    assert all("pre_nms_thresh" in line for line in found.differences)  # the tests apply it themselves
    return DecodeSettings.model_validate(dict(found.settings))
