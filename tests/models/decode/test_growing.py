"""A track that grows gives the candidates of the whole track, each once, and none before it is final."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tadkit.config import (
    ActionFormerSettings,
    BmnSettings,
    HeadSettings,
    TadtrSettings,
    TemporalMaxerSettings,
    TriDetSettings,
)
from tadkit.models.decode.growing import GrowingTrack
from tadkit.models.decode.tracks import track_candidates
from tadkit.models.fusion import LateHead
from tadkit.models.heads import Head, build_head

CHANNELS, WINDOW = 6, 16
PYRAMID: dict[str, Any] = {"dim": 16, "levels": 3, "prior_probability": 0.5}
WHOLE: dict[str, Any] = {"window_steps": 32, "prior_probability": 0.5}
HEADS: dict[str, HeadSettings] = {
    "halo": ActionFormerSettings(**PYRAMID, attention_heads=2, attention_window=5),
    "pooling": TemporalMaxerSettings(**PYRAMID),
    "windows": TriDetSettings(**PYRAMID, bins=4),
    "fixed windows": TadtrSettings(
        **WHOLE, dim=16, queries=8, mlp_dim=16, encoder_layers=1, decoder_layers=1, norm_groups=2, attention_heads=2
    ),
    "maps": BmnSettings(**WHOLE, dim=8, map_dim=4, roi_dim=4, durations=12, samples=4, graph_layers=1, score="iou"),
}


def head_of(kind: str) -> Head:
    torch.manual_seed(3)
    if kind == "late":
        return LateHead(*(head_of("pooling") for _ in range(2))).eval()
    return build_head(HEADS[kind], in_channels=CHANNELS, num_classes=2, trained_steps=WINDOW).eval()


def rows(candidates: Any) -> np.ndarray:
    found = np.column_stack([candidates.positions, candidates.labels, candidates.scores])
    return found[np.lexsort(found.round(4).T)]


@pytest.mark.parametrize("steps", [5, 64, 150])
@pytest.mark.parametrize("kind", [*HEADS, "late"])
def test_the_candidates_are_those_of_the_whole_track(kind: str, steps: int) -> None:
    head = head_of(kind)
    channels = 2 * CHANNELS if kind == "late" else CHANNELS
    features = torch.randn(1, channels, steps, generator=torch.Generator().manual_seed(1))
    whole = track_candidates(
        head, features, torch.ones(1, steps, dtype=torch.bool), core_steps=24, min_score=0.1, limit=50
    )
    track = GrowingTrack(head, core_steps=8, min_score=0.1, limit=50)
    sizes = np.random.default_rng(steps).integers(1, 9, steps).cumsum()
    found, known = [], 0

    def read(first: int, last: int) -> torch.Tensor:
        assert first >= needed
        assert last <= known
        return features[..., first:last]

    with torch.no_grad():
        for known in [*sizes[sizes < steps].tolist(), steps]:
            needed, before = track.first_needed, track.done
            new = track.more(read, known, last=known == steps)
            assert (track.done > before) or len(new.scores) == 0
            assert known == steps or known - track.done <= track.lag_steps
            found.append(new)
    assert track.done == steps
    together = np.concatenate([rows(new) for new in found])
    together = together[np.lexsort(together.round(4).T)]
    assert len(together) > 5
    np.testing.assert_allclose(together, rows(whole), atol=1e-4)
