"""Several teachers as one: whose features, whose predictions, and who decides where they disagree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tadkit.config import ActionFormerSettings, BmnSettings, HeadSettings, TagsSettings, TriDetSettings
from tadkit.models.ensemble import EnsembleHead, EnsembleTracks
from tadkit.models.heads import Head, HeadPredictions, average_of_teachers, build_head
from tadkit.models.heads.tags import MaskPredictions
from tadkit.store import TrackReader, open_store, read_store

CHANNELS, CLASSES, STEPS = 4, 2, 16
WHOLE: dict[str, Any] = {"window_steps": STEPS, "prior_probability": 0.5}
PYRAMID: dict[str, Any] = {"dim": 16, "levels": 2, "prior_probability": 0.5}
HEADS: dict[str, HeadSettings] = {
    "actionformer": ActionFormerSettings(**PYRAMID, attention_heads=2, attention_window=5),
    "tridet": TriDetSettings(**PYRAMID, bins=4),
    "bmn": BmnSettings(**WHOLE, dim=8, map_dim=4, roi_dim=4, durations=12, samples=4, graph_layers=1, score="iou"),
    "tags": TagsSettings(**WHOLE, dim=16, layers=1, reach_steps=8, attention_heads=2),
}


def head_of(kind: str, *, seed: int) -> Head:
    torch.manual_seed(seed)
    head = build_head(HEADS[kind], in_channels=CHANNELS, num_classes=CLASSES, trained_steps=STEPS)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return head.eval()


def feature_of(*, seed: int) -> Tensor:
    return torch.randn(2, CHANNELS, STEPS, generator=torch.Generator().manual_seed(seed))


MASK = torch.stack([torch.arange(STEPS) < real for real in (STEPS, 11)])


@torch.no_grad()
@pytest.mark.parametrize("copies", [2, 3])
@pytest.mark.parametrize("kind", HEADS)
def test_the_same_teacher_several_times_predicts_what_it_predicts_once(kind: str, copies: int) -> None:
    head, feature = head_of(kind, seed=3), feature_of(seed=1)
    once = head(feature, MASK)
    several = EnsembleHead([head] * copies)(feature.repeat(1, copies, 1), MASK)
    torch.testing.assert_close(several, once, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", HEADS)
def test_each_head_reads_its_own_channels_and_the_order_of_teachers_changes_no_prediction(kind: str) -> None:
    heads, features = ([make(seed) for seed in (1, 2, 3)] for make in (lambda n: head_of(kind, seed=n), _feature))
    forward = EnsembleHead(heads)(torch.cat(features, dim=1), MASK)
    backward = EnsembleHead(heads[::-1])(torch.cat(features[::-1], dim=1), MASK)
    torch.testing.assert_close(forward, backward, atol=1e-5, rtol=1e-5)
    mixed = EnsembleHead(heads)(torch.cat(features[::-1], dim=1), MASK)
    assert not torch.allclose(forward[0][0], mixed[0][0])


def _feature(seed: int) -> Tensor:
    return feature_of(seed=seed)


def one_step(*probabilities: float, offsets: list[float]) -> HeadPredictions:
    """Predictions of one step: the probability of each class, and distances."""
    logits = torch.tensor(probabilities, dtype=torch.float64).logit()
    return HeadPredictions(
        (logits[None, None],), (torch.tensor(offsets, dtype=torch.float64)[None, None],), (torch.ones(1, 1).bool(),)
    )


def test_probabilities_are_averaged_and_distances_by_foreground_score() -> None:
    sees = one_step(0.9, 0.2, offsets=[3.0, 5.0])
    misses = one_step(0.1, 0.05, offsets=[0.0, 1.0])
    both = average_of_teachers([sees, misses])
    np.testing.assert_allclose(both.logits[0].sigmoid()[0, 0], [0.5, 0.125])
    np.testing.assert_allclose(both.offsets[0][0, 0], [0.9 * 3.0, 0.9 * 5.0 + 0.1 * 1.0])
    three = average_of_teachers([sees, misses, misses])
    np.testing.assert_allclose(three.logits[0].sigmoid()[0, 0], [1.1 / 3, 0.1])
    np.testing.assert_allclose(three.offsets[0][0, 0], [2.7 / 1.1, (0.9 * 5.0 + 0.2 * 1.0) / 1.1])


def test_distances_of_a_class_are_averaged_by_the_probability_of_that_class() -> None:
    both = average_of_teachers(
        [one_step(0.8, 0.1, offsets=[1.0, 2.0, 3.0, 4.0]), one_step(0.2, 0.3, offsets=[6.0, 7.0, 7.0, 8.0])]
    )
    np.testing.assert_allclose(both.offsets[0][0, 0], [2.0, 3.0, 6.0, 7.0])


def test_certain_teachers_average_without_overflow() -> None:
    logits = [torch.tensor([[[60.0, -60.0]]]), torch.tensor([[[50.0, -50.0]]])]
    offsets, mask = (torch.tensor([[[2.0, 4.0]]]),), (torch.ones(1, 1).bool(),)
    both = average_of_teachers([HeadPredictions((each,), offsets, mask) for each in logits])
    assert torch.isfinite(both.logits[0]).all()
    torch.testing.assert_close(both.offsets[0], offsets[0])


def test_the_mask_of_a_step_is_averaged_by_foreground_score() -> None:
    teachers = [
        MaskPredictions(
            torch.full((1, 2, 1), score).logit(), torch.full((1, 2, 2), covered).logit(), torch.ones(1, 2).bool()
        )
        for score, covered in ((0.9, 0.8), (0.1, 0.3))
    ]
    both = head_of("tags", seed=0).average_teachers(*teachers)
    np.testing.assert_allclose(both.logits.sigmoid(), 0.5, rtol=1e-6)
    np.testing.assert_allclose(both.masks.sigmoid(), 0.9 * 0.8 + 0.1 * 0.3, rtol=1e-6)


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[list[TrackReader]]:
    """Outputs of two teachers for one video."""
    stores = []
    for seed in (1, 2):
        draw, path = np.random.default_rng(seed), tmp_path / f"{seed}.h5"
        with (
            open_store(path, kind="features", settings={}) as store,
            store.video("v", key=f"k{seed}", stamps_s=np.arange(6.0), attributes={}) as entry,
        ):
            for track, steps, width in (("feature", 6, 3), ("logits_1", 3, 2), ("offsets_1", 3, 2)):
                entry.append(f"mirror/{track}", draw.uniform(0, 3, (steps, width)).astype(np.float16))
        stores.append(read_store(path, kind="features"))
    yield stores
    for store in stores:
        store.close()


def test_stored_outputs_read_as_those_of_one_teacher(stored: list[TrackReader]) -> None:
    both = EnsembleTracks(stored)
    np.testing.assert_array_equal(
        both.read("v", "mirror/feature", 1, 4),
        np.hstack([store.read("v", "mirror/feature", 1, 4) for store in stored]),
    )
    (one, other), (first, second) = (
        [torch.from_numpy(store.read("v", f"mirror/{name}_1")).double() for store in stored]
        for name in ("logits", "offsets")
    )
    mean = (one.sigmoid() + other.sigmoid()) / 2
    np.testing.assert_allclose(both.read("v", "mirror/logits_1"), mean.logit(), rtol=1e-5, atol=1e-6)
    weights = [scores.sigmoid().amax(dim=1, keepdim=True) for scores in (one, other)]
    expected = (weights[0] * first + weights[1] * second) / (weights[0] + weights[1])
    np.testing.assert_allclose(both.read("v", "mirror/offsets_1"), expected, rtol=1e-5)
    np.testing.assert_array_equal(both.read("v", "mirror/offsets_1", 1, 3), both.read("v", "mirror/offsets_1")[1:])


def test_the_same_store_twice_has_its_features_twice_and_its_predictions(stored: list[TrackReader]) -> None:
    store, twice = stored[0], EnsembleTracks([stored[0], stored[0]])
    feature = store.read("v", "mirror/feature")
    np.testing.assert_array_equal(twice.read("v", "mirror/feature"), np.hstack([feature, feature]))
    for track in ("mirror/logits_1", "mirror/offsets_1"):
        np.testing.assert_allclose(twice.read("v", track), store.read("v", track), rtol=1e-5, atol=1e-6)
    assert list(twice.stamps_s("v")) == list(store.stamps_s("v"))


def test_the_key_depends_on_every_teacher_and_on_their_order(stored: list[TrackReader]) -> None:
    first, second = stored
    keys = {EnsembleTracks(order).key("v") for order in ([first, second], [second, first], [first, first], [first])}
    assert len(keys) == 4
