"""Detections from features by heads with the peers' weights, all the way: head, candidates, suppression, voting."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tadkit.config import DecodeSettings
from tadkit.heads import candidates, decode
from tadkit.pipelines.import_head import build_imported
from tadkit.timeline import Timeline

GOLDEN = Path(__file__).parent / "golden"
PEERS = dict(np.load(GOLDEN / "decoding.npz"))
MIN_STEPS = {"tridet": 0.05, "opentad": 0.0}
ROUNDING_S = {"tridet": 1e-4, "opentad": 0.0051}
"""OpenTAD rounds seconds to 2 decimals and scores to 4."""


@pytest.mark.parametrize("length", [37, 200])
@pytest.mark.parametrize("setting", ["soft_mc", "soft_ag_vote"])
@pytest.mark.parametrize("case", ["tridet_win1", "tridet_notrident_avg", "opentad_temporalmaxer"])
def test_detections_from_features_are_the_peers(case: str, setting: str, length: int) -> None:
    peer = case.partition("_")[0]
    held = dict(np.load(GOLDEN / f"{case}.npz"))
    weights = {
        name.removeprefix("weight/"): torch.from_numpy(x) for name, x in held.items() if name.startswith("weight/")
    }
    config = {"max_seq_len": 256} | json.loads(str(held["told"]))["config"]
    head = build_imported(weights, peer, config, where=case).head.eval()
    with torch.no_grad():
        predicted = head(torch.from_numpy(held[f"feats_T{length}"])[None], torch.ones(1, length, dtype=torch.bool))
    fps, stride, frames, duration_s = PEERS[f"{case}_T{length}_meta"]
    apart = {"class_agnostic": True, "voting": "score"} if setting == "soft_ag_vote" else {}
    found = decode(
        candidates(head, predicted, min_score=0.001, limit=10**6),
        Timeline((np.arange(length) * stride + frames / 2) / fps),
        duration_s,
        DecodeSettings.model_validate(
            {"min_score": 0.001, "min_steps": MIN_STEPS[peer], "clip_first": False, "keep": 200} | apart
        ),
    )
    segments_s, scores, labels = (
        PEERS[f"{case}_T{length}_det_{setting}_{field}"] for field in ("segments", "scores", "labels")
    )
    order = np.argsort(-scores, kind="stable")
    order = order[segments_s[order, 1] > segments_s[order, 0]]
    np.testing.assert_allclose(found.scores, scores[order], atol=1e-4)
    # Where scores are equal to their last digit, float32 leaves open which of two comes first.
    gap = np.abs(np.diff(scores[order])) > 1e-6
    sure = np.concatenate(([True], gap)) & np.concatenate((gap, [True]))
    assert sure.mean() > 0.5
    np.testing.assert_array_equal(found.labels[sure], labels[order][sure])
    np.testing.assert_allclose(found.segments_s[sure], segments_s[order][sure], atol=ROUNDING_S[peer])
